"""Other execution models behind the same interface.

single (case 2 of golang/go#42372): stock Go. One instance, one thread at a time: each call drives Go's scheduler, and when
it returns everything freezes until the next. Calls queue for a lock.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

import wasmtime

from gothreads.app import App
from gothreads.errors import ModuleError, NotCallable
from gothreads.exports import Export
from gothreads.host import ffi
from gothreads.host.engine import compile_module, new_engine
from gothreads.host.stack import big_stack, inside
from gothreads.inspector import Goroutine, parse_goroutines
from gothreads.shared_memory import BoundedMemory
from gothreads.slot import Slot
from gothreads.state import AppStatistics
from gothreads.threaded import call_export


class StoreMemory(BoundedMemory):
    """A memory that belongs to a store: it may move when it grows, so only whoever holds the app's lock may look at it."""

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        super().__init__()
        self._store, self._memory = store, memory

    def _bounds(self) -> tuple[int, int]:
        return ctypes.addressof(self._memory.data_ptr(self._store).contents), self._memory.data_len(self._store)


class SingleApp(App):
    """See App. `_turn` is held by whoever is in the module."""

    model = "single"

    def _make(self) -> None:
        loaded, options, owned = self.loaded, self.options, self._owned
        self._turn = threading.Lock()
        self._in = 0  # threads that hold or are about to take `_turn`; guarded by _lock
        self._calls = 0
        missing = [f"{i.module}.{i.name}" for i in loaded.outline.imports if not self._world.has(i.module, i.name)]
        if missing:
            raise ModuleError(f"{loaded.name}: the module imports functions that nobody provides: {', '.join(missing)}")
        self._engine = new_engine(options.limits.stack)
        owned.callback(self._engine.close)
        compiled = compile_module(self._engine, loaded.wasm, options.limits.stack)
        self.compile_seconds = compiled.seconds
        owned.callback(compiled.module.close)
        self._linker = wasmtime.Linker(self._engine)
        owned.callback(self._linker.close)
        self._linker.allow_shadowing = True
        self._linker.define_wasi()
        self._functions = ffi.HostFunctions(self._linker, self._host_function_failed)
        owned.callback(self._functions.clear)
        self._store = wasmtime.Store(self._engine)
        owned.callback(self._store.close)
        self._store.set_wasi(options.wasi.local())
        self._store.set_limits(memory_size=options.limits.memory)
        self._store.set_epoch_deadline(1)
        self._world.define(self._functions, loaded.outline)
        try:
            self._instance = self._linker.instantiate(self._store, compiled.module)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            raise ModuleError(f"{loaded.name}: cannot instantiate the module: {str(error).splitlines()[-1].strip()}") from None
        memory = self._instance.exports(self._store)["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self._memory = StoreMemory(self._store, memory)
        owned.callback(self._memory.close)
        self._world.use(self._memory)
        self._found: dict[str, ffi.Function] = {}
        owned.callback(self._found.clear)
        self.slot = Slot(self._function, self._memory)

    @property
    def memory(self) -> StoreMemory:
        return self._memory

    def statistics(self) -> AppStatistics:
        size = 0  # while somebody is in the module, or it has ended
        if self._turn.acquire(blocking=False):
            try:
                with self._lock:
                    running = self._cause is None
                    self._in += running  # what is freed waits for those that came before the end
                if running:
                    size = self._memory.size
                    with self._lock:
                        self._in -= 1
            finally:
                self._turn.release()
        return AppStatistics(self.model, self.state.value, time.monotonic() - self._begun, self._calls, size, self.options.limits.memory, self.compile_seconds)

    def _function(self, name: str, count: int) -> ffi.Function:
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = ffi.function(self._store, self._instance, name, count)
        return found

    def _start(self) -> None:
        if self.loaded.entry == "_start":
            # main runs to its end on a thread of its own; stock Go takes no calls meanwhile, nor after.
            with big_stack(self.options.limits.stack):
                threading.Thread(target=self._run_main, name="gothreads-main", daemon=True).start()
            self._initialized()
            return
        if self.loaded.entry is not None:
            self._initialize(self.loaded.entry)
        self._initialized()

    def _initialize(self, entry: str) -> None:
        def initialize() -> None:
            inside.depth += 1
            try:
                with _Turn(self):
                    self._function(entry, 0)()
            except ffi.Trapped as trapped:
                self._trapped(trapped)
            finally:
                inside.depth -= 1
        self._workers.run(initialize)

    def _run_main(self) -> None:
        inside.depth += 1
        try:
            with _Turn(self):
                self._function("_start", 0)()
            self._exited(0)
        except ffi.Trapped as trapped:
            self._trapped(trapped)

    def _call(self, export: Export, converted: list[tuple[str, Any]]) -> Any:
        self._check_callable()
        with _Turn(self):
            self._calls += 1
            return call_export(self._function(export.name, export.count), export, converted, self)

    def _request(self, handler: str, payload: bytes) -> bytes:
        self._check_callable()
        with _Turn(self):
            self._calls += 1
            return self.slot.request(handler, payload)

    def _handlers(self) -> list[str]:
        if self.loaded.entry == "_start":
            return []
        with _Turn(self):
            return self.slot.handlers()

    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        def stacks() -> str:
            self._check_callable()
            with _Turn(self):
                return self.slot.stacks()
        return parse_goroutines(self._submit(stacks).result(timeout))

    def _check_callable(self) -> None:
        if self.loaded.entry == "_start":
            raise NotCallable(f"{self.loaded.name}: stock Go takes no calls while main runs. Build the module threaded, or with --buildmode c-shared")

    def _stop_running(self) -> None:
        self._engine.increment_epoch()

    def _sweep_once(self) -> bool:
        with self._lock:
            return self._in == 0


class _Turn:
    """One thread at a time is in the module; those that come after its end are turned away."""

    def __init__(self, app: SingleApp) -> None:
        self._app = app

    def __enter__(self) -> None:
        app = self._app
        with app._lock:
            app._in += 1
        app._turn.acquire()
        if app._cause is not None:
            self._leave()
            raise ffi.Trapped(ffi.Trap("the app has ended"))

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        app = self._app
        app._turn.release()
        with app._lock:
            app._in -= 1
