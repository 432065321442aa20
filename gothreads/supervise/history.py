"""The history of a supervised module, as its keeper records it."""

from __future__ import annotations

import time
from dataclasses import replace

from gothreads.errors import GothreadsError
from gothreads.supervise.restarts import Supervision
from gothreads.supervise.state_transfer import StateTransfer


class History:
    """Counts restarts, and notes times. Only the keeper writes; any thread may read `snapshot`."""

    def __init__(self) -> None:
        self._totals = Supervision()  # replaced as a whole, so that readers see one state of it
        self._down_since: float | None = None
        #: When the next instance is to start (monotonic time), while there is none.
        self.next_try: float | None = None
        #: Restarts in a row, without a long-running instance in between.
        self.in_a_row = 0

    @property
    def restarts(self) -> int:
        return self._totals.restarts

    def up(self) -> None:
        """There is an instance."""
        self._down_since = self.next_try = None

    def down(self) -> None:
        """There is no instance."""
        self._down_since = self._down_since or time.monotonic()

    def count(self, cause: GothreadsError | None) -> None:
        """Count a restart. `cause` is None if it was planned."""
        kind = "restart()" if cause is None else type(_root(cause)).__name__
        before = self._totals
        self._totals = replace(before, restarts=before.restarts + 1, last_cause=cause or before.last_cause,
                               by_cause={**before.by_cause, kind: before.by_cause.get(kind, 0) + 1})

    def end(self, cause: GothreadsError) -> None:
        """There will be no further restart."""
        self._totals = replace(self._totals, last_cause=cause)

    def snapshot(self, state: StateTransfer, *, over: bool) -> Supervision:
        """What `Supervised.supervision` returns. `over`: no further instance will follow."""
        now, down, next_try = time.monotonic(), self._down_since, self.next_try
        return replace(self._totals, down_seconds=None if down is None else now - down,
                       next_try_seconds=None if next_try is None or over else max(0.0, next_try - now),
                       saved=state.size, saved_seconds=state.seconds)


def _root(cause: GothreadsError) -> BaseException:
    """The error to count: a GothreadsError of no particular kind only wraps another."""
    return cause.__cause__ if type(cause) is GothreadsError and cause.__cause__ else cause
