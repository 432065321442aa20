"""Everything that was measured: results by workload, design and point; and their form as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.designs import Design, reference
from gothreads.tools.compare.figures import PERCENTILES, Figure, Latencies, Sample, ratio
from gothreads.tools.compare.machine import Machine
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.workload import Metric, Workload


@dataclass
class Result:
    """One workload under one design at one point. `samples` by round: None where it failed or was wrong, as `problems`
    say.
    """

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
        """Those of all rounds together."""
        latencies = Latencies()
        for sample in self.samples:
            if sample is not None and sample.latencies is not None:
                latencies.add(sample.latencies)
        return latencies if latencies.count else None

    @property
    def series(self) -> dict[str, Any]:
        """That of the round in which most was done: other load on the machine can only reduce it."""
        series = [sample.series for sample in self.samples if sample is not None and sample.series]
        return max(series, key=lambda series: sum(series["steps"]), default={})


@dataclass
class Report:
    """`missing`: designs that could not be measured at all, and why. `seconds`: how long the whole took."""

    machine: Machine
    plan: MeasurementPlan
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
        """The workloads with at least one sample."""
        names = {result.workload for result in self.results if result.samples}
        return [WORKLOADS[name]() for name in self.workloads if name in names]

    @property
    def has_samples(self) -> bool:
        """Whether anything was measured."""
        return any(sample is not None for result in self.results for sample in result.samples)

    @property
    def wrong(self) -> list[Result]:
        return [result for result in self.results if result.wrong]

    def result(self, workload: str, design: str, point: int) -> Result:
        """The result, an empty one when there is none."""
        for result in self.results:
            if (result.workload, result.design, result.point) == (workload, design, point):
                return result
        return Result(workload, design, point)

    def headline(self, workload: Workload) -> int:
        return workload.headline(self.plan, self.machine.processors)

    def better(self, workload: Workload, design: Design, point: int, than: Design | None = None,
               metric: Metric | None = None) -> Figure | None:
        """How many times better a design is than the reference (or `than`), round by round. Above 1 is better, whether
        the metric is to be high or low.
        """
        metric = metric or workload.metrics[0]
        ours = self.result(workload.name, design.name, point).values(metric.name)
        theirs = self.result(workload.name, (than or self.reference).name, point).values(metric.name)
        return ratio(ours, theirs) if metric.more else ratio(theirs, ours)

    def to_json(self, findings: Sequence[dict[str, str]]) -> dict[str, Any]:
        """Everything. Times in seconds, memory in bytes."""
        return {
            "begun": self.begun, "seconds": round(self.seconds, 1), "interrupted": self.interrupted,
            "machine": asdict(self.machine), "plan": asdict(self.plan), "reference": self.reference.name,
            "designs": [{**asdict(design), "missing": self.missing.get(design.name)} for design in self.designs],
            "findings": list(findings), "workloads": [self._workload(workload) for workload in self.measured]}

    def _workload(self, workload: Workload) -> dict[str, Any]:
        results = [result for result in self.results if result.workload == workload.name]
        return {"name": workload.name, "title": workload.title, "about": workload.about, "axis": workload.axis,
                "headline": self.headline(workload), "metrics": [asdict(metric) for metric in workload.metrics],
                "results": [self._result(workload, result) for result in results]}

    def _result(self, workload: Workload, result: Result) -> dict[str, Any]:
        design = next(design for design in self.designs if design.name == result.design)
        figures = {metric.name: figure and asdict(figure) for metric in workload.metrics
                   for figure in (result.figure(metric.name),)}
        against = {metric.name: better and asdict(better) for metric in workload.metrics
                   for better in (self.better(workload, design, result.point, metric=metric),)}
        return {"design": result.design, "point": result.point, "cannot": result.cannot, "problems": result.problems,
                "wrong": result.wrong, "figures": figures, "better_than_reference": against,
                "latencies": percentiles(result.latencies),
                "buckets": None if result.latencies is None else result.latencies.to_json(),
                "rounds": [None if sample is None else sample.values for sample in result.samples],
                "series": result.series}

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Report:
        """Reads what to_json returned, to be shown again; the latencies of all rounds are in the first round then."""
        designs = [Design(**{name: value for name, value in design.items() if name != "missing"})
                   for design in about["designs"]]
        missing = {design["name"]: design["missing"] for design in about["designs"] if design["missing"]}
        report = cls(Machine(**about["machine"]), MeasurementPlan.from_json(about["plan"]), designs,
                     [workload["name"] for workload in about["workloads"]], missing, begun=about["begun"],
                     seconds=about["seconds"], interrupted=about["interrupted"])
        for workload in about["workloads"]:
            for result in workload["results"]:
                samples = [None if values is None else Sample(values) for values in result["rounds"]]
                first = next((place for place, sample in enumerate(samples) if sample is not None), None)
                if first is not None:
                    buckets = result["buckets"]
                    latencies = None if buckets is None else Latencies.from_json(buckets)
                    samples[first] = Sample(result["rounds"][first], latencies, result["series"])
                report.results.append(Result(workload["name"], result["design"], result["point"], result["cannot"],
                                             samples, result["problems"], result["wrong"]))
        return report


def percentiles(latencies: Latencies | None) -> dict[str, float | int | None] | None:
    """In seconds, by p50 and so on; None for percentiles with too few calls."""
    if latencies is None:
        return None
    return {"calls": latencies.count, **{f"p{percent:g}": latencies.percentile(percent) for percent in PERCENTILES}}
