"""Waits for a stream of Go's that hold no caller and no thread: they are parked.

A request for items that finds none leaves the number of a wait in Go, and returns (guest/wire/stream.go). When there
are items, or the stream has ended, Go calls the handler WAKE with the number, and the request is made again
(runtime/calls.py).

    request    R1 finds nothing, leaves the number                  R2 is made again
    Go                                                G1 wakes
    host                                   H1 has R1's reply, and lets the wait say when to go on

G1 may come before H1, so a wait that was woken stays awake until it is armed again, which is before R2. It may be woken
without a reason: by the end of the app, or when nobody wants the items any more. Then R2 fails, or is not made.

The numbers are random: a module can wake only what it was told of.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Future

#: Those that are armed. Each is taken out once, by who wakes it, or by who has armed it.
_waits: dict[int, Wait] = {}


class Wait:
    """One wait, for a request that may be made several times. Thread-safe.

    abandon: called if a parked request is not made again, since nobody wants its reply.
    """

    def __init__(self) -> None:
        self.number = secrets.randbits(63) | 1
        self.abandon: Callable[[], object] = lambda: None
        self._woken: Future[None] = Future()

    def arm(self) -> None:
        """Before a request is made."""
        self._woken = Future()
        _waits[self.number] = self

    def disarm(self) -> None:
        """The request has been answered."""
        _waits.pop(self.number, None)

    def wake(self) -> None:
        """The request is to be made again. Does not block."""
        if _waits.pop(self.number, None) is not None:
            self._woken.set_result(None)

    def when_woken(self, callback: Callable[[], object]) -> None:
        """Call `callback`, on any thread; now, if it was woken since it was armed."""
        self._woken.add_done_callback(lambda _: callback())


def wake(payload: bytes) -> None:
    """The handler WAKE (typed/__init__.py)."""
    if (wait := _waits.get(int.from_bytes(payload, "little"))) is not None:
        wait.wake()
