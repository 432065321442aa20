"""Threads with a large stack for calls that do not run on the caller's own thread: submit, map, call_async, and calls
from threads whose stack is too small for Go.

Daemons, unlike those of concurrent.futures, which Python joins before apps can be closed: a call that blocks for ever
would keep Python from ending.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from gothreads.errors import AppClosed, CallersBusy
from gothreads.host.stack import big_stack

_Job = tuple["Future[Any]", Callable[[], Any]]


class Workers:
    """At most `limit` threads, started when needed. May be used from any thread."""

    def __init__(self, limit: int, stack: int) -> None:
        self._limit, self._stack = limit, stack
        self._lock = threading.Lock()
        # Guarded by _lock. Jobs that are queued or run; while there are more than threads, another thread is of use.
        self._threads = self._pending = 0
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def submit(self, job: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise AppClosed("the app is closed")
            # Under the lock, so that a job is never put behind the end of the queue.
            self._jobs.put((future, job))
            self._pending += 1
            if self._pending <= self._threads or self._threads >= self._limit:
                return future
            self._threads += 1
            number = self._threads
        try:
            with big_stack(self._stack):
                threading.Thread(target=self._run, name=f"gothreads-call{number}", daemon=True).start()
        except RuntimeError:  # the system has no thread left: the job is for those there are
            self._not_started()
        return future

    def _not_started(self) -> None:
        with self._lock:
            self._threads -= 1
            while self._threads == 0 and not self._jobs.empty():
                job = self._jobs.get_nowait()
                if job is not None:
                    self._pending -= 1
                    job[0].set_exception(CallersBusy("the system has no thread left for the call"))

    def run(self, job: Callable[[], Any]) -> Any:
        """Run on a thread of the pool, and wait."""
        return self.submit(job).result()

    def close(self) -> None:
        """End the threads, after the jobs that are queued."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            future, work = job
            if future.set_running_or_notify_cancel():
                result = error = None
                try:
                    result = work()
                except BaseException as raised:  # it is the future's
                    error = raised
                with self._lock:
                    self._pending -= 1
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
                del result, error
            else:
                with self._lock:
                    self._pending -= 1
            del job, future, work
