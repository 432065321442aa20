"""Hand-written module files that claim to be built by gothreads, and lie to the host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import wasmtime

from gothreads.wasm.metadata import ABI, SECTION
from gothreads.wasm.parsing import parse

_SLOT = """
  (func (export "gothreads_slot_open") (result i32) (i32.const {slot}))
  (func (export "gothreads_slot_close") (param i32))
  (func (export "gothreads_buffer") (param i32 i32) (result i32) (i32.const {buffer}))
  (func (export "gothreads_payload") (param i32 i32) (result i32) (i32.const {buffer}))
  (func (export "gothreads_request") (param i32 i32) {request})
  (func (export "gothreads_handlers") (param i32) {handlers})
  (func (export "gothreads_stacks") (param i32) {stacks})
  (func (export "gothreads_counts") (param i32 i32) {counts})
  (func (export "gothreads_blocked") (param i32) (result i32) (i32.const 1))
  (func (export "gothreads_preparing") (result i32) {preparing})
  (func (export "gothreads_release") (param i32))"""
_SINGLE = """(module {imports} (memory (export "memory") {pages}) {more}
  (func (export "_initialize") {main})""" + _SLOT + ")"
_THREADED = """(module {imports}
  (import "env" "memory" (memory 4 65536 shared))
  (import "gothreads" "initialized" (func $initialized))
  {more} (export "memory" (memory 0))
  (func (export "gt_init_memory") {memory})
  (func (export "gt_setup") (param i64 i32) {setup})
  (func (export "gt_read_clock") (result i64) (i64.const {clock}))
  (func (export "gt_thread_start") (param i32) {thread})
  (func (export "gt_attach") (param i32) (result i32) {attach} (i32.const 7))
  (func (export "gt_detach") {detach})
  (func (export "_initialize") call $initialized {main})""" + _SLOT + ")"

#: Defaults for the parts that a test does not give. A reply is (status, address, length) at address `slot`.
_HARMLESS: Mapping[str, object] = {"slot": 1024, "buffer": 4096, "pages": 4, "more": "", "imports": "", "request": "",
                                   "handlers": "", "stacks": "",
                                   "counts": "", "thread": "", "main": "", "clock": 0, "memory": "", "setup": "",
                                   "attach": "", "detach": "", "preparing": "(i32.const 0)"}


def reply(status: int, address: int, length: int, slot: int = 1024) -> str:
    """Instructions that write a reply's header."""
    words = (status, address, length)
    return "".join(f"(i32.store (i32.const {slot + 4 * i}) (i32.const {word}))" for i, word in enumerate(words))


def string(text: str | bytes) -> str:
    """A string literal in WAT."""
    return '"' + "".join(f"\\{byte:02x}" for byte in (text if isinstance(text, bytes) else text.encode())) + '"'


def liar(folder: Path, model: str, fields: Mapping[str, object] | None = None, **parts: object) -> Path:
    """Write a module of a model (single, threaded) to a file, with the given parts.

    `fields` override those of the section `gothreads`.
    """
    text = (_THREADED if model == "threaded" else _SINGLE).format(**{**_HARMLESS, **parts})
    module = parse(bytes(wasmtime.wat2wasm(text)))
    about: dict[str, object] = {"abi": ABI, "version": "1", "go": "go1.27", "model": model, "buildmode": "c-shared",
                                "handlers": True, "options": {},
                                "exports": [], "imports": []}
    module.customs.append((SECTION, json.dumps(about | dict(fields or {})).encode()))
    path = folder / "liar.wasm"
    path.write_bytes(module.encode())
    return path
