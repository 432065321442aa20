"""Engine settings, and the on-disk cache of compiled modules.

Each app has its own engine: the epoch, which stops running code, belongs to an engine and must not stop other apps.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path

import wasmtime
from wasmtime import _ffi

from gothreads import cache
from gothreads.engine import trap_signals
from gothreads.engine.precompiled import Precompiled
from gothreads.errors import GothreadsError, ModuleError
from gothreads.files import cache_folder, cache_key, keep, kept, making, write_atomically
from gothreads.output.progress import COMPILE, WAIT, timed
from gothreads.requirements import WASMTIME, warn_once
from gothreads.wasm.binary import Module
from gothreads.wasm.go_functions import with_go_names
from gothreads.wasm.parsing import parse
from gothreads.wasm.passes import stops, waits

log = logging.getLogger("gothreads")

#: The machines for which wasmtime compiles to machine code. Elsewhere it uses its interpreter (Pulley), which has no
#: threads.
MACHINES = ("x86_64", "AMD64", "aarch64", "arm64")
#: How much of a host thread's stack wasmtime needs beyond the part that WebAssembly may use, in bytes.
STACK_MARGIN = 2 << 20
#: Limits in each store, apart from a module's memory: tables, elements in each table, and bytes for exceptions' values.
_MOST_TABLES, _MOST_ELEMENTS, _EXCEPTIONS = 8, 1 << 20, 64 << 20

class StopCheck(Enum):
    """How running code notices that it is to stop. The values name what the machine code depends on.

    EPOCH: the engine's check; it also lets signal handlers run in the middle of a call (engine/interrupt.py).
    FLAG: a check of the stop flag (wasm/passes/stops.py), which is cheaper and can only end the code. For modules with
        threads whose code the main thread never runs, or that are trusted to let it run handlers.
    """

    EPOCH = "epochs"
    FLAG = f"flag={stops.EDITION}"


#: What the machine code depends on besides wasmtime and the machine.
_ALONE = "epochs memories alone"
#: Appended for functions with the names that they have in Go.
_NAMED = " names"
#: From this size in bytes on, compiling takes long enough to be logged.
_LARGE = 1 << 20


def needs_fence() -> bool:
    """Whether the processor may reorder stores, so that Go's publication barrier must be a real one. (Not on x86.)"""
    return platform.machine() not in ("x86_64", "AMD64")


def new_engine(stack: int, *, threads: bool = True, stop_check: StopCheck = StopCheck.EPOCH,
               perf: bool = False) -> wasmtime.Engine:
    """An engine for one app. GothreadsError if wasmtime has no compiler for this machine.

    stack: how much of a thread's stack WebAssembly may use, in bytes.
    threads: whether modules may share memories. Off where none needs to: wasmtime guarantees less for shared memories
    (docs/security.md).
    perf: whether to write where each function is to /tmp/perf-PID.map, for the profiler perf.
    """
    if platform.machine() not in MACHINES:
        raise GothreadsError(f"wasmtime has no compiler for {platform.machine()}, and its interpreter has no threads. "
                             f"Use x86-64 or ARM64")
    warn_once(WASMTIME)
    config = wasmtime.Config()
    config.wasm_threads = config.shared_memory = threads
    config.wasm_multi_memory = True  # wasm/passes/waits.py
    config.epoch_interruption = stop_check is StopCheck.EPOCH
    # Only the C API can set this. It must not be smaller than max_wasm_stack.
    _ffi.dll.wasmtime_config_async_stack_size_set(config.ptr(), ctypes.c_uint64(stack + STACK_MARGIN))
    config.max_wasm_stack = stack
    if perf:
        config.profiler = "perfmap"
    with trap_signals.kept():
        return wasmtime.Engine(config)


def new_store(engine: wasmtime.Engine, memory: int = _EXCEPTIONS) -> wasmtime.Store:
    """A store. When the epoch moves, its code traps, or asks whether it is to trap (ffi.run_on_until).

    memory: the limit on each of the store's own memories, in bytes. (A shared memory belongs to no store.)
    """
    store = wasmtime.Store(engine)
    store.set_limits(memory_size=memory, table_elements=_MOST_ELEMENTS, tables=_MOST_TABLES)
    store.set_epoch_deadline(1)
    return store


@dataclass(frozen=True)
class MachineCode:
    """A compiled module. `seconds` is how long compiling took; None if it came from the cache."""

    module: wasmtime.Module
    seconds: float | None


def compile_module(engine: wasmtime.Engine, wasm: bytes, stack: int, precompiled: Precompiled | None = None, *,
                   perf: bool = False) -> MachineCode:
    """Compile a module for an engine without threads, or load it from the cache. ModuleError if it is not valid.

    A cache miss is logged. precompiled: the module's machine code, if the user has it and trusts it. perf: functions
    get the names that they have in Go, if the module says them.
    """
    if precompiled is not None:
        return _given(engine, precompiled, _ALONE)
    def rewritten(wasm: bytes) -> bytes:
        return with_go_names(parse(wasm)).encode() if perf else wasm
    return _compiled(engine, wasm, stack, _ALONE, rewritten, perf=perf)


def compile_threaded(engine: wasmtime.Engine, wasm: bytes, stack: int, precompiled: Precompiled | None = None,
                     stop_check: StopCheck = StopCheck.EPOCH, *, perf: bool = False) -> MachineCode:
    """The same for a module with threads. All its waits are rewritten (wasm/passes/waits.py): no file is trusted.

    stop_check: as the engine has it.
    """
    def rewritten(wasm: bytes) -> bytes:
        wasmtime.Module.validate(engine, wasm)  # before rewriting: the module may refer only to its own items
        module = parse(wasm)
        return as_compiled(with_go_names(module) if perf else module, stop_check).encode()
    settings = _threaded(stop_check)
    if precompiled is not None:
        return _given(engine, precompiled, settings)
    return _compiled(engine, wasm, stack, settings, rewritten, perf=perf)


def as_compiled(module: Module, stop_check: StopCheck) -> Module:
    """A module with threads as it is compiled. (One without threads is compiled as it is.)"""
    module = waits.rewrite_waits(module)
    return stops.add_stop_checks(module) if stop_check is StopCheck.FLAG else module


def _threaded(stop_check: StopCheck) -> str:
    """As _ALONE, for a module with threads."""
    return f"{stop_check.value} memories waits={waits.EDITION}"


def precompile(wasm: bytes, stack: int, *, threads: bool,
               stop_check: StopCheck = StopCheck.EPOCH) -> tuple[MachineCode, Precompiled]:
    """Compile a module, or load it from the cache, to write it to a file. ModuleError if it is not valid."""
    engine = new_engine(stack, threads=threads, stop_check=stop_check)
    try:
        compiled = (compile_threaded(engine, wasm, stack, stop_check=stop_check) if threads
                    else compile_module(engine, wasm, stack))
        with compiled.module as module:
            return compiled, Precompiled(_threaded(stop_check) if threads else _ALONE, bytes(module.serialize()))
    finally:
        engine.close()


def _given(engine: wasmtime.Engine, precompiled: Precompiled, settings: str) -> MachineCode:
    if precompiled.settings != settings:
        raise ModuleError("the machine code in the file was compiled by another version of gothreads. "
                          "Compile it again: gothreads compile")
    try:
        return MachineCode(wasmtime.Module.deserialize(engine, precompiled.code), None)
    except wasmtime.WasmtimeError as error:  # another processor, for example
        raise ModuleError(f"the machine code in the file does not fit here: {str(error).splitlines()[-1].strip()}. "
                          "Compile it again here: gothreads compile") from None


def _compiled(engine: wasmtime.Engine, wasm: bytes, stack: int, how: str, rewritten: Callable[[bytes], bytes], *,
              perf: bool) -> MachineCode:
    # Everything that affects the machine code, or what wasmtime accepts. wasmtime checks the rest itself when loading.
    how += _NAMED if perf else ""
    settings = f"{version('wasmtime')} {platform.machine()} {platform.system()} {how} stack={stack}"
    path = cache_folder() / "compiled" / f"{cache_key(settings, wasm)}.cwasm"
    if (loaded := _load(engine, path, perf=perf)) is not None:
        return MachineCode(loaded, None)
    with making(path, timed(WAIT, None)):  # two apps of a server may have the same module
        if (loaded := _load(engine, path, perf=perf)) is not None:
            return MachineCode(loaded, None)
        return _compiled_now(engine, wasm, path, rewritten)


def _compiled_now(engine: wasmtime.Engine, wasm: bytes, path: Path, rewritten: Callable[[bytes], bytes]) -> MachineCode:
    """Compile a module, and keep the machine code."""
    begin = time.monotonic()
    level = logging.INFO if len(wasm) >= _LARGE else logging.DEBUG
    log.log(level, "compiling %.1f MB of WebAssembly to machine code (once for each build)", len(wasm) / 1e6)
    try:
        with timed(COMPILE, _expected_seconds(len(wasm))):
            module = wasmtime.Module(engine, rewritten(wasm))
    except wasmtime.WasmtimeError as error:
        raise ModuleError(f"not a valid WebAssembly module (was it changed after it was built?): "
                          f"{str(error).splitlines()[-1].strip()}") from None
    seconds = time.monotonic() - begin
    log.log(level, "compiled in %.1f s", seconds)
    if level == logging.INFO:
        _remember_speed(len(wasm) / seconds)
    try:
        keep(path, module.serialize())
        cache.trim()
    except GothreadsError as error:  # a full disk, for example, must not keep the app from running
        log.warning("the compiled module is not kept: %s", error)
    return MachineCode(module, seconds)


def _speed_file() -> Path:
    return cache_folder() / "compile-speed"


def _expected_seconds(size: int) -> float | None:
    """About how long compiling so many bytes takes on this machine, judging by the last time. None if unknown."""
    try:
        return size / max(float(_speed_file().read_text()), 1.0)
    except (OSError, ValueError, GothreadsError):
        return None


def _remember_speed(speed: float) -> None:
    """Note for `_expected_seconds` how many bytes were compiled in a second."""
    with contextlib.suppress(GothreadsError):
        write_atomically(_speed_file(), f"{speed:.0f}\n".encode(), 0o600)


def _load(engine: wasmtime.Engine, path: Path, *, perf: bool) -> wasmtime.Module | None:
    with kept(path) as file:
        if file is None:
            return None
        try:  # the open file, not whatever may have its name by now
            if perf:  # perf takes the names of code that is in a file from there, with more in them than Go's
                file.seek(0)
                return wasmtime.Module.deserialize(engine, file.read())
            return wasmtime.Module.deserialize_file(engine, f"/proc/self/fd/{file.fileno()}")
        except wasmtime.WasmtimeError as error:
            log.info("the compiled module in the cache does not fit here, and is made again: %s",
                     str(error).splitlines()[0])
            return None
