"""`App`: a running module, as the program sees it. The models (runtime/models) implement what differs between them.

Its methods are documented in runtime/interface.py. How calls run is in runtime/calls.py, starting in
runtime/lifecycle.py, ending in runtime/ending.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from gothreads.bridge.buffers import LARGEST
from gothreads.bridge.context import CallContext
from gothreads.bridge.exports import Export, Exports, Function
from gothreads.bridge.host_imports import HostImports
from gothreads.bridge.messages import WhenFull
from gothreads.engine import extension, interrupt
from gothreads.errors import (
    ArgumentError,
    GothreadsError,
    GuestError,
    HandlerError,
    MisuseError,
    NotCallable,
    QueueFull,
    UnknownExport,
    drop_frames,
    hides_frames,
    listed,
)
from gothreads.runtime import cancellation
from gothreads.runtime.calls import CallRunner
from gothreads.runtime.cancellation import Cancellation, OnTimeout, PendingCall
from gothreads.runtime.inspector import Goroutine, Goroutines
from gothreads.runtime.interface import RunningModule
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Options
from gothreads.runtime.payloads import Payload, bytes_of, handler_name
from gothreads.runtime.pickling import Picklable
from gothreads.runtime.scheduler_watch import SchedulerWatch
from gothreads.runtime.settling import SETTLE_SECONDS, Settling
from gothreads.runtime.statistics import AppStatistics
from gothreads.runtime.typed_calls import AppCaller, typed_options
from gothreads.runtime.wasi_environment import WasiEnvironment
from gothreads.sync.seconds import check_seconds
from gothreads.sync.stop_event import StopEvent
from gothreads.text import closest, cut, shown
from gothreads.wasi.handed_listeners import Listeners
from gothreads.wasi.queues import FRAME, Queue, framed
from gothreads.wasi.signals import ENDING, HARMLESS, signal_name
from gothreads.wasi.streams import Streams

T = TypeVar("T")

log = logging.getLogger("gothreads")

#: How long close() waits for the module's hook `stop`, in seconds.
HOOK_SECONDS = 5.0
#: What Go says of a main that waits for events or connections; and how long to wait for the answer, in seconds.
_SERVES = frozenset(("select", "select (no cases)", "chan receive", "IO wait"))
_LOOK_SECONDS = 0.5
#: How long SIGQUIT waits for the stacks of goroutines, in seconds.
_QUIT_SECONDS = 2.0


class App(Picklable, CallRunner, RunningModule):
    """A running module, made by `gothreads.open`. Any thread may call any method that does not say otherwise."""

    def __init__(self, loaded: LoadedModule, options: Options) -> None:
        super().__init__(loaded, options)
        self._hooks: frozenset[str] | None = None  # `start`, `stop`: which exist; None until started
        self.compile_seconds: float | None = None
        self._settling: Settling | None = None  # in models where main runs on and may register handlers
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

    def _request_quickly(self, handler: str, payload: Payload) -> bytes | None:
        """Make a request on the C fast path; None if the model has none or the case is uncommon."""
        return None

    def _quick(self, function: Function, export: Export) -> Function:
        """The same function, on the C fast path where the model has one."""
        return function

    @abstractmethod
    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        """See goroutines."""

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

    def _settled_handlers(self) -> list[str]:
        """Like _handlers, but in models where goroutines run only during calls, runs those of init functions first.

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

    # Requests.

    def request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                on_timeout: OnTimeout = "cancel") -> bytes:
        if timeout is None and on_timeout == "cancel":
            try:
                if (answer := self._request_quickly(handler, payload)) is not None:
                    return answer
            except UnknownExport:
                pass  # perhaps not registered yet: asked again below
            except GothreadsError as error:
                first = self._first(error)
                drop_frames(first)
                if first is error:
                    self._name_handler(error, handler)
                    raise
                try:
                    raise first from first.__cause__
                finally:
                    del first  # the traceback has this frame, and with it the payload
        return self._request_slowly(handler, payload, timeout, on_timeout)

    @hides_frames
    def _request_slowly(self, handler: str, payload: Payload, timeout: float | None, on_timeout: OnTimeout) -> bytes:
        self._check_go("handlers")
        handler, data = handler_name(handler), bytes_of(payload)
        if timeout is None:
            cancellation.checked(timeout, on_timeout, request=True)

            def request() -> bytes:
                return bytes(self._here_or_on_a_worker(lambda: self._request(handler, data)))
            return self._registered_by_main(handler, request)  # waits outside the call, where Ctrl-C would end the app
        return bytes(self._result(self._waited_request(handler, data, timeout, on_timeout, here=True)))

    def submit_request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                       on_timeout: OnTimeout = "cancel") -> Future[bytes]:
        self._check_go("handlers")
        return self._waited_request(handler_name(handler), bytes_of(payload), timeout, on_timeout).future

    async def request_async(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                            on_timeout: OnTimeout = "cancel") -> bytes:
        return await asyncio.wrap_future(self.submit_request(handler, payload, timeout=timeout, on_timeout=on_timeout))

    def handlers(self) -> list[str]:
        return self._listed(self._here_or_on_a_worker)

    async def handlers_async(self) -> list[str]:
        if self.loaded.metadata is None:
            return []

        def listed(token: Cancellation) -> list[str]:
            return self._listed(lambda work: work(), token=token)
        waited = self._waited("the list of handlers", listed, None, "continue", here=False)
        names: list[str] = await asyncio.wrap_future(waited.future)
        return names

    def _waited_request(self, handler: str, payload: bytes, timeout: float | None, on_timeout: OnTimeout, *,
                        here: bool = False) -> PendingCall:
        def request(token: Cancellation) -> bytes:
            return self._registered_by_main(handler, lambda: self._request(handler, payload, token), token)
        return self._waited(f"the request to {handler}", request, timeout, on_timeout, here=here, request=True)

    def _registered_by_main(self, handler: str, ask: Callable[[], T], token: Cancellation | None = None) -> T:
        """Return `ask()`, which asks for a handler. While main may still register the handler, wait and ask again."""
        settling = self._settling
        while True:
            settled = settling is None or settling.settled(handler)  # read before asking: see runtime/settling.py
            try:
                return ask()
            except UnknownExport as error:
                if settling is None or settled:
                    raise UnknownExport(error.message, error.known, self._why_unknown(handler, error.known)) from None
            except GothreadsError as error:
                self._name_handler(error, handler)
                raise
            if token is not None:
                token.wants(handler)
            settling.wait(handler, token)

    def _name_handler(self, error: GothreadsError, handler: str) -> None:
        """Note where a handler's error comes from. A note, since `str(error)` is what the handler says."""
        if isinstance(error, HandlerError):
            error.add_note(f"from the handler {cut(handler)} of {self.loaded.name}")

    def _why_unknown(self, handler: str, known: Sequence[str]) -> str:
        """Why there may be no handler of that name, and how to mend it: sentences to follow the error, or ""."""
        if handler in self.exports:
            how = f".{handler}" if handler.isidentifier() else f"[{cut(handler)}]"
            return f". There is an export of that name: app.exports{how}(…)"
        if closest(handler, known) is not None:
            return ""  # the error names it
        if self.loaded.entry == "_initialize" and not self.loaded.foreign:
            where = f"the model {self.model}"
            if self.loaded.threaded:
                where = "a module built with --buildmode c-shared"
            return f". main does not run in {where}: register handlers in an init function"
        if self._settling is not None and self._settling.is_busy() and not (known and self._main_serves()):
            return (f". {SETTLE_SECONDS:g} s after its start the module was still busy, and requests do not wait "
                    "longer: register handlers before work that takes long")
        return ""

    def _main_serves(self) -> bool:
        """Whether main waits for events or connections, so that it has probably registered what it has."""
        with contextlib.suppress(GothreadsError, TimeoutError):
            return any(goroutine.id == 1 and goroutine.state.partition(",")[0] in _SERVES
                       for goroutine in self._goroutines(_LOOK_SECONDS))
        return False

    def _listed(self, run: Callable[[Callable[[], list[str]]], list[str]], wanted: str | None = None,
                token: Cancellation | None = None) -> list[str]:
        """The names of the handlers. Waits for those that main has yet to register, until `wanted` is among them.

        `run` makes the call that asks the module for them.
        """
        if self.loaded.metadata is None:
            return []
        names = run(lambda: self._handlers(token))
        if wanted in names:
            return names
        if self._settling is not None:
            self._settling.wait(wanted, token)
        return run(self._settled_handlers)

    def _expect(self, handlers: Iterable[str]) -> None:
        """Wait for these handlers even when every goroutine waits: an earlier instance had them."""
        if self._settling is not None:
            self._settling.expected = frozenset(handlers)

    # Events.

    def signal(self, name: str, payload: Payload = b"", *, full: WhenFull = "wait",
               timeout: float | None = None) -> bool:
        if full not in ("wait", "drop", "raise"):
            raise MisuseError(f'full must be "wait", "drop" or "raise", not {cut(full)}')
        check_seconds("timeout", timeout)
        if self._cause is not None:
            raise self._error()
        self._check_go("events")
        if not self.loaded.has_messages:
            raise NotCallable(f"{self.loaded.name}: the module does not import gothreads/guest, "
                              "so it receives no events")
        data = bytes_of(payload)
        frame = framed(data)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            queue = self._queue(name, data)
            while not (sent := self._put(queue, frame)) and full == "wait":
                self._warn_unread(queue, name)
                if not queue.wait_for_room(len(frame), None if deadline is None else deadline - time.monotonic()):
                    break
        except OSError as error:
            raise QueueFull(f"{self.loaded.name}: {error.strerror}") from None
        if not sent:
            if self._cause is not None:
                raise self._error()
            if full != "drop":
                why = self._why_unread(queue, name) or (
                    "the module does not take them so fast. Raise `event_queue`, or send less at once")
                raise QueueFull(f"{self.loaded.name}: no room for an event {cut(name)}: {why}")
        return sent

    def _warn_unread(self, queue: Queue, name: str) -> None:
        """Log, once, that events wait which the module may never take."""
        if not queue.warned and (why := self._why_unread(queue, name)):
            queue.warned = True
            log.warning("%s: the queue of the events %s is full: %s", self.loaded.name, cut(name), why)

    def _why_unread(self, queue: Queue, name: str) -> str:
        """Why the module takes no events of that name; "" if it has done so."""
        if queue.was_read:
            return ""
        meant = closest(name, self.events)
        return ("the module has not asked for events of that name. "
                + (f"Did you mean {cut(meant)}?" if meant is not None else
                   f"It has asked for: {listed(self.events) or 'none'}"))

    async def signal_async(self, name: str, payload: Payload = b"") -> None:
        data, loop = bytes_of(payload), asyncio.get_running_loop()
        while not self.signal(name, data, full="drop"):
            room = asyncio.Event()

            def tell(room: asyncio.Event = room) -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(room.set)
            queue = self._queue(name, data)
            self._warn_unread(queue, name)
            queue.when_room(len(data) + FRAME, tell)
            try:
                await room.wait()
            finally:
                queue.cancel_when_room(tell)

    @staticmethod
    def _put(queue: Queue, frame: bytes) -> bool:
        if not interrupt.on_main_thread():
            return queue.put(frame)
        with interrupt.Postponed():  # interrupted halfway, the event would be announced only with the next
            return queue.put(frame)

    def _queue(self, name: str, payload: bytes) -> Queue:
        if not isinstance(name, str) or not name:
            raise MisuseError(f"an event's name must be a str, and not empty, not {cut(name)}")
        if len(payload) > LARGEST:
            raise ArgumentError(f"{len(payload):,} bytes are too many for one event: at most {LARGEST:,}")
        return self._messages.events(name)

    @property
    def events(self) -> list[str]:
        return self._messages.names

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

    def _statistics(self, *, memory_limit: int | None = None, **figures: Any) -> AppStatistics:
        """Statistics with the figures that all models share filled in."""
        limit = self.options.limits.memory if memory_limit is None else memory_limit
        return AppStatistics(model=self.model, state=self.state.value, uptime=time.monotonic() - self._begun,
                             memory_limit=limit, compile_seconds=self.compile_seconds,
                             calls_in_progress=self._in_use, queued_events=self._messages.queued,
                             call_path=extension.PATH, **figures)

    @property
    def listening(self) -> list[str]:
        return [address for environment in self._environments for address in environment.listening]

    @property
    def _not_taken_up(self) -> list[str]:
        """Those of `listening` where the program does not listen yet: connections wait."""
        return [address for environment in self._environments for address in environment.not_taken_up]

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

    def _reported(self, text: str) -> None:
        """Log how to mount the paths that this text, an error of the module's, says are missing."""
        for environment in list(self._environments):
            environment.path_hints.watch(text.encode(errors="replace"))

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
