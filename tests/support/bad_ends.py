"""Hostile done-callbacks of calls, and calls that may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def leaves(_call: Future[Any]) -> None:
    """A done-callback of the worst kind: it raises SystemExit."""
    raise SystemExit(1)


def elsewhere(call: Callable[[], T]) -> Future[T]:
    """Run a call that may hang on a separate daemon thread."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
    threading.Thread(target=run, daemon=True).start()
    return future
