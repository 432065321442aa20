"""What a program can do with a running module: the methods that App and Supervised share, and their documentation."""

from __future__ import annotations

import asyncio
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from gothreads.bridge.buffers import ReadWriteMemory
from gothreads.bridge.exports import Exports
from gothreads.bridge.messages import WhenFull
from gothreads.errors import ArgumentError, drop_frames, hides_frames
from gothreads.profiles.profile import Profile
from gothreads.runtime.cancellation import OnTimeout
from gothreads.runtime.inspector import Goroutines
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.payloads import Payload, json_payload, json_reply
from gothreads.runtime.pickling import reopen
from gothreads.runtime.statistics import AppStatistics
from gothreads.text import cut
from gothreads.typed.namespace import Functions, typed_of

if TYPE_CHECKING:
    from gothreads.typed.caller import Caller
    from gothreads.typed.functions import TypedFunction
    from gothreads.typed.streams import ByteStream

#: Code in this module uses apps as a program does: close() may wait in a signal handler that has interrupted it
#: (runtime/own_code.py).
PROGRAM_CODE = True


#: Attributes that other parts of gothreads use, and programs do not.
_INTERNAL = frozenset(("build_model", "compile_seconds", "configuration", "has_many_instances", "loaded", "own_clock",
                       "start", "trim"))

#: Methods whose implementations raise errors without gothreads' frames. `request` must be fast, so it does that itself.
_HIDE_FRAMES = frozenset(("call_async", "goroutines", "handlers", "handlers_async", "profile", "request_async",
                          "send_signal", "signal", "signal_async", "stream", "submit", "submit_request",
                          "submit_stream", "wait_idle"))


def check_iterables(export: str, iterables: Sequence[object]) -> None:
    """ArgumentError unless all that map was given can be iterated."""
    for each in iterables:
        if not isinstance(each, Iterable) and not hasattr(type(each), "__getitem__"):
            raise ArgumentError(f"map takes an iterable for each parameter of {export}, not {cut(each)}. "
                                "itertools.repeat(…) has a value for each call")


class RunningModule(ABC):
    """A module that runs. Any thread may call any method that does not say otherwise.

    The typed functions of the module are attributes, too: app.fit(…) is app.functions.fit(…). An attribute that is
    described here keeps its name: app.functions.close(…).
    """

    loaded: LoadedModule
    exports: Exports

    def __init_subclass__(cls) -> None:
        """Complete what implements the methods below, here or in a base class.

        It raises errors without gothreads' frames, and has the documentation, which inspect would not find.
        """
        super().__init_subclass__()
        if RunningModule in cls.__bases__:
            for name in _HIDE_FRAMES:
                setattr(cls, name, hides_frames(getattr(cls, name)))
            for name in RunningModule.__abstractmethods__:
                found = inspect.getattr_static(cls, name)
                found.__doc__ = found.__doc__ or inspect.getattr_static(RunningModule, name).__doc__

    # Typed functions.

    #: What calls them.
    _caller: Caller

    @cached_property
    def functions(self) -> Functions:
        """The functions that Go exports with //gothreads:export: `app.functions.fit(x, y, timeout=2)`.

        `fit_async` is a coroutine function. NotCallable: msgspec is not installed.
        """
        return self._typed[0]

    @cached_property
    def types(self) -> ModuleType:
        """A module with the classes for the types of these functions: `app.types.Options(degree=3)`."""
        return self._typed[1]

    @cached_property
    def _typed(self) -> tuple[Functions, ModuleType]:
        metadata = self.loaded.metadata
        return typed_of(self.loaded.name, metadata.typed if metadata is not None else None, self._caller)

    def _typed_function(self, name: str) -> TypedFunction | None:
        """The typed function of that name, unless there is none, or it is the name of another export."""
        if not self.loaded.has_typed or name in self.exports or name not in self.functions:
            return None
        found: TypedFunction = self.functions[name]
        return found

    def _add_typed_functions(self) -> None:
        """Make the typed functions attributes of this object. Called once, at the end of the constructor.

        ModuleError: their description is malformed. NotCallable: msgspec is not installed.

        A __getattr__ would do the same, but a class that has one has slower attributes, so every call would cost more.
        """
        if not self.loaded.has_typed:
            return
        self.exports.note_typed(self.functions)
        own = {*super().__dir__(), *(name for kind in type(self).__mro__ for name in inspect.get_annotations(kind))}
        for name in self.functions:
            for each in {name, f"{name}_async"} - own:
                setattr(self, each, self.functions[each])

    def __dir__(self) -> list[str]:
        """What a program may use."""
        return [name for name in super().__dir__()
                if name not in _INTERNAL and (not name.startswith("_") or name.startswith("__"))]

    # Calls of exports: also `exports`, which calls on this thread.

    @abstractmethod
    def submit(self, export: str, /, *args: Any, timeout: float | None = None, on_timeout: OnTimeout = "continue",
               **named: Any) -> Future[Any]:
        """Call an export, or a typed function, on one of the app's threads; the future gets its result.

        Arguments are checked now. The context of a typed function is cancelled after the timeout, unless on_timeout is
        "stop".

        args, named: the export's arguments, in order or by the names of Go's parameters. A parameter that is named like
            a keyword of Python, `timeout` or `on_timeout` gets an underscore: `timeout_=5`.

        timeout: in seconds, including the wait for a free caller; after that the future has CallTimeout. A call that
            has not begun by then never does. One that has begun cannot be taken out of the module; on_timeout says what
            becomes of it.
        on_timeout: "continue" (the call goes on, and holds its caller, until it returns by itself) or "stop" (the
            module is ended, and all other calls get LimitExceeded; in a pool, only the call's instance is ended).
            Cancelling a future that has a timeout gives up the call in the same way.
        """

    @hides_frames
    def map(self, export: str, *iterables: Iterable[Any], timeout: float | None = None,
            on_timeout: OnTimeout = "continue", on: Any = None) -> Iterator[Any]:
        """Like the built-in map, but the calls run at the same time. Results come in order.

        `timeout` and `on_timeout` as for submit; the timeout of every call counts from now.

        on: an executor, such as a ProcessPoolExecutor of the start method "spawn", or a gothreads.ray.Pool. The calls
            run there, in apps of their own, as `gothreads.remote(app).map(…)` has them.
        """
        if on is not None:
            return iter(self._remote.map(export, *iterables, on=on, timeout=timeout, on_timeout=on_timeout))
        check_iterables(export, iterables)
        futures = [self.submit(export, *args, timeout=timeout, on_timeout=on_timeout)
                   for args in zip(*iterables, strict=False)]

        def results() -> Iterator[Any]:
            try:
                for future in futures:
                    yield future.result()
            except BaseException as error:
                drop_frames(error)
                raise
            finally:
                for future in futures:
                    future.cancel()
        return results()

    @cached_property
    def _remote(self) -> Any:
        """What stands for this app in other processes. By its name, as what opens apps: it is in a room above."""
        return reopen("gothreads.remote", self, {})

    @abstractmethod
    async def call_async(self, export: str, /, *args: Any, timeout: float | None = None,
                         on_timeout: OnTimeout = "continue", **named: Any) -> Any:
        """Call an export, or a typed function, without blocking the event loop.

        Cancelling this acts like a timeout: see submit.
        """

    # Requests: calls of handlers.

    @abstractmethod
    def request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                on_timeout: OnTimeout = "cancel") -> bytes:
        """Call a handler that the module has registered by name: bytes in, bytes out.

        If there is no handler of that name yet, main may be about to register it. So the request waits, until every
        goroutine that the module runs by itself is waiting, or until five seconds after the module's start.

        HandlerError if the handler returns an error, UnknownExport if there is no handler of that name, NotCallable if
        the module was not built from Go, CallTimeout after `timeout` seconds.

        on_timeout: as for submit; or "cancel": a handler that has a context (guest.HandleContext) gets it cancelled,
            any other goes on. The context has the timeout's end as its deadline, unless this is "continue".
        """

    @abstractmethod
    def submit_request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                       on_timeout: OnTimeout = "cancel") -> Future[bytes]:
        """Like request, on one of the app's threads. Cancelling the future gives up the request, as a timeout does."""

    @abstractmethod
    async def request_async(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                            on_timeout: OnTimeout = "cancel") -> bytes:
        """Like request, without blocking the event loop. Cancelling this acts like a timeout."""

    @hides_frames
    def request_json(self, handler: str, value: Any = None, *, timeout: float | None = None,
                     on_timeout: OnTimeout = "cancel") -> Any:
        """Like request, for a handler of values (guest.HandleJSON), which travel as JSON.

        HandlerError also if the value does not fit the handler's type in Go, or the reply is not JSON. ArgumentError if
        the value cannot be written as JSON.
        """
        return json_reply(handler, self.request(handler, json_payload(value), timeout=timeout, on_timeout=on_timeout))

    @hides_frames
    async def request_json_async(self, handler: str, value: Any = None, *, timeout: float | None = None,
                                 on_timeout: OnTimeout = "cancel") -> Any:
        """Like request_json, without blocking the event loop. Cancelling this acts like a timeout."""
        reply = await self.request_async(handler, json_payload(value), timeout=timeout, on_timeout=on_timeout)
        return json_reply(handler, reply)

    # Requests to handlers that stream.

    @abstractmethod
    def stream(self, handler: str, body: Payload | Any = b"", *, timeout: float | None = None,
               on_timeout: OnTimeout = "cancel") -> ByteStream:
        """Call a handler that streams (guest.HandleStream): an iterator of what it writes, also an asynchronous one.

        body: a file object of bytes, which Go reads while it answers; `read` may be a coroutine function. Or a payload.

        Returns when there is a first piece, so that an error before that is raised here, as by `request`. What comes
        later is raised by the iterator. `timeout` is for the first piece. Closing the iterator, the end of a `with`
        block, and dropping it, cancel the handler's context.

        NotCallable if the handler takes its payload as a whole; else the errors of `request`.
        """

    @abstractmethod
    def submit_stream(self, handler: str, body: Payload | Any = b"", *, timeout: float | None = None,
                      on_timeout: OnTimeout = "cancel") -> Future[ByteStream]:
        """Like stream, on one of the app's threads. Cancelling the future gives up the call, as a timeout does."""

    @hides_frames
    async def stream_async(self, handler: str, body: Payload | Any = b"", *, timeout: float | None = None,
                           on_timeout: OnTimeout = "cancel") -> ByteStream:
        """Like stream, without blocking the event loop. Cancelling this acts like a timeout."""
        return await asyncio.wrap_future(self.submit_stream(handler, body, timeout=timeout, on_timeout=on_timeout))

    @abstractmethod
    def handlers(self) -> list[str]:
        """The names of the handlers. Waits, as `request` does, for those that main is about to register."""

    @abstractmethod
    async def handlers_async(self) -> list[str]:
        """Like handlers, without blocking the event loop."""

    # Events.

    @abstractmethod
    def signal(self, name: str, payload: Payload = b"", *, full: WhenFull = "wait",
               timeout: float | None = None) -> bool:
        """Send an event, which Go receives from the channel guest.Events(name). Does not block if the queue has room.

        full: what to do while `event_queue` events of that name (or 64 MiB) are still to be taken: "wait" (at most
            `timeout` seconds, then QueueFull), "drop" the event (and return False), or "raise" QueueFull.

        Events from one sender stay in order. Events sent before the module asks for their name are delivered once it
        does. Raises the app's error if it has ended. May be called from a Python signal handler.
        """

    @abstractmethod
    async def signal_async(self, name: str, payload: Payload = b"") -> None:
        """Like signal, but waits for room without blocking the event loop.

        If it is cancelled while it waits, the event is not sent.
        """

    @property
    @abstractmethod
    def events(self) -> list[str]:
        """The names of the events that the module has asked for so far."""

    # Signals.

    @abstractmethod
    def send_signal(self, which: str | int, *, default: bool = True) -> bool:
        """Send the program a signal, such as "TERM" or signal.SIGTERM. Its os/signal gets it, if it asked for it.

        Without a handler the signal does what it does natively (with `default`; otherwise nothing): "QUIT" writes the
        stacks of all goroutines to standard error and ends the module with exit code 2, others end it with exit code
        128 plus the signal's number, and "CHLD", "CONT", "URG" and "WINCH" do nothing. Only programs of the model
        "threaded" can have handlers.

        Returns whether the program handles the signal, or ignores it. It returns at once, and may be called in a signal
        handler. MisuseError if there is no such signal.
        """

    # What the module is doing.

    @abstractmethod
    def wait_idle(self, timeout: float | None = None) -> None:
        """Return when every goroutine waits and all events have been received.

        A goroutine may wait for a call, an event, a reply, a peer or a timer. Stock Go stands still between calls, so
        there this runs the module until then. TimeoutError after `timeout` seconds.
        """

    @abstractmethod
    def goroutines(self, timeout: float | None = None) -> Goroutines:
        """All goroutines of the module with their stacks, in a list that prints as Go prints them.

        Works even when every caller is blocked.

        TimeoutError if Go does not answer within `timeout` seconds: loops that cannot be preempted hold all its
        processors.
        """

    @abstractmethod
    def profile(self, kind: str = "cpu", *, seconds: float | None = None, rate: int | None = None,
                stop: threading.Event | None = None) -> Profile:
        """Take a profile of what the module does: `app.profile("cpu", seconds=10).save("cpu.pb.gz")`.

        The program need not import anything for it, and it works even when every caller is blocked.

        kind: "cpu" (which code runs), "block" and "mutex" (which code waits, and which makes others wait), "trace"
            (what Go's scheduler does, for `go tool trace`), "heap" (what was allocated, and is used), "goroutine" (what
            each goroutine does now). All but the last need the model "threaded".
        seconds: for how long; by default 10, of a trace 1, of the last two 0: as it is now.
        rate: samples of the CPU a second (100); from how many nanoseconds on a wait is recorded for "block" (10,000);
            one of how many waits for "mutex" (1); one of how many allocated bytes for "heap" (524,288).
        stop: it ends early when this event is set.

        NotCallable: the module cannot be profiled. MisuseError: another profile of that kind is being taken, or "heap"
        needs `seconds` because Go does not sample allocations in this program. TimeoutError: Go does not answer.
        """

    @abstractmethod
    def statistics(self) -> AppStatistics:
        """A snapshot of what the app is doing: `print(app.statistics())`.

        `go`, Go's part, is None if Go does not answer within a second; usually it takes a fraction of a millisecond.
        """

    @property
    @abstractmethod
    def memory(self) -> ReadWriteMemory:
        """The module's memory."""

    @property
    @abstractmethod
    def listening(self) -> list[str]:
        """The addresses of the listeners that the module was given, in order, with their actual ports."""

    # The end.

    @abstractmethod
    def close(self, *, drain: float | None = None) -> None:
        """End the module and free everything."""

    async def close_async(self, *, drain: float | None = None) -> None:
        """Like close, without blocking the event loop.

        So a coroutine on that loop may be a handler that the module's hook `stop` waits for.
        """
        await asyncio.to_thread(self.close, drain=drain)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        await self.close_async()
