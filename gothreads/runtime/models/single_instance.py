"""One instance of a single-threaded module, with its own memory and WASI environment.

The module is stock Go, or any other with plain exports. It runs on the calling thread; when the call returns,
everything in it stands still. Any thread may use the instance, but only one at a time: its owner must ensure that.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable

import wasmtime

from gothreads.bridge.buffers import Buffers
from gothreads.bridge.host_imports import HostImports
from gothreads.engine import ffi
from gothreads.engine.settings import compile_module, new_store
from gothreads.engine.stack import inside
from gothreads.errors import GuestError, ModuleError, UnknownExport, listed
from gothreads.runtime.cancellation import Cancellation
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Options
from gothreads.runtime.wasi_environment import WasiEnvironment
from gothreads.shared_memory import BoundedMemory


class SingleInstances:
    """Makes instances of one module. `engine` and `host` belong to the app."""

    def __init__(self, engine: wasmtime.Engine, loaded: LoadedModule, options: Options, host: HostImports) -> None:
        self._engine, self._loaded, self._options, self._host = engine, loaded, options, host
        missing = [f"{i.module}.{i.name}" for i in loaded.outline.imports if not WasiEnvironment.has(i.module, i.name)
                   and not host.has(i.module, i.name)]
        if missing:
            raise ModuleError(f"{loaded.name}: the module imports functions that nobody provides: {listed(missing)}")
        compiled = compile_module(engine, loaded.wasm, options.limits.stack, loaded.precompiled,
                                  perf=options.perf)
        self.module, self.compile_seconds = compiled.module, compiled.seconds

    def new(self, environment: WasiEnvironment, failed: Callable[[BaseException], str],
            ended: Callable[[], bool]) -> SingleInstance:
        """`failed`: as for ffi.HostFunctions. `ended`: whether this instance has ended; asked when the epoch moves.

        ModuleError if the module cannot be instantiated. Raises ffi.Trapped if its start function traps.
        """
        return SingleInstance(self._engine, self.module, self._loaded, self._options,
                              environment=environment, host=self._host, failed=failed, ended=ended)

    def increment_epoch(self) -> None:
        """Make all instances check whether they should stop. From any thread."""
        self._engine.increment_epoch()

    def close(self) -> None:
        self.module.close()


class SingleInstance:
    """See the module's docstring. Methods that run the module raise ffi.Trapped; the instance is unusable after that.

    `stop` ends what runs in it, from any thread; an owner that supports that sets it.
    """

    stop: Callable[[GuestError], None]

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module, loaded: LoadedModule, options: Options, *,
                 environment: WasiEnvironment, host: HostImports, failed: Callable[[BaseException], str],
                 ended: Callable[[], bool]) -> None:
        self._loaded, self.context = loaded.without_code(), environment.context
        self._found: dict[str, ffi.Function] = {}
        self._settled = not loaded.has_handlers
        with contextlib.ExitStack() as owned:
            owned.callback(self._found.clear)
            linker = wasmtime.Linker(engine)
            owned.callback(linker.close)
            linker.allow_shadowing = True
            linker.define_wasi()
            raised = False  # whether a host function has raised

            def host_function_failed(error: BaseException) -> str:
                nonlocal raised
                raised = True
                return failed(error)
            functions = ffi.HostFunctions(linker, host_function_failed)
            owned.callback(functions.clear)
            environment.define(functions, loaded.outline, own_clock=loaded.foreign)
            host.define(functions, environment.context)
            memories = len(loaded.outline.memories)  # none is imported
            self._store = new_store(engine, options.limits.memory // max(memories, 1))
            owned.callback(self._store.close)
            self._store.set_wasi(options.wasi.local())
            self._on_epoch = ffi.run_on_until(self._store, ended)
            if ended():  # the epoch may have moved before the store existed
                raise ffi.Trapped(ffi.Trap("the app has ended"))
            try:
                self._instance = linker.instantiate(self._store, module)
            except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
                # A trap in the start function, data outside the memory, or a host function called there raised.
                if raised or isinstance(error, wasmtime.Trap | wasmtime.ExitTrap):
                    raise ffi.Trapped(ffi.trap_of(error)) from None
                raise ModuleError(f"{loaded.name}: cannot instantiate the module: "
                                  f"{str(error).splitlines()[-1].strip()}") from None
            self.memory = StoreMemory(self._store, ffi.memory(self._store, self._instance))
            owned.callback(self.memory.close)
            environment.use(self.memory)
            self.slot = Buffers(self.function, self.memory, environment.calls.cancel_request)
            self._owned = owned.pop_all()

    def function(self, name: str, params: str = "", result: str = "") -> ffi.Function:
        """An export, looked up once."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = ffi.function(self._store, self._instance, name, params, result)
        return found

    def hook(self, name: str) -> None:
        """Call the module's hook of that name, if it has one."""
        if (export := self._loaded.hook(name)) is not None:
            export.call(self.function(export.name, export.params, export.result), [], self.slot)
        elif self._loaded.has_handlers and name in self.slot.handlers():
            self.slot.request(name, b"")

    def request(self, handler: str, payload: bytes, token: Cancellation | None) -> bytes:
        """Call a handler. If there is none of that name, let the module settle, and ask again."""
        def request(_instance: SingleInstance) -> bytes:
            return self.slot.request(handler, payload)

        def use() -> bytes:
            return request(self) if token is None else token.use(self, request, request=True)
        try:
            return use()
        except UnknownExport:
            if not self._settle(token):
                raise
        return use()

    def handlers(self) -> list[str]:
        """The names of the handlers, after the module has settled."""
        self._settle()
        return self.slot.handlers()

    def _settle(self, token: Cancellation | None = None) -> bool:
        """Run the goroutines of init functions until every one waits: they may register handlers.

        Returns False if there was nothing to run. This is done once, and not in a nested call: until that returns, the
        goroutine of the outer call cannot go on.
        """
        if self._settled or inside.depth > 1:
            return False
        self._settled = True
        try:
            self.function("gothreads_idle")
        except ffi.Missing:
            return False
        self.run_until_idle() if token is None else token.use(self, SingleInstance.run_until_idle)
        return True

    def check_idle(self) -> None:
        """ModuleError if the module cannot be run until it is idle."""
        try:
            self.function("gothreads_idle")
        except ffi.Missing:
            message = (f"{self._loaded.name}: the module cannot be run until it is idle: it has no gothreads/guest. "
                       f"Build it with: gothreads build")
            raise ModuleError(message) from None

    def run_until_idle(self) -> None:
        """Run the module's goroutines until every one waits, if only for a timer."""
        self.check_idle()
        self.function("gothreads_idle")()

    def close(self) -> None:
        """Free it. No thread may be in it."""
        self._owned.close()


class StoreMemory(BoundedMemory):
    """The memory of a store. It may move when it grows, so only the thread that is in the instance may access it.

    `memory` is what the instance exports by that name; if it exports none, this one is empty.
    """

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory | None) -> None:
        super().__init__()
        self._store, self._memory = store, memory

    def _bounds(self) -> tuple[int, int]:
        if self._memory is None:
            return 0, 0
        return ctypes.addressof(self._memory.data_ptr(self._store).contents), self._memory.data_len(self._store)
