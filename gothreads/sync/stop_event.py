"""Waits for the host's descriptors that end when the app ends."""

from __future__ import annotations

import math
import os
import select
import threading
from collections import deque

from gothreads.errors import AppClosed

#: About the longest that poll(2) can wait, in seconds. A longer wait returns early, and its caller waits again.
LONGEST = 2_000_000.0


class Away(deque[None]):
    """One entry for each of a module's threads that is in one of the program's Python functions, or waits for a thread
    that is. Adding and removing an entry is atomic.

    app_ended: whether the app is ending or has ended. A Python function looks at it when it returns, so it is a field:
    asking the app would take a fifteenth of a host call's time.
    """

    __slots__ = ("app_ended",)

    def __init__(self) -> None:
        super().__init__()
        self.app_ended = False


class StopEvent:
    """An event that is set once and ends all waits. May be used from any thread."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._lock = threading.RLock()  # a signal handler may end the app
        self._closed = False  # guarded by _lock: once True, the descriptor numbers may belong to other files
        self._event = threading.Event()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    @property
    def descriptor(self) -> int:
        """A descriptor that becomes readable when the event is set."""
        return self._read

    def set(self) -> None:
        with self._lock:
            if not self.is_set:
                self._event.set()
                if not self._closed:
                    os.write(self._write, b"x")

    def wait(self, wanted: dict[int, int], seconds: float | None = None) -> list[tuple[int, int]]:
        """Wait for any of the events (descriptor -> poll(2) events) and return those that occurred, as poll does.

        The result is empty after `seconds` (None: for ever). Raises AppClosed when the event is set.
        """
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        ready = poll.poll(None if seconds is None else max(0, math.ceil(min(seconds, LONGEST) * 1e3)))
        self.check()
        return ready

    def check(self) -> None:
        """Raises AppClosed if the event is set."""
        if self.is_set:
            raise AppClosed("stopped")  # the app is ending, and its first cause is already recorded

    def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`; more precise than `wait`, which counts milliseconds. Raises AppClosed when set."""
        if self._event.wait(min(seconds, LONGEST)):
            raise AppClosed("stopped")

    def close(self) -> None:
        """Close the descriptors. No thread may wait any more, but the event may still be set."""
        with self._lock:
            self._closed = True
            os.close(self._read)
            os.close(self._write)
