"""Threads that wait for one of a few things: callers, instances.

Who comes by when one is there takes it, without a switch of threads, though others wait: that is most of the speed of short calls. But one
thread that takes and gives back without end would always be there before those that it wakes. So, as in Go's mutexes, whoever was woken in
vain closes the door: who comes later stands in line behind.

Invariants, under the condition:
 1. `passed` counts those in line that were woken before: while it is not 0, nobody takes what is there but who was woken.
 2. When something is there and somebody waits, one of these is being woken: by who has put it there, or by the last to leave the line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from gothreads.engine import interrupt

T = TypeVar("T")

#: How long the main thread may not see what a signal handler has raised, in seconds.
_SLICE = 0.1


class QueueCounts(Protocol):
    """How many are in a line, and how many of them were woken before. Changed under its condition; may be read without."""

    waiting: int
    passed: int


class _Counts:
    """See Counting."""

    def __init__(self) -> None:
        self.waiting = self.passed = 0


class WaitQueue:
    """`there`: whether something is, that who waits could take. All of it is guarded by `condition`; what it counts may be read without."""

    def __init__(self, condition: threading.Condition, there: Callable[[], bool], counts: QueueCounts | None = None) -> None:
        self._condition, self._there = condition, there
        self.counts: QueueCounts = _Counts() if counts is None else counts

    def wait(self, take: Callable[[bool], T | None], timeout: float | None) -> T | None:
        """What `take` has taken; None after so many seconds. Holding the condition.

        take: gets whether it may take what is there; None when there is nothing for it, and whatever it raises ends the waiting. Who puts
        something there notifies one, when any are `waiting`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        counts = self.counts
        may, woken = not counts.passed, False
        counts.waiting += 1
        try:
            while (taken := take(may)) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._condition.wait(left if not interrupt.on_main_thread() else min(left or _SLICE, _SLICE))
                interrupt.raise_kept()
                may = True
                if not woken:
                    woken = True
                    counts.passed += 1
            return taken
        finally:
            counts.waiting -= 1
            counts.passed -= woken
            if counts.waiting and self._there():
                self._condition.notify()
