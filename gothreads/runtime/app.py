"""The public API of a running module, the same for every execution model: calls, requests, events, introspection.

Starting and ending are in runtime/lifecycle.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from gothreads.bridge.buffers import LARGEST, Guest, ReadWriteMemory
from gothreads.bridge.context import CallContext
from gothreads.bridge.exports import Export, Exports, Function
from gothreads.bridge.host_functions import HostImports
from gothreads.bridge.messages import WhenFull
from gothreads.engine import ffi, interrupt, stack
from gothreads.engine.call_threads import Call, CallThreads
from gothreads.errors import (
    AppClosed,
    ArgumentError,
    CallersBusy,
    GothreadsError,
    GuestError,
    LimitExceeded,
    MisuseError,
    NotCallable,
    QueueFull,
    UnknownExport,
)
from gothreads.runtime import cancellation
from gothreads.runtime.cancellation import Cancellation, OnTimeout, PendingCall
from gothreads.runtime.inspector import Goroutine
from gothreads.runtime.lifecycle import Lifecycle
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Options
from gothreads.runtime.pickling import Picklable
from gothreads.runtime.settling import SETTLE_SECONDS, Settling
from gothreads.runtime.state import State
from gothreads.runtime.statistics import AppStatistics
from gothreads.runtime.wasi_environment import WasiEnvironment
from gothreads.sync.deadlines import Deadline
from gothreads.sync.seconds import check_seconds
from gothreads.sync.stop_event import StopEvent
from gothreads.text import cut, shown
from gothreads.wasi.queues import FRAME, Queue, framed
from gothreads.wasi.streams import Streams

T = TypeVar("T")

#: The payload of a request or an event; text is sent as UTF-8.
Payload = bytes | bytearray | memoryview | str

log = logging.getLogger("gothreads")

#: How long close() waits for the module's hook `stop`, in seconds.
HOOK_SECONDS = 5.0


class App(Picklable, Lifecycle):
    """A running module, made by `gothreads.open`. Any thread may call any method that does not say otherwise."""

    model: str

    def __init__(self, loaded: LoadedModule, options: Options) -> None:
        super().__init__(loaded, options)
        self._workers = CallThreads(options.callers, options.limits.stack)
        self._nested = CallThreads(None, options.limits.stack)
        self._for_handlers = CallThreads(options.callers, options.limits.stack)
        self._hooks: frozenset[str] | None = None  # `start`, `stop`: which exist; None until started
        self.compile_seconds: float | None = None
        self._settling: Settling | None = None  # in models where main runs on and may register handlers
        try:
            declared = loaded.metadata.imports if loaded.metadata else ()
            self._host = HostImports(loaded.name, loaded.outline, declared, options.host, self._provides)
            self._make()
        except BaseException:
            self._owned.close()
            raise
        self.loaded = loaded.without_code()
        #: The functions that the module exports: `app.exports.add(2, 3)`.
        self.exports = Exports({e.name: self._quick(Function(e, self._call_export), e) for e in loaded.exports}, loaded.uncallable)

    # Implemented by the models.

    @abstractmethod
    def _make(self) -> None:
        """Create everything needed to start, and register its clean-up in `_owned`. Called once, by the constructor."""

    @abstractmethod
    def _within(self, work: Callable[[Guest], T]) -> T:
        """Run `work` in the module on this thread, which has the instance to itself. Raises ffi.Trapped."""

    def _request_quickly(self, handler: str, payload: Payload) -> bytes | None:
        """Make a request on the C fast path; None if the model has none or the case is uncommon."""
        return None

    def _quick(self, function: Function, export: Export) -> Function:
        """The same function, on the C fast path where the model has one."""
        return function

    @property
    @abstractmethod
    def _in_use(self) -> int:
        """How many threads are in calls into the module."""

    def _stop_call(self, guest: Guest, cause: LimitExceeded) -> None:
        """End the instance that a call is in (here, the whole app). From any thread; returns at once."""
        self._end(cause)

    @abstractmethod
    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        """See goroutines."""

    @abstractmethod
    def _hook(self, name: str) -> None:
        """Call the module's hook of that name, which must exist. Raises ffi.Trapped."""

    @staticmethod
    def _provides(module: str, name: str) -> bool:
        """Whether gothreads itself provides what the module imports under this name."""
        return WasiEnvironment.has(module, name)

    def _registered(self) -> list[str]:
        """The names of the registered handlers, for gothreads' own use. TimeoutError if Go does not answer.

        Raises ffi.Trapped.
        """
        return self._handlers()

    @abstractmethod
    def _wait_idle(self, timeout: float | None) -> None:
        """See wait_idle."""

    @abstractmethod
    def statistics(self) -> AppStatistics:
        """A snapshot of what the app is doing.

        `go`, Go's part, is None if Go does not answer within a second; usually it takes a fraction of a millisecond.
        """

    def _statistics(self, *, memory_limit: int | None = None, **figures: Any) -> AppStatistics:
        """Statistics with the figures that all models share filled in."""
        limit = self.options.limits.memory if memory_limit is None else memory_limit
        return AppStatistics(model=self.model, state=self.state.value, uptime=time.monotonic() - self._begun,
                             memory_limit=limit, compile_seconds=self.compile_seconds, **figures)

    @property
    @abstractmethod
    def memory(self) -> ReadWriteMemory:
        """The module's memory."""

    def _new_world(self, streams: Streams, stop: StopEvent) -> WasiEnvironment:
        """Create the WASI environment of one memory. The caller closes it, once no thread is in it."""
        options = self.options
        context = Context(self, self._in_python, lambda: self._cause is not None)
        world = WasiEnvironment(stop, streams, options.wasi, listeners=options.listen, rules=options.allow_net,
                                messages=self._messages, context=context, files=self._files)
        self._worlds.append(world)
        return world

    def _close_world(self, world: WasiEnvironment) -> None:
        """Close an environment that _new_world made. No thread may be in it."""
        self._worlds.remove(world)
        world.close()

    @property
    def listening(self) -> list[str]:
        """The addresses of the listeners that the module was given, in order, with their actual ports."""
        return [address for world in self._worlds for address in world.listening]

    # Calls.

    def submit(self, export: str, *args: Any, timeout: float | None = None, on_timeout: OnTimeout = "continue") -> Future[Any]:
        """Call an export on one of the app's threads; the future gets its result. Arguments are checked now.

        timeout: in seconds, including the wait for a free caller; after that the future has CallTimeout. A call that
            has not begun by then never does. One that has begun cannot be taken out of the module; on_timeout says what
            becomes of it.
        on_timeout: "continue" (the call goes on, and holds its caller, until it returns by itself) or "stop" (the
            module is ended, and all other calls get LimitExceeded; in a pool, only the call's instance is ended).
            Cancelling a future that has a timeout gives up the call in the same way.
        """
        target = self.exports[export]
        converted = target._export.convert(args)
        if timeout is None and on_timeout == "continue" and self.options.callers_timeout is None:
            return self._submit(lambda: self._call(target._export, converted))
        return self._waited_call(target._export, converted, timeout, on_timeout).future

    def map(self, export: str, *iterables: Iterable[Any], timeout: float | None = None, on_timeout: OnTimeout = "continue") -> Iterator[Any]:
        """Like the built-in map, but the calls run at the same time. Results come in order.

        `timeout` and `on_timeout` as for submit; the timeout of every call counts from now.
        """
        futures = [self.submit(export, *args, timeout=timeout, on_timeout=on_timeout) for args in zip(*iterables, strict=False)]

        def results() -> Iterator[Any]:
            try:
                for future in futures:
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()
        return results()

    async def call_async(self, export: str, *args: Any, timeout: float | None = None, on_timeout: OnTimeout = "continue") -> Any:
        """Call an export without blocking the event loop. Cancelling this acts like a timeout: see submit."""
        target = self.exports[export]
        return await asyncio.wrap_future(self._waited_call(target._export, target._export.convert(args), timeout, on_timeout).future)

    def request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None, on_timeout: OnTimeout = "cancel") -> bytes:
        """Call a handler that the module has registered by name: bytes in, bytes out.

        If there is no handler of that name yet, main may be about to register it. So the request waits, until every
        goroutine that the module runs by itself is waiting, or until five seconds after the module's start.

        HandlerError if the handler returns an error, UnknownExport if there is no handler of that name, NotCallable if
        the module was not built from Go, CallTimeout after `timeout` seconds.

        on_timeout: as for submit; or "cancel": a handler that has a context (guest.HandleContext) gets it cancelled,
            any other goes on.
        """
        if timeout is None and on_timeout == "cancel":
            try:
                if (answer := self._request_quickly(handler, payload)) is not None:
                    return answer
            except UnknownExport:
                pass  # perhaps not registered yet: asked again below
            except GothreadsError as error:
                first = self._first(error)
                raise first from first.__cause__
        self._check_go("handlers")
        handler, data = _handler_name(handler), bytes_of(payload)
        if timeout is None:
            cancellation.checked(timeout, on_timeout, request=True)
            def request() -> bytes:
                return bytes(self._here_or_on_a_worker(lambda: self._request(handler, data)))
            return self._registered_by_main(handler, request)  # waits outside the call, where Ctrl-C would end the app
        return bytes(self._result(self._waited_request(handler, data, timeout, on_timeout, here=True)))

    def submit_request(self, handler: str, payload: Payload = b"", *, timeout: float | None = None, on_timeout: OnTimeout = "cancel") -> Future[bytes]:
        """Like request, on one of the app's threads. Cancelling the future gives up the request, as a timeout does."""
        self._check_go("handlers")
        return self._waited_request(_handler_name(handler), bytes_of(payload), timeout, on_timeout).future

    async def request_async(self, handler: str, payload: Payload = b"", *, timeout: float | None = None, on_timeout: OnTimeout = "cancel") -> bytes:
        """Like request, without blocking the event loop. Cancelling this acts like a timeout."""
        return await asyncio.wrap_future(self.submit_request(handler, payload, timeout=timeout, on_timeout=on_timeout))

    def _call(self, export: Export, converted: list[Any], ticket: Cancellation | None = None) -> Any:
        """Call an export on this thread. Raises ffi.Trapped, and CallGivenUp if its caller has given it up."""
        def call(guest: Guest) -> Any:
            return export.call(guest.function(export.name, export.params, export.result), converted, guest.slot)
        return self._within(call if ticket is None else lambda guest: ticket.use(guest, call))

    def _request(self, handler: str, payload: bytes, ticket: Cancellation | None = None) -> bytes:
        """Call a handler on this thread. Raises as _call."""
        def request(guest: Guest) -> bytes:
            return guest.slot.request(handler, payload)
        return self._within(request if ticket is None else lambda guest: ticket.use(guest, request, request=True))

    def _registered_by_main(self, handler: str, ask: Callable[[], T], ticket: Cancellation | None = None) -> T:
        """Return `ask()`, which asks for a handler. While main may still register the handler, wait and ask again."""
        settling, waited = self._settling, False
        while True:
            settled = settling is None or settling.settled(handler)  # read before asking: see runtime/settling.py
            try:
                return ask()
            except UnknownExport as error:
                if settling is None or (settled and not (waited and settling.gave_up)):
                    raise
                if settled:
                    raise UnknownExport(f"{error.message}. {SETTLE_SECONDS:g} s after its start the module was still busy, "
                                        "and requests do not wait longer: register handlers before work that takes long",
                                        error.known) from None
            settling.wait(handler, ticket)
            waited = True

    def _listed(self, run: Callable[[Callable[[], list[str]]], list[str]], wanted: str | None = None,
                ticket: Cancellation | None = None) -> list[str]:
        """The names of the handlers. Waits for those that main has yet to register, until `wanted` is among them.

        `run` makes the call that asks the module for them.
        """
        if self.loaded.metadata is None:
            return []
        names = run(lambda: self._handlers(ticket))
        if wanted in names:
            return names
        if self._settling is not None:
            self._settling.wait(wanted, ticket)
        return run(self._settled_handlers)

    def _handlers(self, ticket: Cancellation | None = None) -> list[str]:
        """The names of the handlers that are registered now. Raises as _call."""
        def handlers(guest: Guest) -> list[str]:
            return guest.slot.handlers()
        return self._within(handlers if ticket is None else lambda guest: ticket.use(guest, handlers))

    def _settled_handlers(self) -> list[str]:
        """Like _handlers, but in models where goroutines run only during calls, runs those of init functions first.

        Raises ffi.Trapped.
        """
        return self._handlers()

    def _expect(self, handlers: Iterable[str]) -> None:
        """Wait for these handlers even when every goroutine waits: an earlier instance had them."""
        if self._settling is not None:
            self._settling.expected = frozenset(handlers)

    def _waited_call(self, export: Export, converted: list[Any], timeout: float | None, on_timeout: OnTimeout, *, here: bool = False) -> PendingCall:
        return self._waited(f"the call of {export.name}", lambda ticket: self._call(export, converted, ticket), timeout, on_timeout, here=here)

    def _waited_request(self, handler: str, payload: bytes, timeout: float | None, on_timeout: OnTimeout, *, here: bool = False) -> PendingCall:
        def request(ticket: Cancellation) -> bytes:
            return self._registered_by_main(handler, lambda: self._request(handler, payload, ticket), ticket)
        return self._waited(f"the request to {handler}", request, timeout, on_timeout, here=here, request=True)

    def _waited(self, what: str, call: Callable[[Cancellation], Any], timeout: float | None, on_timeout: OnTimeout, *,
                here: bool, request: bool = False) -> PendingCall:
        """Run a call on one of the app's threads, so that it can be given up. `here`: this thread waits for it."""
        cancellation.checked(timeout, on_timeout, request=request)
        if self._same_instance():
            raise MisuseError(f"{self.loaded.name}: {what} comes from inside a call into the same instance, which cannot go on before it is over: "
                              "it can have no timeout, and no future")

        def stop(guest: Guest) -> None:
            self._stop_call(guest, LimitExceeded(f"{self.loaded.name}: the module was stopped: {what} was given up", 124))
        ticket = Cancellation(on_timeout, stop)
        waited = PendingCall(ticket, f"{self.loaded.name}: {what}")
        inside = here and stack.inside.depth > 0
        self._check_started()
        busy = self.options.callers_timeout
        deadlines: list[Deadline] = []

        def call_off() -> None:
            for deadline in deadlines:
                self._deadlines.cancel(deadline)

        def over(done: Future[Any]) -> None:
            call_off()
            waited.settle(done)
        try:  # the deadlines first: if they cannot be set, the call is not made
            if timeout is not None:
                deadlines.append(self._deadlines.after(timeout, lambda: waited.timed_out(timeout)))
            if busy is not None and not inside:
                deadlines.append(self._deadlines.after(busy, lambda: waited.fail_waiting(self._busy(busy))))
            inner = self._submit_to(self._nested, _as_nested(lambda: call(ticket))) if inside else self._submit(lambda: call(ticket))
        except BaseException:
            call_off()
            raise
        inner.when_done(over)
        return waited

    def _asked(self, what: str, ask: Callable[[Cancellation], T], timeout: float | None) -> T:
        """Ask the module something, on one of the app's threads. After the timeout, give up and raise CallTimeout."""
        answer: T = self._result(self._waited(what, ask, timeout, "continue", here=False))
        return answer

    def _busy(self, seconds: float) -> CallersBusy:
        return CallersBusy(f"{self.loaded.name}: all {self.options.callers} callers are in use, and none came free within {seconds:g} s. "
                           "Raise `callers`, or call less at once")

    def _same_instance(self) -> bool:
        """Whether the calling thread is already in the instance that its calls go into."""
        return False

    @staticmethod
    def _result(waited: PendingCall) -> Any:
        try:
            return waited.future.result()
        except BaseException:
            waited.future.cancel()  # Ctrl-C: nobody waits any more
            raise

    # Events.

    def signal(self, name: str, payload: Payload = b"", *, full: WhenFull = "wait", timeout: float | None = None) -> bool:
        """Send an event, which Go receives from the channel guest.Events(name). Does not block if the queue has room.

        full: what to do while `event_queue` events of that name (or 64 MiB) are still to be taken: "wait" (at most
            `timeout` seconds, then QueueFull), "drop" the event (and return False), or "raise" QueueFull.

        Events from one sender stay in order. Events sent before the module asks for their name are delivered once it
        does. Raises the app's error if it has ended. May be called from a Python signal handler.
        """
        if full not in ("wait", "drop", "raise"):
            raise MisuseError(f'full must be "wait", "drop" or "raise", not {cut(full)}')
        check_seconds("timeout", timeout)
        if self._cause is not None:
            raise self._error()
        self._check_go("events")
        if not self.loaded.has_messages:
            raise NotCallable(f"{self.loaded.name}: the module does not import gothreads/guest, so it receives no events")
        data = bytes_of(payload)
        frame = framed(data)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            queue = self._queue(name, data)
            while not (sent := self._put(queue, frame)) and full == "wait":
                if not queue.wait_for_room(len(frame), None if deadline is None else deadline - time.monotonic()):
                    break
        except OSError as error:
            raise QueueFull(f"{self.loaded.name}: {error.strerror}") from None
        if not sent:
            if self._cause is not None:
                raise self._error()
            if full != "drop":
                raise QueueFull(f"{self.loaded.name}: no room for an event {cut(name)}: the module does not take them so fast. "
                                "Raise `event_queue`, or send less at once")
        return sent

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
        """The names of the events that the module has asked for so far."""
        return self._messages.names

    async def signal_async(self, name: str, payload: Payload = b"") -> None:
        """Like signal, but waits for room without blocking the event loop.

        If it is cancelled while it waits, the event is not sent.
        """
        data, loop = bytes_of(payload), asyncio.get_running_loop()
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

    async def close_async(self, *, drain: float | None = None) -> None:
        """Like close, without blocking the event loop.

        So a coroutine on that loop may be a handler that the module's hook `stop` waits for.
        """
        await asyncio.to_thread(self.close, drain=drain)

    def wait_idle(self, timeout: float | None = None) -> None:
        """Return when every goroutine waits and all events have been received.

        A goroutine may wait for a call, an event, a reply, a peer or a timer. Stock Go stands still between calls, so
        there this runs the module until then. TimeoutError after `timeout` seconds.
        """
        check_seconds("timeout", timeout)
        self._check_go("goroutines")
        try:
            self._wait_idle(timeout)
        except TimeoutError:
            raise TimeoutError(f"{self.loaded.name}: not every goroutine waits after {timeout:g} s") from None

    def handlers(self) -> list[str]:
        """The names of the handlers. Waits, as `request` does, for those that main is about to register."""
        return self._listed(self._here_or_on_a_worker)

    async def handlers_async(self) -> list[str]:
        """Like handlers, without blocking the event loop."""
        if self.loaded.metadata is None:
            return []
        def listed(ticket: Cancellation) -> list[str]:
            return self._listed(lambda work: work(), ticket=ticket)
        waited = self._waited("the list of handlers", listed, None, "continue", here=False)
        names: list[str] = await asyncio.wrap_future(waited.future)
        return names

    def _call_export(self, export: Export, converted: list[Any], timeout: float | None = None, on_timeout: OnTimeout = "continue") -> Any:
        if timeout is None and on_timeout == "continue":
            return self._here_or_on_a_worker(lambda: self._call(export, converted))
        return self._result(self._waited_call(export, converted, timeout, on_timeout, here=True))

    def _here_or_on_a_worker(self, call: Callable[[], Any]) -> Any:
        self._check_takes_calls()
        if interrupt.in_handler_of(self):
            raise MisuseError(f"{self.loaded.name}: a signal handler cannot call the module in the middle of a call: the module stands still meanwhile. "
                              "Use submit(), or signal()")
        if stack.inside.depth:
            self._check_started()
            return self._call_back(call)
        # The stack of this thread may be too small for what Go may use.
        if not stack.fits(self.options.limits.stack):
            return self._submit(call).result()
        if stack.inside.lend is None:
            return self._guarded(call)
        with stack.inside.lend():
            return self._guarded(call)

    def _call_back(self, call: Callable[[], Any]) -> Any:
        """Run a call made by a Python function that the module has called.

        It runs on another thread, since how much stack this one has left is unknown. It never queues for a thread or a
        caller: those that have one may be waiting for this call.
        """
        return self._submit_to(self._nested, _as_nested(call)).result()

    def _check_started(self) -> None:
        """NotCallable if this thread is initialising the module's packages: the call would wait for itself."""
        if stack.inside.starting is self and self._state is State.STARTING:
            raise self._too_early()

    def _check_go(self, what: str) -> None:
        """NotCallable if the module was not built from Go: only Go modules have `what`."""
        if self.loaded.foreign:
            raise NotCallable(f"{self.loaded.name}: the module was not built from Go, so it has no {what}")

    def _too_early(self) -> NotCallable:
        return NotCallable(f"{self.loaded.name}: a Python function that is called while Go's packages are initialised cannot call exports yet")

    def _check_takes_calls(self) -> None:
        """AppClosed while close(drain=…) waits for calls in flight, except for calls made from inside these."""
        if self._state is State.DRAINING and not stack.inside.depth and not stack.nested.get():
            raise AppClosed(f"{self.loaded.name}: the app is being closed, and takes no new calls")

    def _submit(self, call: Callable[[], Any]) -> Call:
        """Run a call on one of the app's threads. If the app has ended, raises its cause."""
        self._check_takes_calls()
        if stack.nested.get():  # from a handler: all other workers may be in calls that wait for it
            return self._submit_to(self._for_handlers, _as_nested(call))
        return self._submit_to(self._workers, call)

    def _submit_to(self, workers: CallThreads, call: Callable[[], Any]) -> Call:
        if self._cause is not None:
            raise self._error()
        try:
            if not interrupt.on_main_thread():
                return workers.submit(lambda: self._guarded(call))
            with interrupt.Postponed():  # interrupted halfway, it would count a thread that does not exist
                return workers.submit(lambda: self._guarded(call))
        except AppClosed:
            raise self._error() from None

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Run a call. A trap in it ends the app.

        Once the app has ended, whatever the call raises is replaced by the app's first cause.
        """
        if self._state is not State.RUNNING:
            self._wait_until_running()
        if not interrupt.on_main_thread():
            return self._inside(call)
        with interrupt.Postponed(self):
            return self._inside(call)

    def _inside(self, call: Callable[[], Any]) -> Any:
        stack.check_python_stack()
        stack.inside.depth += 1
        try:
            return call()
        except ffi.Trapped as trapped:
            self._trapped(trapped)
            error = self._error()
            raise error from error.__cause__
        except GothreadsError as failed:
            if (first := self._first(failed)) is failed:
                raise
            raise first from first.__cause__
        finally:
            stack.inside.depth -= 1

    def _first(self, error: GothreadsError) -> GothreadsError:
        """What a call raises: the app's cause if it has ended, else the call's own error."""
        return error if self._cause is None else self._error()

    def _wait_until_running(self) -> None:
        self._ready.wait()
        if self._cause is not None:
            raise self._error()

    def goroutines(self, timeout: float | None = None) -> list[Goroutine]:
        """All goroutines of the module with their stacks, as Go prints them. Works even when every caller is blocked.

        TimeoutError if Go does not answer within `timeout` seconds: loops that cannot be preempted hold all its
        processors.
        """
        check_seconds("timeout", timeout)
        self._check_go("goroutines")
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
        self._hooks = frozenset(names)

    def _before_close(self) -> None:
        if not self._has_stop():
            return
        try:
            self._submit_to(self._workers, lambda: self._hook("stop")).result(HOOK_SECONDS)
        except GuestError:
            pass  # the module ended by itself
        except TimeoutError:
            log.warning("%s: the module's stop has not returned after %g s, and is ended", self.loaded.name, HOOK_SECONDS)
        except (GothreadsError, RuntimeError) as error:  # RuntimeError: the interpreter is shutting down
            log.warning("%s: the module's stop failed: %s", self.loaded.name, shown(str(error)))

    def _has_stop(self) -> bool:
        """Whether to call the hook `stop`: only if the module has it, and has started."""
        return self._hooks is not None and "stop" in self._hooks

    def _in_flight(self) -> int:
        return self._in_use + self._workers.pending + self._nested.pending + self._for_handlers.pending

    def _abandon_calls(self) -> None:
        for workers in (self._workers, self._nested, self._for_handlers):
            workers.abandon(self._error)

    def _close_workers(self) -> None:
        """End the threads that run submitted calls."""
        self._workers.close()
        self._nested.close()
        self._for_handlers.close()
        self._messages.handlers.close()


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


def _as_nested(call: Callable[[], Any]) -> Callable[[], Any]:
    """Mark a call as nested. For threads that run nothing else."""
    def nested() -> Any:
        stack.nested.set(True)
        return call()
    return nested


def _handler_name(name: str) -> str:
    """Return `name`. MisuseError or ArgumentError if it cannot be a handler's name."""
    if not isinstance(name, str):
        raise MisuseError(f"a handler's name must be a str, not {cut(name)}")
    _utf8(name, "a handler's name")
    return name


def _utf8(text: str, what: str) -> bytes:
    """Encode as UTF-8. ArgumentError for unpaired surrogates, which a Python str may contain."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{what} must be valid Unicode, not {cut(text)}") from None


def bytes_of(payload: Payload) -> bytes:
    """The payload as bytes. MisuseError for another type, ArgumentError for text that UTF-8 cannot encode."""
    if isinstance(payload, str):
        return _utf8(payload, "a payload")
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    raise MisuseError(f"a payload must be bytes or str, not {type(payload).__name__}")
