"""Deadlines: callbacks that one thread calls at given times. The thread starts with the first deadline.

Invariant: a deadline fires at most once, and never after `cancel` has returned True. Callbacks must return at once: the
other deadlines wait for them.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from gothreads.errors import CallersBusy

log = logging.getLogger("gothreads")


class Deadline:
    """One deadline, made by Deadlines.after."""

    __slots__ = ("_fire", "when")

    def __init__(self, when: float, fire: Callable[[], None]) -> None:
        self.when = when
        self._fire: list[Callable[[], None]] = [fire]  # removed on firing or cancelling: `pop` is atomic

    def cancel(self) -> bool:
        """Cancel the deadline. False if it has fired or was cancelled before. May be called from any thread."""
        return self._take() is not None

    def _take(self) -> Callable[[], None] | None:
        try:
            return self._fire.pop()
        except IndexError:
            return None


class Deadlines:
    """The deadlines and their thread. May be used from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Guarded by _changed.
        self._heap: list[tuple[float, int, Deadline]] = []
        self._number = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._cancelled = 0  # roughly how many in the heap are cancelled; swept out when they are the majority

    def after(self, seconds: float, fire: Callable[[], None]) -> Deadline:
        """Call `fire` in `seconds` seconds; after `close`, never. CallersBusy when the thread cannot be started."""
        deadline = Deadline(time.monotonic() + seconds, fire)
        with self._changed:
            if self._closed:
                return deadline
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="gothreads-deadlines", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    raise CallersBusy("the system has no thread left to keep a call's time with") from None
                self._thread = thread
            heapq.heappush(self._heap, (deadline.when, next(self._number), deadline))
            if self._heap[0][2] is deadline:
                self._changed.notify()
        return deadline

    def cancel(self, deadline: Deadline) -> None:
        """Cancel a deadline; when most are cancelled, drop those from the heap. (Most calls return in time.)"""
        if not deadline.cancel():
            return
        with self._changed:
            self._cancelled += 1
            if self._cancelled > 64 and 2 * self._cancelled > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[2]._fire]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def close(self) -> None:
        """Stop: no deadline fires any more. May be called from any thread, and from a callback."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()

    def _run(self) -> None:
        while (fire := self._next()) is not None:
            try:
                fire()
            except BaseException:  # a callback may raise SystemExit, which would end the thread of all deadlines
                log.exception("a deadline")

    def _next(self) -> Callable[[], None] | None:
        """Wait until a deadline is due and return its callback; None when closed."""
        with self._changed:
            while not self._closed:
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                if left is not None and left <= 0:
                    if (fire := heapq.heappop(self._heap)[2]._take()) is not None:
                        return fire
                    self._cancelled = max(0, self._cancelled - 1)
                    continue
                self._changed.wait(None if left is None else min(left, threading.TIMEOUT_MAX))
            return None
