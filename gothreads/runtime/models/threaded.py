"""The threaded model (case 1 of golang/go#42372): the module runs on threads of its own, and any thread calls it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import wasmtime

from gothreads.bridge.buffers import Guest
from gothreads.bridge.exports import Export, Function
from gothreads.bridge.instances import GoInstances, Instances
from gothreads.callback_m import CacheEnvironment, CallbackMCache, FastPath
from gothreads.engine import ffi, interrupt
from gothreads.engine.extension import compiled
from gothreads.engine.function_types import letters, wasmtime_type
from gothreads.engine.interrupt import Postponed
from gothreads.engine.settings import StopCheck
from gothreads.engine.stack import initialising, nested
from gothreads.errors import GothreadsError, MisuseError, ModuleError, Stalled, listed
from gothreads.mpool import MRunner
from gothreads.profiles.profile import Profile
from gothreads.runtime.fast_calls import fast_export, requester
from gothreads.runtime.inspector import Goroutine, Inspector
from gothreads.runtime.models.shared_memory_app import SharedMemoryApp
from gothreads.runtime.options import SPARE_THREADS, Options
from gothreads.runtime.payloads import Payload
from gothreads.runtime.profile_questions import Questions
from gothreads.runtime.profiler import Profiler
from gothreads.runtime.scheduler_watch import SchedulerWatch
from gothreads.runtime.settling import Settling
from gothreads.runtime.stall import Stall, StallWatch
from gothreads.runtime.state import State
from gothreads.runtime.statistics import AppStatistics
from gothreads.runtime.wasi_environment import WasiEnvironment
from gothreads.shared_memory import SharedMemory
from gothreads.text import shown
from gothreads.wasi.linking import define_with_errno
from gothreads.wasi.native_io import poller
from gothreads.wasi.signals import Signals
from gothreads.wasm import abi, code, layout
from gothreads.wasm.binary import FuncType, Kind
from gothreads.wasm.host_calls import BUILTIN_CALLS, HOST, WASI, Server, imported_calls
from gothreads.wasm.passes import waits

T = TypeVar("T")

log = logging.getLogger("gothreads")

#: How long statistics() waits for Go's part, in seconds.
_ANSWER_SECONDS = 1.0
#: How long close() waits to learn whether `main` has registered a handler `stop`, in seconds: Go may not answer.
_STOP_SECONDS = 0.4
#: How long `open` waits for the list of handlers, in seconds.
_REGISTERED_SECONDS = 5.0
#: clock_time_get(clock, precision, address of the result): errno.
_CLOCK = FuncType(code.I32 + code.I64 + code.I32, code.I32)


def least_heap(options: Options) -> int:
    """The size, in bytes, to which Go lets a small heap grow before it collects it, at GOGC=100.

    Stock Go's 4 MB, or more if there are several procs and the limit on memory allows it.
    """
    return max(4 << 20, min(16 * options.procs << 20, 64 << 20, options.limits.memory // 16))


class RuntimeCalls:
    """What Go's runtime (build/goroot/runtime) asks of the host. The methods are named as in wasm/host_calls.py."""

    def __init__(self, options: Options, spawn: Callable[[int], bool], initialized: Callable[[], None],
                 handlers: HandlerRequest, *, has_callers: bool) -> None:
        self._options, self._spawn, self._initialized, self._has_callers = options, spawn, initialized, has_callers
        self._handlers = handlers

    def ncpu(self) -> int:
        return self._options.procs

    def thread_spawn(self, g0: int) -> int:
        """Run the M of this g0 on a thread. -1 if there is no thread for it."""
        return 0 if self._spawn(g0) else -1

    def initialized(self) -> None:
        self._initialized()

    def has_callers(self) -> bool:
        return self._has_callers

    def least_heap(self) -> int:
        return least_heap(self._options)

    def run_handlers(self) -> None:
        self._handlers.run()


class HandlerRequest:
    """Asks Go's runtime to let the main thread run signal handlers, where the flag stops code (StopCheck).

    A word of the module's memory is not 0 while they are wanted. Go looks at it when it preempts a goroutine (after 10
    ms) and after each wait; then threads that make calls call `run` (build/goroot/runtime/threads_gothreads.go). What
    the module does with the word decides how soon handlers run, no more.

        watcher   W1 a signal is noted   W2 the word is set    W3 parked threads are woken
        main      M1 looks at the word   M2 clears it in `run` M3 runs handlers
        another   A1 main is in no call  A2 clears the word    A3 main is in a call: sets it again

    If M2 comes before W2, Go looks again, and finds the word set; otherwise M3 finds what W1 noted. A2 keeps threads
    from calling the host for a call that is over; with A3 it takes no later call's request. A thread that is about to
    park when it is woken is woken again: the watcher repeats all (engine/interrupt.py).
    """

    def __init__(self, app: ThreadedApp, memory: SharedMemory) -> None:
        self._app, self._memory = app, memory

    def make(self) -> bool:
        """Ask. False if the last request was not taken up."""
        taken_up = not self._memory.load_u32(layout.HANDLERS)
        self._memory.store_u32(layout.HANDLERS, 1)
        return taken_up

    def run(self) -> None:
        """Run handlers, if this is the main thread. Others leave the request to it while it is in a call."""
        if interrupt.on_main_thread():
            self._memory.store_u32(layout.HANDLERS, 0)
            interrupt.run_handlers()
        elif not interrupt.is_in(self._app):
            self._memory.store_u32(layout.HANDLERS, 0)
            if interrupt.is_in(self._app):
                self._memory.store_u32(layout.HANDLERS, 1)


class ThreadedApp(SharedMemoryApp):
    """See App."""

    model = "threaded"
    _parks = True
    own_clock = False
    _scheduler_watch: SchedulerWatch

    def _new_instances(self, pre: wasmtime.InstancePre) -> GoInstances:
        return GoInstances(self._engine, pre, self._notes, self.options.wasi.local, self._is_ending,
                           one_clock=compiled is not None)

    def _runners(self, instances: Instances) -> Callable[[], MRunner]:
        return lambda: MRunner(instances)

    def _make_entries(self, instances: Instances) -> None:
        options = self.options
        self._instances = instances
        environment = CacheEnvironment(instances, self._memory, self._is_ending, self._trapped)
        self._postponed = Postponed(self) if options.main_calls else None
        self._cache = CallbackMCache(environment, options.callers, timeout=options.callers_timeout,
                                     most=waits.MOST_NOTES - 1 - options.limits.threads,
                                     cancel=self._environment.calls.cancel_request,
                                     fast_path=FastPath(self._postponed, options.limits.stack, self._error))
        self._requester = requester(self._cache)
        self._inspector = Inspector(environment, stack=options.limits.stack, in_flight=self._cache.in_flight,
                                    submit=self._submit_to)
        says_where = any(export.name == abi.SCHEDULER for export in self.loaded.outline.exports)
        self._scheduler_watch = SchedulerWatch(self._inspector, self._memory, is_there=says_where)
        self._owned.callback(self._scheduler_watch.close)
        answers = any(export.name == abi.PROFILE for export in self.loaded.outline.exports)
        self._profiler = Profiler(Questions(self.loaded.name, self._inspector, self._memory), is_there=answers)
        if self.loaded.has_handlers:
            self._settling = Settling(self._look_at_rest)

    def _deliver_signal(self, name: str) -> bool:
        return self._signals.send(name)

    def trim(self) -> int:
        """Release the callers that are not in use now; returns how many."""
        return int(self._here_or_on_a_worker(self._cache.trim))

    def statistics(self) -> AppStatistics:
        go = self._inspector.statistics(_ANSWER_SECONDS) if self._state is State.RUNNING else None
        callers = self._cache.statistics()
        return self._statistics(calls=callers.calls, callers=callers, go=go)

    def _profile(self, kind: str, seconds: float, rate: int, stop: threading.Event) -> Profile:
        return self._profiler.take(kind, seconds, rate, stop)

    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        return self._inspector.goroutines(timeout)

    def _quick(self, function: Function, export: Export) -> Function:
        return fast_export(function, export, self._cache, self._postponed, self.options.limits.stack)

    def _request_quickly(self, handler: str, payload: Payload) -> bytes | None:
        return self._requester(handler, payload)

    def _open_to_calls(self, *, is_open: bool) -> None:
        self._cache.idle.open = is_open

    def _check(self) -> None:
        options = self.options
        most = waits.MOST_NOTES - 1  # one is for the inspector's caller
        if options.callers + options.limits.threads > most:
            raise MisuseError(f"callers (--callers, {options.callers:,}) and the limit on threads (--limit threads=N, "
                              f"{options.limits.threads:,}) must be at most {most:,} together")
        if options.limits.threads < options.procs + SPARE_THREADS:
            raise MisuseError(f"with {options.procs} procs Go needs at least {options.procs + SPARE_THREADS} threads, "
                              f"the limit is {options.limits.threads}. Raise it (--limit threads=N, in Python "
                              "Limits(threads=...)), or lower procs (--procs)")
        missing = [f"{i.module}.{i.name}" for i in self.loaded.outline.imports
                   if i.module != HOST and not WasiEnvironment.has(i.module, i.name)
                   and not self._host.has(i.module, i.name)
                   and not (i.kind is Kind.MEMORY and i.module == "env")]
        if missing:
            raise ModuleError(f"{self.loaded.name}: the module imports functions that nobody provides: "
                              f"{listed(missing)}")
        unknown = [i.name for i in self.loaded.outline.imported_functions
                   if i.module == HOST and i.name not in BUILTIN_CALLS]
        if unknown:
            raise ModuleError(f"{self.loaded.name}: the module imports {HOST}.{shown(unknown[0])}, which this "
                              "gothreads does not provide. Rebuild it: gothreads build")

    def _define_imports(self, functions: ffi.HostFunctions) -> None:
        """Define what the overlay's Go imports from the module `gothreads`."""
        if compiled is not None:
            functions.define_clock(WASI, "clock_time_get", wasmtime_type(_CLOCK), self._memory.pointers)
        self._poller = poller(self._memory, self._environment.table)
        self._environment.share(self._poller.peers)
        self._owned.callback(self._poller.close)
        self._signals = Signals(self._poller.signal)
        self._handler_request = HandlerRequest(self, self._memory)
        runtime = RuntimeCalls(self.options, lambda g0: self._pool.spawn(g0), self._initialized,
                               self._handler_request, has_callers=self.loaded.has_callers)
        for call in imported_calls(self.loaded.outline):
            server = {Server.POLLER: self._poller, Server.SIGNALS: self._signals,
                      Server.RUNTIME: runtime}.get(call.server)
            if call.name == "poll_open":
                define_with_errno(functions, HOST, call.name, call.type, self._poller.poll_open)
            elif server is not None:
                functions.define(HOST, call.name, wasmtime_type(call.type),
                                 params=letters(call.type.params, signed=False), result=letters(call.type.results),
                                 implementation=getattr(server, call.name))
        self._poller.define(functions)

    def _start(self) -> None:
        if (entry := self.loaded.entry) is None:
            raise ModuleError(f"{self.loaded.name}: the module has neither _start nor _initialize")

        def run() -> None:  # the module's code may do anything, so run all of it on a thread that can be waited for
            with initialising(self):
                first = self._instances.new()
                first.function("gt_init_memory")()
                first.function(entry)()
                if self._state is State.STARTING:  # Go would have reported that it is initialised, or exited
                    raise ffi.Trapped(ffi.Trap(f"{entry} has returned", exit_code=0))
        self._pool.start(run)
        if self.options.stall_timeout is not None:
            StallWatch(self._inspector, self.options.stall_timeout, self._cache,
                       running=lambda: self._state is State.RUNNING and not self._messages.outstanding,
                       ended=self._left, report=self._stalled, idle_too=self.options.no_calls).start()

    def _stalled(self, stall: Stall) -> None:
        match self.options.on_stall:
            case "report":
                log.warning("%s: %s", self.loaded.name, stall)
            case "exit":
                self._end(Stalled(f"{self.loaded.name}: {stall}"))
            case callback:
                callback(stall)

    def _wait_idle(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._wait_until_running()
        pause, idle = 0.0005, 0
        while idle < 2:  # twice: an item on its way between two queues may be missed once
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            idle = idle + 1 if self._is_idle(left) else 0
            if not idle:
                time.sleep(pause)  # polling: nothing signals that a goroutine begins to wait
                pause = min(pause * 1.5, 0.02)

    def _is_idle(self, timeout: float | None) -> bool:
        calls = self._cache.in_flight()
        if self._messages.unread:
            return False
        counts = self._inspector.counts(timeout)
        go = counts.go
        return (go.running + go.runnable + go.syscalls == 0 and counts.blocked == len(calls) == self._cache.in_use
                and self._cache.in_flight() == calls and not self._messages.unread)

    def _within(self, work: Callable[[Guest], T]) -> T:
        return self._cache.use(work, nested.get())

    @property
    def _in_use(self) -> int:
        return self._cache.in_use

    def _hook(self, name: str) -> None:
        if (export := self.loaded.hook(name)) is not None:
            self._call(export, [])
        else:
            self._request(name, b"")

    def _has_stop(self) -> bool:
        if super()._has_stop() or self._hooks is None or not self.loaded.has_handlers:
            return super()._has_stop()
        with contextlib.suppress(TimeoutError, GothreadsError):  # main may have registered it since `open` looked
            return "stop" in self._inspector.handlers(_STOP_SECONDS)
        return False

    def _registered(self) -> list[str]:
        return self._inspector.handlers(_REGISTERED_SECONDS)

    def _look_at_rest(self, timeout: float) -> tuple[list[str], bool]:
        """The handlers, and whether the module rests (runtime/settling.py).

        It rests if it does nothing by itself and waits for no reply.
        """
        begun = self._messages.begun
        # In this order: a reply enters the queue before its call stops being outstanding.
        awaits = self._messages.outstanding or self._messages.unread
        names, goes_on = self._inspector.preparing(timeout)
        # If a call has begun since, its goroutine may have been waiting during the look, and run on once answered.
        return names, not (goes_on or awaits or begun != self._messages.begun)

    def _initialized(self) -> None:
        if self._settling is not None:
            self._settling.begin()
        super()._initialized()

    def _stop_running(self) -> None:
        super()._stop_running()
        self._scheduler_watch.stop()
        self._cache.wake_all()
        self._inspector.wake_all()

    def _run_handlers(self) -> bool:
        if self._stop_check is StopCheck.FLAG:
            reached = self._handler_request.make()
        else:
            self._engine.increment_epoch()
            reached = True
        self._wake_parked()  # Go's waits check why they were woken, and wait again
        return reached

    def _close_call_threads(self) -> None:
        super()._close_call_threads()
        self._inspector.close()

    def _threads_inside(self) -> int:
        return super()._threads_inside() + self._inspector.in_use

    def _sweep_once(self) -> int:
        left = super()._sweep_once()
        if left:
            self._cache.wake_all()
        return left
