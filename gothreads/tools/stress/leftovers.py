"""Threads that closed apps have left."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection


def threads_left(patience: float, others: Collection[threading.Thread] = ()) -> list[str]:
    """The names of threads of apps, once those that are ending have ended; waits for that up to `patience` seconds.

    `others` are not counted, nor the thread for interrupts, of which a process has one for good.
    """
    deadline = time.monotonic() + patience
    while (names := _names(others)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return names


def _names(others: Collection[threading.Thread]) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread not in others
            and thread.name.startswith("gothreads-") and thread.name != "gothreads-interrupt"]
