"""Python handlers, which the module calls by name without blocking a thread: guest.Call and guest.Notify.

    a plain function      runs on one of the app's threads
    … returns a Future    frees the thread; the future's result is the reply
    a coroutine function  runs on the app's event loop

A call ends exactly once: when its function is done, or when Go cancels it, whichever comes first.
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
from gothreads.bridge.python_signatures import takes_context, takes_payload
from gothreads.bridge.raw_bytes import raw_bytes
from gothreads.engine import stack
from gothreads.engine.call_threads import CallThreads
from gothreads.errors import AppClosed, MisuseError
from gothreads.text import cut, words

log = logging.getLogger("gothreads")

#: A handler takes the payload (bytes) and, if its second parameter is annotated gothreads.Context, a context.
Handler = Callable[..., Any]

#: How long the end of an app waits for cancelled coroutines, in seconds.
_END_SECONDS = 1.0


class Inline:
    """A handler that never blocks, and takes no context.

    It runs at once, on the thread on which Go calls it: so also when other handlers have all threads.
    """

    def __init__(self, run: Callable[[bytes], None]) -> None:
        self._run = run

    def __call__(self, payload: bytes) -> None:
        self._run(payload)

    def answer(self, call: HostCall, payload: bytes) -> None:
        """End the call."""
        try:
            call.returned(self._run(payload))
        except BaseException as error:
            call.raised(error)


class ReplyStatus(IntEnum):
    """The outcome of a call. messages_wasip1.go, on the guest's side, has the same values."""

    OK = 0
    ERROR = 1
    CANCELLED = 2


#: Takes the outcome of a call, the payload of the reply, and the exception that was raised, if any.
Reply = Callable[[ReplyStatus, bytes, BaseException | None], None]


class HostCall:
    """One call of a handler. Thread-safe.

    reply: called at most once, when the handler is done, unless Go has cancelled the call before. Called again if it
        raises.
    ended: called exactly once, when nothing of the call runs in Python any more.

    Both may be called on any thread.
    """

    def __init__(self, handler: str, reply: Reply, ended: Callable[[], None]) -> None:
        self.handler = handler
        self.cancelled = threading.Event()  # the handler sees it as Context.cancelled
        self._reply, self._ended = reply, ended
        self._lock = threading.RLock()  # re-entrant: a signal handler may end the app
        # Guarded by _lock.
        self._over = self._done = False
        self._cancel: Callable[[], object] | None = None  # cancels the running Future or Task

    def runs(self, cancel: Callable[[], object]) -> None:
        """Set how to cancel the work that the call has started. If the call is over already, cancel at once.

        `cancel` may be called on any thread.
        """
        with self._lock:
            self._cancel = cancel
            over = self._over
        if over:
            _cancelled(cancel)

    def cancel(self) -> None:
        """Cancel the call: Go no longer wants it. A function that runs on a thread is not interrupted."""
        self.cancelled.set()
        with self._lock:
            self._over, cancel = True, self._cancel
        if cancel is not None:
            _cancelled(cancel)

    def done(self, future: Future[Any] | asyncio.Future[Any]) -> None:
        """End the call with the result of its finished future or task."""
        if future.cancelled():
            self._end(ReplyStatus.CANCELLED, b"")
        elif (error := future.exception()) is not None:
            self.raised(error)
        else:
            self.returned(future.result())

    def returned(self, result: Any) -> None:
        """End the call with what the handler has returned."""
        try:
            reply = _bytes(result)
        except Exception as error:
            self.raised(error)
        else:
            self._end(ReplyStatus.OK, reply)

    def raised(self, error: BaseException) -> None:
        """End the call with what the handler has raised."""
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
        if done:  # a second end, after the reply failed for lack of memory
            return
        self._ended()  # before the reply: whoever gets it may begin the next call
        if first:
            try:
                self._reply(status, payload, raised)
            # Out of memory, or Ctrl-C in the middle. If the first reply did get through, nobody waits for the second.
            except BaseException as error:
                self._reply(ReplyStatus.ERROR, words(error).encode(errors="replace"), error)
                raise


class Handlers:
    """The handlers of one app. Thread-safe.

    call_threads: run plain functions.
    loop: runs coroutines. None: a loop of the app's own, whose thread starts when it is first needed.
    """

    def __init__(self, handlers: Mapping[str, Handler], call_threads: CallThreads,
                 loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._handlers = {name: (function, _is_coroutine_function(function), takes_context(function))
                          for name, function in handlers.items()}
        self._call_threads = call_threads
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._loop = loop
        self._own: _OwnLoop | None = None
        self._closed = False

    def __contains__(self, name: str) -> bool:
        return name in self._handlers

    @property
    def on_own_loop(self) -> bool:
        """Whether the calling thread is the one that runs the app's own event loop."""
        return threading.current_thread() is self._own

    def run(self, call: HostCall, payload: bytes, context: CallContext) -> None:
        """Begin a call of a known handler, and return at once. Every error becomes the call's reply.

        context: that of the calling instance.
        """
        function, is_coroutine, with_context = self._handlers[call.handler]
        arguments = (payload, context.for_call(call.cancelled)) if with_context else (payload,)
        if isinstance(function, Inline):
            function.answer(call, payload)
            return

        def begin() -> None:
            if not is_coroutine:
                stack.nested.set(True)  # need not be reset: this worker runs nothing else
                stack.inside.lend = self._call_threads.lent
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
            started = self._call_threads.submit(begin)
        except AppClosed as error:
            call.raised(error)
        else:
            # `begin` does not raise: an exception means that the system could not start a thread.
            started.when_done(lambda done: call.raised(failed) if (failed := done.exception()) else None)

    def close(self) -> None:
        """Stop the threads and, if the event loop is the app's own, cancel its coroutines and end it. Thread-safe."""
        with self._lock:
            self._closed = True
            own = self._own
        self._call_threads.close()
        if own is not None:
            own.stop()
            if threading.current_thread() is not own:
                own.join(2 * _END_SECONDS)

    def _await(self, call: HostCall, awaitable: Awaitable[Any]) -> None:
        """Have the loop await it for the call. AppClosed: the loop is closed."""
        def begin(loop: asyncio.AbstractEventLoop) -> None:
            try:
                task = asyncio.ensure_future(awaitable, loop=loop)
            except Exception as error:  # an object whose __await__ raises
                call.raised(error)
                return
            task.add_done_callback(call.done)
            call.runs(lambda: _on(loop, task.cancel))
        # Hold the lock until the loop has the work: what the loop gets before its end is cancelled there.
        with self._lock:
            if not self._closed:
                loop = awaitable.get_loop() if asyncio.isfuture(awaitable) else self._started_loop()
                context = contextvars.copy_context()
                context.run(stack.nested.set, True)  # noqa: FBT003  (ContextVar.set takes it by position)
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
            except RuntimeError:  # the system cannot start a thread
                own.loop.close()
                raise
            self._loop, self._own = own.loop, own
        return self._loop


def checked(handlers: Mapping[str, Handler]) -> Mapping[str, Handler]:
    """Return the handlers. MisuseError: one of them cannot be a handler."""
    for name, function in handlers.items():
        if not isinstance(name, str) or not name:
            raise MisuseError(f"a handler's name must be a non-empty str, not {cut(name)}")
        if not callable(function):
            raise MisuseError(f"the handler {cut(name)} must be a function, not {cut(function)}")
        if (description := takes_payload(function)) is not None:
            raise MisuseError(f"the handler {cut(name)} must take the payload and, optionally, a second parameter that "
                              f"is annotated gothreads.Context; it is {description}")
    return handlers


def _is_coroutine_function(function: Handler) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _cancelled(cancel: Callable[[], object]) -> None:
    """Cancel a future or task. It may be a subclass of the program's: log what it raises."""
    try:
        cancel()
    except BaseException:  # its callbacks may even raise SystemExit, but other calls are to be cancelled too
        log.exception("cannot cancel the future or task of a handler")


def _bytes(result: Any) -> bytes:
    """Convert a handler's result to a reply. TypeError: it has no bytes; ValueError: they cannot be read."""
    if result is None:
        return b""
    if isinstance(result, str):
        return result.encode()
    if (reply := raw_bytes(result)) is not None:
        return reply
    raise TypeError(f"the handler returned {type(result).__name__}; a reply is bytes, another buffer, str or None")


def _on(loop: asyncio.AbstractEventLoop, work: Callable[[], object],
        context: contextvars.Context | None = None) -> bool:
    """Schedule work on a loop, from any thread. False: the loop is closed."""
    try:
        loop.call_soon_threadsafe(work, context=context)
    except RuntimeError:
        return False
    return True


class _OwnLoop(threading.Thread):
    """An event loop on a thread of its own. Once stopped, it cancels its tasks, which get _END_SECONDS to clean up."""

    def __init__(self) -> None:
        super().__init__(name="gothreads-loop", daemon=True)
        self.loop = asyncio.new_event_loop()
        self._stopped = False

    def stop(self) -> None:
        """Stop the loop. Thread-safe; does not wait."""
        def stop() -> None:
            self._stopped = True
            self.loop.stop()
        _on(self.loop, stop)

    def run(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        while not self._stopped:
            # A handler raised it, and it has become the reply; asyncio raises it here as well.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            if not task.cancelling():  # a second cancellation would interrupt its clean-up
                task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_END_SECONDS))
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # logged below instead
            log.warning("a coroutine still runs %g s after it was cancelled, and is abandoned: %r", _END_SECONDS,
                        task.get_coro())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
