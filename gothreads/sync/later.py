"""A call that is submitted before there is an app to make it in."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from gothreads.errors import GothreadsError
from gothreads.sync.deadlines import Deadlines

T = TypeVar("T")


class Later(Future[T], Generic[T]):
    """The future of such a call.

    Claimed once: by what begins it, or by what fails it: its timeout, or that there will be no app; or by cancel().

    It begins while `_beginning` is held. So cancel() sees either that it has not begun, and then it never will, or the
    future that it has become.
    """

    def __init__(self) -> None:
        super().__init__()
        self._claims, self._beginning = threading.Lock(), threading.RLock()
        self._inner: Future[T] | None = None
        # The call belongs to the trace, and whatever else, of who has submitted it.
        self._context = contextvars.copy_context()
        self._no_matter: Callable[[], object] = lambda: None

    def fail_after(self, deadlines: Deadlines, seconds: float, error: Callable[[], GothreadsError]) -> None:
        """Fail with what `error` returns if this has not begun within so many seconds. Called at most once."""
        deadline = deadlines.after(max(0.0, seconds), lambda: self.fail(error()))
        self._no_matter = lambda: deadlines.cancel(deadline)

    def cancel(self) -> bool:
        """False if it has begun."""
        with self._beginning:
            if self._inner is not None:
                return self._inner.cancel() and super().cancel()
            first = self._claimed()
            cancelled = super().cancel()
            if first:  # otherwise the first claimant notifies the waiters
                self.set_running_or_notify_cancel()
            return cancelled

    def begin(self, call: Callable[[], Future[T]]) -> None:
        """Make the call, unless this was claimed before."""
        if not self._claimed():
            return
        try:
            with self._beginning:
                if self.cancelled():
                    self.set_running_or_notify_cancel()
                    return
                self._inner = inner = self._context.run(call)
        except Exception as error:  # for the future, not for the thread that begins this
            if self.set_running_or_notify_cancel():
                self.set_exception(error)
            return
        inner.add_done_callback(self._done)

    def fail(self, error: BaseException) -> None:
        """Fail, unless this was claimed before."""
        if self._claimed() and self.set_running_or_notify_cancel():
            self.set_exception(error)

    def _claimed(self) -> bool:
        """Claim the call; whether this was the first claim."""
        first = self._claims.acquire(blocking=False)
        if first:
            self._no_matter()
        return first

    def _done(self, inner: Future[T]) -> None:
        if inner.cancelled():
            super().cancel()
        if not self.set_running_or_notify_cancel():
            return
        if (error := inner.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(inner.result())


def left(options: Mapping[str, Any], begun: float) -> dict[str, Any]:
    """The options of a call that has waited, with the rest of its timeout.

    That is never 0: a call that has found its app is made.
    """
    timeout = options.get("timeout")
    if timeout is None:
        return dict(options)
    return {**options, "timeout": max(timeout - (time.monotonic() - begun), 0.001)}
