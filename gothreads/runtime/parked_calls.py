"""Calls that are parked: they wait outside the module, without a thread or a caller, until they are made again.

A call that finds that there is nothing to return yet returns a Wait (typed/parking.py).

Invariant: no call stays parked after the end of the app. A call is added before it asks `has_ended`; the end comes true
before `wake_all` looks for calls. So one of the two sees the other.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from gothreads.engine.call_threads import Call
from gothreads.runtime.cancellation import CallGivenUp, Cancellation
from gothreads.typed.parking import Wait


class ParkedCalls:
    """Those of an app. Thread-safe."""

    def __init__(self, has_ended: Callable[[], bool]) -> None:
        self._has_ended = has_ended
        self._waits: dict[object, Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def add(self, wait: Wait, again: Callable[[Wait], object]) -> None:
        """Call `again` when it is woken."""
        key = object()

        def woken() -> None:
            contextvars.Context().run(again, wait)  # this may be in any call, whose variables are not this one's
            del self._waits[key]  # now it is counted among the calls that are made
        self._waits[key] = wait
        wait.when_woken(woken)
        if self._has_ended():
            wait.wake()

    def wake_all(self) -> None:
        """At the end of the app: that they are made again tells them of it."""
        for wait in list(self._waits.values()):
            wait.wake()


class Repeated:
    """A call that may be parked. It knows nothing that knows it: a stream that is dropped is to be freed at once.

    submit: makes the call, each time. over: is given its end.
    """

    def __init__(self, parked: ParkedCalls, token: Cancellation, submit: Callable[[], Call],
                 over: Callable[[Future[Any]], object]) -> None:
        self._parked, self._token, self._submit, self._over = parked, token, submit, over
        self._wait: Wait | None = None  # with which it was parked

    def make(self) -> None:
        """Make the call. Raises what `submit` raises."""
        self._submit().when_done(self._done)

    def _done(self, call: Future[Any]) -> None:
        error = None if call.cancelled() else call.exception()
        result = None if call.cancelled() or error is not None else call.result()
        if isinstance(result, Wait):
            if self._token.park(result):
                self._wait = result
                self._parked.add(result, self._again)
                return
            result.abandon()
        elif isinstance(error, CallGivenUp) and self._wait is not None:  # while it was about to be made again
            self._wait.abandon()
        self._over(call)

    def _again(self, wait: Wait) -> None:
        try:
            if self._token.given_up:
                raise CallGivenUp
            self.make()
        except BaseException as error:
            wait.abandon()
            failed: Future[Any] = Future()
            failed.set_exception(error)
            self._over(failed)
