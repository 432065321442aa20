"""What is seen of a scenario while it runs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import psutil

from gothreads.errors import GothreadsError
from gothreads.tools.stress.context import Context


@dataclass(frozen=True)
class Sample:
    """`seconds` since the first app was open; `calls` and `checked` operations so far; `rate`: calls a second since the sample before.

    Of the app that was opened last: `ms` (threads in Go's eyes), `callers` (in calls), `goroutines`, `heap` in bytes; None when there is no
    app, or Go does not answer. Of the process: `rss` in bytes, `cpu` in percent of one processor.
    """

    seconds: float
    calls: int
    checked: int
    rate: float
    ms: int | None
    callers: int | None
    goroutines: int | None
    heap: int | None
    rss: int
    cpu: float


class Meter:
    """Takes samples of one scenario. Used by one thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._last = time.monotonic()
        self._calls = 0

    def sample(self) -> Sample:
        """Look. It takes a second when Go does not answer, usually a fraction of a millisecond."""
        context, now = self._context, time.monotonic()
        calls = context.calls
        rate = (calls - self._calls) / max(now - self._last, 1e-3)
        self._last, self._calls = now, calls
        statistics = None
        if apps := context.apps:
            with contextlib.suppress(GothreadsError):  # it may be closed meanwhile
                statistics = apps[-1].statistics()
        go = statistics and statistics.go
        callers = statistics and statistics.callers
        return Sample(round(context.seconds, 1), calls, context.checked, round(rate, 1), go.ms if go else None, callers.in_use if callers else None,
                      go.goroutines if go else None, go.heap if go else None, self._process.memory_info().rss, self._process.cpu_percent())
