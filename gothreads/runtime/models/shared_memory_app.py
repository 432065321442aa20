"""The base of the models with threads: many instances of a module over one shared memory, and a pool of its threads.

At the end, the epoch or the stop flag ends code that runs (StopCheck), and each parked thread is woken at the address
that it noted (wasm/passes/waits.py), again and again: a thread may park just after its note was read.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import wasmtime

from gothreads.bridge.instances import Instances, Notes, NotInstantiated
from gothreads.engine import ffi
from gothreads.engine.settings import compile_threaded, new_engine
from gothreads.errors import AppClosed, MemoryAccessError, ModuleError
from gothreads.mpool import MPool, Runner
from gothreads.runtime.app import App
from gothreads.runtime.statistics import AppStatistics
from gothreads.shared_memory import SharedMemory
from gothreads.wasm.binary import PAGE, Kind
from gothreads.wasm.metadata import THREADED


class SharedMemoryApp(App):
    """See App. A model defines its own imports, makes its instances and runners, and says how calls enter them."""

    build_model = THREADED
    has_many_instances = False
    #: Whether the module's clock is gothreads' own, and not one that each store starts anew.
    own_clock: bool

    def _make(self) -> None:
        loaded, options, owned = self.loaded, self.options, self._owned
        self._check()
        self._environment = self._new_environment(self._streams, self._stop)
        owned.callback(self._environment.close)
        self._stop_check = self.loaded.stop_check(main_calls=options.main_calls)
        self._engine = new_engine(options.limits.stack, stop_check=self._stop_check, perf=options.perf)
        owned.callback(self._engine.close)
        machine_code = compile_threaded(self._engine, loaded.wasm, options.limits.stack, loaded.precompiled,
                                        self._stop_check, perf=options.perf)
        self.compile_seconds = machine_code.seconds
        owned.callback(machine_code.module.close)
        assert loaded.memory is not None
        assert loaded.memory.maximum is not None, "a shared memory has one"
        most = min(loaded.memory.maximum, options.limits.memory // PAGE)
        self._memory = SharedMemory(self._engine, loaded.memory.minimum, most)
        owned.callback(self._memory.close)
        self._environment.use(self._memory)
        self._notes = Notes(self._engine)
        owned.callback(self._notes.close)
        linker = wasmtime.Linker(self._engine)
        owned.callback(linker.close)
        linker.allow_shadowing = True
        linker.define_wasi()
        imported = next(i for i in loaded.outline.imports if i.kind is Kind.MEMORY)
        with wasmtime.Store(self._engine) as store:
            linker.define(store, imported.module, imported.name, self._memory.handle)
            self._notes.define(linker, store)
        functions = ffi.HostFunctions(linker, self._host_function_failed)
        owned.callback(functions.clear)
        self._environment.define(functions, loaded.outline, own_clock=self.own_clock)
        self._host.define(functions, self._environment.context)
        self._define_imports(functions)
        try:
            pre = linker.instantiate_pre(machine_code.module)
        except wasmtime.WasmtimeError as error:  # one name imported with two types, for example
            raise self._not_instantiated(error) from None
        owned.callback(pre.close)
        instances = self._new_instances(pre)
        owned.callback(instances.close_all)
        self._pool: MPool[Any] = MPool(self._runners(instances), options.limits.threads, options.limits.stack,
                                       self._trapped)
        self._make_entries(instances)

    @abstractmethod
    def _check(self) -> None:
        """Check what can be checked before anything is created."""

    @abstractmethod
    def _define_imports(self, functions: ffi.HostFunctions) -> None:
        """Define what only modules of this model import."""

    @abstractmethod
    def _new_instances(self, pre: wasmtime.InstancePre) -> Instances:
        """What makes the module's instances."""

    @abstractmethod
    def _runners(self, instances: Instances) -> Callable[[], Runner[Any]]:
        """What makes the runner of each of the module's threads (mpool.py)."""

    @abstractmethod
    def _make_entries(self, instances: Instances) -> None:
        """Create what calls enter the module through."""

    def _not_instantiated(self, error: wasmtime.WasmtimeError | NotInstantiated) -> ModuleError:
        return ModuleError(f"{self.loaded.name}: cannot instantiate the module: {str(error).splitlines()[-1].strip()}")

    @property
    def memory(self) -> SharedMemory:
        return self._memory

    def _statistics(self, *, memory_limit: int | None = None, **figures: Any) -> AppStatistics:
        try:
            size = self._memory.size
        except AppClosed:
            size = 0
        return super()._statistics(memory_limit=memory_limit, memory=size, threads=self._pool.statistics(), **figures)

    def _is_ending(self) -> bool:
        return self._cause is not None

    def _stop_running(self) -> None:
        self._notes.stop()
        self._engine.increment_epoch()
        self._pool.close()

    def _wake_parked(self) -> None:
        """Wake every thread that waits in the module."""
        for address in self._notes.addresses():
            with contextlib.suppress(MemoryAccessError):  # the thread is about to trap
                self._memory.notify(address)

    def _threads_inside(self) -> int:
        """How many threads may be in the module's code."""
        return self._pool.active + self._in_use

    def _sweep_once(self) -> int:
        left = self._threads_inside()
        if left:
            self._wake_parked()
        return left
