"""Functions that are called at their time: one thread for all of them, which is there only while there are any."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from gothreads.errors import CallersBusy


class _Deadline:
    """`call` is None when it does not matter any more."""

    def __init__(self, when: float, number: int, call: Callable[[], object]) -> None:
        self.when, self._number = when, number
        self.call: Callable[[], object] | None = call

    def __lt__(self, other: _Deadline) -> bool:
        return (self.when, self._number) < (other.when, other._number)

    def no_matter(self) -> None:
        self.call = None


class Deadlines:
    """May be used from any thread. The functions must not wait: they hold up the others.

    Invariant: while `_waiting` has a deadline that matters, a thread is there that will look at it, or close() was called.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        # Guarded by _condition.
        self._waiting: list[_Deadline] = []
        self._running = self._closed = False
        self._numbers = itertools.count()

    def at(self, when: float, call: Callable[[], object]) -> Callable[[], None]:
        """Call it at a time of time.monotonic(). What is returned calls it off. CallersBusy when there can be no thread."""
        deadline = _Deadline(when, next(self._numbers), call)
        with self._condition:
            if self._closed:
                return deadline.no_matter
            heapq.heappush(self._waiting, deadline)
            start, self._running = not self._running, True
            self._condition.notify()
        if start:
            try:
                threading.Thread(target=self._run, name="gothreads-deadlines", daemon=True).start()
            except RuntimeError:
                with self._condition:
                    self._running = False
                raise CallersBusy("the system has no thread left to keep a call's time limit with") from None
        return deadline.no_matter

    def close(self) -> None:
        """Call nothing any more."""
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._condition.notify()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], object] | None:
        """What is due, when it is; None when nothing is left."""
        with self._condition:
            while self._waiting:
                first = self._waiting[0]
                left = first.when - time.monotonic()
                if first.call is None or left <= 0:
                    heapq.heappop(self._waiting)
                    if first.call is not None:
                        return first.call
                else:
                    self._condition.wait(left)
            self._running = False
            return None
