"""The types that arguments and results of exports and host functions have: how they are represented, described, and
converted from Python's values.

Go's rules for //go:wasmexport: bool, 32- and 64-bit integers and floats, uintptr, pointers (32 bits for the host) and
strings (passed as pointer and length); at most one result, never a string.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from gothreads.bridge.raw_bytes import raw_bytes
from gothreads.engine.extension import shared
from gothreads.text import cut, shown
from gothreads.wasm.binary import VALUE_TYPES, FuncType
from gothreads.wasm.signature import Parameter, Signature

#: Go type -> the field of wasmtime's value union, and the WebAssembly types that it occupies.
FIELDS: Mapping[str, tuple[str, str]] = {
    "bool": ("i32", "i32"), "int32": ("i32", "i32"), "uint32": ("i32", "i32"), "int64": ("i64", "i64"),
    "uint64": ("i64", "i64"),
    "float32": ("f32", "f32"), "float64": ("f64", "f64"), "uintptr": ("i32", "i32"), "unsafe.Pointer": ("i32", "i32"),
    "pointer": ("i32", "i32"), "string": ("i32", "i32 i32"),
}
#: Go type -> its representation in a call, in the letters of engine/ffi.py.
LETTERS: Mapping[str, str] = {
    "bool": "?", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
    "uintptr": "I", "unsafe.Pointer": "I",
    "pointer": "I", "string": "II",
}
RANGES = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1),
           "uint64": (0, (1 << 64) - 1), "uintptr": (0, (1 << 32) - 1), "unsafe.Pointer": (0, (1 << 32) - 1),
           "pointer": (0, (1 << 32) - 1)}
PYTHON_TYPES = {"bool": "bool", "float32": "float", "float64": "float", "string": "str | bytes"}
FLOAT32_MAX = shared("FLOAT32_MAX", 3.4028234663852886e38)
_FLOAT32_LIMIT = 3.4028235677973366e38  # halfway to the next: from here on, numbers round to infinity


def _number(go_type: str, value: Any) -> int:
    low, high = RANGES[go_type]
    if isinstance(value, bool):
        raise TypeError(f"got {value}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"got {cut(value)}") from None
    if not low <= number <= high:
        raise ValueError(f"got {cut(number)}")
    return number


def _bool(value: Any) -> int:
    if isinstance(value, bool) or _is_numpys_bool(value):
        return int(bool(value))
    raise TypeError(f"got {cut(value)}, not True or False")


def _is_numpys_bool(value: object) -> bool:
    """Whether it is a numpy.bool. (Its numbers are numbers in Python, too; its truth values are no bool.)"""
    kind = type(value)
    return kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")


def _float(value: Any) -> float:
    # float() would take strings, too.
    if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"got {cut(value)}")
    return float(value)


def _float32(value: Any) -> float:
    number = _float(value)
    if math.isfinite(number) and abs(number) >= _FLOAT32_LIMIT:
        raise ValueError(f"{number:g} is outside ±{FLOAT32_MAX:g}")
    return number


def _string(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if (data := raw_bytes(value)) is not None:
        return data
    raise TypeError(f"got {cut(value)}")


def converter(go_type: str) -> Callable[[Any], Any]:
    """Return the function that converts a Python value to the raw one (bytes for a string).

    It raises TypeError, ValueError or OverflowError.
    """
    match go_type:
        case "bool":
            return _bool
        case "float64":
            return _float
        case "float32":
            return _float32
        case "string":
            return _string
        case _:
            low, high = RANGES[go_type]
            return lambda value: value if type(value) is int and low <= value <= high else _number(go_type, value)


def python_type(go_type: str) -> str:
    return PYTHON_TYPES.get(go_type, "int")


def describe(go_type: str, *, wasm: bool = False) -> str:
    """Describe the values that an argument of a Go type may have. `wasm`: name the type as WebAssembly does."""
    named = type_words(go_type, wasm=wasm)
    if go_type in RANGES:
        low, high = RANGES[go_type]
        return f"an int from {low} to {high} ({named})"
    return f"{PYTHON_TYPES[go_type]} ({named})"


def type_words(go_type: str, *, wasm: bool) -> str:
    """Return the name of a type for messages: WebAssembly's if `wasm`, else Go's."""
    return FIELDS[go_type][1] if wasm else f"Go: {go_type}"


def parse(go_type: str, text: str) -> Any:
    """Parse an argument from the command line. ValueError or KeyError: the text is not of that type."""
    match go_type:
        case "bool":
            return {"true": True, "false": False}[text.lower()]
        case "float32" | "float64":
            return float(text)
        case "string":
            return text
        case _:
            return int(text, 0)


def from_wasm(name: str, kind: FuncType, *, foreign: bool = False) -> Signature:
    """Make a signature when only the WebAssembly types are known. `foreign`: do not write the declaration in Go."""
    types = {"i32": "int32", "i64": "int64", "f32": "float32", "f64": "float64"}
    params = tuple(Parameter(f"arg{i}", types[VALUE_TYPES[t]]) for i, t in enumerate(kind.params))
    result = types[VALUE_TYPES[kind.results[0]]] if kind.results else None
    go = f"func {shown(name)}({', '.join(f'{p.name} {p.type}' for p in params)}){f' {result}' if result else ''}"
    if foreign:
        declared = ", ".join(f"{p.name}: {VALUE_TYPES[t]}" for p, t in zip(params, kind.params, strict=True))
        go = f"{shown(name)}({declared})" + (f" -> {VALUE_TYPES[kind.results[0]]}" if kind.results else "")
    return Signature(name=name, go=go, function=name, package="", doc="", params=params, result=result, position="")


def matches(signature: Signature, kind: FuncType) -> bool:
    """Whether the signature from the Go source fits the type in the module."""
    if any(p.type not in FIELDS
           for p in signature.params) or signature.result not in (None, *(FIELDS.keys() - {"string"})):
        return False
    params = " ".join(FIELDS[p.type][1] for p in signature.params).split()
    results = [FIELDS[signature.result][0]] if signature.result else []
    return [VALUE_TYPES.get(t) for t in kind.params] == params and [VALUE_TYPES.get(t) for t in kind.results] == results
