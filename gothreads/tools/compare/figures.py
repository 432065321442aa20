"""Measured values, and what is computed from several of them. Values only."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: The percentiles that are reported, with the number of values that each needs to mean anything.
PERCENTILES = {50.0: 2, 90.0: 20, 99.0: 200, 99.9: 2000}


class Latencies:
    """How long calls took, in nanoseconds, in buckets of two significant digits: small for any number of calls. For one
    thread.
    """

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self.buckets: Counter[int] = Counter(buckets or {})

    @classmethod
    def of(cls, nanoseconds: Iterable[int]) -> Latencies:
        return cls(Counter(map(_bucket, nanoseconds)))

    @property
    def count(self) -> int:
        return self.buckets.total()

    def add(self, other: Latencies) -> None:
        self.buckets.update(other.buckets)

    def percentile(self, percent: float) -> float | None:
        """In seconds; None when too few calls were measured for it (PERCENTILES)."""
        count = self.count
        if count < PERCENTILES.get(percent, 1) or not count:
            return None
        target, seen = math.ceil(count * percent / 100), 0
        for nanoseconds in sorted(self.buckets):
            seen += self.buckets[nanoseconds]
            if seen >= target:
                return nanoseconds / 1e9
        raise AssertionError("buckets do not add up")

    def curve(self) -> list[tuple[float, float]]:
        """(fraction of all calls, the seconds that they did not exceed), rising."""
        count, seen, points = self.count, 0, []
        for nanoseconds in sorted(self.buckets):
            seen += self.buckets[nanoseconds]
            points.append((seen / count, nanoseconds / 1e9))
        return points

    def to_json(self) -> dict[str, int]:
        return {str(nanoseconds): count for nanoseconds, count in sorted(self.buckets.items())}

    @classmethod
    def from_json(cls, buckets: Mapping[str, int]) -> Latencies:
        return cls({int(nanoseconds): count for nanoseconds, count in buckets.items()})


def _bucket(nanoseconds: int) -> int:
    if nanoseconds < 100:
        return max(nanoseconds, 0)
    scale: int = 10 ** (len(str(nanoseconds)) - 2)
    return (nanoseconds + scale // 2) // scale * scale


@dataclass(frozen=True)
class Sample:
    """One measurement. `values` by the name of a metric; `series` for the timeline."""

    values: dict[str, float]
    latencies: Latencies | None = None
    series: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Values get six digits, more than any measurement has."""
        return {"values": {name: float(f"{value:.6g}") for name, value in self.values.items()},
                "latencies": None if self.latencies is None else self.latencies.to_json(), "series": self.series}

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> Sample:
        latencies = about["latencies"]
        return cls(dict(about["values"]), None if latencies is None else Latencies.from_json(latencies),
                   dict(about["series"]))


@dataclass(frozen=True)
class Figure:
    """The median, the lowest and the highest of several rounds, and their number."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure | None:
        """None when there are no values."""
        return cls(statistics.median(values), min(values), max(values), len(values)) if values else None


def ratio(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Figure | None:
    """Ours divided by theirs, round by round: whatever else the machine did in a round affected both."""
    pairs = zip(ours, theirs, strict=False)
    return Figure.of([our / their for our, their in pairs if our is not None and their])


def median_ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """The median of the rounds' ratios. ValueError when there are none."""
    figure = ratio([*ours], [*theirs])
    if figure is None:
        raise ValueError("no round has both figures")
    return figure.median
