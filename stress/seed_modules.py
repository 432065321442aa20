"""Modules to start from: for stress/fuzz_wasm.py; mutations.py damages them."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import wasmtime

from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.wasm import abi
from gothreads.wasm.binary import ExportEntry, FuncType, Import, Kind, MemoryLimits, Module, Section
from gothreads.wasm.leb import name, sleb, uleb, vector
from gothreads.wasm.metadata import ABI
from gothreads.wasm.parsing import function_names, parse
from tests.support.modules import MODULES, built, native

#: A module with nearly everything; one with wasi-threads; one that takes bytes.
_TEXTS = {"everything": """
(module $small
  (type (func (param i32 i64) (result f64)))
  (import "env" "f" (func $f (type 0)))
  (memory (export "memory") 1 3)
  (table 2 4 funcref)
  (global (mut i32) (i32.const -7))
  (global i64 (i64.const 9000000000))
  (global f64 (f64.const 0.5))
  (global funcref (ref.func $start))
  (export "start" (func $start))
  (start $start)
  (elem (i32.const 0) func $start)
  (func $start (drop (call $f (i32.const 1) (i64.const 2))) (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 1)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
  (data (i32.const 100) "active")
  (data "passive"))""", "waits": """
(module
  (import "env" "memory" (memory 1 2 shared)) (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (func (export "wasi_thread_start") (param i32 i32)
    (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))))
  (func (export "spawn") (result i32) (call $spawn (i32.const 7)))
  (func (export "wait") (param i32 i32 i64) (result i32)
    (memory.atomic.wait32 offset=8 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "wait64") (param i32 i64 i64) (result i32)
    (memory.atomic.wait64 offset=8 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "wake") (param i32) (result i32) (memory.atomic.notify (local.get 0) (i32.const -1))))""", "bytes": """
(module (memory (export "memory") 1) (global $at (mut i32) (i32.const 1024))
  (func (export "malloc") (param i32) (result i32)
    (global.get $at) (global.set $at (i32.add (global.get $at) (local.get 0))))
  (func (export "free") (param i32))
  (func (export "rest") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (i32.add (local.get 0) (i32.const 1))) (i64.const 32))
            (i64.extend_i32_u (i32.sub (local.get 1) (i32.const 1))))))"""}


def small() -> dict[str, bytes]:
    """Modules of a few hundred bytes, by name."""
    return {title: bytes(wasmtime.wat2wasm(text)) for title, text in _TEXTS.items()}


def of_other_languages() -> dict[str, bytes]:
    """Modules built by Zig and its C compiler: 2 to 60 KB."""
    return {source: native(source).read_bytes() for source in ("strings.c", "strings.zig", "threads.c", "program.c")}


def of_go() -> dict[str, bytes]:
    """Modules built by `gothreads build`: 3 MB."""
    return {f"calls, {model}": built("calls", model=model).read_bytes() for model in ("threaded", "single")}


def linked(program: str) -> bytes:
    """The output of Go's linker for a program of tests/modules, before gothreads rewrites it. The cache may have
    dropped it: it is linked anew.
    """
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, GOTHREADS_CACHE=cache):
        build(Request(str(MODULES / program)))
        (file,) = Path(cache).glob("linked/*/linked.wasm")
        return file.read_bytes()


def shrunk(wasm: bytes) -> bytes:
    """A module that Go linked, shrunk from 3 MB to 40 KB with everything that the rewrite looks at: its functions only
    trap.
    """
    module = parse(wasm)
    imports = len(module.imported_functions)
    names = {index: title for title, index in function_names(module).items()}
    # Functions that call imports keep their bodies, by which the rewrite recognises them; and it looks functions up by
    # name.
    bodies = [body if len(body) < 400 and b"\x23\0\x21\x01" in body[:12] and b"\x10" in body else b"\0\0\x0b"
              for body in module.bodies]
    prefixes = ("internal_runtime_atomic.", "wasm_pc", "runtime.futex", "runtime.gt", "gt_")
    kept = {index: title for index, title in names.items() if title.startswith(prefixes)
            or title in ("runtime.clockOffset", "runtime.publicationBarrier", "runtime.exitThread", "runtime.mstart",
                         "runtime.exitsyscall", "runtime.procyield", "runtime.procyieldAsm")
            or (index >= imports and bodies[index - imports] != b"\0\0\x0b")}
    named = uleb(len(kept)) + b"".join(uleb(index) + name(title) for index, title in sorted(kept.items()))
    return replace(module, bodies=bodies, data=module.data[:40],
                   customs=[("go:buildid", b""), ("name", b"\1" + vector(named))]).encode()


#: Features that wasm-opt may use in a module: those that gothreads' parser knows; and those that it refuses, or that
#: wasmtime has not enabled (binaryen has exceptions and typed references as they were before their standardisation).
KNOWN_FEATURES = ("sign-ext", "threads", "mutable-globals", "nontrapping-float-to-int", "simd", "bulk-memory",
                  "tail-call", "reference-types", "multivalue", "relaxed-simd", "extended-const")
OTHER_FEATURES = ("exception-handling", "typed-function-references", "gc", "gc-nn-locals", "memory64")
INSTALL_BINARYEN = "wasm-opt is not installed: apt-get install binaryen"


def generated(choose: random.Random, features: tuple[str, ...] = KNOWN_FEATURES + OTHER_FEATURES) -> bytes | None:
    """A valid module that binaryen's fuzzer makes from random bytes; None when it makes none from these."""
    program = shutil.which("wasm-opt")
    if program is None:
        raise RuntimeError(INSTALL_BINARYEN)
    probabilities = dict.fromkeys(KNOWN_FEATURES, 0.7)
    probabilities["reference-types"] = 0.25  # with these, half of its modules are invalid
    chosen = [f"--enable-{feature}" for feature in features if choose.random() < probabilities.get(feature, 0.1)]
    chosen += ["--enable-reference-types"] * ("--enable-gc" in chosen)
    passes = choose.sample(["-O1", "-O3", "--dce", "--coalesce-locals", "--flatten", "--vacuum", "--memory-packing"],
                           choose.randrange(3))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").write_bytes(choose.randbytes(choose.choice((50, 500, 3_000, 12_000))))
        command = [program, "in", "-ttf", "-o", "out.wasm", "--mvp-features", *chosen, *passes]
        subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=60)
        made = Path(folder) / "out.wasm"
        return made.read_bytes() if made.exists() else None


# Modules that claim to be built by gothreads, and are not.

_EXPORTED = ("_start", "_initialize", "start", "stop", "add", "malloc", "free", "memory", "wasi_thread_start",
             *abi.GUEST, *abi.THREADS)
_IMPORTED = tuple((source, title) for source, titles in {
    "gothreads": ("ncpu", "thread_spawn", "initialized", "has_callers", "stopped", "poll_start", "poll_open",
                  "msg_call", "msg_replies", "msg_events", "idle_open", "sock_dial", "nope"),
    "wasi_snapshot_preview1": ("fd_write", "fd_read", "proc_exit", "poll_oneoff", "clock_time_get", "random_get",
                               "path_open", "nope")}.items() for title in titles)
#: Numbers that a module may return, as instructions.
_I32S = [b"\x41" + sleb(number)
         for number in (0, 7, 8, 100, 65528, 65532, 65535, 1 << 20, (1 << 31) - 1, -(1 << 31), -1)]
_CONSTANTS = {0x7F: b"\x41\x07", 0x7E: b"\x42\x07", 0x7D: b"\x43\0\0\x80\x3f", 0x7C: b"\x44\0\0\0\0\0\0\xf0\x3f",
              0x7B: b"\xfd\x0c" + bytes(16), 0x70: b"\xd0\x70", 0x6F: b"\xd0\x6f"}


def pretended(choose: random.Random) -> bytes:
    """A valid module with exports and imports of the names that gothreads knows: of any type, or of the right types,
    returning anything.
    """
    honest = choose.random() < 0.7
    types = [_type(choose) for _ in range(choose.randrange(1, 12))]
    types += [FuncType(b"", b""), FuncType(b"\x7f", b"\x7f"), FuncType(b"\x7f\x7f", b"\x7f")]
    module = Module(types=types)
    for source, title in choose.sample(_IMPORTED, choose.choice((0, 0, 0, 0, 1, 2, 5))):
        module.imports += [Import(source, title, Kind.FUNC, uleb(choose.randrange(len(types))))
                           for _ in range(choose.choice((1, 1, 1, 2)))]
    imported = len(module.imports)
    threaded = choose.random() < 0.4
    if threaded:
        limits = MemoryLimits(choose.choice((1, 10)), choose.choice((10, 65536)), shared=True)
        module.imports.append(Import("env", "memory", Kind.MEMORY, limits.encode()))
    else:
        module.memories.append(MemoryLimits(choose.choice((0, 1, 10)), choose.choice((None, 10))))
    chosen = choose.sample(_EXPORTED, choose.randrange(1, len(_EXPORTED)))
    if honest:
        chosen = [*{*chosen, *abi.GUEST} - {*abi.THREADS}, *(abi.THREADS if threaded else ())]
        choose.shuffle(chosen := sorted(chosen))
    for title in chosen:
        if honest and (right := {**abi.ENTRIES, **abi.GUEST, **abi.THREADS}.get(title)):
            types.append(right)
        kind = (len(types) - 1 if honest
                else choose.randrange(len(types)) if choose.random() < 0.6 else len(types) - choose.randrange(1, 4))
        if title == "memory" or (not honest and choose.random() < 0.05):
            module.exports.append(ExportEntry(title, Kind.MEMORY, 0))
            continue
        module.exports.append(ExportEntry(title, Kind.FUNC, imported + len(module.functions)))
        module.functions.append(kind)
        results = b"".join(choose.choice(_I32S) if t == 0x7F else _CONSTANTS[t] for t in types[kind].results)
        calls = b"".join(b"".join(_CONSTANTS[t] for t in called.params) + b"\x10" + uleb(place) + b"\x1a"
                         * len(called.results)
                         for place in range(imported) if choose.random() < 0.3
                         for called in [types[module.imports[place].type_index]])
        module.bodies.append(b"\0" + choose.choice((b"", b"", b"", calls, calls, b"\0")) + results + b"\x0b")
    if module.functions and choose.random() < 0.1:
        module.raw[Section.START] = uleb(imported + choose.randrange(len(module.functions)))
    if choose.random() < 0.85:
        signature: dict[str, Any] = {"name": "add", "go": "func add()", "function": "add", "package": "main", "doc": "",
                                     "params": [], "result": None, "position": ""}
        about = {"abi": ABI, "version": "0", "go": "go1.27", "model": "threaded" if threaded else "single",
                 "buildmode": choose.choice(["exe", "c-shared"]), "handlers": choose.random() < 0.7, "options": {},
                 "exports": choose.choice(([], [signature])), "imports": []}
        module.customs.append(("gothreads", json.dumps(about).encode()))
    return module.encode()


def _type(choose: random.Random) -> FuncType:
    kinds = b"\x7f\x7f\x7f\x7e\x7d\x7c" if choose.random() < 0.7 else bytes(_CONSTANTS)
    params, results = (bytes(choose.choice(kinds) for _ in range(choose.choice((0, 1, 1, 2, 2, 3, most))))
                       for most in (1_000, 1_000))
    return FuncType(params, results)
