"""An app of a server, and how it is replaced by a new instance, or a newer build, without a request that fails.

    open the new one ─▶ let the old one settle ─▶ hold calls ─▶ save, load ─▶ put it in place ─▶ let calls go on
                     ─▶ drain the old one ─▶ close it

Invariants. All of this is on the server's event loop, except opening, closing, and what is guarded by the lock.

- A request takes the current generation and counts itself there, with nothing in between. It counts itself out when its
  response has been sent, streams of items included. So a generation that is retired and has no requests never gets one
  again, and is closed then.
- Only a generation that has started and loaded its state becomes the current one. If anything fails before that, the
  new one is closed; the old one has never stopped, so requests that were held go on to it.
- While state is handed over, calls are held (HAND_OVER_SECONDS at most). So no call that begins later reaches the old
  one after `save`, or the new one before `load`.
- What must outlast an instance belongs to none: limits and their lines, keys, metrics (surroundings.py).
- One replacement runs at a time. One that is asked for meanwhile begins after it, and stands for all that ask until it
  begins. So the last change of a source is always in what is built last.
- An app that is open is in `_apps`, or the thread that opens it is about to put it there. Under the lock, either that
  thread sees `_closing` and closes it, or close() sees the app.
- Under the same lock, either replace() sees `_closing`, or stop() sees the event loop and tells all that wait.

What meets a replacement:

1. A call, or a stream of items, that has begun, or waits for its turn: it goes on in the old one, for at most `drain`
   seconds. After that the old one is closed: the call gets 503, a stream ends with an error. What it changes after
   `save` is not carried over, as with `restart()` of a supervised module.
2. Events that are queued in the old one: it is not closed before it is done with them, within the same time. Then, in
   what is left of it, a program that handles SIGTERM gets that, and ends as it does then: its own server answers what
   it has begun.
3. The end of the old one (a panic): it is not asked for its state. If it is supervised, what it saved last counts.
4. The end of the server: it does not wait for a build or a start, and neither does who has asked for that (AppClosed).
   What is opened too late is closed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

from gothreads.errors import AppClosed, GothreadsError, GuestError, GuestExit
from gothreads.output.app_names import of_app, without_name
from gothreads.serve.error_responses import message
from gothreads.serve.served import Served
from gothreads.supervise.handover import end_program, finish_events, hand_over, settle
from gothreads.text import words

T = TypeVar("T")

#: How long calls are held while state is handed over, in seconds. If that takes longer, the old instance goes on.
HAND_OVER_SECONDS = 10.0

log = logging.getLogger("gothreads")


class Generation:
    """An app that was opened, and the ASGI application that answers with it."""

    def __init__(self, app: Served, web: ASGIApp) -> None:
        self.app, self.web = app, web
        self.requests = 0
        self.retired = False
        self.unused = asyncio.Event()  # set when it is retired and has no requests

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        try:
            await self.web(scope, receive, send)
        finally:
            self.requests -= 1
            self._look()

    def retire(self) -> None:
        """It gets no more requests."""
        self.retired = True
        self._look()

    def _look(self) -> None:
        if self.retired and not self.requests:
            self.unused.set()


class Deployment:
    """An ASGI application that answers with the current instance of an app.

    It is opened, then begins to answer, and is closed at the end.

    name: default: the module's. open_app: opens the app anew, from its sources as they are then. drain: how long
    requests may still take in an instance that has been replaced, in seconds.
    """

    def __init__(self, name: str | None, open_app: Callable[[], Served], drain: float) -> None:
        self._open_app, self._drain = open_app, drain
        #: Why the last replacement has failed, for clients; None if it has not.
        self.failure: str | None = None
        self._logged: str | None = None  # the same for the log, where a file that is saved again says nothing new
        #: How often it has been replaced.
        self.replaced = 0
        self._make_web: Callable[[Served], ASGIApp]
        self._current: Generation | None = None
        self._held: asyncio.Event | None = None  # while calls are held
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None  # a replacement that has not begun
        self._drains: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()  # set after stop()
        self._lock = threading.RLock()  # a signal handler may read `apps` in the middle of anything
        # Guarded by _lock.
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None  # once a replacement has been asked for
        self._apps: set[Served] = set()
        self._saying = threading.Lock()  # no signal handler takes it
        self._ends_said = weakref.WeakSet[Served]()  # guarded by _saying
        self._given_name = name
        self._first: Served | None = self._open()
        self.name = name or self.app.loaded.name

    @property
    def app(self) -> Served:
        """The app that gets requests now."""
        if self._current is not None:
            return self._current.app
        assert self._first is not None
        return self._first

    @property
    def requests(self) -> int:
        """How many requests it is answering."""
        return 0 if self._current is None else self._current.requests

    @property
    def apps(self) -> list[Served]:
        """All that are open: also those that only finish what they have begun."""
        with self._lock:
            return list(self._apps)

    def begin(self, make_web: Callable[[Served], ASGIApp]) -> None:
        """Begin to answer. `make_web` makes the ASGI application of an app."""
        self._make_web = make_web
        self._current = Generation(self.app, make_web(self.app))
        self._first = None

    def say_end(self, app: Served) -> None:
        """Log how an app has ended, unless it was closed: once, before this returns. From any thread."""
        if not isinstance(error := app.error, GuestError) or app.exit is None:  # a supervised app that is down comes up
            return
        with self._saying:
            if app not in self._ends_said:
                self._ends_said.add(app)
                own, was_asked = app.loaded.name, isinstance(error, GuestExit) and error.asked
                log.log(logging.INFO if was_asked else logging.ERROR, "%s: %s", self._given_name or own,
                        without_name(own, error.headline), extra=self._field(app))

    def _field(self, app: Served) -> dict[str, str]:
        """The field of records that concern this app."""
        return {"app": self._given_name or app.loaded.name}

    def stop(self) -> None:
        """The server stops: nothing is replaced any more, and who waits for that is told. From any thread."""
        with self._lock:
            self._closing, loop = True, self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._over.set)

    def close(self) -> None:
        """Stop, and close all instances. From any thread, at any time."""
        self.stop()
        together([app.close for app in self.apps])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") not in ("GET", "HEAD"):  # these call nothing: probes answer, whatever the module does
            while self._held is not None:
                await self._held.wait()
        assert self._current is not None
        await self._current.answer(scope, receive, send)

    async def replace(self) -> None:
        """Replace the instance by one that is opened after this was called. Raises why that is not possible.

        AppClosed: the server is stopping.
        """
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self._closing:
                raise self._stopping()
        if self._next is None:
            self._next = asyncio.create_task(self._replace_next())
            self._next.add_done_callback(_seen)
        replaced, over = self._next, asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait((replaced, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        if not replaced.done():
            raise self._stopping()
        await replaced

    def _stopping(self) -> AppClosed:
        return AppClosed(f"{self.name}: the server is stopping")

    async def _replace_next(self) -> None:
        async with self._turn:
            self._next = None  # who asks from now on may mean a source that has changed again
            try:
                await self._replace()
            except Exception as error:
                if self._closing:
                    raise
                self.failure, before, text = message(error), self._logged, without_name(self.name, str(error))
                self._logged = text
                if text == before:
                    log.error("%s is still not replaced, for the same reason", self.name, extra=self._field(self.app))
                else:
                    log.error("%s is not replaced, and goes on as it was: %s", self.name, text,
                              extra=self._field(self.app))
                raise
            self.failure, self._logged, self.replaced = None, None, self.replaced + 1
            log.info("%s is replaced", self.name, extra=self._field(self.app))

    async def _replace(self) -> None:
        assert self._current is not None
        old = self._current
        new = await _on_thread(self._open)
        try:
            generation = Generation(new, self._make_web(new))
            await _on_thread(lambda: settle(old.app, HAND_OVER_SECONDS))
            self._held = asyncio.Event()
            try:
                await _on_thread(lambda: hand_over(old.app, new, HAND_OVER_SECONDS))
                self._current = generation
            finally:
                held, self._held = self._held, None
                held.set()
        except TimeoutError:
            await _on_thread(lambda: self._close(new))
            raise TimeoutError(f"{self.name}: its state was not handed over within {HAND_OVER_SECONDS:g} s (handlers "
                               "`save` and `load`)") from None
        except BaseException:
            await _on_thread(lambda: self._close(new))
            raise
        old.retire()
        drain = asyncio.create_task(self._end(old))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    async def _end(self, old: Generation) -> None:
        """Close a retired generation once nothing is left of its requests, or the time is over."""
        until = time.monotonic() + self._drain
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain):
                await old.unused.wait()
        await _on_thread(lambda: self._close(old.app, until))

    # On other threads.

    def _open(self) -> Served:
        with of_app(self._given_name):
            app = self._open_app()
        with self._lock:
            closing = self._closing
            if not closing:
                self._apps.add(app)
        if closing:
            app.close()
            raise self._stopping()
        threading.Thread(target=self._watch_end, args=(app,), name="gothreads-watch", daemon=True).start()
        return app

    def _watch_end(self, app: Served) -> None:
        with contextlib.suppress(GothreadsError):
            app.wait()
        self.say_end(app)

    def _close(self, app: Served, until: float = 0.0) -> None:
        """Close an app. Until then it may finish its events, its program what it does at SIGTERM, and calls that no
        request waits for.
        """
        finish_events(app, until - time.monotonic())
        if (left := until - time.monotonic()) > 0:
            end_program(app, left)
        app.close(drain=max(0.0, until - time.monotonic()))
        with self._lock:
            self._apps.discard(app)


def together(works: Iterable[Callable[[], None]]) -> None:
    """Run these at the same time: each may wait for a Python function, for which the others must not wait."""
    threads = [threading.Thread(target=work, name="gothreads-close", daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _seen(task: asyncio.Task[None]) -> None:
    """Whoever asked for it may be gone; its error has been logged."""
    if not task.cancelled():
        task.exception()


async def _on_thread(work: Callable[[], T]) -> T:
    """Run on a thread that the end of the server does not wait for: it may be building a program.

    It may run a file of the user's, too (--python). If that calls sys.exit, the server goes on: in a task, SystemExit
    would end the event loop.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so that it is never cancelled
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(work)
        except Exception as error:
            future.set_exception(error)
        except BaseException as error:
            future.set_exception(GothreadsError(words(error)))
        else:
            future.set_result(result)
    threading.Thread(target=run, name="gothreads-replace", daemon=True).start()
    return await asyncio.wrap_future(future)
