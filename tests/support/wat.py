"""Modules in WebAssembly's text format."""

from __future__ import annotations

from pathlib import Path

import wasmtime


def wat(folder: Path, text: str) -> Path:
    path = folder / "app.wasm"
    path.write_bytes(bytes(wasmtime.wat2wasm(text)))
    return path
