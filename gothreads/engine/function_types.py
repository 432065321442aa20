"""Function types of a module, in the forms in which host functions are defined."""

from __future__ import annotations

import wasmtime

from gothreads.wasm.binary import FuncType


def wasmtime_type(kind: FuncType) -> wasmtime.FuncType:
    """Convert a function type to wasmtime's."""
    values = {0x7F: wasmtime.ValType.i32, 0x7E: wasmtime.ValType.i64,
              0x7D: wasmtime.ValType.f32, 0x7C: wasmtime.ValType.f64}
    return wasmtime.FuncType([values[t]() for t in kind.params], [values[t]() for t in kind.results])


def letters(values: bytes, *, signed: bool = True) -> str:
    """Format letters for values of these WebAssembly types, as host functions take and return them (engine/ffi.py)."""
    of = {0x7F: "i", 0x7E: "q", 0x7D: "f", 0x7C: "d"} if signed else {0x7F: "I", 0x7E: "Q", 0x7D: "f", 0x7C: "d"}
    return "".join(of[value] for value in values)
