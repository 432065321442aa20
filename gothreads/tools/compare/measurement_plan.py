"""How much is measured: the full plan, the quick one, and those of tests. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gothreads.tools.compare.designs import steps


@dataclass(frozen=True)
class MeasurementPlan:
    """Seconds are those of one sample. `threads`, `callers`, `waiting` and `sizes` are the points at which workloads
    are measured.
    """

    quick: bool
    repeats: int                  # rounds through all designs
    seconds: float                # of a loop of calls
    background_seconds: float     # of work in the background while calls come and go
    quiet_seconds: float          # without a call: timers, CPU time
    threads: tuple[int, ...]      # that call at the same time
    waiting: tuple[int, ...]      # calls that wait at the same time
    sizes: tuple[int, ...]        # of payloads, in bytes
    callers: tuple[int, ...]      # that are blocked, for memory
    heap_callers: tuple[int, ...]  # the same, with data in the program
    heap_megabytes: int
    fresh_repeats: int            # rounds of workloads that need a fresh process for each sample
    meetings: int                 # of calls that wait for each other

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> MeasurementPlan:
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                  for name, value in about.items()}
        return cls(**values)

    def with_repeats(self, repeats: int) -> MeasurementPlan:
        return replace(self, repeats=repeats, fresh_repeats=repeats)


def full(processors: int) -> MeasurementPlan:
    return MeasurementPlan(
        quick=False, repeats=5, seconds=0.5, background_seconds=1.5, quiet_seconds=1.0,
        threads=tuple(sorted({*steps(processors), 2 * processors})), waiting=(1, 16, 64),
        sizes=(64, 1 << 10, 16 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20), callers=(1, 4, 16, 64, 256),
        heap_callers=(1, 4, 16, 64), heap_megabytes=50, fresh_repeats=3, meetings=200)


def quick(processors: int) -> MeasurementPlan:
    return MeasurementPlan(
        quick=True, repeats=3, seconds=0.08, background_seconds=0.4, quiet_seconds=0.25,
        threads=tuple(steps(processors, between=False)), waiting=(1, 16), sizes=(64, 16 << 10, 1 << 20, 16 << 20),
        callers=(1, 16, 64), heap_callers=(1, 8), heap_megabytes=50, fresh_repeats=1, meetings=25)
