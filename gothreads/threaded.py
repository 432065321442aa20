"""The threaded model (case 1 of golang/go#42372): the module runs on, on threads of its own, and any thread calls it."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import wasmtime

from gothreads.app import App
from gothreads.callback_m import CallbackMCache
from gothreads.errors import AppClosed, MemoryAccessError, MisuseError, ModuleError, Stalled
from gothreads.exports import Export
from gothreads.host import ffi
from gothreads.host.engine import compile_module, new_engine
from gothreads.host.instance import Instances
from gothreads.host.poller import Poller
from gothreads.host.wasi import answer, type_of, with_errno
from gothreads.host.world import HOST
from gothreads.inspector import Goroutine, Inspector
from gothreads.mpool import MPool
from gothreads.shared_memory import SharedMemory
from gothreads.stall import Stall, StallWatch
from gothreads.state import SPARE_THREADS, AppStatistics, State
from gothreads.wasm import layout
from gothreads.wasm.binary import PAGE, Kind

log = logging.getLogger("gothreads")

#: How long statistics wait for Go's part, in seconds.
_ANSWER_SECONDS = 1.0


class ThreadedApp(App):
    """See App."""

    model = "threaded"

    def _make(self) -> None:
        loaded, options, owned = self.loaded, self.options, self._owned
        self._check()
        self._engine = new_engine(options.limits.stack)
        owned.callback(self._engine.close)
        compiled = compile_module(self._engine, loaded.wasm, options.limits.stack)
        self.compile_seconds = compiled.seconds
        owned.callback(compiled.module.close)
        self._memory = SharedMemory(self._engine, loaded.memory.minimum, options.limits.memory // PAGE)
        owned.callback(self._memory.close)
        self._world.use(self._memory)
        self._poller = Poller(self._memory, self._world.table)
        owned.callback(self._poller.close)
        linker = wasmtime.Linker(self._engine)
        owned.callback(linker.close)
        linker.allow_shadowing = True
        linker.define_wasi()
        with wasmtime.Store(self._engine) as store:
            linker.define(store, "env", "memory", self._memory.handle)
        functions = ffi.HostFunctions(linker, self._host_function_failed)
        owned.callback(functions.clear)
        self._world.define(functions, loaded.outline)
        self._define_host(functions)
        pre = linker.instantiate_pre(compiled.module)
        owned.callback(pre.close)
        self._instances = Instances(self._engine, pre, self._memory, options.wasi.local, self._is_ending)
        owned.callback(self._instances.close_all)
        self._pool = MPool(self._instances, options.limits.threads, options.limits.stack, self._trapped)
        attaching = threading.Lock()
        self._cache = CallbackMCache(self._instances, self._memory, options.callers, options.callers_timeout, self._is_ending, attaching)
        self._inspector = Inspector(self._instances, self._memory, options.limits.stack, self._is_ending, attaching, self._cache.in_flight, self._submit_to)

    @property
    def memory(self) -> SharedMemory:
        return self._memory

    def trim(self) -> int:
        """Give back the callers that are not in use now; returns how many."""
        return int(self._here_or_on_a_worker(self._cache.trim))

    def statistics(self) -> AppStatistics:
        go = self._inspector.statistics(_ANSWER_SECONDS) if self._state is State.RUNNING else None
        callers = self._cache.statistics()
        try:
            size = self._memory.size
        except AppClosed:
            size = 0
        return AppStatistics(self.model, self.state.value, time.monotonic() - self._begun, callers.calls, size, self.options.limits.memory,
                             self.compile_seconds, callers, self._pool.statistics(), go)

    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        return self._inspector.goroutines(timeout)

    def _is_ending(self) -> bool:
        return self._cause is not None

    def _check(self) -> None:
        """What can be said before anything is made."""
        options = self.options
        most = layout.MAX_THREADS - 1  # one caller is the inspector's
        if options.callers + options.limits.threads > most:
            raise MisuseError(f"callers ({options.callers:,}) and the limit on threads ({options.limits.threads:,}) may be {most:,} together")
        if options.limits.threads < options.procs + SPARE_THREADS:
            raise MisuseError(f"with {options.procs} procs Go needs at least {options.procs + SPARE_THREADS} threads, the limit is {options.limits.threads}")
        missing = [f"{i.module}.{i.name}" for i in self.loaded.outline.imports
                   if i.module != HOST and not self._world.has(i.module, i.name) and not (i.kind is Kind.MEMORY and i.module == "env")]
        if missing:
            raise ModuleError(f"{self.loaded.name}: the module imports functions that nobody provides: {', '.join(missing)}")

    def _define_host(self, functions: ffi.HostFunctions) -> None:
        """What the overlay's Go imports from module `gothreads`."""
        kinds = {i.name: self.loaded.outline.types[i.type_index] for i in self.loaded.outline.imported_functions if i.module == HOST}

        def thread_spawn(values: int) -> None:
            g0 = ctypes.c_uint32.from_address(values).value
            answer(values, 0 if self._pool.spawn(g0) else -1)

        def stopped(_values: int) -> None:
            raise AppClosed("stopped")  # the app is ending: the first cause is known

        own: dict[str, ffi.HostFunction] = {
            "ncpu": lambda values: answer(values, self.options.procs),
            "thread_spawn": thread_spawn,
            "initialized": lambda _values: self._initialized(),
            "has_callers": lambda values: answer(values, int(self.loaded.has_callers)),
            "stopped": stopped,
        }
        polling: dict[str, Callable[..., None]] = {"poll_start": self._poller.start, "poll_open": self._poller.open}
        own |= {name: with_errno(call, kinds[name]) for name, call in polling.items() if name in kinds}
        for name, kind in kinds.items():
            if self._world.has(HOST, name):
                continue
            if name not in own:
                raise ModuleError(f"{self.loaded.name}: the module wants {HOST}.{name}, which this gothreads does not have. Rebuild it: gothreads build")
            functions.define(HOST, name, type_of(kind), own[name])

    def _start(self) -> None:
        if self.loaded.entry is None:
            raise ModuleError(f"{self.loaded.name}: the module has neither _start nor _initialize")
        first = self._instances.new()
        first.function("gt_init_memory", 0)()
        self._instances.close(first)
        self._pool.start(self.loaded.entry)
        if self.options.stall_timeout is not None:
            StallWatch(self._inspector, self.options.stall_timeout, self._cache, lambda: self._state is State.RUNNING, self._left,
                       self._stalled, self.options.no_calls).start()

    def _stalled(self, stall: Stall) -> None:
        match self.options.on_stall:
            case "report":
                log.warning("%s: %s", self.loaded.name, stall)
            case "exit":
                self._end(Stalled(f"{self.loaded.name}: {stall}"), State.FAILED)
            case told:
                told(stall)

    def _call(self, export: Export, converted: list[tuple[str, Any]]) -> Any:
        caller = self._cache.acquire()
        try:
            return call_export(caller.function(export.name, export.count), export, converted, caller)
        finally:
            self._cache.release(caller)

    def _request(self, handler: str, payload: bytes) -> bytes:
        caller = self._cache.acquire()
        try:
            return caller.slot.request(handler, payload)
        finally:
            self._cache.release(caller)

    def _handlers(self) -> list[str]:
        caller = self._cache.acquire()
        try:
            return caller.slot.handlers()
        finally:
            self._cache.release(caller)

    def _stop_running(self) -> None:
        self._memory.store_u32(layout.STOP_FLAG, 1)
        self._engine.increment_epoch()
        self._pool.close()
        self._cache.wake_all()
        self._inspector.wake_all()

    def _close_workers(self) -> None:
        super()._close_workers()
        self._inspector.close()

    def _sweep_once(self) -> bool:
        if not self._pool.active and not self._cache.in_use and not self._inspector.in_use:
            return True
        for address in self._instances.parked_addresses():
            with contextlib.suppress(MemoryAccessError):  # it is the module's memory: what is there may be anything
                self._memory.notify(address)
        self._cache.wake_all()
        return False


def call_export(function: ffi.Function, export: Export, converted: list[tuple[str, Any]], caller: Any) -> Any:
    """Put converted arguments into place, call, and take the result. `caller.slot` is used for strings."""
    values = function.values
    if export.has_strings:
        address = caller.slot.put(b"".join(raw for field, raw in converted if field == "string"))
        place = 0
        for field, raw in converted:
            if field == "string":
                values[place].i32, values[place + 1].i32 = ffi.signed32(address), len(raw)
                address += len(raw)
                place += 2
            else:
                setattr(values[place], field, raw)
                place += 1
    else:
        for place, (field, raw) in enumerate(converted):
            setattr(values[place], field, raw)
    function()
    return export.result(values[0])
