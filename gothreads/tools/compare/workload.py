"""The interface of a workload: something to measure under each design, with a check of every result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from gothreads.errors import GothreadsError
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Sample
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.peers import Peer

#: The unit in which a figure is shown.
Unit = Literal["/s", "s", "bytes/s", "bytes", "CPU s/s", "%"]


class IncorrectResult(GothreadsError):
    """A call returned a wrong result: nothing measured with it counts."""


@dataclass(frozen=True)
class Metric:
    """One value of a sample. `title` continues the workload's; `more`: whether more is better."""

    name: str
    title: str
    unit: Unit
    more: bool


RATE = Metric("rate", "calls", "/s", more=True)
CPU = Metric("cpu", "CPU time of a call", "s", more=False)


class Workload(ABC):
    """One thing to measure. Each process that needs it makes its own; `measure` runs in the design's process."""

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    #: What `points` are.
    axis: ClassVar[str] = "threads"
    #: Findings go by the first.
    metrics: ClassVar[tuple[Metric, ...]] = (RATE, CPU)
    #: Whether each sample needs a fresh process.
    fresh: ClassVar[bool] = False

    @abstractmethod
    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        """The points at which it is measured: numbers of threads, bytes, and so on."""

    def headline(self, plan: MeasurementPlan, processors: int) -> int:
        """The point that the table and the findings show."""
        points = self.points(plan)
        return processors if processors in points else points[-1]

    def cannot(self, design: Design, point: int, plan: MeasurementPlan) -> str | None:
        """Why the design cannot do it, as a clause that follows the design's name; None when it can."""
        return None

    def host(self) -> Callable[[int], int]:
        """The function that the program calls in the host."""
        return add_one

    def instances(self, design: Design, point: int) -> int | None:
        """How many instances a pool has at this point."""
        return design.instances

    @abstractmethod
    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        """One sample. IncorrectResult when a result is wrong."""


def add_one(value: int) -> int:
    return value + 1


def check(what: str, actual: object, expected: object) -> None:
    """Raises IncorrectResult unless both are equal."""
    if actual != expected:
        raise IncorrectResult(f"{what}: {_cut(actual)} where it must be {_cut(expected)}")


def _cut(value: object) -> str:
    if isinstance(value, bytes) and len(value) > 40:
        return f"{value[:40]!r}… ({len(value)} bytes)"
    return repr(value)[:200]
