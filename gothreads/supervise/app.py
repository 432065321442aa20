"""`gothreads.supervise`: a module that is reopened when it ends, and is called like any app.

How calls find their instance is in supervise/calls.py, the lifecycle in supervise/supervisor.py.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

from gothreads.bridge.buffers import Message, ReadWriteMemory, Reply
from gothreads.bridge.exports import Export, Exports, Function
from gothreads.bridge.messages import WhenFull
from gothreads.engine.extension import PATH
from gothreads.errors import hides_frames
from gothreads.launch import find_for
from gothreads.profiles.profile import Profile
from gothreads.runtime.app import App
from gothreads.runtime.cancellation import OnTimeout
from gothreads.runtime.inspector import Goroutines
from gothreads.runtime.interface import RunningModule
from gothreads.runtime.keywords import complete, definition, documented
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.module_source import ModuleSource, source_of
from gothreads.runtime.options import LoadedOptions, OpenOptions
from gothreads.runtime.payloads import Payload, bytes_of, file_of
from gothreads.runtime.pickling import Picklable, PickledOptions
from gothreads.runtime.statistics import AppStatistics
from gothreads.runtime.typed_calls import function_of, typed_options
from gothreads.supervise.calls import SupervisedCalls
from gothreads.supervise.options import RestartOptions, RestartPolicy, SuperviseOptions, restart_policy
from gothreads.typed.caller import Read
from gothreads.wasi.signals import signal_name

if TYPE_CHECKING:
    from gothreads.typed.streams import ByteStream

T = TypeVar("T")


@documented(RestartOptions, OpenOptions)
def supervise(path: ModuleSource, **options: Unpack[SuperviseOptions]) -> Supervised:
    """Like `open`, for a module that is replaced by a new instance, with new memory, when it ends.

    {RestartOptions}

    All other options are those of `open`, and are the same for each instance. The listeners of `listen` stay open all
    the time: connections wait for the next instance.

    {OpenOptions}

    Returns when the first instance has started or has failed to, which counts as an end. Raises BuildError,
    ModuleError, MisuseError.
    """
    complete("supervise()", SuperviseOptions, options)  # wrong options are refused before anything is built
    of_restarts = {name: value for name, value in options.items() if name in definition(RestartOptions)}
    of_open = cast(LoadedOptions, {name: value for name, value in options.items() if name in definition(OpenOptions)})
    policy = restart_policy(cast(RestartOptions, of_restarts), options.get("model"))
    source = source_of(path)
    supervised = Supervised(find_for(source, of_open), of_open, policy)
    supervised.configuration = PickledOptions.of("gothreads.supervise", source, options)
    return supervised


class Supervised(Picklable, SupervisedCalls, RunningModule):
    """A supervised module; create it with `gothreads.supervise`. It is called like an `App`, with the same keywords.

    Each call goes to the instance that takes calls at that time. While there is none, calls wait for the next one, or
    fail at once, as `while_down` says: what is submitted meanwhile starts in the next instance. The queues of events
    count as full. `listening` is empty, `statistics` has zeros, and `memory` raises the cause.

    A Python function that the module calls should call back through its `gothreads.Context`, which belongs to the
    instance that called the function. All methods may be called from any thread.
    """

    def __init__(self, loaded: LoadedModule, options: LoadedOptions, policy: RestartPolicy) -> None:
        #: The module's exported functions: `supervised.exports.add(2, 3)`.
        self.exports = Exports({export.name: _SupervisedFunction(export, self) for export in loaded.exports},
                               loaded.uncallable, has_handlers=loaded.has_handlers)
        self._events: dict[str, None] = {}
        super().__init__(loaded, options, policy)
        self._caller = _SupervisedCaller(self)
        self._add_typed_functions()

    # Calls of exports.

    def submit(self, export: str, /, *args: Any, timeout: float | None = None, on_timeout: OnTimeout = "continue",
               **named: Any) -> Future[Any]:
        if (typed := self._typed_function(export)) is not None:
            return typed.submit(*args, **named, **typed_options(timeout, on_timeout))
        args = self._checked(export, args, named)
        options = {"timeout": timeout, "on_timeout": on_timeout}
        return self._submit(lambda app, left: app.submit(export, *args, **left), options)

    async def call_async(self, export: str, /, *args: Any, timeout: float | None = None,
                         on_timeout: OnTimeout = "continue", **named: Any) -> Any:
        if (typed := self._typed_function(export)) is not None:
            return await typed.call_async(*args, **named, **typed_options(timeout, on_timeout))
        args = self._checked(export, args, named)
        options = {"timeout": timeout, "on_timeout": on_timeout}
        return await self._call_async(lambda app, left: app.call_async(export, *args, **left), options)

    def _checked(self, export: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """The arguments in order. ArgumentError: one is wrong, which is reported before the call waits."""
        target = self.exports[export]._export
        args = target.bind(args, named)
        target.convert(args)
        return args

    # Requests.

    @hides_frames
    def request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                on_timeout: OnTimeout = "cancel") -> bytes:
        options = {"timeout": timeout, "on_timeout": on_timeout}
        reply: bytes = self._call(lambda app, left: app.request(handler, payload, **left), options)
        self._carried.answered.add(handler)
        return reply

    def submit_request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                       on_timeout: OnTimeout = "cancel") -> Future[bytes]:
        options = {"timeout": timeout, "on_timeout": on_timeout}
        data = bytes_of(payload)  # the caller may change its buffer while the request waits for an instance
        return self._answering(handler, self._submit(lambda app, left: app.submit_request(handler, data, **left),
                                                     options))

    def _answering(self, handler: str, future: Future[T]) -> Future[T]:
        """The future of a request: note when the handler has answered."""
        def answered(done: Future[T]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._carried.answered.add(handler)
        future.add_done_callback(answered)
        return future

    async def request_async(self, handler: str, payload: Payload = b"", *, timeout: float | None = None,
                            on_timeout: OnTimeout = "cancel") -> bytes:
        options = {"timeout": timeout, "on_timeout": on_timeout}
        data = bytes_of(payload)  # as in submit_request
        reply: bytes = await self._call_async(lambda app, left: app.request_async(handler, data, **left), options)
        self._carried.answered.add(handler)
        return reply

    @hides_frames
    def stream(self, handler: str, body: Payload | Any = b"", *, timeout: float | None = None,
               on_timeout: OnTimeout = "cancel") -> ByteStream:
        options = {"timeout": timeout, "on_timeout": on_timeout}
        stream: ByteStream = self._call(lambda app, left: app.stream(handler, body, **left), options)
        self._carried.answered.add(handler)
        return stream

    def submit_stream(self, handler: str, body: Payload | Any = b"", *, timeout: float | None = None,
                      on_timeout: OnTimeout = "cancel") -> Future[ByteStream]:
        options = {"timeout": timeout, "on_timeout": on_timeout}
        file = file_of(body)  # as in submit_request
        return self._answering(handler, self._submit(lambda app, left: app.submit_stream(handler, file, **left),
                                                     options))

    def handlers(self) -> list[str]:
        return self._call(lambda app, _: app.handlers(), {})

    async def handlers_async(self) -> list[str]:
        return await self._call_async(lambda app, _: app.handlers_async(), {})

    def _submit_kinds(self, handler: str, *, timeout: float | None,
                      on_timeout: OnTimeout) -> Future[tuple[frozenset[str], frozenset[str]]]:
        options = {"timeout": timeout, "on_timeout": on_timeout}
        return self._submit(lambda app, left: app._submit_kinds(handler, **left), options)

    async def _streaming_handlers(self) -> list[str]:
        return await self._call_async(lambda app, _: app._streaming_handlers(), {})

    # Events.

    def signal(self, name: str, payload: Payload = b"", *, full: WhenFull = "wait",
               timeout: float | None = None) -> bool:
        if (app := self._instance.up) is not None:  # read once: it may go down meanwhile
            return app.signal(name, payload, full=full, timeout=timeout)
        if full != "wait":
            if full == "drop" and self._over is None:
                return False
            raise self._why()
        options = {"full": full, "timeout": timeout}
        return self._call(lambda app, left: app.signal(name, payload, **left), options)

    def send_signal(self, which: str | int, *, default: bool = True) -> bool:
        name = signal_name(which)
        app = self._instance.up
        return app.send_signal(name, default=default) if app is not None else False

    async def signal_async(self, name: str, payload: Payload = b"") -> None:
        data = bytes_of(payload)  # as in submit_request
        await self._call_async(lambda app, _: app.signal_async(name, data), {})

    @property
    def events(self) -> list[str]:
        """The names of the events that any instance of the module has asked for so far."""
        if (app := self._instance.app) is not None:
            self._events.update(dict.fromkeys(app.events))
        return list(self._events)

    # What the module is doing.

    def wait_idle(self, timeout: float | None = None) -> None:
        self._call(lambda app, left: app.wait_idle(**left), {"timeout": timeout})

    def goroutines(self, timeout: float | None = None) -> Goroutines:
        return self._call(lambda app, left: app.goroutines(**left), {"timeout": timeout})

    def profile(self, kind: str = "cpu", *, seconds: float | None = None, rate: int | None = None,
                stop: threading.Event | None = None) -> Profile:
        return self._call(lambda app, _: app.profile(kind, seconds=seconds, rate=rate, stop=stop), {})

    # These do not wait for an instance.

    def statistics(self) -> AppStatistics:
        app = self._instance.up
        if app is not None:
            return app.statistics()
        return AppStatistics(model=self.model, state=self.state.value, uptime=0.0, calls=0, memory=0,
                             memory_limit=self.options.limits.memory, compile_seconds=None, call_path=PATH)

    @property
    def memory(self) -> ReadWriteMemory:
        if (app := self._instance.up) is None:
            raise self._why()
        return app.memory

    @property
    def listening(self) -> list[str]:
        app = self._instance.up
        return [] if app is None else app.listening

    @property
    def _not_taken_up(self) -> list[str]:
        app = self._instance.up
        return [] if app is None else app._not_taken_up

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gothreads.Supervised {self.loaded.name} {self.model} {self.state.value}>"


class _SupervisedFunction(Function):
    """An export, called in the current instance."""

    def __init__(self, export: Export, supervised: Supervised) -> None:
        super().__init__(export, lambda *_: None)
        self._supervised = supervised

    def __call__(self, /, *args: Any, **named: Any) -> Any:
        app = self._supervised._instance.up
        if app is not None:
            return app.exports[self._export.name](*args, **named)
        args, options = self._bound(args, named)
        self._export.convert(args)  # report a wrong argument before waiting
        return self._supervised._call(lambda app, left: app.exports[self._export.name](*args, **left), options)

    def bytes(self, /, *args: Any, **named: Any) -> builtins.bytes:
        packed = self._export.packed()
        args, options = self._bound(args, named)
        packed.convert(args)
        call: Callable[[App, dict[str, Any]], builtins.bytes]
        call = lambda app, left: app.exports[self._export.name].bytes(*args, **left)  # noqa: E731
        return self._supervised._call(call, options)


class _SupervisedCaller:
    """Calls typed functions in the current instance. See typed.caller.Caller."""

    parks = False

    def __init__(self, supervised: Supervised) -> None:
        self._supervised = supervised

    def call(self, handler: str, message: Message) -> Reply:
        return self._supervised._call(lambda app, _: app._caller.call(handler, message), {})

    def submit(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Future[Any]:
        return self._supervised._submit(lambda app, left: app._caller.submit(handler, message, read, left),
                                        dict(options))

    def wait(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Any:
        return self._supervised._call(lambda app, left: app._caller.wait(handler, message, read, left), dict(options))

    def reduce(self, name: str) -> tuple[Any, ...]:
        return function_of, (self._supervised, name)
