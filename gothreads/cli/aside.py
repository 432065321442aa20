"""Runs work beside the main thread, which stays free for signals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")

#: The longest single wait, in seconds: so a signal is not missed for longer.
_SLICE_SECONDS = 0.2


def aside(work: Callable[[], T]) -> T:
    """Run on another thread, and wait: Python handles Ctrl-C only while its main thread is outside the module's code.

    The wait is in slices, because Python can miss a signal that arrives just before a wait begins.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
    threading.Thread(target=run, name="gothreads-command", daemon=True).start()
    while not future.done():
        wait((future,), _SLICE_SECONDS)
    return future.result()
