"""Samples by design and round, each with figures by name: their medians, and ratios within rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

from gothreads.tools.compare.figures import median_ratio

#: What identifies a design.
D = TypeVar("D")


def medians(samples: Mapping[D, Sequence[Mapping[str, float]]]) -> dict[D, dict[str, float]]:
    """By design and figure, the median of the rounds."""
    return {design: {name: statistics.median(sample[name] for sample in rounds) for name in rounds[0]}
            for design, rounds in samples.items()}


def relative(samples: Mapping[D, Sequence[float]], unit: str, to: D) -> dict[D, dict[str, float]]:
    """By design, the median of one figure, named by its unit, and the median of the rounds' ratios to a design."""
    return {design: {unit: statistics.median(rounds), "ratio": median_ratio(rounds, samples[to])}
            for design, rounds in samples.items()}


def compared(samples: Mapping[D, Sequence[Mapping[str, float]]], name: str, one: D, other: D) -> float:
    """A figure of one design, divided by another's: the median of the rounds' ratios."""
    return median_ratio((sample[name] for sample in samples[one]), (sample[name] for sample in samples[other]))
