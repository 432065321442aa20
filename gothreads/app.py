"""One running module, whatever its execution model: calls, events, and what is asked about it. Its life and end: life.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from gothreads.context import Context
from gothreads.errors import AppClosed, ArgumentError, GothreadsError, GuestError, MisuseError, NotCallable, QueueFull, cut
from gothreads.exports import Export, Exports, Function
from gothreads.host import ffi, interrupt, signals, stack
from gothreads.host.functions import HostImports
from gothreads.host.queues import FRAME, Queue, framed
from gothreads.host.streams import Streams
from gothreads.host.world import World
from gothreads.inspector import Goroutine
from gothreads.life import Life
from gothreads.loading import LoadedModule
from gothreads.messages import WhenFull
from gothreads.slot import LARGEST, Memory
from gothreads.state import AppStatistics, Options, State
from gothreads.workers import Workers

log = logging.getLogger("gothreads")

#: How long close() waits for the module's own hook, in seconds.
HOOK_SECONDS = 5.0


class App(Life):
    """A running module. Use `gothreads.open`. All methods may be called from any thread unless they say otherwise."""

    model: str

    def __init__(self, loaded: LoadedModule, options: Options) -> None:
        super().__init__(loaded, options)
        self._workers = Workers(options.callers, options.limits.stack)
        self._nested = Workers(None, options.limits.stack)
        self._for_handlers = Workers(options.callers, options.limits.stack)
        self._hooks: frozenset[str] = frozenset()  # `start` and `stop`, as there are; known when packages are initialised
        self.compile_seconds: float | None = None
        try:
            declared = loaded.metadata.imports if loaded.metadata else ()
            self._host = HostImports(loaded.name, loaded.outline, declared, options.host, self._provides)
            self._make()
        except BaseException:
            self._owned.close()
            raise
        self.loaded = loaded.without_code()
        #: The functions that the module exports: `app.exports.add(2, 3)`.
        self.exports = Exports({e.name: Function(e, self._call_export) for e in loaded.exports})

    # What a model is.

    @abstractmethod
    def _make(self) -> None:
        """Make everything that is needed to start, each with its end in `_owned`. Called once, by the constructor."""

    @abstractmethod
    def _call(self, export: Export, converted: list[tuple[str, Any]]) -> Any:
        """Call an export on this thread. Raises ffi.Trapped."""

    @abstractmethod
    def _request(self, handler: str, payload: bytes) -> bytes:
        """Call a handler on this thread. Raises ffi.Trapped."""

    @abstractmethod
    def _handlers(self) -> list[str]:
        """The names of the handlers. Raises ffi.Trapped."""

    @abstractmethod
    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        """All goroutines."""

    @abstractmethod
    def _hook(self, name: str) -> None:
        """Call the module's hook of that name, which it has. Raises ffi.Trapped."""

    @staticmethod
    def _provides(module: str, name: str) -> bool:
        """Whether the module's import comes from gothreads itself."""
        return World.has(module, name)

    def _registered(self) -> list[str]:
        """The names of the handlers, not asked for by anybody. TimeoutError when Go does not answer. Raises ffi.Trapped."""
        return self._handlers()

    @abstractmethod
    def _wait_idle(self, timeout: float | None) -> None:
        """See wait_idle."""

    @abstractmethod
    def statistics(self) -> AppStatistics:
        """What the app is doing, now. Go's part is None when Go does not answer within a second; usually it takes a fraction of a millisecond."""

    @property
    @abstractmethod
    def memory(self) -> Memory:
        """The module's memory."""

    def _new_world(self, streams: Streams) -> World:
        """The world of one memory. To be closed by who asks, once nobody is in it."""
        world = World(self._stop, streams, self.options.wasi, self.options.listen, self.options.allow_net, self._messages, Context(self))
        self._worlds.append(world)
        return world

    def _close_world(self, world: World) -> None:
        """No thread may be in it."""
        self._worlds.remove(world)
        world.close()

    @property
    def listening(self) -> list[str]:
        """The addresses of the listeners that the module was handed, in order, with the ports that they got."""
        return [address for world in self._worlds for address in world.listening]

    # Calls.

    def submit(self, export: str, *args: Any) -> Future[Any]:
        """Call an export on a thread of the app's; the result is the future's. Arguments are checked now."""
        target = self.exports[export]
        converted = target._export.convert(args)
        return self._submit(lambda: self._call(target._export, converted))

    def map(self, export: str, *iterables: Iterable[Any]) -> Iterator[Any]:
        """Like the built-in map, with the calls running at the same time. Results come in order."""
        futures = [self.submit(export, *args) for args in zip(*iterables, strict=False)]

        def results() -> Iterator[Any]:
            try:
                for future in futures:
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()
        return results()

    async def call_async(self, export: str, *args: Any) -> Any:
        """Call an export without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(export, *args))

    def request(self, handler: str, payload: bytes | bytearray | memoryview | str = b"") -> bytes:
        """Call a handler that the module has registered by name: bytes in, bytes out.

        HandlerError when it returns an error, UnknownExport when there is no handler of that name.
        """
        data = _request(handler, payload)
        return bytes(self._here_or_on_a_worker(lambda: self._request(handler, data)))

    def submit_request(self, handler: str, payload: bytes | bytearray | memoryview | str = b"") -> Future[bytes]:
        """Like request, on a thread of the app's."""
        data = _request(handler, payload)
        return self._submit(lambda: self._request(handler, data))

    async def request_async(self, handler: str, payload: bytes | bytearray | memoryview | str = b"") -> bytes:
        """Like request, without blocking the event loop."""
        return await asyncio.wrap_future(self.submit_request(handler, payload))

    # Events.

    def signal(self, name: str, payload: bytes | bytearray | memoryview | str = b"", *, full: WhenFull = "wait", timeout: float | None = None) -> bool:
        """Send an event, which Go receives from the channel guest.Events(name). Returns at once when there is room in the queue.

        full: what to do when `event_queue` events of that name (or 64 MiB) have not been taken yet: "wait" (`timeout` seconds at the most, then
        QueueFull), "drop" it (the answer is False), or "raise" QueueFull. Events of one sender stay in order. A module that has
        not asked for the name yet finds them when it does. Raises the cause when the app has ended. A signal handler of Python's may call it.
        """
        if full not in ("wait", "drop", "raise"):
            raise MisuseError(f'full must be "wait", "drop" or "raise", not {cut(full)}')
        if self._cause is not None:
            raise self._error()
        data = _payload(payload)
        stack.inside.signalling += 1
        try:
            sent = self._queue(name, data).put(framed(data), wait=full == "wait", timeout=timeout)
        except OSError as error:
            raise QueueFull(f"{self.loaded.name}: {error.strerror}") from None
        finally:
            stack.inside.signalling -= 1
        if not sent:
            if self._cause is not None:
                raise self._error()
            if full != "drop":
                raise QueueFull(f"{self.loaded.name}: no room for an event {cut(name)}: the module does not take them so fast")
        return sent

    def _queue(self, name: str, payload: bytes) -> Queue:
        if not isinstance(name, str) or not name:
            raise MisuseError(f"an event's name must be a str, and not empty, not {cut(name)}")
        if len(payload) > LARGEST:
            raise ArgumentError(f"{len(payload):,} bytes are too many for one event: at most {LARGEST:,}")
        return self._messages.events(name)

    @property
    def events(self) -> list[str]:
        """The names of the events that the module has asked for, so far."""
        return self._messages.names

    async def signal_async(self, name: str, payload: bytes | bytearray | memoryview | str = b"") -> None:
        """Like signal, without blocking the event loop while there is no room. An event whose sender is cancelled meanwhile is not sent."""
        data, loop = _payload(payload), asyncio.get_running_loop()
        while not self.signal(name, data, full="drop"):
            room = asyncio.Event()

            def tell(room: asyncio.Event = room) -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(room.set)
            queue = self._queue(name, data)
            queue.when_room(len(data) + FRAME, tell)
            try:
                await room.wait()
            finally:
                queue.no_matter(tell)

    def wait_idle(self, timeout: float | None = None) -> None:
        """Return when every goroutine waits: for a call, an event, a reply, a peer, a timer; and all events have been received.

        In stock Go, which stands still between calls, it runs the module until then. TimeoutError after so many seconds.
        """
        try:
            self._wait_idle(timeout)
        except TimeoutError:
            raise TimeoutError(f"{self.loaded.name}: not every goroutine waits after {timeout:g} s") from None

    def handlers(self) -> list[str]:
        """The names of the handlers that are registered now."""
        if self.loaded.metadata is None:
            return []
        return list(self._here_or_on_a_worker(self._handlers))

    async def handlers_async(self) -> list[str]:
        """Like handlers, without blocking the event loop."""
        if self.loaded.metadata is None:
            return []
        return list(await asyncio.wrap_future(self._submit(self._handlers)))

    def _call_export(self, export: Export, converted: list[tuple[str, Any]]) -> Any:
        return self._here_or_on_a_worker(lambda: self._call(export, converted))

    def _here_or_on_a_worker(self, call: Callable[[], Any]) -> Any:
        if stack.inside.depth:
            if stack.inside.starting is self and self._state is State.STARTING:
                raise self._too_early()
            return self._call_back(call)
        # A thread with a small stack has no room for as much as Go may use.
        if not stack.fits(self.options.limits.stack):
            return self._submit(call).result()
        if stack.inside.lend is None:
            return self._guarded(call)
        with stack.inside.lend():
            return self._guarded(call)

    def _call_back(self, call: Callable[[], Any]) -> Any:
        """Run a call that a Python function makes which the module has called: on another thread, since nobody knows how much stack this one
        has left. What it needs it gets at once: those that have it may be waiting for this call.
        """
        return self._submit_to(self._nested, _as_nested(call)).result()

    def _too_early(self) -> NotCallable:
        return NotCallable(f"{self.loaded.name}: a Python function that is called while Go's packages are initialised cannot call exports yet")

    def _submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Run a call on a worker; after the end, raises its cause."""
        if stack.nested.get():  # a handler's: all other workers may be in calls that wait for it
            return self._submit_to(self._for_handlers, _as_nested(call))
        return self._submit_to(self._workers, call)

    def _submit_to(self, workers: Workers, call: Callable[[], Any]) -> Future[Any]:
        if self._cause is not None:
            raise self._error()
        try:
            return workers.submit(lambda: self._guarded(call))
        except AppClosed:
            raise self._error() from None

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Run a call; turn its trap into the app's end, and every end into its first cause."""
        if self._state is not State.RUNNING:
            self._wait_until_running()
        signals.check()
        if not interrupt.on_main_thread():
            return self._inside(call)
        with interrupt.Postponed(lambda: self._end(AppClosed(f"{self.loaded.name}: the app was ended by Ctrl-C"))):
            return self._inside(call)

    def _inside(self, call: Callable[[], Any]) -> Any:
        stack.inside.depth += 1
        try:
            return call()
        except ffi.Trapped as trapped:
            self._trapped(trapped)
            error = self._error()
            raise error from error.__cause__
        except GothreadsError:
            if self._cause is None:
                raise
            error = self._error()
            raise error from error.__cause__
        finally:
            stack.inside.depth -= 1

    def _wait_until_running(self) -> None:
        self._ready.wait()
        if self._cause is not None:
            raise self._error()

    def goroutines(self, timeout: float | None = None) -> list[Goroutine]:
        """All goroutines of the module with their stacks, as Go prints them; also when every caller is blocked.

        TimeoutError when Go does not answer within so many seconds: a loop that cannot be preempted holds all of its processors.
        """
        return self._goroutines(timeout)

    # Hooks.

    def _started(self) -> None:
        self._here_or_on_a_worker(self._start_hook)

    def _start_hook(self) -> None:
        names = set(self.loaded.hooks)
        if self.loaded.has_handlers:
            try:
                names |= {"start", "stop"}.intersection(self._registered())
            except TimeoutError:
                log.warning("%s: the module does not answer, so its handlers `start` and `stop`, if it has them, are not called", self.loaded.name)
        if "start" in names:
            self._hook("start")
        self._hooks = frozenset(names)  # only what has started is told to stop

    def _before_close(self) -> None:
        if "stop" not in self._hooks:
            return
        try:
            self._submit(lambda: self._hook("stop")).result(HOOK_SECONDS)
        except GuestError:
            pass  # it ended by itself
        except TimeoutError:
            log.warning("%s: the module's stop has not returned after %g s, and is ended", self.loaded.name, HOOK_SECONDS)
        except (GothreadsError, RuntimeError) as error:  # RuntimeError: Python is ending
            log.warning("%s: the module's stop failed: %s", self.loaded.name, error)

    def _close_workers(self) -> None:
        """End the threads that calls are handed to."""
        self._workers.close()
        self._nested.close()
        self._for_handlers.close()
        self._messages.handlers.close()


def _as_nested(call: Callable[[], Any]) -> Callable[[], Any]:
    """For threads that run nothing else."""
    def nested() -> Any:
        stack.nested.set(True)
        return call()
    return nested


def _request(handler: str, payload: bytes | bytearray | memoryview | str) -> bytes:
    """The payload of a request, whose handler has a name that there can be."""
    if not isinstance(handler, str):
        raise MisuseError(f"a handler's name must be a str, not {cut(handler)}")
    _utf8(handler, "a handler's name")
    return _payload(payload)


def _utf8(text: str, what: str) -> bytes:
    """A str of Python's may hold halves of surrogate pairs, which are not in UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{what} must be valid Unicode, not {cut(text)}") from None


def _payload(payload: bytes | bytearray | memoryview | str) -> bytes:
    if isinstance(payload, str):
        return _utf8(payload, "a payload")
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    raise MisuseError(f"a payload must be bytes or str, not {type(payload).__name__}")
