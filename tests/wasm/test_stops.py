"""The checks of the stop flag: whatever runs is ended, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from gothreads.engine.settings import StopCheck, new_engine
from gothreads.errors import ModuleError
from gothreads.wasm.binary import Module
from gothreads.wasm.instructions import after_locals, instructions
from gothreads.wasm.parsing import parse
from gothreads.wasm.passes import waits
from gothreads.wasm.passes.stops import CHECK, add_stop_checks
from gothreads.wasm.passes.waits import rewrite_waits
from tests.support.modules import native
from tests.support.rewritten import Machine
from tests.support.waiting import wait_until

IMPORTS = '(import "env" "memory" (memory 1 2 shared))'
#: Tells the host that the function runs.
RUNS = "(i32.atomic.store (i32.const 0) (i32.const 1))"
#: Code that never ends: the body of $f, and what else the module has.
ENDLESS = {
    "br": ("(loop (br 0))", ""),
    "br_if": ("(loop (br_if 0 (i32.const 1)))", ""),
    "br_table": ("(loop (br_table 0 0 (i32.const 7)))", ""),
    "an outer loop": ("(loop (loop (br 1)))", ""),
    "an inner loop": ("(loop (loop (br 0)) (br 0))", ""),
    "a loop in a branch": ("(if (i32.const 1) (then) (else)) (if (i32.const 0) (then) (else (loop (br 0))))", ""),
    "a loop with a result": ("(drop (loop (result i32) (br 0)))", ""),
    "a loop with parameters": ("(i32.const 1) (i64.const 2) (loop (param i32 i64) (br 0))", ""),
    "a loop with a type far away": (
        "(f64.const 1) (loop (type 200) (br 0)) (drop)",
        "".join(f"(type (func (param {'i64 ' * i}i32 i32 i32)))" for i in range(199)) + "(type (func (param f64) (result f64)))"),
    "a loop after all kinds of operands": (
        "(drop (i64.const -9223372036854775808)) (drop (f64.const 3.5)) (drop (f32.const 3.5)) (drop (i32.const 0x03030303))"
        "(drop (v128.const i32x4 0x03030303 0x03030303 0x03030303 0x03030303)) (block (br_table 0 0 0 (i32.const 3)))"
        "(drop (i32.load offset=0x3003 (i32.const 0))) (loop (br 0))", ""),
    "a loop that catches": ("(loop (block (try_table (catch_all 0) (throw 0))) (br 0))", "(tag)"),
    "a loop that fills memory": ("(loop (memory.fill (i32.const 8) (i32.const 0) (i32.const 65000)) (br 0))", ""),
    "a loop that waits a little": (
        "(loop (drop (memory.atomic.wait32 (i32.const 8) (i32.const 0) (i64.const 1000))) (br 0))", ""),
    "a tail call": ("(return_call $f)", ""),
    "a tail call through the table": ("(return_call_indirect (i32.const 0))", "(table funcref (elem $f))"),
    "a tail call of a reference": ("(return_call_ref $void (ref.func $f))", "(elem declare func $f)"),
    "calls without end": ("(call $twice (i32.const 200))", """(func $twice (param i32)
        (if (local.get 0) (then (call $twice (i32.sub (local.get 0) (i32.const 1)))
                                (call $twice (i32.sub (local.get 0) (i32.const 1))))))"""),
}


def module_of(body: str, more: str = "") -> bytes:
    """A module that imports a memory, with a function "f"."""
    types, rest = (more, "") if more.startswith("(type") else ("", more)
    return bytes(wasmtime.wat2wasm(f'(module (type $void (func)) {types} {IMPORTS} {rest} (func $f (export "f") {RUNS} {body}))'))


@pytest.mark.parametrize(("body", "more"), ENDLESS.values(), ids=ENDLESS)
def test_what_runs_without_end_is_ended(body: str, more: str) -> None:
    machine = Machine(module_of(body, more), StopCheck.FLAG)
    with machine.calling("f") as result:
        wait_until(lambda: machine.memory.load_u32(0))
        assert not result
        machine.stop()
    assert "unreachable" in result[0]


@pytest.mark.parametrize("before", [True, False], ids=["stopped before", "stopped while it is parked"])
def test_what_waits_is_ended(*, before: bool) -> None:
    machine = Machine(module_of("(drop (memory.atomic.wait32 (i32.const 8) (i32.const 0) (i64.const -1)))"),
                      StopCheck.FLAG)
    if before:
        machine.stop()
    with machine.calling("f") as result:
        if not before:
            wait_until(lambda: machine.memory.load_u32(0))
            machine.stop()
            wait_until(lambda: result or (machine.memory.notify(8), False)[1])
    assert "unreachable" in result[0]


COMPUTES = f"""(module (type $step (func (param i64 i32) (result i64 i32))) {IMPORTS} (func (export "power") (param i64 i32) (result i64)
    (i64.const 1) (local.get 1)
    (loop (type $step)
      (if (type $step) (i32.eqz (local.get 1)) (then)
        (else (local.set 1 (i32.sub (local.get 1) (i32.const 1))) (drop) (i64.mul (local.get 0)) (local.get 1) (br 1))))
    (drop)))"""


def test_a_loop_has_its_values() -> None:
    machine = Machine(bytes(wasmtime.wat2wasm(COMPUTES)), StopCheck.FLAG)
    assert [machine.call("power", 3, n) for n in range(5)] == [1, 3, 9, 27, 81]


def checked(module: Module) -> tuple[Module, Module]:
    """The module before and after the pass."""
    before = rewrite_waits(module)
    return before, add_stop_checks(before)


def assert_checked(before: Module, after: Module) -> int:
    """Fail unless each function and each loop begins with a check, and nothing else differs. Returns how many loops."""
    loops = 0
    for old, new in zip(before.bodies, after.bodies, strict=True):
        places = [after_locals(old), *(found.end for found in instructions(old) if found.opcode == 0x03)]
        expected, last = b"", 0
        for place in places:
            expected, last = expected + old[last:place] + CHECK, place
        assert new == expected + old[last:]
        loops += len(places) - 1
    assert after.functions == before.functions
    return loops


@pytest.mark.parametrize("source", ["threads.c", "program.c"])
def test_each_function_and_each_loop_of_a_real_module_begins_with_a_check(source: str) -> None:
    before, after = checked(parse(native(source).read_bytes()))
    assert assert_checked(before, after) > 10
    wasmtime.Module.validate(new_engine(6 << 20), after.encode())


@pytest.mark.long
def test_each_function_and_each_loop_of_go_begins_with_a_check(calls: Path) -> None:
    before, after = checked(parse(calls.read_bytes()))
    assert assert_checked(before, after) > 500
    wasmtime.Module.validate(new_engine(6 << 20), after.encode())


def test_instructions_that_are_not_known_are_refused() -> None:
    module = rewrite_waits(parse(module_of("(loop (br 0))")))
    module.bodies[0] = b"\0\x03\x40\xfb\0\x0b\x0b"
    with pytest.raises(ModuleError, match="instruction fb 00 is not known|instruction fb is not known"):
        add_stop_checks(module)


def test_the_flag_is_not_the_modules() -> None:
    """Code is validated before it is rewritten, so it cannot name the memory in which the flag lies."""
    assert waits.LOAD_STOP_FLAG in CHECK
    with pytest.raises(wasmtime.WasmtimeError, match="unknown memory 1"):
        wasmtime.Module.validate(new_engine(6 << 20), module_of("(i32.atomic.store 1 (i32.const 0) (i32.const 0))"))
