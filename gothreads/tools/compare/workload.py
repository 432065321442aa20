"""What a workload is: something to measure under each design, with a check of every result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from gothreads.errors import GothreadsError
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Sample
from gothreads.tools.compare.peers import Peer
from gothreads.tools.compare.plan import Plan

#: How a figure is shown.
Unit = Literal["/s", "s", "bytes/s", "bytes", "CPU s/s", "%"]


class WrongResult(GothreadsError):
    """A call gave something else than it should have: nothing that was measured with it counts."""


@dataclass(frozen=True)
class Metric:
    """One of a sample's values. `title` goes on with the workload's; `more`: whether more is better."""

    name: str
    title: str
    unit: Unit
    more: bool


RATE = Metric("rate", "calls", "/s", more=True)
CPU = Metric("cpu", "CPU time of a call", "s", more=False)


class Workload(ABC):
    """One thing that is measured. Made anew in each process that needs it; `measure` runs in the design's own process."""

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    #: What `points` are.
    axis: ClassVar[str] = "threads"
    #: The first is the one that findings go by.
    metrics: ClassVar[tuple[Metric, ...]] = (RATE, CPU)
    #: Whether each sample is measured in a fresh process.
    fresh: ClassVar[bool] = False

    @abstractmethod
    def points(self, plan: Plan) -> Sequence[int]:
        """Where it is measured: numbers of threads, bytes, and the like."""

    def headline(self, plan: Plan, processors: int) -> int:
        """The point that the table and the findings show."""
        points = self.points(plan)
        return processors if processors in points else points[-1]

    def cannot(self, design: Design, point: int, plan: Plan) -> str | None:
        """Why the design cannot do it, if it cannot: a clause that goes on after its name."""
        return None

    def host(self) -> Callable[[int], int]:
        """What the program's calls of the host do."""
        return add_one

    def instances(self, design: Design, point: int) -> int | None:
        """How many instances a pool has for this point."""
        return design.instances

    @abstractmethod
    def measure(self, peer: Peer, point: int, plan: Plan) -> Sample:
        """One sample. WrongResult when a result is not what it must be."""


def add_one(value: int) -> int:
    return value + 1


def check(what: str, found: object, expected: object) -> None:
    """Raises WrongResult unless they are the same."""
    if found != expected:
        raise WrongResult(f"{what}: {_cut(found)} where it must be {_cut(expected)}")


def _cut(value: object) -> str:
    text = repr(value[:40]) + f"… ({len(value)} bytes)" if isinstance(value, bytes) and len(value) > 40 else repr(value)
    return text[:200]
