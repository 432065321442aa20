"""Calls that their callers give up, because they took too long or because nobody wants the result any more.

A thread that is in the module cannot be taken out of it. So a call that may be given up runs on one of the app's
threads, and the caller waits for a future. A Cancellation is the state that both sides share.

Invariant: a call that was given up before it has entered the module never does; `use` raises CallGivenUp.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Literal, TypeVar

from gothreads.bridge.buffers import Guest
from gothreads.engine.call_threads import Call
from gothreads.errors import CallTimeout, HandlerError, MisuseError
from gothreads.sync.seconds import check_seconds
from gothreads.text import shown
from gothreads.typed.parking import Wait

#: What to do with a call that is given up. "continue": its goroutine goes on, as after a cgo call. "cancel": the
#: context of its handler is cancelled (guest.HandleContext); a handler without one goes on. "stop": the module is
#: stopped (in a pool, the instance).
OnTimeout = Literal["continue", "cancel", "stop"]

log = logging.getLogger("gothreads")

T = TypeVar("T")
G = TypeVar("G", bound=Guest)


class CallGivenUp(Exception):
    """Nobody waits for this call any more, and it has not begun. Internal."""


class Cancellation:
    """The state of one call. If it is given up with "stop", `stop` is called with the instance that it is in.

    deadline: when the call times out, by time.monotonic, if the context that a request has in Go is to end then.
    """

    def __init__(self, on_timeout: OnTimeout, stop: Callable[[Guest], None], stopped: str = "the module",
                 deadline: float | None = None, takes_context: bool | None = None) -> None:
        """`stopped`: what `stop` ends. takes_context: whether Go's function has a context; None: unknown."""
        self._on_timeout, self._stop, self._stopped, self.deadline = on_timeout, stop, stopped, deadline
        self._takes_context = takes_context
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._begun = self._given_up = False
        self._guest: Guest | None = None  # the instance that it is in now
        self._last: Guest | None = None  # the instance that it is in, or was in last
        self._parked: Wait | None = None  # what it waits for outside
        self._wants = ""  # a handler that main has yet to register: the call asks for it again and again
        self._request = 0  # its number among the slot's requests; 0: not a request
        self._ends_itself = False  # Go is told the deadline
        self._has_stopped = False

    def use(self, guest: G, work: Callable[[G], T], *, request: bool = False) -> T:
        """Run `work` in an instance that this thread holds. CallGivenUp if nobody waits for the call any more."""
        ends_itself = False
        if request:
            guest.slot.opened()  # before anybody may cancel
            ends_itself = self.deadline is not None and guest.slot.takes_deadlines()
        with self._lock:
            if self._given_up:
                raise CallGivenUp
            self._begun, self._guest, self._last, self._parked, self._wants = True, guest, guest, None, ""
            self._request, self._ends_itself = guest.slot.requests + 1 if request else 0, ends_itself
        try:
            if ends_itself:
                guest.slot.deadline = self.deadline
            return work(guest)
        finally:
            guest.slot.deadline = None
            with self._lock:
                self._guest = None

    def give_up(self, *, late: bool = False) -> None:
        """Called when the caller no longer waits. From any thread. late: because of its deadline."""
        with self._lock:
            self._given_up = True
            guest, request, parked = self._guest, self._request, self._parked
            # Under the lock: once the call has left, another call may use its slot.
            if guest is not None and request and self._on_timeout == "cancel":
                if not (late and self._ends_itself):  # else ctx.Err() would be one error or the other
                    guest.slot.cancel(request)
            elif self._last is not None and (guest or parked) is not None and self._on_timeout == "stop":
                self._has_stopped = True
                self._stop(self._last)
        if parked is not None and self._on_timeout == "cancel":
            parked.wake()  # for nothing: it is abandoned

    def park(self, wait: Wait) -> bool:
        """Note that the call is outside, until the wait is woken. False: nobody waits for the call any more."""
        with self._lock:
            if not self._given_up:
                self._parked = wait
            return not self._given_up

    def wants(self, handler: str) -> None:
        """Note that the module does not have this handler yet, so that the call has done nothing."""
        self._wants = handler

    @property
    def wanted(self) -> str:
        """The handler that the call waits for; "" if it waits for none."""
        return self._wants

    @property
    def is_inside(self) -> bool:
        """Whether the call is in the module now."""
        return self._guest is not None

    @property
    def outcome(self) -> str:
        """What becomes of the call once it is given up."""
        match self._on_timeout:
            case "continue":
                return "it goes on until it returns"
            case "cancel" if self._takes_context:
                return "its context is cancelled"
            case "cancel" if self._takes_context is False:
                return "it takes no context.Context, so it goes on until it returns"
            case "cancel":
                return "its context is cancelled; without one, it goes on until it returns"
            case "stop":
                return f"{self._stopped} was ended" if self._has_stopped else "it came back then"

    @property
    def hint(self) -> str | None:
        """What would end a call that goes on."""
        goes_on = self._on_timeout == "cancel" and self._takes_context is False
        return f'on_timeout="stop" would end {self._stopped}' if goes_on else None

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for the call any more."""
        return self._given_up

    def give_up_waiting(self) -> bool:
        """Give the call up if it has not entered the module; returns whether that is so."""
        with self._lock:
            self._given_up = self._given_up or not self._begun
            return not self._begun


def checked(timeout: float | None, on_timeout: OnTimeout, *, request: bool) -> OnTimeout:
    """Return `on_timeout`. MisuseError if an argument is invalid."""
    check_seconds("timeout", timeout)
    if on_timeout not in ("continue", "cancel", "stop"):
        raise MisuseError(f'on_timeout must be "continue", "cancel" or "stop", not {on_timeout!r}')
    if on_timeout == "cancel" and not request:
        raise MisuseError('on_timeout="cancel" is for requests: an export has no context that could be cancelled. '
                          'Choose "continue" or "stop"')
    return on_timeout


class PendingCall:
    """What the caller waits for: `future`.

    It gets the result of the call, unless the caller gives up first: by a timeout, or by cancelling it. A timeout gives
    the call up before it fails the future. So a caller that sees CallTimeout finds the module stopped, if "stop" is
    set.

    Where Go is told the deadline, its context ends by Go's clock: the call may be over before the host has looked at
    its own. So such a call has timed out if it is over after its deadline, whatever it has returned.
    """

    def __init__(self, token: Cancellation, what: str, waits_for: Callable[[], str | None]) -> None:
        """`what` is the call, `waits_for()` what keeps a call from beginning now."""
        self._token, self._what, self._waits_for = token, what, waits_for
        self._decided = threading.Lock()  # taken once, by the thread that decides the outcome; never released
        self._given_up_at: float | None = None
        self._telling = threading.Lock()
        self._told = False  # guarded by _telling: the log says that it goes on
        self.future = Call()
        # The callback knows the token only: one that knew the future would keep it, and the result, until a collection.
        self.future.when_done(functools.partial(_give_up_cancelled, token))

    def settle(self, call: Future[Any]) -> None:
        """Called when the call is over."""
        if self._given_up_at is not None:
            with self._telling:
                if self._told:
                    log.warning("%s is over, %.1f s after its timeout", self._what,
                                time.monotonic() - self._given_up_at)
        try:
            if call.cancelled():
                self.future.cancel()
            elif isinstance(call.exception(), CallGivenUp) or not self._decided.acquire(blocking=False):
                pass  # the thread that gave it up sets the outcome, perhaps only now
            elif (error := call.exception()) is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(call.result())
        except InvalidStateError:
            pass  # it came too late

    def is_late(self, call: Future[Any]) -> bool:
        """Whether the call, which is over, has timed out."""
        deadline = self._token.deadline
        return (deadline is not None and time.monotonic() >= deadline and not call.cancelled()
                and isinstance(call.exception(), HandlerError | None))

    def timed_out(self, seconds: float) -> None:
        """Give the call up, and fail with CallTimeout."""
        if not self.future.done() and self._decided.acquire(blocking=False):
            if self._token.give_up_waiting():
                why = self._waits_for()
                self._fail(CallTimeout(f"{self._what} has not begun within {seconds:g} s{f': {why}' if why else ''}"))
                return
            self._token.give_up(late=True)
            if handler := self._token.wanted:  # read after giving up: from then on the call asks no more
                self._fail(CallTimeout(f"{self._what} has not begun within {seconds:g} s: main has not registered the "
                                       f"handler {shown(handler)} yet"))
            else:
                self._given_up_at = time.monotonic()
                hint = self._token.hint
                error = CallTimeout(f"{self._what} has not come back within {seconds:g} s; {self._token.outcome}"
                                    f"{f' ({hint})' if hint else ''}")
                error.hint = hint  # serve/error_responses.py cuts it off again
                self._fail(error)

    def tell_if_inside(self) -> None:
        """Log that the call goes on in Go after its timeout, which nothing else shows. `settle` logs when it is over.

        That comes after the call has left. So either this does not see it inside, or `settle` waits, and sees `_told`.
        """
        with self._telling:
            if self._given_up_at is not None and self._token.is_inside:
                self._told = True
                log.warning("%s is still in the module %.1f s after its timeout, and goes on. on_timeout=\"stop\" "
                            "(serve: --on-timeout stop) would end the module", self._what,
                            time.monotonic() - self._given_up_at)

    def fail_waiting(self, error: Exception) -> None:
        """Fail with this error if the call has not begun."""
        if self._token.give_up_waiting():
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            pass  # it was cancelled
        except BaseException:  # a callback may raise SystemExit: the future is done nevertheless
            log.exception("a callback at the end of a call raised")


def _give_up_cancelled(token: Cancellation, future: Future[Any]) -> None:
    """Give up the call of a future that was cancelled."""
    if future.cancelled():
        future.set_running_or_notify_cancel()  # for concurrent.futures.wait
        token.give_up()
