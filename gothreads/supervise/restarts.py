"""Values for restarts: the backoff, the description of one restart, and the totals."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from gothreads.errors import GothreadsError, MisuseError
from gothreads.sync.seconds import is_number
from gothreads.text import cut


@dataclass(frozen=True)
class Backoff:
    """How long to wait before each restart, in seconds: `first`, then `factor` times as long each time, at most `most`.

    jitter: each pause is randomly longer or shorter by up to this fraction, so that many modules that ended together
        do not restart together.
    reset_after: after an instance has run this long, the next pause is `first` again.
    """

    first: float = 0.1
    factor: float = 2.0
    most: float = 30.0
    jitter: float = 0.1
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        for name, least, largest in (("first", 0, 1e6), ("factor", 1, 1e6), ("most", 0, 1e6), ("jitter", 0, 1),
                                     ("reset_after", 0, float("inf"))):
            value = getattr(self, name)
            if not is_number(value) or not least <= value <= largest:
                raise MisuseError(f"Backoff({name}=...) must be a number from {least} to {largest:g}, not {cut(value)}")
        if self.first > self.most:
            raise MisuseError(f"Backoff: the first pause ({self.first:g} s) must not be longer than the longest "
                              f"({self.most:g} s)")

    def pause(self, before: int) -> float:
        """The pause after this many restarts in a row, in seconds."""
        pause = self.first
        for _ in range(before):
            if pause >= self.most or pause == 0 or self.factor == 1:
                break
            pause *= self.factor
        return min(pause, self.most) * random.uniform(1 - self.jitter, 1 + self.jitter)


@dataclass(frozen=True)
class Restart:
    """One restart, for `on_restart`: its `number`, the `pause` before it in seconds, its `cause` (None: restart())."""

    number: int
    cause: GothreadsError | None
    pause: float

    def __str__(self) -> str:
        why = "restart() was called" if self.cause is None else getattr(self.cause, "headline", str(self.cause))
        return f"restart {self.number}, in {self.pause:.1f} s: {why}"


@dataclass(frozen=True)
class Supervision:
    """The history of a supervised module.

    restarts: restarts begun, including those that failed to start.
    by_cause: restarts counted by cause: {"GuestPanic": 2, "restart()": 1}.
    last_cause: why the last instance ended or did not start.
    down_seconds: how long there has been no instance; None while there is one.
    next_try_seconds: time until the next start; 0 while it starts; None if none is due.
    saved: size in bytes of the state for the next instance, saved saved_seconds ago; None: there is no state.
    """

    restarts: int = 0
    by_cause: Mapping[str, int] = field(default_factory=dict)
    last_cause: GothreadsError | None = None
    down_seconds: float | None = None
    next_try_seconds: float | None = None
    saved: int | None = None
    saved_seconds: float | None = None
