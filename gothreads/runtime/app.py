"""`App`: a running module, as the program sees it. The models (runtime/models) implement what differs between them.

Its methods are documented in runtime/interface.py. Requests to handlers are in runtime/requests.py, events in
runtime/events.py. How calls run is in runtime/calls.py, starting in runtime/lifecycle.py, ending in runtime/ending.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from abc import abstractmethod
from concurrent.futures import Future
from typing import Any

from gothreads.bridge.context import CallContext
from gothreads.bridge.exports import Export, Exports, Function
from gothreads.bridge.host_imports import HostImports
from gothreads.engine import extension
from gothreads.errors import GothreadsError, GuestError, NotCallable
from gothreads.profiles.profile import Profile
from gothreads.runtime.cancellation import OnTimeout
from gothreads.runtime.events import Events
from gothreads.runtime.goroutine_profile import goroutine_profile
from gothreads.runtime.inspector import Goroutines
from gothreads.runtime.interface import RunningModule
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Options
from gothreads.runtime.pickling import Picklable
from gothreads.runtime.profiler import check
from gothreads.runtime.requests import Requests
from gothreads.runtime.scheduler_watch import SchedulerWatch
from gothreads.runtime.statistics import AppStatistics
from gothreads.runtime.typed_calls import AppCaller, typed_options
from gothreads.runtime.wasi_environment import WasiEnvironment
from gothreads.sync.seconds import check_seconds
from gothreads.sync.stop_event import StopEvent
from gothreads.text import shown
from gothreads.wasi.handed_listeners import Listeners
from gothreads.wasi.signals import ENDING, HARMLESS, signal_name
from gothreads.wasi.streams import Streams

log = logging.getLogger("gothreads")

#: How long close() waits for the module's hook `stop`, in seconds.
HOOK_SECONDS = 5.0
#: How long a profile waits for the stacks of goroutines, in seconds.
_GOROUTINES_SECONDS = 30.0
#: How long SIGQUIT waits for the stacks of goroutines, in seconds.
_QUIT_SECONDS = 2.0


class App(Picklable, Requests, Events, RunningModule):
    """A running module, made by `gothreads.open`. Any thread may call any method that does not say otherwise."""

    def __init__(self, loaded: LoadedModule, options: Options) -> None:
        super().__init__(loaded, options)
        self._hooks: frozenset[str] | None = None  # `start`, `stop`: which exist; None until started
        self.compile_seconds: float | None = None
        self._scheduler_watch: SchedulerWatch | None = None  # in models that have Go's threads
        try:
            declared = loaded.metadata.imports if loaded.metadata else ()
            self._host = HostImports(loaded.name, loaded.outline, declared, options.host, self._provides)
            self._make()
            self.loaded = loaded.without_code()
            #: The functions that the module exports: `app.exports.add(2, 3)`.
            self.exports = Exports({export.name: self._quick(Function(export, self._call_export), export)
                                    for export in loaded.exports}, loaded.uncallable, has_handlers=loaded.has_handlers)
            self._caller = AppCaller(self, self._request_quickly)
            self._add_typed_functions()
        except BaseException:
            self._owned.close()
            raise

    # Implemented by the models.

    @abstractmethod
    def _make(self) -> None:
        """Create everything needed to start, and register its clean-up in `_owned`. Called once, by the constructor."""

    def _quick(self, function: Function, export: Export) -> Function:
        """The same function, on the C fast path where the model has one."""
        return function

    @abstractmethod
    def _wait_idle(self, timeout: float | None) -> None:
        """See wait_idle."""

    @abstractmethod
    def _hook(self, name: str) -> None:
        """Call the module's hook of that name, which must exist. Raises ffi.Trapped."""

    def _registered(self) -> list[str]:
        """The names of the registered handlers, for gothreads' own use. TimeoutError if Go does not answer.

        Raises ffi.Trapped.
        """
        return self._handlers()

    @staticmethod
    def _provides(module: str, name: str) -> bool:
        """Whether gothreads itself provides what the module imports under this name."""
        return WasiEnvironment.has(module, name)

    # Calls of exports.

    def submit(self, export: str, /, *args: Any, timeout: float | None = None, on_timeout: OnTimeout = "continue",
               **named: Any) -> Future[Any]:
        if (typed := self._typed_function(export)) is not None:
            return typed.submit(*args, **named, **typed_options(timeout, on_timeout))
        target = self._target(export, "submit_request")
        converted = target._export.convert(target._export.bind(args, named))
        if timeout is None and on_timeout == "continue" and self.options.callers_timeout is None:
            return self._submit(lambda: self._call(target._export, converted))
        return self._waited_call(target._export, converted, timeout, on_timeout).future

    async def call_async(self, export: str, /, *args: Any, timeout: float | None = None,
                         on_timeout: OnTimeout = "continue", **named: Any) -> Any:
        if (typed := self._typed_function(export)) is not None:
            return await typed.call_async(*args, **named, **typed_options(timeout, on_timeout))
        target = self._target(export, "request_async")
        converted = target._export.convert(target._export.bind(args, named))
        waited = self._waited_call(target._export, converted, timeout, on_timeout)
        return await asyncio.wrap_future(waited.future)

    def _target(self, export: str, request: str) -> Function:
        """The export of that name. UnknownExport; `request`: the method that would call a handler."""
        if export not in self.exports:
            raise self.exports._missing(export, request)
        return self.exports[export]

    # Signals.

    def send_signal(self, which: str | int, *, default: bool = True) -> bool:
        name = signal_name(which)
        if self._deliver_signal(name):
            self._reasons.signals.update(ENDING & {name})
            return True
        if default and name == "QUIT":
            threading.Thread(target=self._quit, name="gothreads-quit", daemon=True).start()
        elif default and name not in HARMLESS:
            self._end(self._reasons.of_sent_signal(name), here=False)
        return False

    def _deliver_signal(self, name: str) -> bool:
        """Whether the program handles or ignores a signal, which it is then given."""
        return False

    def _quit(self) -> None:
        """End the module as SIGQUIT does natively. It waits for Go, so it needs a thread that may wait."""
        with contextlib.suppress(GothreadsError, TimeoutError):
            stacks = str(self.goroutines(_QUIT_SECONDS))
            self._streams.stderr.write([f"SIGQUIT: quit\n\n{stacks}\n".encode(errors="replace")])
        self._end(self._reasons.of_sent_signal("QUIT"))

    # What the module is doing.

    def wait_idle(self, timeout: float | None = None) -> None:
        check_seconds("timeout", timeout)
        self._check_go("goroutines")
        try:
            self._wait_idle(timeout)
        except TimeoutError:
            raise TimeoutError(f"{self.loaded.name}: not every goroutine waits after {timeout:g} s") from None

    def goroutines(self, timeout: float | None = None) -> Goroutines:
        check_seconds("timeout", timeout)
        self._check_go("goroutines")
        return Goroutines(self._goroutines(timeout))

    def profile(self, kind: str = "cpu", *, seconds: float | None = None, rate: int | None = None,
                stop: threading.Event | None = None) -> Profile:
        taken_for, taken_at = check(kind, seconds, rate)
        self._check_go("profiles")
        if kind == "goroutine":
            return goroutine_profile(self._goroutines(_GOROUTINES_SECONDS), self.loaded.name)
        return self._profile(kind, taken_for, taken_at, stop or threading.Event())

    def _profile(self, kind: str, seconds: float, rate: int, stop: threading.Event) -> Profile:
        """See Profiler.take."""
        raise NotCallable(f"{self.loaded.name}: a profile {kind!r} needs the model threaded, and this is {self.model}")

    def _statistics(self, *, memory_limit: int | None = None, **figures: Any) -> AppStatistics:
        """Statistics with the figures that all models share filled in."""
        limit = self.options.limits.memory if memory_limit is None else memory_limit
        return AppStatistics(model=self.model, state=self.state.value, uptime=time.monotonic() - self._begun,
                             memory_limit=limit, compile_seconds=self.compile_seconds,
                             calls_in_progress=self._in_use, waits_for_streams=len(self._parked),
                             queued_events=self._messages.queued,
                             call_path=extension.PATH, **figures)

    @property
    def listening(self) -> list[str]:
        return [address for environment in self._environments for address in environment.listening]

    @property
    def _not_taken_up(self) -> list[str]:
        """Those of `listening` where the program does not listen yet: connections wait."""
        return [address for environment in self._environments.copy() for address in environment.not_taken_up.copy()]

    # The module's environment.

    def _new_environment(self, streams: Streams, stop: StopEvent) -> WasiEnvironment:
        """Create the WASI environment of one memory. The caller closes it, once no thread is in it."""
        options = self.options
        context = Context(self, self._in_python)
        environment = WasiEnvironment(stop, streams, options.wasi, rules=options.allow_net,
                                      listeners=options.listeners or Listeners(options.listen),
                                      messages=self._messages, context=context, files=self._files)
        self._environments.append(environment)
        return environment

    def _close_environment(self, environment: WasiEnvironment) -> None:
        """Close an environment that _new_environment made. No thread may be in it."""
        self._environments.remove(environment)
        environment.close()

    def _reported(self, text: bytes) -> None:
        for environment in list(self._environments):
            environment.path_hints.watch(text + b"\n")

    # Hooks.

    def _started(self) -> None:
        self._here_or_on_a_worker(self._start_hook)

    def _start_hook(self) -> None:
        names = set(self.loaded.hooks)
        if self.loaded.has_handlers:
            try:
                names |= {"start", "stop"}.intersection(self._registered())
            except TimeoutError:
                log.warning("%s: the module does not answer, so its handlers `start` and `stop`, if it has them, "
                            "are not called", self.loaded.name)
        if "start" in names:
            self._hook("start")
        self._hooks = frozenset(names)

    def _before_close(self) -> None:
        if not self._has_stop():
            return
        try:
            self._submit_to(self._call_threads, lambda: self._hook("stop")).result(HOOK_SECONDS)
        except GuestError:
            pass  # the module ended by itself
        except TimeoutError:
            log.warning("%s: the module's stop has not returned after %g s, and is ended",
                        self.loaded.name, HOOK_SECONDS)
        except (GothreadsError, RuntimeError) as error:  # RuntimeError: the interpreter is shutting down
            log.warning("%s: the module's stop failed: %s", self.loaded.name, shown(str(error)))

    def _has_stop(self) -> bool:
        """Whether to call the hook `stop`: only if the module has it, and has started."""
        return self._hooks is not None and "stop" in self._hooks


class Context(CallContext):
    """The context of a call, for a host function's parameter annotated `gothreads.Context`.

    app: the app that calls. Its exports may be called from inside the function.
    memory: the memory of the instance that calls, for addresses that Go passes as pointers. What an address points to
        belongs to Go again once the function has returned. A handler of guest.Call may use it in the threaded model
        only: in the others the module runs on meanwhile.
    cancelled: set when nobody waits for a handler's reply any more. A handler that takes long should check it.
    """

    __slots__ = ()

    app: App
