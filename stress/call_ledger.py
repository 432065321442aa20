"""The record of all calls of an app, by number: how each ended, how often it ran. Audited once the app has ended."""

from __future__ import annotations

import collections
import itertools
import threading

from gothreads import errors


class AuditError(Exception):
    """The record is wrong: a call was lost, ran twice, or was answered wrong. The text says which."""


def answer(number: int) -> int:
    """The answer that Go computes."""
    value = (number * 2654435761 & (1 << 64) - 1) ^ 0x5bd1e995
    return value - (1 << 64) if value >> 63 else value


def check_answer(number: int, result: object) -> None:
    if result != answer(number):
        raise AuditError(f"call {number} was answered {result!r}, not {answer(number)}")


class CallLedger:
    """All methods may be called from any thread.

    kinds: how many outcomes there were of each kind (a way to call, or a class of error). events: the numbers sent.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kinds: collections.Counter[str] = collections.Counter()  # this and all else are guarded by lock
        self.events: list[int] = []
        self.outcomes: dict[int, list[object]] = {}
        self.runs: collections.Counter[int] = collections.Counter()
        self._numbers = itertools.count(1)
        self._callbacks: collections.Counter[int] = collections.Counter()
        self._expected_callbacks: set[int] = set()

    def begin(self) -> int:
        """The number of a new call."""
        number = next(self._numbers)
        with self.lock:
            self.outcomes[number] = []
        return number

    def record_outcome(self, number: int, outcome: object) -> None:
        """outcome: the answer, or the error."""
        with self.lock:
            self.outcomes[number].append(outcome)

    def record_run(self, number: int) -> None:
        """The module has run the call."""
        with self.lock:
            self.runs[number] += 1

    def count(self, kind: str) -> None:
        with self.lock:
            self.kinds[kind] += 1

    def record_event(self, number: int) -> None:
        with self.lock:
            self.events.append(number)

    def expect_callback(self, number: int) -> None:
        """A future will call back once for this call."""
        with self.lock:
            self._expected_callbacks.add(number)

    def record_callback(self, number: int) -> None:
        with self.lock:
            self._callbacks[number] += 1

    @property
    def all_called_back(self) -> bool:
        return len(self._callbacks) >= len(self._expected_callbacks)

    def check_events(self, count: int, total: int) -> None:
        """Compare with what the module has received: how many events, and the sum of their numbers."""
        with self.lock:
            if count > len(self.events) or total > sum(self.events):
                raise AuditError(f"{count} events of {len(self.events)} have arrived")

    def audit(self, cause: errors.GothreadsError, *, same_cause: bool) -> None:
        """AuditError unless each call has one outcome, and answered calls ran once, others once at most. For when no
        call is in the app any more.

        same_cause: whether all calls that the app's end has ended must have got this cause.
        """
        for number, outcomes in self.outcomes.items():
            if len(outcomes) != 1:
                # A nested call whose outer call ended in the middle has no outcome of its own.
                if outcomes or self.runs[number] > 1:
                    raise AuditError(f"call {number} has {len(outcomes)} outcomes: {outcomes!r}")
                continue
            outcome, runs = outcomes[0], self.runs[number]
            if isinstance(outcome, int) and runs != 1:
                raise AuditError(f"call {number} was answered, and ran {runs} times")
            if runs > 1:
                raise AuditError(f"call {number} ran {runs} times: {outcome!r}")
            if isinstance(outcome, errors.GuestError) and same_cause and type(outcome) is not type(cause):
                raise AuditError(f"call {number} got {outcome!r}, the cause is {cause!r}")

    def audit_callbacks(self) -> None:
        if wrong := {number: times for number, times in self._callbacks.items() if times != 1}:
            raise AuditError(f"futures whose callbacks ran more than once: {wrong}")
