"""Recorded waits of wasi-threads modules: parked threads can be found and ended, and nothing else changes."""

from __future__ import annotations

import pytest
import wasmtime

from gothreads.engine.settings import new_engine
from gothreads.errors import ModuleError
from gothreads.wasm.instructions import WAIT32, WAIT64, instructions, memory_argument
from gothreads.wasm.parsing import parse
from gothreads.wasm.passes import waits
from gothreads.wasm.passes.waits import rewrite_waits
from tests.support.modules import native
from tests.support.rewritten import NOTE, Machine
from tests.support.waiting import wait_until

MEMORY = '(import "env" "memory" (memory 1 2 shared))'
WAITS = f"""(module {MEMORY} (global (mut i32) (i32.const 5))
  (func (export "wait32") (param i32 i32 i64) (result i32)
    (i32.add (global.get 0) (memory.atomic.wait32 (local.get 0) (local.get 1) (local.get 2))))
  (func (export "wait32_behind") (param i32 i32 i64) (result i32) (memory.atomic.wait32 offset=400 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "wait64") (param i32 i64 i64) (result i32) (memory.atomic.wait64 offset=8 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "memory_size") (result i32) memory.size))"""


@pytest.fixture
def engine() -> wasmtime.Engine:
    return new_engine(6 << 20)


@pytest.fixture
def machine() -> Machine:
    return Machine(bytes(wasmtime.wat2wasm(WAITS)))


@pytest.mark.parametrize(("name", "address", "word"),
                         [("wait32", 64, 64), ("wait32", 0, 0), ("wait32_behind", 64, 464), ("wait64", 64, 72)])
def test_who_is_parked_is_noted_until_it_is_woken(machine: Machine, name: str, address: int, word: int) -> None:
    with machine.parked(name, address, 0, -1) as result:
        assert machine.notes.load_u32(NOTE) == word | waits.WAITING
        wait_until(lambda: machine.memory.notify(word))  # the note is written before the wait begins
    assert result == [5 if name == "wait32" else 0]
    assert machine.notes.load_u32(NOTE) == 0


@pytest.mark.parametrize(("name", "width"), [("wait32", 4), ("wait64", 8)])
def test_who_is_parked_is_ended(machine: Machine, name: str, width: int) -> None:
    with machine.parked(name, 64, 0, -1) as result:
        machine.stop()
        wait_until(lambda: result or (machine.memory.notify(64 if width == 4 else 72), False)[1])
    assert "interrupt" in result[0]


def test_who_parks_after_the_end_has_begun_is_ended(machine: Machine) -> None:
    machine.notes.store_u32(waits.STOP_FLAG, 1)  # the epoch is incremented only after that
    with machine.parked("wait32", 64, 0, -1) as result:
        machine.engine.increment_epoch()
    assert "interrupt" in result[0]


def test_results_are_those_of_the_instruction(machine: Machine) -> None:
    assert machine.call("wait32", 64, 1, -1) - 5 == 1  # the value differed from the expected one
    assert machine.call("wait32", 64, 0, 1000) - 5 == 2  # timed out
    machine.memory.write_u64(72, 1 << 40)
    assert machine.call("wait64", 64, 1 << 41, -1) == 1
    assert machine.call("wait64", 64, 1 << 40, 0) == 2
    assert machine.call("memory_size") == 1


@pytest.mark.parametrize(("name", "address", "said"),
                         [("wait32", 66, "unaligned"), ("wait32", 65536, "out of bounds"),
                          ("wait32_behind", -4, "out of bounds")])
def test_traps_are_those_of_the_instruction(machine: Machine, name: str, address: int, said: str) -> None:
    with pytest.raises(wasmtime.Trap, match=said):
        machine.call(name, address, 0, 0)


def opcodes(bodies: list[bytes]) -> list[int]:
    return [i.opcode for body in bodies for i in instructions(body)]


def test_no_wait_is_left_in_a_real_module() -> None:
    before = parse(native("threads.c").read_bytes())
    after = rewrite_waits(before)
    own, added = opcodes(after.bodies[:len(before.bodies)]), opcodes(after.bodies[len(before.bodies):])
    assert {WAIT32, WAIT64} <= set(opcodes(before.bodies))
    assert not {WAIT32, WAIT64} & set(own)
    assert len(own) == len(opcodes(before.bodies))
    waits_of = {(i.opcode, memory_argument(body, i)) for body in before.bodies for i in instructions(body)
                if i.opcode in (WAIT32, WAIT64)}
    assert added.count(WAIT32) + added.count(WAIT64) == len(waits_of)
    wasmtime.Module.validate(new_engine(6 << 20), after.encode())
    assert parse(native("threads.c").read_bytes()) == before, "what was given is as it was"


def test_the_start_function_runs_when_the_instance_has_its_note() -> None:
    wasm = (wasmtime.wat2wasm(f"""(module {MEMORY} (func $start (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1)))) (start $start))"""))
    machine = Machine(bytes(wasm))
    with machine.parked("gt_start"):
        machine.stop()
        wait_until(lambda: machine.memory.notify(64) or not machine.notes.load_u32(NOTE))


def test_code_has_no_name_for_the_notes(engine: wasmtime.Engine) -> None:
    """The code is validated before it is rewritten."""
    hostile = wasmtime.wat2wasm(f'(module {MEMORY} (func (export "f") (i32.atomic.store 1 (i32.const 0) (i32.const '
                                f'1))))')
    with pytest.raises(wasmtime.WasmtimeError, match="unknown memory 1"):
        wasmtime.Module.validate(engine, bytes(hostile))


@pytest.mark.parametrize("name", ["gt_note", "gt_start"])
def test_names_that_are_needed_are_refused(name: str) -> None:
    with pytest.raises(ModuleError, match=f"exports {name}, names that are reserved"):
        rewrite_waits(parse(bytes(wasmtime.wat2wasm(f'(module {MEMORY} (func (export "{name}")))'))))


def test_the_notes_cannot_be_imported() -> None:
    with pytest.raises(ModuleError, match=r"imports gothreads\.notes"):
        rewrite_waits(parse(bytes(wasmtime.wat2wasm('(module (import "gothreads" "notes" (memory 1 2 shared)))'))))


def test_instructions_that_are_not_known_are_refused() -> None:
    module = parse(bytes(wasmtime.wat2wasm(WAITS)))
    module.bodies[0] = b"\0\xfb\xfe\x01\x0b"
    with pytest.raises(ModuleError, match="instruction fb is not known"):
        rewrite_waits(module)


def test_debuggers_sections_go_and_names_stay() -> None:
    module = parse(bytes(wasmtime.wat2wasm(f"(module {MEMORY} (func $named))")))
    module.customs.append((".debug_line", b"x"))
    assert [title for title, _ in rewrite_waits(module).customs] == ["name"]


@pytest.mark.parametrize("number", [b"\1", b"\x81\0", b"\x81\x80\0", b"\x81\x80\x80\x80\0"])
def test_a_wait_whose_number_is_longer_than_it_needs_to_be_is_found(engine: wasmtime.Engine, number: bytes) -> None:
    module = parse(bytes(wasmtime.wat2wasm(WAITS)))
    place = next(i for i, body in enumerate(module.bodies) if b"\xfe\x01" in body)
    module.bodies[place] = module.bodies[place].replace(b"\xfe\x01", b"\xfe" + number)
    wasmtime.Module.validate(engine, module.encode())
    assert rewrite_waits(module).bodies[place] == rewrite_waits(parse(bytes(wasmtime.wat2wasm(WAITS)))).bodies[place]
