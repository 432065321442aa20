"""Threads with a large stack for calls that do not run on the caller's own thread: submit, map, call_async, and calls
from threads whose stack is too small for Go.

Daemons, unlike those of concurrent.futures, which Python joins before apps can be closed: a call that blocks for ever
would keep Python from ending.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from typing import Any

from gothreads.engine.stack import big_stack
from gothreads.errors import AppClosed, CallersBusy

log = logging.getLogger("gothreads")

_ASYNCIO = "asyncio.futures"
_Job = tuple["Future[Any]", Callable[[], Any]]
_current = threading.local()  # `workers`: whose thread it is

#: How long a thread of a pool without limit waits for a job before it ends, in seconds.
IDLE_SECONDS = 10.0


class Call(Future[Any]):
    """The future of a job, or of what is told by one. What the program wants to be done when it is done may wait, for another job too: meanwhile
    the thread, if it is a worker, is lent.
    """

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        of_asyncio = getattr(fn, "__module__", "") == _ASYNCIO  # wrap_future's only tells the loop
        self.when_done(fn if of_asyncio else functools.partial(_lending, fn))

    def when_done(self, fn: Callable[[Future[Any]], object]) -> None:
        """As add_done_callback, for what does not wait."""
        super().add_done_callback(fn)


def _lending(fn: Callable[[Future[Any]], object], done: Future[Any]) -> None:
    workers: CallThreads | None = getattr(_current, "workers", None)
    with contextlib.nullcontext() if workers is None else workers.lent():
        fn(done)


class CallThreads:
    """At most `limit` threads, started when needed. May be used from any thread.

    Without a limit no job waits for another: each gets a thread at once, or is CallersBusy when the system has none left.

    A thread that runs what is to be done when a future is done (add_done_callback) is lent until it is back: it may wait there for another job.
    """

    def __init__(self, limit: int | None, stack: int) -> None:
        self._limit, self._stack = limit, stack
        self._lock = threading.RLock()  # a signal handler may submit, or close the app
        self._open: set[Future[Any]] = set()  # guarded by _lock: what a thread will make something of; no longer when all were abandoned
        # Guarded by _lock. Jobs that are queued or run; while there are more than threads, another thread is of use.
        self._threads = self._pending = self._lent = 0
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def submit(self, job: Callable[[], Any]) -> Call:
        future = Call()
        with self._lock:
            if self._closed:
                raise AppClosed("the app is closed")
            # Under the lock, so that a job is never put behind the end of the queue.
            self._jobs.put((future, job))
            self._open.add(future)
            self._pending += 1
            if not self._take_thread():
                return future
        if not self._started():
            self._not_started(future)
        return future

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """The calling thread is one of these, and waits for what may need another: so long it does not count."""
        with self._lock:
            self._lent += 1
            another = not self._closed and self._take_thread()
        if another:
            self._started()
        try:
            yield
        finally:
            with self._lock:
                self._lent -= 1

    def _take_thread(self) -> bool:
        """Count one more thread, if it is of use and there may be one. Holding the lock."""
        if self._pending <= self._threads or (self._limit is not None and self._threads - self._lent >= self._limit):
            return False
        self._threads += 1
        return True

    def _started(self) -> bool:
        """Start a thread that is counted. False: the system has none left, and the jobs are for those there are, if they may wait for them."""
        thread = threading.Thread(target=self._run, name="gothreads-call", daemon=True)
        try:
            with big_stack(self._stack):
                thread.start()
            return True
        except BaseException as error:  # Ctrl-C too: it may have come when it had started
            if thread.ident is None:
                with self._lock:
                    self._threads -= 1
            if not isinstance(error, RuntimeError):
                raise
            return False

    def _not_started(self, future: Future[Any]) -> None:
        if self._limit is None:
            if future.cancel():
                with self._lock:
                    self._no_more(future)
                raise CallersBusy("the system has no thread left for the call")
            return
        left: list[Future[Any]] = []
        with self._lock:
            while self._threads == 0 and not self._jobs.empty():
                job = self._jobs.get_nowait()
                if job is not None:
                    self._no_more(job[0])
                    left.append(job[0])
        for waiting in left:  # without the lock: this may run what somebody wants to be done then
            if waiting.set_running_or_notify_cancel():
                _settle(waiting, None, CallersBusy("the system has no thread left for the call"))

    def _no_more(self, future: Future[Any]) -> None:
        """Whoever takes the job finds that it is over. Holding the lock."""
        if future in self._open:
            self._open.discard(future)
            self._pending -= 1

    @property
    def pending(self) -> int:
        """Jobs that are queued, or run."""
        with self._lock:
            return self._pending

    def run(self, job: Callable[[], Any]) -> Any:
        """Run on a thread of the pool, and wait."""
        return self.submit(job).result()

    def abandon(self, error: Callable[[], BaseException]) -> None:
        """Take no more jobs. All that are queued, or run, fail with an error of their own now; what runs, runs on, and its result is nobody's."""
        with self._lock:
            self._closed = True
            abandoned = list(self._open)
            self._open.clear()
        for future in abandoned:
            with contextlib.suppress(InvalidStateError):  # it was cancelled
                _settle(future, None, error())

    def close(self) -> None:
        """End the threads, after the jobs that are queued."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _next(self) -> _Job | None:
        """The next job; None when the thread is to end."""
        while True:
            try:
                return self._jobs.get(timeout=IDLE_SECONDS if self._limit is None else None)
            except queue.Empty:
                with self._lock:  # a job that is put later finds one thread fewer
                    if self._jobs.empty():
                        self._threads -= 1
                        return None

    def _run(self) -> None:
        _current.workers = self
        while (job := self._next()) is not None:
            future, work = job
            with self._lock:
                begun = future in self._open and future.set_running_or_notify_cancel()
                if not begun:
                    self._no_more(future)
            if begun:
                result = error = None
                try:
                    result = work()
                except BaseException as raised:  # it is the future's
                    error = raised
                with self._lock:
                    wanted = future in self._open
                    self._open.discard(future)
                if wanted:
                    _settle(future, result, error)
                del result, error
                with self._lock:
                    self._pending -= 1
                    surplus = self._limit is not None and not self._closed and self._threads - self._lent > self._limit
                    self._threads -= surplus
                if surplus:  # it was started while others were lent
                    return
            del job, future, work


def _settle(future: Future[Any], result: Any, error: BaseException | None) -> None:
    """InvalidStateError when it is done already."""
    try:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    except InvalidStateError:
        raise
    except BaseException:  # what somebody wants to be done then may raise SystemExit
        log.exception("what was to be done at the end of a call")
