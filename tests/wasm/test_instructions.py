"""The instruction decoder: real modules to their last byte, every operand form, and invalid bodies."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from gothreads.errors import ModuleError
from gothreads.wasm.instructions import WAIT32, Instruction, MemoryArgument, find, instructions, memory_argument
from gothreads.wasm.leb import uleb
from gothreads.wasm.parsing import parse
from tests.support.modules import native

#: Every operand form, by proposal.
FORMS = (
    """
nop|unreachable|return|drop|select|br 0|br_if 0|br_table 0 0 0|br_table 0|call 0|call_indirect (type 0)|local.get 0|local.set 300|local.tee 0
global.get 0|global.set 0|i32.load offset=70000 align=1|i64.store32 offset=4294967295|memory.size|memory.grow|i32.const -2147483648|i32.const 0
i64.const -9223372036854775808|i64.const 1|f32.const nan|f64.const -0.5|i32.eqz|f64.reinterpret_i64
i32.extend8_s|i64.extend32_s|i32.trunc_sat_f32_s|i64.trunc_sat_f64_u
memory.init 0|data.drop 0|memory.copy|memory.fill|table.init 0|elem.drop 0|table.copy|table.grow 0|table.size 0|table.fill 0
table.get 0|table.set 0|ref.null func|ref.null extern|ref.is_null|ref.func 0|select (result i32)|select (result funcref)
return_call 0|return_call_indirect (type 0)|call_ref 0|return_call_ref 0|ref.as_non_null|br_on_null 0|br_on_non_null 0|select (result (ref null 0))
v128.load offset=1|v128.load8x8_s|v128.const i64x2 1 2|i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15|i8x16.splat
i8x16.extract_lane_s 3|f64x2.replace_lane 1
i8x16.swizzle|v128.load8_lane offset=9 3|v128.store64_lane 1|v128.load32_zero|v128.load64_zero offset=5|i32x4.dot_i16x8_s|f64x2.convert_low_i32x4_u
i8x16.relaxed_swizzle|i32x4.relaxed_dot_i8x16_i7x16_add_s|memory.atomic.notify|memory.atomic.wait32 offset=8|memory.atomic.wait64|atomic.fence
i32.atomic.load|i64.atomic.rmw32.cmpxchg_u offset=300|i32.load 1 offset=4|memory.size 1|memory.copy 1 0|throw 0|throw_ref|i64.add128|i64.mul_wide_u
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


def walked(body: bytes) -> list[Instruction]:
    """All instructions; checks that they are contiguous up to the end of the body."""
    found = list(instructions(body))
    assert all(a.end == b.offset for a, b in itertools.pairwise(found))
    assert all(i.offset < i.operands <= i.end for i in found)
    assert found[-1].end == len(body)
    assert found[-1].opcode == 0x0B
    return found


def body_of(text: str) -> bytes:
    """The body of a function with this text, in a module that has one of everything."""
    module = wasmtime.wat2wasm(f"""(module (type (func)) (memory 1) (memory 1) (table 1 funcref) (global (mut i32) (i32.const 0)) (tag)
        (func (type 0) {text}) (elem func 0) (data "x"))""")
    return parse(bytes(module)).bodies[0]


@pytest.mark.parametrize("source", ["strings.c", "strings.zig", "threads.c", "program.c"])
def test_what_zig_has_built_is_walked_to_its_end(source: str) -> None:
    module = parse(native(source).read_bytes())
    assert sum(len(walked(body)) for body in module.bodies) > 400


@pytest.mark.long
def test_what_go_has_built_is_walked_to_its_end(linked: bytes) -> None:
    assert sum(len(walked(body)) for body in parse(linked).bodies) > 500_000


@pytest.mark.long
def test_those_of_one_kind_are_found_where_the_walk_finds_them(linked: bytes) -> None:
    bodies = parse(linked).bodies + parse(native("program.c").read_bytes()).bodies
    walks = [list(instructions(body)) for body in bodies]
    for opcode in (0x10, 0x11, 0x0E, 0x42, 0x0B, 0x37):
        every = [[instruction for instruction in walk if instruction.opcode == opcode] for walk in walks]
        assert sum(map(len, every)) > 100
        assert [list(find(body, bytes([opcode]))) for body in bodies] == every


@pytest.mark.parametrize("text", FORMS)
def test_an_instruction_of_any_form_is_passed_by(text: str) -> None:
    body = body_of(f"(local (ref null 0)) call 0 {text} call 0 {text}")
    calls = [instruction for instruction in instructions(body) if instruction.opcode == 0x10]
    assert len(calls) == (4 if text == "call 0" else 2)
    assert list(find(body, b"\x10")) == calls


@pytest.mark.parametrize("text", FORMS)
def test_an_instruction_of_every_form_ends_where_it_does(text: str) -> None:
    alone = walked(body_of(text))
    assert len(alone) == 2
    twice = walked(body_of(f"(local i32) (local (ref null 0) v128) {text} {text}"))
    assert [i.opcode for i in twice] == [alone[0].opcode] * 2 + [0x0B]


@pytest.mark.parametrize("text", [
    "block end", "block (result i32) end", "block (result (ref null 0)) nop end", "loop (type 0) br 0 end",
    "if nop else nop end",
    "if if else end else loop end end",
    "try_table (catch 0 0) (catch_ref 0 0) (catch_all 0) (catch_all_ref 0) nop end", "try_table end",
])
def test_blocks_end_with_their_own_end(text: str) -> None:
    words = text.replace(")", ") ").split()
    assert len(walked(body_of(text))) == 1 + sum(w in ("block", "loop", "if", "else", "end", "nop", "br", "try_table")
                                                 for w in words)


def test_exceptions_as_they_were_before_are_walked() -> None:
    assert len(walked(b"\0" + b"\x06\x40\x01\x07\x00\x01\x19\x01\x09\x00\x0b" + b"\x06\x40\x18\x00" + b"\x0b")) == 11


def test_the_argument_of_a_memory_access_is_read() -> None:
    def argument(text: str) -> MemoryArgument:
        body = body_of(text)
        return memory_argument(body, next(instructions(body)))
    assert argument("memory.atomic.wait32 offset=4294967295") == (2, 0, 0xFFFFFFFF)
    assert argument("i64.load 1 offset=300 align=2") == (1, 1, 300)


def test_a_number_may_be_longer_than_it_needs_to_be() -> None:
    body = b"\0\xfe\x81\x80\x00\x02\x80\x00\x0b"
    found = walked(body)
    assert found[0].opcode == WAIT32
    assert memory_argument(body, found[0]) == (2, 0, 0)


@pytest.mark.parametrize(("body", "said"), [
    (b"", "ends early"),
    (b"\0", "ends early"),
    (b"\0\x41", "ends early"),
    (b"\0\x43\0\0\0", "ends early"),
    (b"\0\x0b\x0b", "bytes are left over"),
    (b"\0\x02\x40\x0b", "ends early"),
    (b"\0\x41" + b"\x80" * 5 + b"\0\x0b", "a number is too long"),
    (b"\0\xfb\0\x0b", "instruction fb is not known"),
    (b"\0\xff\x0b", "instruction ff is not known"),
    (b"\0\xfe\x4f\x0b", "instruction fe 4f is not known"),
    (b"\0\xfd\xff\xff\xff\xff\x0f\x0b", "is not known"),
    (b"\0\xfc\x81\xc0\x00\x02\x00\x0b", "instruction fc 81 c0 00 is not known"),  # not to be taken for another prefix's
    (b"\0\x1f\x40\x01\x04\x00\x0b\x0b", "there is no catch clause 4"),
    (b"\0\x0e" + uleb(0xFFFFFFFF), "ends early"),
    (uleb(0xFFFFFFFF) + b"\x01\x7f", "ends early"),
])
def test_what_is_no_body_is_an_error(body: bytes, said: str) -> None:
    with pytest.raises(ModuleError, match=said):
        list(instructions(body, 0x100))
    if body not in (b"\0", b"\0\x0b\x0b", b"\0\x02\x40\x0b"):  # find does not check that blocks are closed
        with pytest.raises(ModuleError, match=said):
            list(find(body, b"\x10", 0x100))


def test_every_truncated_body_is_an_error() -> None:
    for body in parse(native("threads.c").read_bytes()).bodies:
        for cut in range(len(body)):
            with pytest.raises(ModuleError):
                list(instructions(body[:cut]))


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=64))
def test_any_bytes_are_walked_to_their_end_or_an_error(body: bytes) -> None:
    with contextlib.suppress(ModuleError):
        assert walked(body)
