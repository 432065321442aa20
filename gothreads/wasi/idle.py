"""Runs a single-threaded module until it would block, without changes to its runtime."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptors import NONBLOCK, Descriptor, Span


@dataclass(frozen=True)
class Waits:
    """What an idle module waits for.

    until: its next timer, in seconds of the monotonic clock; None if no timer is set.
    descriptors: host descriptors, and their poll(2) events.
    owners: the descriptors' owners, which keep them open as long as they are referenced.
    """

    until: float | None = None
    descriptors: dict[int, int] = field(default_factory=dict)
    owners: Sequence[Descriptor] = ()


class Idle(Descriptor):
    """A descriptor that becomes readable, for one read, whenever the module's scheduler is about to block.

    All goroutines are waiting then, so a goroutine that reads from it (gothreads_idle) continues only when nothing else
    can run. Idleness is detected in poll_oneoff, in which stock Go's only thread waits: Go makes a call that may block
    only when no goroutine is runnable, and the call blocks only if nothing is ready.
    """

    polled = True

    def __init__(self, stop: StopEvent) -> None:
        self._reached = False
        self.waits = Waits()
        super().__init__(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), stop, flags=NONBLOCK, writable=False)

    def reach(self, seconds: float | None, descriptors: dict[int, int], owners: Sequence[Descriptor]) -> None:
        """The module would block now, for at most `seconds`; None means without limit."""
        self._reached = True
        self.waits = Waits(None if seconds is None else time.monotonic() + seconds, descriptors, owners)

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if offset is not None:
            raise OSError(errno.ESPIPE, "not seekable")
        if not self._reached:
            raise BlockingIOError(errno.EAGAIN, "not idle")
        self._reached = False
        return min(1, sum(size for _, size in spans))
