"""Python functions that the module calls by name, and does not wait for with a thread: guest.Call and guest.Notify.

    a plain function      runs on a thread of the app's
    … returns a Future    the thread goes on, and the future's result is the reply
    a coroutine function  runs on the app's event loop

A call is over once: when its function is done, or when Go has cancelled it, whichever comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future
from enum import IntEnum
from typing import Any

from gothreads.bridge.context import CallContext
from gothreads.bridge.host_functions import takes_context, takes_payload
from gothreads.engine import stack
from gothreads.engine.call_threads import CallThreads
from gothreads.errors import AppClosed, MisuseError
from gothreads.text import cut, words

log = logging.getLogger("gothreads")

#: What may handle a call: takes the payload (bytes), and where its second parameter is annotated so, a gothreads.Context.
Handler = Callable[..., Any]

#: How long the end of an app waits for coroutines that were cancelled, in seconds.
_END_SECONDS = 1.0


class ReplyStatus(IntEnum):
    """How a call went: the guest's words for it (messages_wasip1.go)."""

    OK = 0
    ERROR = 1
    CANCELLED = 2


#: Takes how a call went, the payload of the reply, and what was raised.
Reply = Callable[[ReplyStatus, bytes, BaseException | None], None]


class HostCall:
    """One call of a handler. `reply` is called at most once, with what was raised if that is it: when the handler is done, unless Go has
    cancelled before. `ended` is called exactly once, when nothing of it goes on in Python any more. Both from any thread.
    """

    def __init__(self, handler: str, reply: Reply, ended: Callable[[], None]) -> None:
        self.handler = handler
        self.cancelled = threading.Event()  # for the handler to look at
        self._reply, self._ended = reply, ended
        self._lock = threading.RLock()  # a signal handler may end the app
        # Guarded by _lock.
        self._over = self._done = False
        self._cancel: Callable[[], object] | None = None  # what is going on

    def runs(self, cancel: Callable[[], object]) -> None:
        """What is going on for it from now on is cancelled so, from any thread."""
        with self._lock:
            self._cancel = cancel
            over = self._over
        if over:
            _cancelled(cancel)

    def cancel(self) -> None:
        """Go does not want it any more. What runs on a thread is not interrupted."""
        self.cancelled.set()
        with self._lock:
            self._over, cancel = True, self._cancel
        if cancel is not None:
            _cancelled(cancel)

    def done(self, future: Future[Any] | asyncio.Future[Any]) -> None:
        """What it has become is done."""
        if future.cancelled():
            self._end(ReplyStatus.CANCELLED, b"")
        elif (error := future.exception()) is not None:
            self.raised(error)
        else:
            self.returned(future.result())

    def returned(self, result: Any) -> None:
        """The handler has returned."""
        try:
            reply = _bytes(result)
        except Exception as error:
            self.raised(error)
        else:
            self._end(ReplyStatus.OK, reply)

    def raised(self, error: BaseException) -> None:
        """The handler has raised."""
        if isinstance(error, asyncio.CancelledError | CancelledError):
            self._end(ReplyStatus.CANCELLED, b"")
            return
        log.debug("the handler %s raised", self.handler, exc_info=error)
        self._end(ReplyStatus.ERROR, words(error).encode(errors="replace"), error)

    def _end(self, status: ReplyStatus, payload: bytes, raised: BaseException | None = None) -> None:
        with self._lock:
            first, self._over = not self._over, True
            done, self._done = self._done, True
            self._cancel = None
        if done:  # the reply could not be given, for want of memory
            return
        self._ended()  # first: whoever gets the reply may begin the next
        if first:
            try:
                self._reply(status, payload, raised)
            except BaseException as error:  # no memory for it, or Ctrl-C in the middle; a second reply is one that nobody waits for
                self._reply(ReplyStatus.ERROR, words(error).encode(errors="replace"), error)
                raise


class Handlers:
    """The handlers of one app. `run` may be called from any thread, and returns at once.

    `workers` run plain functions. `loop` runs coroutines; None: one of the app's own, on a thread that starts when it is needed.
    """

    def __init__(self, handlers: Mapping[str, Handler], workers: CallThreads, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._handlers = {name: (function, _is_coroutine_function(function), takes_context(function)) for name, function in handlers.items()}
        self._workers = workers
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._loop = loop
        self._own: _OwnLoop | None = None
        self._closed = False

    def __contains__(self, name: str) -> bool:
        return name in self._handlers

    @property
    def on_own_loop(self) -> bool:
        """Whether the calling thread is the app's own, for coroutines."""
        return threading.current_thread() is self._own

    def run(self, call: HostCall, payload: bytes, context: CallContext) -> None:
        """Begin a call of a handler that there is, from the instance that has the context. Whatever goes wrong is its reply."""
        function, is_coroutine, with_context = self._handlers[call.handler]
        arguments = (payload, context.for_call(call.cancelled)) if with_context else (payload,)

        def begin() -> None:
            if not is_coroutine:
                stack.nested.set(True)  # on a worker, which runs nothing else
                stack.inside.lend = self._workers.lent
            if call.cancelled.is_set():
                call.raised(CancelledError())
                return
            try:
                result = function(*arguments)
                awaited = inspect.isawaitable(result)
                if awaited:
                    self._await(call, result)
            except BaseException as error:
                call.raised(error)
                return
            if isinstance(result, Future):
                call.runs(result.cancel)
                result.add_done_callback(call.done)
            elif not awaited:
                call.returned(result)
        if is_coroutine:
            begin()
            return
        try:
            started = self._workers.submit(begin)
        except AppClosed as error:
            call.raised(error)
        else:
            started.when_done(lambda done: call.raised(failed) if (failed := done.exception()) else None)  # the system has no thread left

    def close(self) -> None:
        """Cancel the coroutines, end the loop if it is the app's own, and the threads. From any thread."""
        with self._lock:
            self._closed = True
            own = self._own
        self._workers.close()
        if own is not None:
            own.stop()
            if threading.current_thread() is not own:
                own.join(2 * _END_SECONDS)

    def _await(self, call: HostCall, awaitable: Awaitable[Any]) -> None:
        """AppClosed when there is no loop any more."""
        def begin(loop: asyncio.AbstractEventLoop) -> None:
            try:
                task = asyncio.ensure_future(awaitable, loop=loop)
            except Exception as error:  # an object whose __await__ raises
                call.raised(error)
                return
            task.add_done_callback(call.done)
            call.runs(lambda: _on(loop, task.cancel))
        with self._lock:  # until it is the loop's: what came before its end is cancelled there
            if not self._closed:
                loop = awaitable.get_loop() if asyncio.isfuture(awaitable) else self._started_loop()
                context = contextvars.copy_context()
                context.run(stack.nested.set, True)
                if _on(loop, lambda: begin(loop), context):
                    return
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise AppClosed("the event loop for handlers is closed")

    def _started_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            own = _OwnLoop()
            try:
                own.start()
            except RuntimeError:  # the system has no thread left
                own.loop.close()
                raise
            self._loop, self._own = own.loop, own
        return self._loop


def checked(handlers: Mapping[str, Handler]) -> Mapping[str, Handler]:
    """MisuseError for what cannot be one."""
    for name, function in handlers.items():
        if not isinstance(name, str) or not name:
            raise MisuseError(f"a handler's name must be a str, and not empty, not {cut(name)}")
        if not callable(function):
            raise MisuseError(f"the handler {cut(name)} must be a function, not {cut(function)}")
        if (given := takes_payload(function)) is not None:
            raise MisuseError(f"the handler {cut(name)} must take the payload, and at the most a gothreads.Context (annotated so) after it; given is {given}")
    return handlers


def _is_coroutine_function(function: Handler) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _cancelled(cancel: Callable[[], object]) -> None:
    """Cancel a Future, which may be of a program's own kind."""
    try:
        cancel()
    except BaseException:  # what is to be done then may raise SystemExit, and others wait
        log.exception("cancelling what a handler has begun")


def _bytes(result: Any) -> bytes:
    """A reply. TypeError when it is none."""
    if result is None:
        return b""
    if isinstance(result, str):
        return result.encode()
    if isinstance(result, bytes | bytearray | memoryview):
        return bytes(result)
    raise TypeError(f"the handler returned {type(result).__name__}; a reply is bytes, str or None")


def _on(loop: asyncio.AbstractEventLoop, work: Callable[[], object], context: contextvars.Context | None = None) -> bool:
    """Have a loop do it; False when somebody has closed it."""
    try:
        loop.call_soon_threadsafe(work, context=context)
    except RuntimeError:
        return False
    return True


class _OwnLoop(threading.Thread):
    """An event loop with a thread. When it is stopped, what is left is cancelled, and gets a moment to clean up."""

    def __init__(self) -> None:
        super().__init__(name="gothreads-loop", daemon=True)
        self.loop = asyncio.new_event_loop()
        self._stopped = False

    def stop(self) -> None:
        """From any thread."""
        def stop() -> None:
            self._stopped = True
            self.loop.stop()
        _on(self.loop, stop)

    def run(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        while not self._stopped:
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # raised by a handler, whose reply it is; asyncio passes it on
                loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            if not task.cancelling():  # a second time would end its clean-up
                task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_END_SECONDS))
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is said here
            log.warning("a coroutine goes on %g s after it was cancelled, and is dropped: %r", _END_SECONDS, task.get_coro())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
