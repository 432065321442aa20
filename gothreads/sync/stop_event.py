"""Waiting for a descriptor of the host's, until the app ends."""

from __future__ import annotations

import math
import os
import select
import threading
from collections import deque

from gothreads.errors import AppClosed

#: The most that poll(2) can wait, about, in seconds. Whoever waits longer is told too early, and asks again.
_LONGEST = 2_000_000.0

#: An entry for each of a module's threads that is in a Python function of the program's, or waits for one that is. Adding and removing one is atomic.
Away = deque[None]


class StopEvent:
    """Set once; ends all waits. May be used from any thread."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._lock = threading.RLock()  # a signal handler may end the app
        self._closed = False  # guarded by _lock: the descriptors are somebody else's from then on
        self._event = threading.Event()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    @property
    def descriptor(self) -> int:
        """Can be read from once it is set."""
        return self._read

    def set(self) -> None:
        with self._lock:
            if not self.is_set:
                self._event.set()
                if not self._closed:
                    os.write(self._write, b"x")

    def wait(self, wanted: dict[int, int], seconds: float | None = None) -> list[tuple[int, int]]:
        """Wait for descriptor -> events of poll(2); which there are, none when the time is over. AppClosed when set."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        ready = poll.poll(None if seconds is None else max(0, math.ceil(min(seconds, _LONGEST) * 1e3)))
        if self.is_set:
            raise AppClosed("stopped")  # the app is ending: the first cause is known
        return ready

    def sleep(self, seconds: float) -> None:
        """More exact than `wait`, which counts milliseconds. AppClosed when set."""
        if self._event.wait(min(seconds, _LONGEST)):
            raise AppClosed("stopped")

    def close(self) -> None:
        """Nobody may wait any more. It may still be set."""
        with self._lock:
            self._closed = True
            os.close(self._read)
            os.close(self._write)
