"""How a single-threaded module is run until it would wait, without a change to its runtime."""

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
    """What a module waits for: `wanted` is descriptors of the host's and events of poll(2), which stay open as long as `used` is there.

    `until`: a timer of its own, seconds of the monotonic clock; None: no timer is set.
    """

    until: float | None = None
    wanted: dict[int, int] = field(default_factory=dict)
    used: Sequence[Descriptor] = ()


class Idle(Descriptor):
    """Can be read once whenever the module's scheduler is about to wait: every goroutine of it waits then.

    A goroutine that reads from it (gothreads_idle) goes on when nothing else can. What says so is poll_oneoff, with which
    stock Go's only thread waits: a call of it that may take time comes when there is nothing to run, and nothing is ready.
    """

    polled = True

    def __init__(self, stop: StopEvent) -> None:
        self._reached = False
        self.waits = Waits()
        super().__init__(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), stop, flags=NONBLOCK, writable=False)

    def reach(self, seconds: float | None, wanted: dict[int, int], used: Sequence[Descriptor]) -> None:
        """The module would wait, so long at the most."""
        self._reached = True
        self.waits = Waits(None if seconds is None else time.monotonic() + seconds, wanted, used)

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if offset is not None:
            raise OSError(errno.ESPIPE, "no file")
        if not self._reached:
            raise BlockingIOError(errno.EAGAIN, "not idle")
        self._reached = False
        return min(1, sum(size for _, size in spans))
