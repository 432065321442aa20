"""Execution models on stock Go, behind the same interface.

single (case 2 of golang/go#42372): one instance, one thread at a time. Each call drives Go's scheduler; when it
returns, everything freezes until the next call. Calls queue for a lock.

idle (models/idle.py): the same, but what a call has begun runs on until nothing can run.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from gothreads.bridge.buffers import Guest
from gothreads.engine import ffi, interrupt
from gothreads.engine.settings import new_engine
from gothreads.engine.stack import big_stack, in_module, initialising
from gothreads.engine.thread_names import name_thread
from gothreads.errors import NotCallable
from gothreads.runtime.app import App
from gothreads.runtime.call_lock import CallLock
from gothreads.runtime.cancellation import Cancellation
from gothreads.runtime.inspector import Goroutine, parse_goroutines
from gothreads.runtime.models.single_instance import SingleInstance, SingleInstances, StoreMemory
from gothreads.runtime.statistics import AppStatistics
from gothreads.wasm.metadata import SINGLE

T = TypeVar("T")


class SingleApp(App):
    """See App."""

    model = "single"
    build_model = SINGLE
    has_many_instances = False

    def _make(self) -> None:
        loaded, options, owned = self.loaded, self.options, self._owned
        self._call_lock = CallLock(lambda: self._cause is not None, self._instance_ended)
        self._calls = 0
        self._engine = new_engine(options.limits.stack, threads=False, perf=options.perf)
        owned.callback(self._engine.close)
        instances = SingleInstances(self._engine, loaded, options, self._host)
        owned.callback(instances.close)
        self.compile_seconds = instances.compile_seconds
        self._environment = self._new_environment(self._streams, self._stop)
        owned.callback(self._environment.close)
        try:
            self._instance = instances.new(self._environment, self._host_function_failed,
                                           lambda: self._cause is not None)
        except ffi.Trapped as trapped:  # in the start function: there is nothing yet to end
            if self._cause is not None:  # a host function raised, or the module exited
                raise self._error() from None
            raise self._reasons.of_trap(trapped.trap) from None
        owned.callback(self._instance.close)

    @property
    def memory(self) -> StoreMemory:
        return self._instance.memory

    def statistics(self) -> AppStatistics:
        with interrupt.Postponed() if interrupt.on_main_thread() else contextlib.nullcontext():
            size = self._size()
        return self._statistics(calls=self._calls, memory=size)

    def _size(self) -> int:
        """The memory's size in bytes; 0 while another thread is in the module, or if the module has ended."""
        with contextlib.suppress(ffi.Trapped):
            if self._call_lock.acquire(wait=False):
                try:
                    return self.memory.size
                finally:
                    self._call_lock.release()
        return 0

    def _start(self) -> None:
        if self.loaded.entry == "_start":
            # main runs to its end on a thread of its own; stock Go takes no calls while it runs, nor afterwards.
            with big_stack(self.options.limits.stack):
                threading.Thread(target=self._run_main, name="gothreads-main", daemon=True).start()
            self._initialized()
            return
        if self.loaded.entry is not None:
            self._initialize(self.loaded.entry)
        self._initialized()

    def _initialize(self, entry: str) -> None:
        def initialize() -> None:
            with initialising(self):
                try:
                    with self._call_lock:
                        self._instance.function(entry)()
                except ffi.Trapped as trapped:
                    self._trapped(trapped)
        self._call_threads.run(initialize)

    def _run_main(self) -> None:
        name_thread("go-main")
        with in_module:
            try:
                with self._call_lock:
                    self._instance.function("_start")()
                self._end(self._reasons.of_exit(0))
            except ffi.Trapped as trapped:
                self._trapped(trapped)

    def _call_back(self, call: Callable[[], Any]) -> Any:
        # Into the same instance, as a call by the goroutine that called Python: Go's own rule. Its stack is checked
        # together with that call's.
        return self._guarded(call) if self._call_lock.is_owned else super()._call_back(call)

    def _instance_ended(self, trapped: ffi.Trapped) -> None:
        self._instance.context.ended = True
        self._trapped(trapped)

    def _run(self, work: Callable[[SingleInstance], T]) -> T:
        """Run `work` in the module, holding the call lock."""
        self._check_callable()
        with self._call_lock:
            return work(self._instance)

    def _within(self, work: Callable[[Guest], T]) -> T:
        return self._counted(work)

    def _counted(self, work: Callable[[SingleInstance], T]) -> T:
        def counted(instance: SingleInstance) -> T:
            self._calls += 1
            return work(instance)
        return self._run(counted)

    def _what_is_in_use(self) -> str | None:
        return f"the model {self.model} runs one call at a time, and another is running"

    @property
    def _in_use(self) -> int:
        return self._call_lock.taken

    def _same_instance(self) -> bool:
        return self._call_lock.is_owned

    def _request(self, handler: str, payload: bytes, token: Cancellation | None = None) -> bytes:
        return self._counted(lambda instance: instance.request(handler, payload, token))

    def _handlers(self, token: Cancellation | None = None) -> list[str]:
        def handlers(instance: SingleInstance) -> list[str]:
            return instance.slot.handlers()
        if self.loaded.entry == "_start":
            return []
        return self._run(handlers if token is None else lambda instance: token.use(instance, handlers))  # not a call

    def _settled_handlers(self) -> list[str]:
        return [] if self.loaded.entry == "_start" else self._run(SingleInstance.handlers)

    def _hook(self, name: str) -> None:
        self._run(lambda instance: instance.hook(name))

    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        def stacks(instance: SingleInstance) -> str:
            return instance.slot.stacks()
        if self._call_lock.is_owned:
            return parse_goroutines(self._guarded(lambda: self._run(stacks)))
        return parse_goroutines(self._asked("goroutines()",
                                            lambda token: self._run(lambda instance: token.use(instance, stacks)),
                                            timeout))

    def _wait_idle(self, timeout: float | None) -> None:
        def run(token: Cancellation) -> None:
            self._run(lambda instance: token.use(instance, SingleInstance.run_until_idle))
        self._asked("wait_idle()", run, timeout)

    def _check_callable(self) -> None:
        if self.loaded.entry == "_start":
            how = ("Link it as a library (in C: -mexec-model=reactor)" if self.loaded.foreign
                   else "Build the module threaded, or with --buildmode c-shared")
            raise NotCallable(f"{self.loaded.name}: on one thread the module takes no calls while main runs. {how}")

    def _stop_running(self) -> None:
        self._engine.increment_epoch()

    def _run_handlers(self) -> bool:
        self._engine.increment_epoch()
        return True

    def _sweep_once(self) -> int:
        return self._call_lock.taken
