"""How many calls come over HTTP, and how long they take, between two readings of the counters of /metrics.

Quantiles are estimates, as Prometheus makes them: a histogram says how many calls took at most so long, and within a
bucket calls count as spread evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

Key = TypeVar("Key")

#: What is called: its kind and name.
Called = tuple[str, str]


@dataclass
class CallCounts:
    """Of what has one name, so far. buckets: how many took at most the bound, by the bounds."""

    outcomes: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CallRates:
    """Per second, and in seconds. failed: all that did not end as "ok"."""

    kind: str
    name: str
    calls: float
    failed: float
    p50: float | None
    p99: float | None

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


Reading = Mapping[Called, CallCounts]


def rates(now: Reading, before: Reading, seconds: float) -> list[CallRates]:
    """Those that were called meanwhile, the busiest first."""
    found = []
    for called, counts in now.items():
        earlier = before.get(called, CallCounts())
        ended = {outcome: count - earlier.outcomes.get(outcome, 0) for outcome, count in counts.outcomes.items()}
        if (calls := sum(ended.values())) > 0:
            took = {bound: count - earlier.buckets.get(bound, 0) for bound, count in counts.buckets.items()}
            found.append(CallRates(*called, calls / seconds, (calls - ended.get("ok", 0)) / seconds,
                                   quantile(took, 0.5), quantile(took, 0.99)))
    return sorted(found, key=lambda one: -one.calls)


def together(reading: Reading) -> CallCounts:
    """The sums of all."""
    found = CallCounts()
    for counts in reading.values():
        _add(found.outcomes, counts.outcomes)
        _add(found.buckets, counts.buckets)
    return found


def _add(sums: dict[Key, float], more: Mapping[Key, float]) -> None:
    for key, count in more.items():
        sums[key] = sums.get(key, 0) + count


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The time that this share of the calls stayed below. None if there were none."""
    bounds: Sequence[float] = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank, low, below = share * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds[:-1]:  # the last is infinite
        if (upto := buckets[bound]) >= rank:
            return low + (bound - low) * ((rank - below) / (upto - below) if upto > below else 1.0)
        low, below = bound, upto
    return low
