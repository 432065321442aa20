"""The names that the system has for threads: in top -H, ps -L, perf, and /proc/PID/task/*/comm.

Python tells the system only from version 3.14 on. Without, a profiler cannot tell Go's Ms from other threads.
"""

from __future__ import annotations

import ctypes

_SET_NAME = 15  # PR_SET_NAME in <sys/prctl.h>
_LONGEST = 15  # longer names are cut by the system

_prctl = ctypes.CDLL(None).prctl


def name_thread(name: str) -> None:
    """Give the calling thread a name."""
    _prctl(_SET_NAME, ctypes.c_char_p(name.encode()[:_LONGEST]), 0, 0, 0)
