"""The binary format: sections are parsed and written, and errors in files that are not modules are reported."""

from __future__ import annotations

import re

import pytest
import wasmtime
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gothreads.errors import ModuleError
from gothreads.wasm.binary import MAGIC, ORDER, VERSION, DataSegment, FuncType, Kind, MemoryLimits, Module, Section
from gothreads.wasm.leb import Reader, signed, sleb, uleb, vector
from gothreads.wasm.parsing import function_names, parse

HEADER = MAGIC + VERSION
#: A module with one of every section in the format.
SMALL = bytes(wasmtime.wat2wasm("""
(module $small
  (type (func (param i32 i64) (result f64)))
  (import "env" "f" (func $f (type 0)))
  (import "env" "g" (global i32))
  (import "env" "t" (table 1 funcref))
  (memory (export "memory") 1 3)
  (global (mut i32) (i32.const -7))
  (global i64 (i64.const 9000000000))
  (global f64 (f64.const 0.5))
  (global funcref (ref.func $start))
  (export "start" (func $start))
  (start $start)
  (elem (i32.const 0) func $start)
  (func $start (drop (call $f (i32.const 1) (i64.const 2))) (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 1)))
  (data (i32.const 100) "active")
  (data "passive"))
"""))


def section(kind: Section, content: bytes) -> bytes:
    return HEADER + bytes([kind]) + vector(content)


def boundaries(content: bytes) -> set[int]:
    """Where sections begin or the file ends: a file cut there is a shorter, valid module."""
    reader = Reader(content, "test")
    reader.at, found = len(HEADER), {len(HEADER)}
    while reader.at < reader.end:
        reader.byte()
        reader.take(reader.u32())
        found.add(reader.at)
    return found


@pytest.mark.long
def test_what_gos_linker_wrote_is_the_same_after_a_round_trip(linked: bytes) -> None:
    module = parse(linked)
    encoded = module.encode()
    assert parse(encoded) == module
    assert parse(encoded).encode() == encoded
    wasmtime.Module.validate(wasmtime.Engine(), encoded)


def test_a_module_with_every_section_is_the_same_after_a_round_trip() -> None:
    module = parse(SMALL)
    assert module.encode() == SMALL
    assert module.data == [DataSegment(100, b"active"), DataSegment(None, b"passive")]
    assert module.memory == MemoryLimits(1, 3)
    assert len(module.globals) == 4
    assert module.function_types()[0] == FuncType(b"\x7f\x7e", b"\x7c")
    assert function_names(module) == {"f": 0, "start": 1}


def test_an_outline_has_the_same_types_imports_exports_and_customs(linked: bytes) -> None:
    full, outline = parse(linked), parse(linked, outline=True)
    for part in ("types", "imports", "functions", "memories", "exports", "customs"):
        assert getattr(outline, part) == getattr(full, part), part
    assert not outline.bodies
    assert not outline.data
    assert outline.encode() == full.encode()


def test_an_outline_keeps_how_many_data_segments_there_are() -> None:
    assert parse(SMALL, outline=True).encode() == SMALL


@pytest.mark.parametrize("text", [
    "(module (global v128 (v128.const i64x2 1 2)) (global i32 (i32.const 1)))",
    "(module (type $f (func)) (global (ref null $f) (ref.null $f)) (global funcref (ref.null func)) (global i32 "
    "(i32.const 1)))",
    '(module (type $f (func)) (import "env" "g" (global (ref null $f))) (import "env" "t" (table 1 (ref null $f))) '
    '(import "env" "f" (func)))',
])
def test_globals_and_imports_of_every_type_are_the_same_after_a_round_trip(text: str) -> None:
    wasm = bytes(wasmtime.wat2wasm(text))
    assert parse(wasm).encode() == parse(wasm, outline=True).encode() == wasm


def test_a_function_with_typed_references_is_refused_for_what_it_is() -> None:
    for kind in ("(param (ref null 0))", "(result (ref null 0))"):
        with pytest.raises(ModuleError, match="typed references are not supported"):
            parse(bytes(wasmtime.wat2wasm(f"(module (type (func)) (type (func {kind})))")))


@settings(deadline=None, max_examples=60)
@given(st.data(), st.booleans())
def test_a_truncated_go_module_is_an_error_with_section_and_offset(linked: bytes, data: st.DataObject,
                                                                   outline: bool) -> None:
    cut = data.draw(st.integers(len(HEADER), len(linked) - 1).filter(lambda n: n not in boundaries(linked)))
    with pytest.raises(ModuleError, match=r"truncated") as raised:
        parse(linked[:cut], outline=outline)
    told = re.search(r"(\w+) section, offset (0x[0-9a-f]+): ", str(raised.value))
    assert told is not None
    assert told[1].upper() in Section.__members__
    assert int(told[2], 16) <= cut
    assert "\n" not in str(raised.value)


def test_a_module_cut_between_declarations_and_code_is_an_error(linked: bytes) -> None:
    code = parse(linked)
    code.bodies, code.data = [], []
    with pytest.raises(ModuleError, match=r"functions are declared, 0 have a body .*truncated"):
        parse(code.encode())


@pytest.mark.parametrize(("content", "said"), [
    (b"", "the file is empty"),
    (b"\x7fELF\2\1\1\0", "does not begin with"),
    (b"\0as", "does not begin with"),
    (b"<!DOCTYPE html>", "does not begin with"),
    (MAGIC, "truncated"),
    (MAGIC + b"\1\0", "truncated"),
    (MAGIC + b"\2\0\0\0", "unknown version"),
    (MAGIC + b"\x0d\0\1\0", "component"),
    (HEADER + b"\x63\0", "no section 99"),
    (section(Section.TYPE, b"\1\x5f\0"), "only function types"),
    (section(Section.TYPE, b"\0\0"), "left over"),
    (section(Section.TYPE, b"\xff\xff\xff\xff\x0f"), "ends early"),
    (section(Section.TYPE, b"\xff\xff\xff\xff\x1f"), "longer than 32 bits"),
    (section(Section.TYPE, b"\x80\x80\x80\x80\x80\x00"), "longer than 32 bits"),
    (section(Section.IMPORT, b"\1\1\xff\0\0\0"), "not UTF-8"),
    (section(Section.EXPORT, b"\1\1f\x09\0"), "no kind 9"),
    (section(Section.MEMORY, b"\1\4\1"), "64-bit"),
    (section(Section.GLOBAL, b"\1\x7f\0\x10\0\x0b"), "instruction 0x10"),
    (section(Section.DATA, b"\1\2\1\x41\0\x0b\0"), "only data at constant addresses"),
    (section(Section.DATA, b"\1\0\x23\0\x0b\0"), "only data at constant addresses"),
    (section(Section.EXPORT, b"\0") + b"\1\1\0", "out of order"),
    (section(Section.TYPE, b"\0") + b"\1\1\0", "out of order"),
    (section(Section.FUNCTION, b"\1\0"), "1 functions are declared, 0 have a body"),
    (section(Section.IMPORT, b"\1\1e\1f\0\5"), "a function is of type 5, of 0"),
    (section(Section.FUNCTION, b"\1\3") + b"\x0a\4\1\2\0\x0b", "a function is of type 3, of 0"),
])
def test_what_is_not_a_module_is_an_error_that_says_why(content: bytes, said: str) -> None:
    with pytest.raises(ModuleError, match=re.escape(said)):
        parse(content)


@settings(deadline=None, max_examples=300)
@given(st.data(), st.booleans())
def test_a_damaged_module_is_parsed_or_is_a_module_error(data: st.DataObject, outline: bool) -> None:
    damaged = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(len(HEADER), len(damaged) - 1))
        damaged[place:place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if len(damaged) <= len(HEADER):
            break
    parsed_or_refused(bytes(damaged), outline=outline)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=64), st.sampled_from(ORDER))
def test_garbage_after_the_header_is_parsed_or_is_a_module_error(garbage: bytes, kind: Section) -> None:
    for content in (HEADER + garbage, section(kind, garbage)):
        parsed_or_refused(content, outline=False)


def parsed_or_refused(content: bytes, *, outline: bool) -> None:
    try:
        module = parse(content, outline=outline)
        function_names(module)
        _ = module.memory
        for index in [e.index for e in module.exports if e.kind is Kind.FUNC]:
            _ = module.function_types()[index]
    except ModuleError as error:
        said = str(error)
    else:
        assert parse(module.encode(), outline=outline) == module
        return
    assert "\n" not in said


def test_an_export_of_a_function_that_is_not_there_is_a_module_error() -> None:
    module = parse(SMALL)
    with pytest.raises(ModuleError):
        _ = module.function_types()[99]
    module.functions = [7]
    with pytest.raises(ModuleError):
        _ = module.function_types()[1]


@settings(deadline=None)
@given(st.integers(0, (1 << 32) - 1))
@example(0)
@example(127)
@example(128)
@example((1 << 32) - 1)
def test_unsigned_leb128_round_trips(value: int) -> None:
    reader = Reader(uleb(value), "test")
    assert (reader.u32(), reader.rest()) == (value, b"")


@settings(deadline=None)
@given(st.integers(-(1 << 31), (1 << 31) - 1))
@example(-(1 << 31))
@example((1 << 31) - 1)
@example(63)
@example(64)
@example(-64)
@example(-65)
def test_signed_leb128_round_trips(value: int) -> None:
    reader = Reader(sleb(value), "test")
    assert (reader.s32(), reader.rest()) == (value, b"")
    assert signed(value & 0xFFFFFFFF, 32) == value


@pytest.mark.parametrize("value", [-(1 << 31) - 1, 1 << 31])
def test_signed_leb128_beyond_32_bits_is_an_error(value: int) -> None:
    with pytest.raises(ModuleError, match="longer than 32 bits"):
        Reader(sleb(value), "test").s32()


@pytest.mark.parametrize("address", [0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0])
def test_data_above_2_gib_keep_their_address(address: int) -> None:
    module = Module(memories=[MemoryLimits(65536)], data=[DataSegment(address, b"x")])
    encoded = module.encode()
    assert parse(encoded).data == module.data
    wasmtime.Module.validate(wasmtime.Engine(), encoded)
