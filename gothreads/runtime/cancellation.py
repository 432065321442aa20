"""Calls that their callers give up: because they took too long, or because nobody wants the result any more.

A thread that is in the module cannot be taken out of it. So a call that may be given up runs on a thread of the app's, and the caller
waits for a future. A Cancellation is what the two sides know of each other.

Invariant: a call that was given up before it has entered the module never does; `use` raises CallGivenUp.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Literal, TypeVar

from gothreads.bridge.buffers import Guest
from gothreads.engine.call_threads import Call
from gothreads.errors import CallTimeout, MisuseError

#: What becomes of a call that was given up: its goroutine goes on, as after a cgo call; the context of its handler is cancelled
#: (guest.HandleContext), and one without goes on; or the module is stopped (in a pool, the instance).
OnTimeout = Literal["continue", "cancel", "stop"]

log = logging.getLogger("gothreads")

T = TypeVar("T")
G = TypeVar("G", bound=Guest)


class CallGivenUp(Exception):
    """Nobody waits for this call any more, and it has not begun. Internal."""


class Cancellation:
    """One call's. `stop` is told, when it is given up with "stop", of what it is in."""

    def __init__(self, on_timeout: OnTimeout, stop: Callable[[Guest], None]) -> None:
        self._on_timeout, self._stop = on_timeout, stop
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._begun = self._given_up = False
        self._guest: Guest | None = None  # what it is in now
        self._request = 0  # which of its slot's requests it is; 0: none

    def use(self, guest: G, work: Callable[[G], T], *, request: bool = False) -> T:
        """Make the call in an instance that is this thread's. CallGivenUp when nobody waits for it any more."""
        if request:
            guest.slot.opened()  # before anybody may cancel
        with self._lock:
            if self._given_up:
                raise CallGivenUp
            self._begun, self._guest = True, guest
            self._request = guest.slot.requests + 1 if request else 0
        try:
            return work(guest)
        finally:
            with self._lock:
                self._guest = None

    def give_up(self) -> None:
        """Its caller does not wait any more. From any thread."""
        with self._lock:
            self._given_up = True
            guest, request = self._guest, self._request
            # Under the lock: when the call has left, its slot may be somebody else's.
            if guest is not None and request and self._on_timeout == "cancel":
                guest.slot.cancel(request)
            elif guest is not None and self._on_timeout == "stop":
                self._stop(guest)

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._given_up

    def give_up_waiting(self) -> bool:
        """Give it up if it has not entered the module; whether that is so."""
        with self._lock:
            self._given_up = self._given_up or not self._begun
            return not self._begun


def checked(timeout: float | None, on_timeout: OnTimeout, *, request: bool) -> OnTimeout:
    """MisuseError for what cannot be meant."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
        raise MisuseError(f"timeout must be a number of seconds, not below 0, not {timeout!r}")
    if on_timeout not in ("continue", "cancel", "stop"):
        raise MisuseError(f'on_timeout must be "continue", "cancel" or "stop", not {on_timeout!r}')
    if on_timeout == "cancel" and not request:
        raise MisuseError('on_timeout="cancel" is for requests: an export has no context that could be cancelled. Choose "continue" or "stop"')
    return on_timeout


class PendingCall:
    """What the caller waits for: `future`. It has the call's result, unless the caller gives up first: by a timeout, or by cancelling it."""

    def __init__(self, ticket: Cancellation, what: str) -> None:
        self._ticket, self._what = ticket, what
        self.future = Call()
        self.future.when_done(self._cancelled)

    def settle(self, call: Future[Any]) -> None:
        """The call is over."""
        try:
            if call.cancelled():
                self.future.cancel()
            elif isinstance(call.exception(), CallGivenUp):
                pass  # whoever has given it up says so: perhaps only now
            elif (error := call.exception()) is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(call.result())
        except InvalidStateError:
            pass  # it came too late

    def timed_out(self, seconds: float) -> None:
        """The caller waits no longer."""
        if self._fail(CallTimeout(f"{self._what} has not come back within {seconds:g} s")):
            self._ticket.give_up()

    def fail_waiting(self, error: Exception) -> None:
        """The caller waits no longer for it to begin."""
        if self._ticket.give_up_waiting():
            self._fail(error)

    def _fail(self, error: Exception) -> bool:
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            return False
        except BaseException:  # what somebody wants to be done then may raise SystemExit: it is done all the same
            log.exception("what was to be done at the end of a call")
        return True

    def _cancelled(self, future: Future[Any]) -> None:
        if future.cancelled():
            future.set_running_or_notify_cancel()  # for concurrent.futures.wait
            self._ticket.give_up()
