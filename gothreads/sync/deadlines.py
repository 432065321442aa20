"""Things to be done at a time, on one thread, which starts with the first of them.

Invariant: a deadline fires at most once, and not after `cancel` has returned True. What it does must return at once: the others wait.
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
    """Made by Deadlines.at."""

    __slots__ = ("_fire", "when")

    def __init__(self, when: float, fire: Callable[[], None]) -> None:
        self.when = when
        self._fire: list[Callable[[], None]] = [fire]  # taken out by who fires or cancels: `pop` is one step

    def cancel(self) -> bool:
        """It is not needed any more. False when it has fired. From any thread."""
        return self._take() is not None

    def _take(self) -> Callable[[], None] | None:
        try:
            return self._fire.pop()
        except IndexError:
            return None


class Deadlines:
    """May be used from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Guarded by _changed.
        self._heap: list[tuple[float, int, Deadline]] = []
        self._number = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._cancelled = 0  # about how many in the heap are; they are swept out when they are most of it

    def after(self, seconds: float, fire: Callable[[], None]) -> Deadline:
        """Call it so many seconds from now; after `close`, never. CallersBusy when there can be no thread."""
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
        """As Deadline.cancel; and when most are, they are let go of. (A call that comes back in time is the rule.)"""
        if not deadline.cancel():
            return
        with self._changed:
            self._cancelled += 1
            if self._cancelled > 64 and 2 * self._cancelled > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[2]._fire]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def close(self) -> None:
        """Nothing fires any more. From any thread, from what fires too."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()

    def _run(self) -> None:
        while (fire := self._next()) is not None:
            try:
                fire()
            except BaseException:  # what somebody wants to be done then may raise SystemExit, which would be the end of all others
                log.exception("a deadline")

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next that is due. None when closed."""
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
