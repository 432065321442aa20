"""The threaded model for modules not built from Go: wasi-threads (https://github.com/WebAssembly/wasi-threads).

When the module asks for a thread (wasi.thread-spawn), it gets one from the pool, with its own instance over the shared
memory, in which `wasi_thread_start` runs. The host's calls run in the main instance, one at a time: that has the only
stack that the host knows of, in the middle of the module's memory. The module's own threads keep running during calls
and between them.

A trap or proc_exit in any thread ends the whole module. So does the return of main (`_start`), as in C.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import wasmtime

from gothreads.bridge.buffers import Buffers, Guest
from gothreads.bridge.instances import Instance, Instances, Notes, NotInstantiated
from gothreads.engine import ffi
from gothreads.engine.function_types import wasmtime_type
from gothreads.engine.stack import initialising
from gothreads.errors import MisuseError, NotCallable
from gothreads.runtime.app import App
from gothreads.runtime.call_lock import CallLock
from gothreads.runtime.cancellation import Cancellation
from gothreads.runtime.inspector import Goroutine
from gothreads.runtime.models.shared_memory_app import SharedMemoryApp
from gothreads.runtime.module_file import THREAD_SPAWN, THREAD_START
from gothreads.runtime.statistics import AppStatistics
from gothreads.shared_memory import SharedMemory
from gothreads.wasm.binary import Section
from gothreads.wasm.passes import waits

T = TypeVar("T")

#: Threads are numbered from 1 to this: the specification reserves the upper bits for errors.
LAST_THREAD = (1 << 29) - 1


@dataclass(frozen=True)
class Thread:
    """A thread of the module: its number, and the argument that the module passes to it."""

    number: int
    argument: int


class ThreadNumbers:
    """Unique numbers for running threads. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._used: set[int] = set()
        self._last = 0

    def take(self) -> int:
        with self._lock:
            while True:  # there are always fewer threads than numbers
                self._last = self._last % LAST_THREAD + 1
                if self._last not in self._used:
                    self._used.add(self._last)
                    return self._last

    def give(self, number: int) -> None:
        with self._lock:
            self._used.discard(number)


class WasiInstances(Instances):
    """The first instance that is made initialises the memory, through the module's start function."""

    def __init__(self, engine: wasmtime.Engine, pre: wasmtime.InstancePre, notes: Notes,
                 wasi: Callable[[], wasmtime.WasiConfig], stopping: Callable[[], bool], *, has_start: bool) -> None:
        super().__init__(engine, pre, notes, wasi, stopping)
        self._has_start = has_start

    def _prepare(self, instance: Instance) -> None:
        if self._has_start:
            instance.function(waits.START)()


class _Runner:
    """Runs each thread in a fresh instance.

    So the globals (the stack pointer, thread-local variables) start with their initial values.
    """

    def __init__(self, instances: Instances, numbers: ThreadNumbers) -> None:
        self._instances, self._numbers = instances, numbers

    def run(self, job: Thread) -> None:
        instance = self._instances.new()
        instance.function(THREAD_START, "ii")(job.number, job.argument)
        self._instances.close(instance)
        self._numbers.give(job.number)

    def close(self) -> None:
        """Nothing to do: nothing is kept between jobs."""


class _MainInstance:
    """The instance that calls go into. `instance` is set when the module starts."""

    instance: Instance

    def __init__(self, memory: SharedMemory) -> None:
        self._found: dict[str, ffi.Function] = {}
        self.slot = Buffers(self.function, memory)

    def function(self, name: str, params: str = "", result: str = "") -> ffi.Function:
        """An export, looked up once."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self.instance.function(name, params, result)
        return found

    def close(self) -> None:
        """Forget the exports. No thread may be in it."""
        self._found.clear()


class WasiThreadsApp(SharedMemoryApp):
    """See App, and this module's docstring."""

    model = "threaded"
    own_clock = True

    def _check(self) -> None:
        most = waits.MOST_NOTES - 1  # one is for the main instance
        if self.options.limits.threads > most:
            raise MisuseError(f"the limit on threads ({self.options.limits.threads:,}) must be at most {most:,}")

    @staticmethod
    def _provides(module: str, name: str) -> bool:
        return App._provides(module, name) or (module, name) == THREAD_SPAWN

    def _define_imports(self, functions: ffi.HostFunctions) -> None:
        outline = self.loaded.outline
        for imported in outline.imported_functions:
            if (imported.module, imported.name) == THREAD_SPAWN:
                functions.define(*THREAD_SPAWN, wasmtime_type(outline.types[imported.type_index]),
                                 params="i", result="i", implementation=self._thread_spawn)

    def _new_instances(self, pre: wasmtime.InstancePre) -> WasiInstances:
        return WasiInstances(self._engine, pre, self._notes, self.options.wasi.local, self._is_ending,
                             has_start=Section.START in self.loaded.outline.raw)

    def _runners(self, instances: Instances) -> Callable[[], _Runner]:
        self._numbers = ThreadNumbers()
        return lambda: _Runner(instances, self._numbers)

    def _make_entries(self, instances: Instances) -> None:
        self._instances = instances
        self._call_lock = CallLock(self._is_ending, self._instance_ended)
        self._calls = 0
        self._main = _MainInstance(self._memory)
        self._owned.callback(self._main.close)

    def _call_back(self, call: Callable[[], Any]) -> Any:
        # From the main instance: into it again, on top of its stack. From the module's own threads: as from any other.
        return self._guarded(call) if self._call_lock.is_owned else super()._call_back(call)

    def _instance_ended(self, trapped: ffi.Trapped) -> None:
        self._environment.context.ended = True
        self._trapped(trapped)

    def statistics(self) -> AppStatistics:
        return self._statistics(calls=self._calls)

    def _thread_spawn(self, argument: int) -> int:
        thread = Thread(self._numbers.take(), argument)
        if not self._pool.spawn(thread):
            self._numbers.give(thread.number)
            return -1
        return thread.number

    def _start(self) -> None:
        if self.loaded.entry == "_start":
            self._pool.start(self._run_main)
        else:
            self._call_threads.run(self._initialize)
        self._initialized()

    def _run_main(self) -> None:
        self._instances.new().function("_start")()
        self._end(self._reasons.of_exit(0))

    def _initialize(self) -> None:
        with initialising(self):
            try:
                with self._call_lock:
                    self._main.instance = self._instances.new()
                    if self.loaded.entry is not None:
                        self._main.function(self.loaded.entry)()
            except NotInstantiated as error:
                raise self._not_instantiated(error) from None
            except ffi.Trapped as trapped:
                self._trapped(trapped)

    def _within(self, work: Callable[[Guest], T]) -> T:
        if self.loaded.entry == "_start":
            raise NotCallable(f"{self.loaded.name}: the module is a program: it takes no calls while its main runs. "
                              "Link it as a library (in C: -mexec-model=reactor)")
        with self._call_lock:
            self._calls += 1
            return work(self._main)

    def _what_is_in_use(self) -> str | None:
        return "a module that was not built from Go runs one call at a time, and another is running"

    @property
    def _in_use(self) -> int:
        return self._call_lock.taken

    def _same_instance(self) -> bool:
        return self._call_lock.is_owned

    def _handlers(self, token: Cancellation | None = None) -> list[str]:
        return []

    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        raise NotImplementedError  # only Go has them, and this is not Go

    def _wait_idle(self, timeout: float | None) -> None:
        raise NotImplementedError

    def _hook(self, name: str) -> None:
        export = self.loaded.hook(name)
        assert export is not None
        self._call(export, [])

    def _run_handlers(self) -> bool:
        self._engine.increment_epoch()
        return False  # WebAssembly waits allow no spurious wake-ups
