"""Figures of a scenario while it runs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import psutil

from gothreads.errors import GothreadsError
from gothreads.tools.stress.scenario_context import ScenarioContext


@dataclass(frozen=True)
class Snapshot:
    """`seconds` since the first app was open; `calls` and `checked` operations so far; `rate`: calls a second since the
    previous snapshot.

    Of the app that was opened last: `ms` (threads, as Go counts them), `callers` (in calls), `goroutines`, `heap` in
    bytes; None when there is no app, or Go does not answer. Of the process: `rss` in bytes, `cpu` in percent of one
    processor.
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
    """Takes snapshots of one scenario. For one thread."""

    def __init__(self, context: ScenarioContext) -> None:
        self._context = context
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._last = time.monotonic()
        self._calls = 0

    def sample(self) -> Snapshot:
        """Takes a fraction of a millisecond, or a second when Go does not answer."""
        context, now = self._context, time.monotonic()
        calls = context.calls
        rate = (calls - self._calls) / max(now - self._last, 1e-3)
        self._last, self._calls = now, calls
        statistics = None
        if apps := context.apps:
            with contextlib.suppress(GothreadsError):  # it may have been closed meanwhile
                statistics = apps[-1].statistics()
        go = statistics and statistics.go
        callers = statistics and statistics.callers
        return Snapshot(
            seconds=round(context.seconds, 1), calls=calls, checked=context.checked, rate=round(rate, 1),
            ms=go.ms if go else None, callers=callers.in_use if callers else None,
            goroutines=go.goroutines if go else None,
            heap=go.heap if go else None, rss=self._process.memory_info().rss, cpu=self._process.cpu_percent())
