"""What a program may do at a call's end, and calls that may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def leaves(_call: Future[Any]) -> None:
    """What somebody wants to be done at a call's end, of the worst kind."""
    raise SystemExit(1)


def elsewhere(call: Callable[[], T]) -> Future[T]:
    """A call that may hang, on a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
    threading.Thread(target=run, daemon=True).start()
    return future
