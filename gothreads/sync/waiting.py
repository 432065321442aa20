"""Waits that let signals through.

Python can miss a signal that arrives just before an unbounded wait begins, and a thread that waits for another notices
neither the end of its app nor an exception that a signal handler has raised. So such waits are divided into slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: A wait holds nothing itself. Whether a signal handler that interrupts it may close an app and wait for that is for
#: the code that waits to say (runtime/own_code.py).
PROGRAM_CODE = True

#: The longest part of a wait, in seconds. Shorter than interrupt.PATIENCE: a call that waits in parts must see the
#: exception of a signal handler before it would be ended because of that.
SLICE_SECONDS = 0.1


def wait_in_slices(wait: Callable[[float], bool], timeout: float | None = None, *,
                   between: Callable[[], object] | None = None) -> bool:
    """Wait until `wait` succeeds, and return True; False after `timeout` seconds (None: wait for ever).

    wait: waits for at most so many seconds, and returns whether it has succeeded. It is called at least once.
    between: called after each part; an exception from it ends the wait.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if wait(SLICE_SECONDS if left is None else max(0.0, min(left, SLICE_SECONDS))):
            return True
        if deadline is not None and time.monotonic() >= deadline:
            return False
        if between is not None:
            between()
