"""Threads with a large stack for calls that do not run on the calling thread: submit, map, call_async, and calls from
threads whose stack is too small for Go.

They are daemons. Python joins the threads of concurrent.futures before apps can be closed, so a call that blocks for
ever would keep Python from exiting.
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
from gothreads.engine.thread_names import name_thread
from gothreads.errors import AppClosed, CallersBusy, GothreadsError, drop_frames

log = logging.getLogger("gothreads")

_ASYNCIO = "asyncio.futures"
_Job = tuple["Future[Any]", Callable[[], Any]]
_current = threading.local()  # `workers`: the CallThreads that the thread belongs to

#: How long an idle thread of a pool without a limit waits for a job before it ends, in seconds.
IDLE_SECONDS = 10.0


class Call(Future[Any]):
    """The future of a job, or one that a job completes.

    The program's done callbacks may block, even on another job: while one runs on a worker thread, that thread is lent
    (see CallThreads).
    """

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        of_asyncio = getattr(fn, "__module__", "") == _ASYNCIO  # wrap_future's callback only notifies the event loop
        self.when_done(fn if of_asyncio else functools.partial(_lending, fn))

    def when_done(self, fn: Callable[[Future[Any]], object]) -> None:
        """Like add_done_callback, for callbacks that do not block."""
        super().add_done_callback(fn)


def _lending(fn: Callable[[Future[Any]], object], done: Future[Any]) -> None:
    workers: CallThreads | None = getattr(_current, "workers", None)
    with contextlib.nullcontext() if workers is None else workers.lent():
        fn(done)


class CallThreads:
    """A pool of at most `limit` threads, started when needed. May be used from any thread.

    Without a limit no job waits for another: each gets a thread at once, or fails with CallersBusy when the system
    cannot start one.

    A thread that runs a future's done callback (add_done_callback) counts as lent until the callback returns, since it
    may block there on another job.

    stack: how much stack WebAssembly may use on a thread, in bytes.
    """

    def __init__(self, limit: int | None, stack: int) -> None:
        self._limit, self._stack = limit, stack
        self._lock = threading.RLock()  # a signal handler may submit, or close the app
        # Guarded by _lock: futures that a thread is going to complete. Emptied when all are abandoned.
        self._open: set[Future[Any]] = set()
        # Guarded by _lock. `_pending`: jobs that are queued or running. While there are more of them than threads,
        # another thread is useful.
        self._threads = self._pending = self._lent = 0
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def submit(self, job: Callable[[], Any]) -> Call:
        future = Call()
        with self._lock:
            if self._closed:
                raise AppClosed("the app is closed")
            # Under the lock, so that no job is queued behind the entries that end the threads.
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
        """While inside, the calling thread, which is one of the pool's, does not count against the limit.

        For waits that may need another thread of the pool.
        """
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
        """Count one more thread, if it is useful and the limit allows it. The calling thread holds the lock."""
        if self._pending <= self._threads or (self._limit is not None and self._threads - self._lent >= self._limit):
            return False
        self._threads += 1
        return True

    def _started(self) -> bool:
        """Start a thread that has been counted. False if the system cannot: existing threads must run the jobs."""
        thread = threading.Thread(target=self._run, name="gothreads-call", daemon=True)
        try:
            with big_stack(self._stack):
                thread.start()
            return True
        except BaseException as error:  # Ctrl-C too, which may come after the thread has started
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
        for waiting in left:  # without the lock: this may run done callbacks
            if waiting.set_running_or_notify_cancel():
                _settle(waiting, None, CallersBusy("the system has no thread left for the call"))

    def _no_more(self, future: Future[Any]) -> None:
        """Drop a future: the thread that takes its job will skip it. The calling thread holds the lock."""
        if future in self._open:
            self._open.discard(future)
            self._pending -= 1

    @property
    def pending(self) -> int:
        """How many jobs are queued or running."""
        with self._lock:
            return self._pending

    def run(self, job: Callable[[], Any]) -> Any:
        """Run a job on a thread of the pool and wait for its result."""
        return self.submit(job).result()

    def abandon(self, error: Callable[[], BaseException]) -> None:
        """Refuse further jobs. All that are queued or running fail now, each with its own error from `error`.

        Running jobs continue, but their results are discarded.
        """
        with self._lock:
            self._closed = True
            abandoned = list(self._open)
            self._open.clear()
        for future in abandoned:
            with contextlib.suppress(InvalidStateError):  # it was cancelled
                _settle(future, None, error())

    def close(self) -> None:
        """Refuse further jobs, and end the threads after the queued jobs."""
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
                with self._lock:  # a job submitted after this counts one thread fewer
                    if self._jobs.empty():
                        self._threads -= 1
                        return None

    def _run(self) -> None:
        name_thread("go-caller")
        _current.workers = self
        while (job := self._next()) is not None:
            future, work = job
            with self._lock:
                begun = future in self._open and future.set_running_or_notify_cancel()
                if not begun:
                    self._no_more(future)
            if begun:
                result: Any = None
                error: BaseException | None = None
                try:
                    result = work()
                except GothreadsError as raised:  # goes to the future, and so does any other
                    drop_frames(raised)
                    error = raised
                except BaseException as raised:
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
                if surplus:  # more threads than the limit: one was started while others were lent
                    return
            del job, future, work


def _settle(future: Future[Any], result: Any, error: BaseException | None) -> None:
    """Complete a future. InvalidStateError if it is done already."""
    try:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    except InvalidStateError:
        raise
    except BaseException:  # a done callback may raise SystemExit
        log.exception("a callback at the end of a call raised")
