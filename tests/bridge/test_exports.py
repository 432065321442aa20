"""Exports as Python sees them: conversion to and from each Go type, and errors that state what was expected."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import math
import pickle
import pydoc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

import gothreads
from gothreads.bridge.exports import Export, Exports, Function
from gothreads.bridge.go_types import FIELDS, LETTERS, from_wasm, matches
from gothreads.engine import extension, ffi
from gothreads.errors import ArgumentError, UnknownExport
from gothreads.wasm.binary import FuncType
from gothreads.wasm.signature import Parameter, Signature

RANGES = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1),
          "uint64": (0, (1 << 64) - 1),
          "uintptr": (0, (1 << 32) - 1), "unsafe.Pointer": (0, (1 << 32) - 1), "pointer": (0, (1 << 32) - 1)}
I32, I64, F32, F64, V128, FUNCREF = b"\x7f", b"\x7e", b"\x7d", b"\x7c", b"\x7b", b"\x70"
FLOAT32_MAX = 3.4028234663852886e38


class Index:
    """An integer that is not an int, like numpy's integers."""

    def __index__(self) -> int:
        return 7


def signature(*types: str, result: str | None = None, names: tuple[str, ...] = ()) -> Signature:
    params = tuple(Parameter(names[i] if names else f"p{i}", t) for i, t in enumerate(types))
    return Signature("f", f"func f({', '.join(f'{p.name} {p.type}' for p in params)})", "f", "main", "does f\n",
                     params, result, "main.go:1")


@functools.cache
def same(go_type: str, path: str) -> Callable[[Any], Any]:
    """A WebAssembly function that returns its argument, called in C or through ctypes, as `path` says."""
    kind, letter = FIELDS[go_type][0], LETTERS[go_type]
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine,
                             f'(module (func (export "same") (param {kind}) (result {kind}) (local.get 0)))')
    instance = wasmtime.Instance(store, module, [])
    with pytest.MonkeyPatch.context() as patch:
        if path == "ctypes":
            patch.setattr(ffi, "compiled", None)
        function = ffi.function(store, instance, "same", letter, letter)
    _alive.append(store)
    return function


_alive: list[wasmtime.Store] = []
PATHS = ["ctypes",
         pytest.param("C",
                      marks=pytest.mark.skipif(extension.compiled is None, reason=f"without C: {extension.missing}"))]


def convert(go_type: str, value: object) -> Any:
    (converted,) = Export(signature(go_type)).convert((value,))
    return converted


def refused(go_type: str, value: object) -> str:
    with pytest.raises(ArgumentError, match="f: argument 'p0' must be ") as raised:
        convert(go_type, value)
    assert "\n" not in str(raised.value)
    assert f"(Go: {go_type})" in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("go_type", RANGES)
@settings(deadline=None)
@given(data=st.data())
def test_every_integer_in_range_goes_in_and_comes_out(go_type: str, path: str, data: st.DataObject) -> None:
    low, high = RANGES[go_type]
    value = data.draw(st.integers(low,
                                  high) | st.sampled_from([low, low + 1, -1 if low else 0, 0, 1, high >> 1,
                                                           (high >> 1) + 1, high - 1, high]))
    assert convert(go_type, value) == value
    assert same(go_type, path)(value) == value
    bits = {"i": 32, "I": 32, "q": 64, "Q": 64}[LETTERS[go_type]]
    other = value - (1 << bits) if value >> (bits - 1) > 0 else value + (1 << bits) if value < 0 else value
    assert same(go_type, path)(other) == value, "raw values are bits, whatever their sign"


@pytest.mark.parametrize("path", PATHS)
@settings(deadline=None)
@given(st.booleans(), st.floats(), st.floats(width=32))
def test_every_bool_and_float_goes_in_and_comes_out(path: str, truth: bool, wide: float, narrow: float) -> None:
    assert same("bool", path)(truth) is truth
    for go_type, value in (("float64", wide), ("float32", narrow)):
        out = same(go_type, path)(value)
        assert out == value or (math.isnan(out) and math.isnan(value))


@pytest.mark.parametrize("path", PATHS)
def test_any_number_but_0_is_true(path: str) -> None:
    store = wasmtime.Store()
    instance = wasmtime.Instance(store,
                                 wasmtime.Module(store.engine,
                                                 '(module (func (export "f") (result i32) (i32.const 256)))'), [])
    with pytest.MonkeyPatch.context() as patch:
        if path == "ctypes":
            patch.setattr(ffi, "compiled", None)
        assert ffi.function(store, instance, "f", "", "?")() is True


@pytest.mark.parametrize("go_type", RANGES)
@settings(deadline=None)
@given(beyond=st.integers(1, 1 << 70))
def test_every_integer_out_of_range_is_refused(go_type: str, beyond: int) -> None:
    low, high = RANGES[go_type]
    assert f"from {low} to {high}" in refused(go_type, high + beyond)
    refused(go_type, low - beyond)
    refused(go_type, high + 1)
    refused(go_type, low - 1)


@pytest.mark.parametrize("go_type", RANGES)
@pytest.mark.parametrize("value", [True, False, 1.0, "1", b"1", None, [], Fraction(1), math.nan, 1j], ids=repr)
def test_what_is_not_an_integer_is_refused(go_type: str, value: object) -> None:
    refused(go_type, value)


def test_an_integer_of_another_kind_is_taken() -> None:
    assert convert("int64", Index()) == 7


def test_a_bool_takes_only_true_and_false() -> None:
    assert convert("bool", True) == 1
    assert convert("bool", False) == 0
    for value in (0, 1, "true", None, Index()):
        refused("bool", value)


@settings(deadline=None)
@given(st.floats() | st.integers(-(1 << 53), 1 << 53))
def test_a_float64_takes_every_number(value: float) -> None:
    raw = convert("float64", value)
    assert type(raw) is float
    assert raw == value or (math.isnan(raw) and math.isnan(value))


@settings(deadline=None)
@given(st.floats(width=32))
def test_a_float32_takes_every_number_of_its_width(value: float) -> None:
    raw = convert("float32", value)
    assert raw == value or (math.isnan(raw) and math.isnan(value))


def test_a_float32_takes_what_rounds_to_it_and_refuses_what_would_become_infinite() -> None:
    limit = float.fromhex("0x1.ffffffp+127")  # halfway between the largest float32 and the next, rounded to infinity
    for sign in (1, -1):
        assert convert("float32", sign * FLOAT32_MAX) == sign * FLOAT32_MAX
        assert convert("float32", sign * math.nextafter(limit, 0))
        assert convert("float32", sign * math.inf) == sign * math.inf
        for value in (limit, 3.5e38, 1e300):
            refused("float32", sign * value)


@pytest.mark.parametrize("go_type", ["float32", "float64"])
@pytest.mark.parametrize("value", [True, "1.5", b"1.5", None, [], 1j, 10**400], ids=lambda value: str(value)[:8])
def test_what_is_not_a_float_is_refused(go_type: str, value: object) -> None:
    refused(go_type, value)


@pytest.mark.long
@settings(deadline=None)
@given(st.text())
def test_a_string_takes_text_as_utf8(text: str) -> None:
    assert convert("string", text) == text.encode()


@pytest.mark.parametrize("value",
                         [b"\xff\0", bytearray(b"\xff\0"), memoryview(b"\xff\0"), memoryview(b"\xff1\x002")[::2]])
def test_a_string_takes_any_bytes(value: bytes | bytearray | memoryview) -> None:
    assert convert("string", value) == b"\xff\0"


@pytest.mark.parametrize("value", [1, None, ["a"], "\ud800", "a\udfffb"], ids=ascii)
def test_a_string_refuses_other_kinds_and_halves_of_surrogate_pairs(value: object) -> None:
    assert refused("string", value).encode()


@pytest.mark.parametrize(("types", "given", "takes"),
                         [((), 1, "0 arguments, 1 given"), (("int32",), 0, "1 argument, 0 given"),
                                                       (("int32", "string"), 3, "2 arguments, 3 given")])
def test_the_wrong_number_of_arguments_says_how_many_and_shows_the_declaration(
    types: tuple[str, ...], given: int, takes: str
) -> None:
    export = Export(signature(*types))
    with pytest.raises(ArgumentError, match=f"f takes {takes}: func f") as raised:
        export.convert((1,) * given)
    assert isinstance(raised.value, TypeError)


def test_a_string_takes_two_places_of_the_call() -> None:
    assert Export(signature("string", "int32", "string")).params == "IIiII"
    assert Export(signature("string")).has_strings
    assert not Export(signature("int32")).has_strings


@pytest.mark.parametrize(("go_type", "text", "value"), [
    ("int32", "-12", -12), ("int64", "0x10", 16), ("uint32", "1_000", 1000), ("bool", "true", True),
    ("bool", "False", False), ("float64", "1e3", 1000.0),
    ("float32", "-inf", -math.inf), ("string", "", ""), ("string", "12", "12"), ("unsafe.Pointer", "0b11", 3)])
def test_text_of_the_command_line_becomes_a_value(go_type: str, text: str, value: object) -> None:
    export = Export(signature(go_type))
    (parsed,) = export.parse((text,))
    assert (parsed, type(parsed)) == (value, type(value))
    export.convert((parsed,))


@pytest.mark.parametrize(("go_type", "text"),
                         [("int32", "1.5"), ("int32", ""), ("uint64", "ten"), ("bool", "1"), ("bool", ""),
                          ("float64", "x"),
                                               ("int64", "9" * 5000)])
def test_text_of_another_kind_is_refused(go_type: str, text: str) -> None:
    with pytest.raises(ArgumentError, match=rf"f: argument 'p0' must be .*\(Go: {go_type}\): got '"):
        Export(signature(go_type)).parse((text,))


def test_too_many_texts_are_refused_as_too_many_arguments() -> None:
    export = Export(signature("int32"))
    with pytest.raises(ArgumentError, match="1 argument, 2 given"):
        export.convert(export.parse(("1", "2")))


def test_the_python_signature_has_names_and_types() -> None:
    export = Export(signature("bool", "uint64", "float32", "string", "unsafe.Pointer", result="float64",
                              names=("a", "b", "c", "d", "e")))
    assert str(export.python_signature()) == "(a: bool, b: int, c: float, d: str | bytes, e: int) -> float"
    assert str(Export(signature()).python_signature()) == "() -> None"


def test_names_that_python_cannot_have_get_others() -> None:
    names = ("_", "_", "class", "π", "timeout", "timeout_", "on_timeout", "self", "\N{MICRO SIGN}", "²")
    export = Export(signature(*["int32"] * len(names), names=names))
    assert list(export.python_signature().parameters) == [
        "_", "arg1_", "class_", "π", "timeout_", "arg5_", "on_timeout_", "self", "\N{GREEK SMALL LETTER MU}", "arg9_"]


def test_arguments_by_name_are_put_in_order() -> None:
    export = Export(signature("int32", "int32", "int32", names=("a", "from", "c")))
    assert export.bind((), {"c": 3, "a": 1, "from_": 2}) == (1, 2, 3)
    assert export.bind((1,), {"c": 3, "from_": 2}) == (1, 2, 3)
    assert export.bind((1,), {}) == (1,)  # what is missing is reported by convert()


@pytest.mark.parametrize(("args", "named", "why"), [
    ((1, 2, 3, 4), {"a": 5}, r"f takes 3 arguments, 5 given: func f\(.*\) \(by name: from_\)"),
    ((), {"from": 1}, r"f has no parameter 'from'; it has: a, from_, c: func f\("),
    ((1,), {"a": 1, "c": 2}, r"f: argument 'a' is given twice, in order and by name: func f\("),
    ((1,), {"from_": 1}, r"f: no argument is given for 'c': func f\("),
])
def test_wrong_arguments_by_name_are_errors(args: tuple[int, ...], named: dict[str, int], why: str) -> None:
    export = Export(signature("int32", "int32", "int32", names=("a", "from", "c")))
    with pytest.raises(gothreads.ArgumentError, match=why):
        export.bind(args, named)


def test_exports_are_called_by_name(calls: Path) -> None:
    async def later(app: gothreads.App | gothreads.Supervised) -> int:
        result: int = await app.call_async("compare", b="b", a="a", n=7)
        return result
    for opened in (gothreads.open, gothreads.supervise):
        with opened(calls) as app:
            assert app.exports.add(a=2, b=3) == app.exports.add(2, b=3, timeout=10) == 5
            assert app.submit("compare", "a", b="b", n=7).result() == asyncio.run(later(app)) == -7
            for call in (app.exports.add, functools.partial(app.submit, "add")):
                with pytest.raises(gothreads.ArgumentError, match="add has no parameter 'c'; it has: a, b"):
                    call(1, c=2)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["_", "a", "arg1_", "arg0", "None", "def", "²", "arg2_"]), max_size=5))
def test_every_signature_has_a_python_signature(names: list[str]) -> None:
    export = Export(signature(*["int32"] * len(names), names=tuple(names)))
    assert len(export.python_signature().parameters) == len(names)


@pytest.mark.parametrize(("types", "result", "kind"), [
    ((), None, FuncType(b"", b"")),
    (("bool", "int32", "uint32", "uintptr", "unsafe.Pointer", "pointer"), "pointer", FuncType(I32 * 6, I32)),
    (("int64", "uint64"), "uint64", FuncType(I64 * 2, I64)),
    (("float32", "float64"), "float32", FuncType(F32 + F64, F32)),
    (("string", "int64"), "bool", FuncType(I32 * 2 + I64, I32)),
])
def test_a_signature_matches_the_webassembly_types_that_go_gives_it(types: tuple[str, ...], result: str | None,
                                                                    kind: FuncType) -> None:
    assert matches(signature(*types, result=result), kind)


@pytest.mark.parametrize(("types", "result", "kind"), [
    (("int32",), None, FuncType(b"", b"")),
    (("int32",), None, FuncType(I64, b"")),
    (("string",), None, FuncType(I32, b"")),
    ((), "int32", FuncType(b"", b"")),
    ((), None, FuncType(b"", I32)),
    ((), "int32", FuncType(b"", I32 * 2)),
    (("?",), None, FuncType(I32, b"")),
    ((), "?", FuncType(b"", I32)),
    ((), "string", FuncType(b"", I32)),
    (("int32",), None, FuncType(V128, b"")),
    (("int32",), None, FuncType(b"\x01", b"")),
])
def test_a_signature_that_does_not_fit_the_module_does_not_match(types: tuple[str, ...], result: str | None,
                                                                 kind: FuncType) -> None:
    assert not matches(signature(*types, result=result), kind)


def test_an_export_without_source_has_a_signature_from_its_webassembly_types() -> None:
    found = from_wasm("f", FuncType(I32 + I64 + F32 + F64, I64))
    assert found.go == "func f(arg0 int32, arg1 int64, arg2 float32, arg3 float64) int64"
    assert matches(found, FuncType(I32 + I64 + F32 + F64, I64))
    assert from_wasm("g", FuncType(b"", b"")).go == "func g()"


def test_exports_are_attributes_and_items_and_are_listed() -> None:
    called: list[object] = []

    def call(export: Export, values: list[Any]) -> str:
        called.append((export.name, values))
        return "done"
    exports = Exports({name: Function(Export(from_wasm(name, FuncType(I32, b""))), call)
                       for name in ("add", "with-dash")})
    assert exports.add(3) == "done"
    assert exports["with-dash"](4) == "done"
    assert called == [("add", [3]), ("with-dash", [4])]
    assert exports.add is exports["add"]
    assert (list(exports), len(exports), "add" in exports, "sub" in exports) == (["add", "with-dash"], 2, True, False)
    assert {"add", "with-dash"} <= set(dir(exports))
    assert hasattr(exports, "add")
    assert not hasattr(exports, "sub")
    assert getattr(exports, "sub", None) is None


def test_a_missing_export_names_those_there_are() -> None:
    exports = Exports({})
    with pytest.raises(UnknownExport, match="no export 'sub'; it has: none"):
        _ = exports.sub
    with pytest.raises(KeyError, match="no export 'sub'"):
        _ = exports["sub"]
    with pytest.raises(AttributeError):
        _ = exports.__wrapped__


def test_truth_values_of_numpy_are_truth_values(app: gothreads.App) -> None:
    for value in (True, False):
        assert app.exports.bools(numpy.bool_(value)) == app.exports.bools(value)
    with pytest.raises(ArgumentError, match="must be bool"):
        app.exports.bools(numpy.array([True]))


def test_exports_can_be_copied_and_are_not_pickled(app: gothreads.App) -> None:
    add = app.exports.add
    assert copy.copy(add) is add
    assert copy.deepcopy([add])[0](2, 3) == 5
    with pytest.raises(gothreads.MisuseError, match=r"the export add cannot be pickled. Pickle the app instead"):
        pickle.dumps(add)


def test_dir_of_exports_lists_exports(app: gothreads.App) -> None:
    assert [name for name in dir(app.exports) if not name.startswith("__")] == sorted(app.exports)


def test_exports_of_a_running_module_have_gos_words(app: gothreads.App) -> None:
    length = app.exports.length
    assert length.__name__ == "length"
    assert length.__doc__ == "func length(s string) int64\n\nlength is in bytes."
    assert str(inspect.signature(length)) == "(s: str | bytes) -> int"
    assert "length" in repr(length)
    help_ = [line.rstrip() for line in pydoc.plain(pydoc.render_doc(length)).splitlines()]
    assert help_[2:] == ["length(s: str | bytes) -> int", "    func length(s string) int64", "",
                         "    length is in bytes."]
    with pytest.raises(UnknownExport, match=r"no export 'lenght'\. Did you mean 'length'\? It has: add, ask, .*length"):
        _ = app.exports.lenght


@pytest.mark.parametrize(("name", "go_type"),
                         [("int32s", "int32"), ("uint32s", "uint32"), ("int64s", "int64"), ("uint64s", "uint64"),
                          ("uintptrs", "uintptr")])
def test_integers_go_through_go_unchanged(app: gothreads.App, name: str, go_type: str) -> None:
    for value in (*RANGES[go_type], 0, 1, RANGES[go_type][1] >> 1):
        assert app.exports[name](value) == value


def test_floats_and_bools_go_through_go_unchanged(app: gothreads.App) -> None:
    for value in (0.1, -0.0, math.inf, 5e-324, 1.7976931348623157e308):
        assert app.exports.float64s(value) == value
    assert app.exports.float32s(FLOAT32_MAX) == FLOAT32_MAX
    assert app.exports.float32s(0.5) == 0.5
    assert math.isnan(app.exports.float32s(math.nan))
    assert app.exports.bools(True) is False
    assert app.exports.bools(False) is True


@pytest.mark.parametrize("value", [bytearray(b"1.5"), memoryview(b"1"), "1", b"1"])
def test_a_float_is_not_read_from_text(value: object) -> None:
    assert "got" in refused("float64", value)


def test_an_int_of_more_digits_than_python_shows_is_refused_for_its_size() -> None:
    assert refused("int32", 10 ** 5000).endswith(": got an int that cannot be shown")


def test_what_is_no_name_is_no_export() -> None:
    exports = Exports({})
    values: list[Any] = [[], None, b"add"]
    for value in values:
        assert value not in exports
        with pytest.raises(UnknownExport):
            exports[value]
