"""Runs work beside the main thread, which stays free for signals."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from gothreads.sync.waiting import wait_in_slices

T = TypeVar("T")


def aside(work: Callable[[], T]) -> T:
    """Run on another thread, and wait: Python handles Ctrl-C only while its main thread is outside the module's code.

    The work sees this thread's context variables.
    """
    return waited(begin(work))


def begin(work: Callable[[], T]) -> Future[T]:
    """Run on another thread, which sees this thread's context variables."""
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(work))
        except BaseException as error:
            future.set_exception(error)
    threading.Thread(target=run, name="gothreads-command", daemon=True).start()
    return future


def waited(future: Future[T]) -> T:
    """Wait for what `begin` has begun. KeyboardInterrupt leaves it running."""
    wait_in_slices(lambda seconds: bool(wait((future,), seconds).done))
    return future.result()
