"""Jumps made direct: in generated functions of the form that Go compiles to, and in programs that Go has linked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from gothreads.engine.settings import new_engine
from gothreads.wasm import code
from gothreads.wasm.binary import ExportEntry, FuncType, Kind, MemoryLimits, Module
from gothreads.wasm.instructions import LEB, find
from gothreads.wasm.leb import uleb
from gothreads.wasm.parsing import parse
from gothreads.wasm.passes.jumps import shorten_jumps
from gothreads.wasm.passes.threads import add_threads

BLOCK = b"\x02\x40"
#: Where the trace ends in memory; and the start and end of the script, which decides which jumps are taken.
TRACE, SCRIPT, END = 1024, 2048, 2300
#: Globals: the address of the trace's next byte, and that of the script's next byte.
WRITTEN, READ = 0, 1
ENDED, LEFT = 2, 3

#: Part of a place's code: to note a number; or, if the script says so at this many nested conditions, to jump, to
#: leave, or to go on.
Part = tuple[str, int, int]
PARTS = st.tuples(st.sampled_from(["note", "jump", "jump", "leave", "unwind", "scratch"]), st.integers(0, 12),
                  st.integers(0, 3))
PLACES = st.lists(st.lists(PARTS, max_size=4), min_size=1, max_size=7)


def note(number: int) -> bytes:
    """Append a number to the trace. Ends the run if the trace is full or the script is over."""
    moved = code.global_get(WRITTEN) + code.i32_const(1) + code.I32_ADD + code.global_set(WRITTEN)
    full = (code.global_get(WRITTEN) + code.i32_const(TRACE) + code.I32_GE_U + code.global_get(READ)
            + code.i32_const(END) + code.I32_GE_U + code.I32_OR)
    return (full + code.IF + code.i32_const(ENDED) + code.LEAVE + code.END + code.global_get(WRITTEN)
            + code.i32_const(number)
            + code.i32_store8(0) + moved)


def if_so() -> bytes:
    """Begin a conditional on the script's next byte."""
    return (code.global_get(READ) + code.i32_const(1) + code.I32_ADD + code.global_set(READ)
            + code.global_get(READ) + code.i32_load8(0) + code.i32_const(1) + code.I32_AND + code.IF)


def function(places: list[list[Part]], table: list[int], *, reads_sp: bool) -> bytes:
    """The body of a function as Go compiles it. table: the place for each number; the last entry is for all others."""
    blocks = len(places)
    begin = (code.global_get(code.SP) + code.local_set(1)) * reads_sp + BLOCK + code.LOOP + BLOCK * blocks
    parts = [begin, code.local_get(0), b"\x0e", uleb(len(table) - 1), *map(uleb, table), code.END]
    for place, doing in enumerate(places):
        parts.append(note(place))
        for number, (what, argument, conditions) in enumerate(doing):
            # The scratch local is traced, so it must hold what it was set to.
            scratch = (code.i32_const(argument) + code.local_set(0) + code.i32_const(0) + code.local_get(0)
                       + code.I32_ADD + code.local_set(2)
                       + code.global_get(WRITTEN) + code.local_get(2) + code.i32_store8(0))
            loop = conditions + 1 + blocks - place - 1
            does = {"note": note(100 + number), "leave": code.i32_const(LEFT) + code.LEAVE,
                    "unwind": code.br(loop + 1), "scratch": scratch,
                    "jump": code.i32_const(argument) + code.local_set(0) + code.br(loop)}[what]
            parts += [if_so() * (conditions + 1), does, code.END * (conditions + 1)]
        if place + 1 < blocks:
            parts.append(code.END)
    return code.body(b"".join(parts) + code.END + code.END + code.i32_const(1), code.I32 * 2)


def module_of(body: bytes) -> Module:
    exports = [ExportEntry("run", Kind.FUNC, 0), ExportEntry("memory", Kind.MEMORY, 0),
               ExportEntry("written", Kind.GLOBAL, WRITTEN), ExportEntry("read", Kind.GLOBAL, READ)]
    return Module(types=[FuncType(code.I32, code.I32)], functions=[0], memories=[MemoryLimits(1)], bodies=[body],
                  exports=exports,
                  globals=[code.I32 + b"\1" + code.i32_const(0) + code.END] * 2)


def runner(module: Module, engine: wasmtime.Engine) -> Callable[[int, bytes], tuple[int, bytes]]:
    """Returns a function from (start, script) to the answer and the trace."""
    store = wasmtime.Store(engine)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, module.encode()), []).exports(store)
    run, memory, written, read = (exports[name] for name in ("run", "memory", "written", "read"))
    assert isinstance(run, wasmtime.Func)
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(written, wasmtime.Global)
    assert isinstance(read, wasmtime.Global)

    def once(begin: int, script: bytes) -> tuple[int, bytes]:
        memory.write(store, bytes(TRACE), 0)
        memory.write(store, script, SCRIPT)
        written.set_value(store, 0)
        read.set_value(store, SCRIPT - 1)
        answer = run(store, begin)
        return answer, bytes(memory.read(store, 0, TRACE))
    return once


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return wasmtime.Engine()


@settings(deadline=None, max_examples=150)
@given(data=st.data(), places=PLACES, reads_sp=st.booleans())
def test_a_function_does_the_same_wherever_it_begins(engine: wasmtime.Engine, data: st.DataObject,
                                                     places: list[list[Part]], reads_sp: bool) -> None:
    table = data.draw(st.lists(st.integers(0, len(places) - 1), min_size=1, max_size=10))
    before = module_of(function(places, table, reads_sp=reads_sp))
    after = shorten_jumps(before)
    one, other = runner(before, engine), runner(after, engine)
    for begin in range(len(table) + 2):
        script = data.draw(st.binary(min_size=END - SCRIPT, max_size=END - SCRIPT))
        assert other(begin, script) == one(begin, script)
    assert shorten_jumps(after) == after


def jump(to: int, loop: int) -> bytes:
    return code.i32_const(to) + code.local_set(0) + code.br(loop)


def test_a_jump_forward_leaves_blocks_and_one_back_takes_the_loop() -> None:
    places: list[list[Part]] = [[("jump", 2, 1)], [], [("jump", 0, 0)], []]
    body = function(places, [0, 1, 2, 3], reads_sp=True)
    (after,) = shorten_jumps(module_of(body)).bodies
    assert jump(2, 2 + 3) in body
    assert after == body.replace(jump(2, 2 + 3), code.br(1 + 2))
    assert jump(0, 1 + 1) in after


def test_where_no_jump_goes_back_there_is_no_loop() -> None:
    body = function([[("jump", 1, 0)], [("unwind", 0, 0)]], [0, 1], reads_sp=True)
    (after,) = shorten_jumps(module_of(body)).bodies
    assert after == body.replace(jump(1, 1 + 1), code.br(1)).replace(BLOCK + code.LOOP + BLOCK, BLOCK * 3)


def test_a_call_through_a_pointer_may_use_the_local_as_scratch() -> None:
    scratch = code.i32_const(7) + code.local_set(0) + code.i32_const(0) + code.local_get(0) + code.I32_ADD + code.DROP
    begin = BLOCK + code.LOOP + BLOCK * 2 + code.local_get(0) + b"\x0e\1\0\1" + code.END
    body = code.body(begin + scratch + jump(1, 1) + code.END + scratch + code.END + code.END + code.i32_const(1))
    (after,) = shorten_jumps(module_of(body)).bodies
    assert after == body.replace(jump(1, 1), code.br(0)).replace(BLOCK + code.LOOP + BLOCK, BLOCK * 3)


@pytest.mark.parametrize("also", [
    code.local_get(0) + code.DROP, code.i32_const(3) + code.local_tee(0) + code.DROP, code.i32_const(0) + b"\x0e\0\0",
    code.LOOP + code.END + code.br(3),
])
def test_what_gos_compiler_does_not_make_stays_or_keeps_its_loop(also: bytes) -> None:
    begin = BLOCK + code.LOOP + BLOCK * 2 + code.local_get(0) + b"\x0e\1\0\1" + code.END
    body = code.body(begin + also + jump(1, 1) + code.END + code.END + code.END + code.i32_const(1))
    (after,) = shorten_jumps(module_of(body)).bodies
    assert after in (body, body.replace(jump(1, 1), code.br(0)).replace(BLOCK + code.LOOP + BLOCK, BLOCK * 3))
    if also[-2:] == code.br(3):
        assert after != body, "it leaves the outer block, which is no jump"
    else:
        assert after == body


@pytest.mark.long
def test_of_what_go_has_linked_most_jumps_are_direct(linked: bytes) -> None:
    threaded = add_threads(parse(linked))
    after = shorten_jumps(threaded)
    wasmtime.Module.validate(new_engine(1 << 20), after.encode())

    def jumps(module: Module) -> int:
        return sum(1 for body in module.bodies for _ in find(body, rb"\x41" + LEB + rb"\x21\0\x0c"))
    assert jumps(threaded) > 10_000
    assert jumps(after) < jumps(threaded) / 4
    assert shorten_jumps(after) == after
    assert replace(after, bodies=threaded.bodies) == threaded
