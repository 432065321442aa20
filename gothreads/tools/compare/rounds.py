"""Rounds through everything that is compared: whatever else the machine does affects all alike.

Figures are compared within a round. Every other round runs backwards, so that drift affects the first as much as the
last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def in_rounds(jobs: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Each job once in each round: the number of the round, from 0, and the job."""
    for number in range(rounds):
        for job in jobs if number % 2 == 0 else reversed(jobs):
            yield number, job


def interleaved(measurements: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Takes each measurement once in each round. By name, what each gave, by round."""
    samples: dict[str, list[T]] = {name: [] for name in measurements}
    for _, name in in_rounds(list(measurements), rounds):
        samples[name].append(measurements[name]())
    return samples
