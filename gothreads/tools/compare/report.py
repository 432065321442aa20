"""What was measured, as a whole: results by workload, design and point. Values; and their form as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.designs import Design, reference
from gothreads.tools.compare.figures import PERCENTILES, Figure, Latencies, Sample, ratio
from gothreads.tools.compare.machine import Machine
from gothreads.tools.compare.plan import Plan
from gothreads.tools.compare.workload import Metric, Workload


@dataclass
class Result:
    """Of one workload, under one design, at one point. `samples` by round; None where it failed or was wrong, which `problems` tell."""

    workload: str
    design: str
    point: int
    cannot: str | None = None
    samples: list[Sample | None] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    wrong: bool = False

    def values(self, metric: str) -> list[float | None]:
        """By round."""
        return [None if sample is None else sample.values.get(metric) for sample in self.samples]

    def figure(self, metric: str) -> Figure | None:
        return Figure.of([value for value in self.values(metric) if value is not None])

    @property
    def latencies(self) -> Latencies | None:
        """Of all rounds."""
        found = Latencies()
        for sample in self.samples:
            if sample is not None and sample.latencies is not None:
                found.add(sample.latencies)
        return found if found.count else None

    @property
    def series(self) -> dict[str, Any]:
        """Of the round in which most was done: what else the machine does only takes away."""
        found = [sample.series for sample in self.samples if sample is not None and sample.series]
        return max(found, key=lambda series: sum(series["steps"]), default={})


@dataclass
class Report:
    """`missing`: designs that could not be measured at all, and why. `seconds` that it took."""

    machine: Machine
    plan: Plan
    designs: list[Design]
    workloads: list[str]
    missing: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    begun: str = ""
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def reference(self) -> Design:
        return reference(self.designs)

    @property
    def present(self) -> list[Design]:
        return [design for design in self.designs if design.name not in self.missing]

    @property
    def measured(self) -> list[Workload]:
        """Those that there is something of."""
        names = {result.workload for result in self.results if result.samples}
        return [WORKLOADS[name]() for name in self.workloads if name in names]

    @property
    def wrong(self) -> list[Result]:
        return [result for result in self.results if result.wrong]

    def result(self, workload: str, design: str, point: int) -> Result:
        """An empty one when there is none."""
        for result in self.results:
            if (result.workload, result.design, result.point) == (workload, design, point):
                return result
        return Result(workload, design, point)

    def headline(self, workload: Workload) -> int:
        return workload.headline(self.plan, self.machine.processors)

    def better(self, workload: Workload, design: Design, point: int, than: Design | None = None, metric: Metric | None = None) -> Figure | None:
        """How many times better it is than the reference (or another): above 1, more of what more is good of, or less. Round by round."""
        metric = metric or workload.metrics[0]
        ours = self.result(workload.name, design.name, point).values(metric.name)
        theirs = self.result(workload.name, (than or self.reference).name, point).values(metric.name)
        return ratio(ours, theirs) if metric.more else ratio(theirs, ours)

    def to_json(self, findings: Sequence[dict[str, str]]) -> dict[str, Any]:
        """All of it. Times in seconds, memory in bytes."""
        return {
            "begun": self.begun, "seconds": round(self.seconds, 1), "interrupted": self.interrupted, "machine": asdict(self.machine), "plan": asdict(self.plan),
            "reference": self.reference.name, "designs": [{**asdict(design), "missing": self.missing.get(design.name)} for design in self.designs],
            "findings": list(findings), "workloads": [self._workload(workload) for workload in self.measured]}

    def _workload(self, workload: Workload) -> dict[str, Any]:
        results = [result for result in self.results if result.workload == workload.name]
        return {"name": workload.name, "title": workload.title, "about": workload.about, "axis": workload.axis, "headline": self.headline(workload),
                "metrics": [asdict(metric) for metric in workload.metrics], "results": [self._result(workload, result) for result in results]}

    def _result(self, workload: Workload, result: Result) -> dict[str, Any]:
        design = next(design for design in self.designs if design.name == result.design)
        figures = {metric.name: figure and asdict(figure) for metric in workload.metrics for figure in (result.figure(metric.name),)}
        against = {metric.name: better and asdict(better) for metric in workload.metrics
                   for better in (self.better(workload, design, result.point, metric=metric),)}
        return {"design": result.design, "point": result.point, "cannot": result.cannot, "problems": result.problems, "wrong": result.wrong,
                "figures": figures, "better_than_reference": against, "latencies": percentiles(result.latencies),
                "buckets": None if result.latencies is None else result.latencies.to_json(),
                "rounds": [None if sample is None else sample.values for sample in result.samples], "series": result.series}

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Report:
        """What to_json gave, to be shown again; the calls' times are all in the first round then."""
        designs = [Design(**{name: value for name, value in design.items() if name != "missing"}) for design in about["designs"]]
        report = cls(Machine(**about["machine"]), Plan.from_json(about["plan"]), designs, [workload["name"] for workload in about["workloads"]],
                     {design["name"]: design["missing"] for design in about["designs"] if design["missing"]}, [], about["begun"], about["seconds"],
                     about["interrupted"])
        for workload in about["workloads"]:
            for result in workload["results"]:
                samples = [None if values is None else Sample(values) for values in result["rounds"]]
                first = next((place for place, sample in enumerate(samples) if sample is not None), None)
                if first is not None:
                    buckets = result["buckets"]
                    samples[first] = Sample(result["rounds"][first], None if buckets is None else Latencies.from_json(buckets), result["series"])
                report.results.append(Result(workload["name"], result["design"], result["point"], result["cannot"], samples, result["problems"],
                                             result["wrong"]))
        return report


def percentiles(latencies: Latencies | None) -> dict[str, float | int | None] | None:
    """By p50 …, in seconds; None of those for which too few calls were measured."""
    if latencies is None:
        return None
    return {"calls": latencies.count, **{f"p{percent:g}": latencies.percentile(percent) for percent in PERCENTILES}}
