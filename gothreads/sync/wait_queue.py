"""A queue of threads that wait for one of a limited number of items: callers or instances.

A newcomer may take an available item ahead of waiting threads, without a thread switch: most of the speed of short
calls comes from that. But a thread that takes and releases in a loop would always be ahead of the threads that it
wakes. So, as in Go's mutexes, a waiter that was woken in vain stops overtaking: later arrivals queue behind it.

Invariants, under the condition:
 1. `passed` counts the waiters that have been woken at least once. While it is not 0, only threads that have been woken
    may take an item.
 2. When an item is available and a thread waits, some waiter is being woken: by the thread that released the item, or
    by the last one that left the queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from gothreads.engine import interrupt
from gothreads.sync.waiting import SLICE_SECONDS

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class QueueCounts(Protocol):
    """How many threads wait, and how many of them were woken before (`passed`).

    Changed only under the condition; may be read without it.
    """

    waiting: int
    passed: int


class _Counts:
    """See QueueCounts."""

    def __init__(self) -> None:
        self.waiting = self.passed = 0


class Take(Protocol[T_co]):
    """Takes an item for WaitQueue.wait."""

    def __call__(self, *, may_take: bool) -> T_co | None: ...


class WaitQueue:
    """A wait queue, guarded by `condition`; its counts may be read without it.

    available: whether there is an item that a waiter could take.
    """

    def __init__(self, condition: threading.Condition, available: Callable[[], bool],
                 counts: QueueCounts | None = None) -> None:
        self._condition, self._available = condition, available
        self.counts: QueueCounts = _Counts() if counts is None else counts

    def wait(self, take: Take[T], timeout: float | None) -> T | None:
        """Wait until `take` returns an item, and return it; None after `timeout` seconds (None: wait for ever).

        The calling thread holds the condition. A thread that makes an item available notifies one waiter if any are
        `waiting`.

        take: told whether it `may_take` an available item. It returns None when it cannot take one; an exception
        that it raises ends the wait.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        counts = self.counts
        may_take, woken = not counts.passed, False
        counts.waiting += 1
        try:
            while (taken := take(may_take=may_take)) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._condition.wait(left if not interrupt.on_main_thread()
                                     else min(left or SLICE_SECONDS, SLICE_SECONDS))
                interrupt.raise_kept()
                may_take = True
                if not woken:
                    woken = True
                    counts.passed += 1
            return taken
        finally:
            counts.waiting -= 1
            counts.passed -= woken
            if counts.waiting and self._available():
                self._condition.notify()
