"""The findings: sentences derived from the numbers by rules, so that each machine gets its own.

A ratio counts only when there are several rounds, all on the same side of 1; otherwise the difference may be chance.
Findings give the median, and in brackets the lowest and the highest round. When other processes disturbed the run, no
designs are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gothreads.tools.compare.figures import Figure
from gothreads.tools.compare.formatting import listed, number, place, spread, times
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.workload import Workload

#: What a finding is about. HEADINGS has the heading that it is listed under.
Kind = Literal["wrong", "short", "wins", "loses", "even", "scales", "price", "between", "memory", "cannot", "trust"]
HEADINGS: dict[Kind, str] = {
    "wrong": "Wrong results",
    "short": "Summary",
    "between": "What runs while nobody calls",
    "wins": "Where threads are better",
    "loses": "Where threads are worse",
    "even": "Where there is no difference",
    "scales": "What more processors gain",
    "price": "What threads cost in CPU time",
    "memory": "What blocked callers cost in memory",
    "cannot": "What was not measured, and why",
    "trust": "How reliable these figures are"}

#: A smaller difference does not count.
EVEN = 0.05
#: A ratio is rough when its rounds differ by more than this.
ROUGH = 0.4
#: The share of all processors from which on other processes disturb a run so much that designs cannot be compared.
DISTURBED = 0.25
#: What compares designs.
_COMPARING: tuple[Kind, ...] = ("short", "wins", "loses", "even", "scales", "price", "memory")
#: Workloads with rules of their own.
_SPECIAL = ("memory", "memory-data", "timers")


@dataclass(frozen=True)
class ReportFinding:
    """A sentence or two."""

    kind: Kind
    text: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "text": self.text}


def findings(report: Report) -> list[ReportFinding]:
    """All findings, in the order of HEADINGS."""
    rules = (_wrong, _summary, _comparisons, _scaling, _cpu_time, _background, _memory, _not_measured, _failed,
             _reliability)
    kept = set(HEADINGS) - set(_COMPARING if why_not_compared(report) else ())
    every = [finding for rule in rules for finding in rule(report) if finding.kind in kept]
    return sorted(every, key=lambda finding: list(HEADINGS).index(finding.kind))


def grouped(among: Sequence[ReportFinding]) -> list[tuple[str, list[str]]]:
    """The headings that have findings, each with its sentences."""
    groups = [(heading, [finding.text for finding in among if finding.kind == kind])
              for kind, heading in HEADINGS.items()]
    return [(heading, sentences) for heading, sentences in groups if sentences]


def why_not_compared(report: Report) -> str | None:
    """Why designs cannot be compared by these figures; None if they can be."""
    if report.machine.others is not None and report.machine.others > DISTURBED:
        return f"Other processes used {report.machine.others:.0%} of the processors during the run"
    rough, total = _rough_ratios(report)
    if rough > total / 2:
        return f"The rounds of {rough} of {total} ratios differ by more than {ROUGH:.0%}"
    return None


def verdict(figure: Figure | None) -> Literal["better", "worse", "even", "open", "once"]:
    """Judges a ratio that is above 1 where the first design is better.

    "open": the rounds disagree. "once": there is only one.
    """
    if figure is None:
        return "open"
    if figure.rounds == 1:
        return "once"
    if figure.low > 1 and figure.median > 1 + EVEN:
        return "better"
    if figure.high < 1 and figure.median < 1 - EVEN:
        return "worse"
    return "even" if abs(figure.median - 1) <= EVEN and not _rough(figure) else "open"


def _rough(figure: Figure) -> bool:
    return figure.high > figure.low * (1 + ROUGH)


def _wrong(report: Report) -> Iterator[ReportFinding]:
    for result in report.wrong:
        workload = next(workload for workload in report.measured if workload.name == result.workload)
        yield ReportFinding("wrong", f"{_where(workload, result.point)}: {result.design}: {result.problems[0]}")


def _summary(report: Report) -> Iterator[ReportFinding]:
    """One sentence for each design: how it compares with the reference, by the figures of the table."""
    total = len(report.measured)
    for design in report.present:
        if design.model == "threaded":
            continue
        names: dict[str, list[str]] = {"better": [], "worse": [], "even": [], "open": [], "once": [], "cannot": []}
        for workload in report.measured:
            point = report.headline(workload)
            if report.result(workload.name, design.name, point).cannot:
                names["cannot"].append(workload.name)
            elif (better := report.better(workload, design, point)) is not None:
                names[verdict(better)].append(workload.name)
        phrases = {"better": "better in {}", "worse": "worse in {}", "even": f"within {EVEN:.0%} in {{}}",
                   "open": "undecided in {}, as the rounds disagree", "once": "undecided in {}, measured once",
                   "cannot": "not measured in {}"}
        parts: list[str] = []
        for outcome, listing in names.items():
            if listing:
                of = f" of {total} workload{'s' * (total > 1)}" if not parts else ""
                parts.append(phrases[outcome].format(f"{len(listing)}{of} ({', '.join(listing)})"))
        if parts:
            yield ReportFinding("short", f"{design.name}, compared with {report.reference.name}: {'; '.join(parts)}.")


def _comparisons(report: Report) -> Iterator[ReportFinding]:
    """The reference against each other design, at the headline point of each workload, and with a single caller."""
    for workload in report.measured:
        if workload.name in _SPECIAL:
            continue
        points = [report.headline(workload)]
        if workload.axis == "threads" and 1 in workload.points(report.plan) and points != [1]:
            points.append(1)
        for point in points:
            yield from _comparisons_at(report, workload, point)


def _comparisons_at(report: Report, workload: Workload, point: int) -> Iterator[ReportFinding]:
    ours, metric = report.reference, workload.metrics[0]
    own = report.result(workload.name, ours.name, point).figure(metric.name)
    if own is None:
        return
    #: By how the reference does against them.
    designs: dict[str, list[str]] = {"better": [], "worse": [], "even": [], "open": [], "once": []}
    for design in report.present:
        if design.model == "threaded":
            continue
        theirs = report.better(workload, design, point)
        match verdict(_reciprocal(theirs)):
            case "better":
                designs["better"].append(_ratio(_reciprocal(theirs), f"better than {design.name}"))
            case "worse":
                designs["worse"].append(f"{design.name} is {_ratio(theirs, 'better')}")
            case judged:
                designs[judged].append(design.name)
    what = f"{_where(workload, point)}: {number(own.median, metric.unit)} ({metric.title}) with {ours.name}"
    if designs["better"]:
        yield ReportFinding("wins", f"{what}, which is {listed(designs['better'])}.")
    if designs["worse"]:
        yield ReportFinding("loses", f"{what}; {listed(designs['worse'])}.")
    if designs["even"]:
        verb = "are" if len(designs["even"]) > 1 else "is"
        yield ReportFinding("even", f"{_where(workload, point)}: {listed(designs['even'])} {verb} within {EVEN:.0%} of "
                            f"{ours.name}.")


def _ratio(figure: Figure | None, comparison: str) -> str:
    """Such as "1.90 times as much [1.80–2.00]", for the comparison "as much"."""
    assert figure is not None
    return f"{times(figure.median)} times {comparison} [{spread(figure) or 'one sample'}]"


def _reciprocal(figure: Figure | None) -> Figure | None:
    if figure is None or not figure.low:
        return None
    return Figure(1 / figure.median, 1 / figure.high, 1 / figure.low, figure.rounds)


def _scaling(report: Report) -> Iterator[ReportFinding]:
    """One proc against all procs, with as many callers as procs."""
    ours = report.reference
    one = next((design for design in report.present if design.model == "threaded" and design.procs == 1), None)
    if one is None or ours.procs == 1:
        return
    faster, no_faster = [], []
    for workload in report.measured:
        if workload.axis != "threads" or ours.procs not in workload.points(report.plan):
            continue
        figure = report.better(workload, ours, ours.procs, than=one)
        gain = f"{workload.title} ({times(figure.median)} times as good)" if figure else ""
        match verdict(figure):
            case "better":
                faster.append(gain)
            case "worse" | "even":
                no_faster.append(gain)
    callers = f"With {ours.procs} threads that call, {ours.name} is"
    if faster:
        yield ReportFinding("scales", f"{callers} better than {one.name} in {listed(faster)}.")
    if no_faster:
        yield ReportFinding("scales", f"{callers} no better than {one.name} in {listed(no_faster)}.")


def _cpu_time(report: Report) -> Iterator[ReportFinding]:
    """CPU time of the same call with a single caller: other load on the machine affects it least."""
    ours = report.reference
    for other in report.present:
        if other.model not in ("single", "native"):
            continue
        ratios = []
        for workload in report.measured:
            metric = next((metric for metric in workload.metrics if metric.name == "cpu"), None)
            if metric is not None and 1 in workload.points(report.plan) and not workload.fresh:
                figure = report.better(workload, other, 1, than=ours, metric=metric)
                if figure is not None and verdict(figure) not in ("open", "once"):
                    ratios.append(f"{workload.title} ({times(figure.median)} times)")
        if ratios:
            yield ReportFinding("price", f"CPU time of a call with a single caller, {ours.name} relative to "
                                f"{other.name}: {listed(ratios)}.")


def _background(report: Report) -> Iterator[ReportFinding]:
    """Case 1 and case 2: what runs while no call is in the module."""
    for name, metric, title in (("background", "between", "Steps of background work while no call is in the module"),
                                ("timers", "fired", "Ticks of a ticker while nobody calls")):
        workload = next((workload for workload in report.measured if workload.name == name), None)
        if workload is None:
            continue
        unit = next(known.unit for known in workload.metrics if known.name == metric)
        figures = {design.name: figure for design in report.present
                   if (figure := report.result(name, design.name, 1).figure(metric))}
        running = [f"{design} {number(figure.median, unit)}" for design, figure in figures.items() if figure.high > 0]
        stopped = [design for design, figure in figures.items() if figure.high == 0]
        if figures:
            nothing = f" With {listed(stopped)}, nothing runs." if stopped else ""
            yield ReportFinding("between", f"{title}: {', '.join(running) or 'none'}.{nothing}")
        if name == "background":
            yield from _latency_beside_work(report)


def _latency_beside_work(report: Report) -> Iterator[ReportFinding]:
    latencies = []
    for design in report.present:
        alone, beside = (report.result("background", design.name, 1).figure(which) for which in ("alone", "beside"))
        if alone and beside:
            latencies.append(f"{design.name} {number(alone.median, 's')} → {number(beside.median, 's')}")
    if latencies:
        yield ReportFinding("between",
                            f"Median time of a call without that work → beside it: {', '.join(latencies)}.")


def _memory(report: Report) -> Iterator[ReportFinding]:
    for workload in report.measured:
        if workload.name in ("memory", "memory-data"):
            yield from _memory_of_pool(report, workload)
            yield from _memory_of_native(report, workload)


def _memory_of_pool(report: Report, workload: Workload) -> Iterator[ReportFinding]:
    """Against a pool, at the most callers up to 64 for which both were measured."""
    ours, pool = report.reference, next((design for design in report.present if design.model == "pool"), None)
    if pool is None:
        return
    both = [point for point in workload.points(report.plan)
            if all(report.result(workload.name, design.name, point).figure("resident") for design in (ours, pool))]
    if not both:
        return
    point = max((point for point in both if point <= 64), default=min(both))
    mine, theirs = (report.result(workload.name, design.name, point).figure("resident") for design in (ours, pool))
    ratio = _reciprocal(report.better(workload, pool, point))
    if mine and theirs:
        yield ReportFinding("memory", f"{_blocked(report, workload, point)} take {number(mine.median, 'bytes')} with "
                            f"{ours.name} and {number(theirs.median, 'bytes')} in a pool of {point} instances: "
                            f"{_ratio(ratio, 'as much')}.")


def _memory_of_native(report: Report, workload: Workload) -> Iterator[ReportFinding]:
    native = next((design for design in report.present if design.model == "native"), None)
    if native is None:
        return
    point = report.headline(workload)
    figure = report.better(workload, native, point)
    theirs = report.result(workload.name, native.name, point).figure("resident")
    if theirs is not None and verdict(figure) == "better":
        yield ReportFinding("loses", f"{_blocked(report, workload, point)} take {number(theirs.median, 'bytes')} with "
                            f"{native.name}; with {report.reference.name}, {_ratio(figure, 'as much')}.")


def _blocked(report: Report, workload: Workload, point: int) -> str:
    data = f", with {report.plan.heap_megabytes} MB of data," if workload.name == "memory-data" else ""
    return f"{point} blocked callers{data}"


def _not_measured(report: Report) -> Iterator[ReportFinding]:
    for design in report.designs:
        if design.name in report.missing:
            yield ReportFinding("cannot", f"{design.name} was not measured: {report.missing[design.name]}.")
    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}  # by reason, the designs and the workloads
    for result in report.results:
        workload = next((workload for workload in report.measured if workload.name == result.workload), None)
        if workload is not None and result.cannot:
            names, titles = reasons.setdefault(result.cannot, ({}, {}))
            names[result.design], titles[workload.title] = None, None
    for reason, (names, titles) in reasons.items():
        what, subject = listed(list(titles)), "each" if len(names) > 1 else "it"
        yield ReportFinding("cannot", f"{_capitalized(what)}: not measured with {listed(list(names))}; "
                            f"{subject} {reason}.")


def _failed(report: Report) -> Iterator[ReportFinding]:
    for result in report.results:
        if result.problems and not result.wrong:
            yield ReportFinding("cannot",
                                f"{result.workload} at {result.point}: {result.design} failed: {result.problems[0]}")


def _reliability(report: Report) -> Iterator[ReportFinding]:
    rough, total = _rough_ratios(report)
    if (reason := why_not_compared(report)) is not None:
        yield ReportFinding("trust", f"{reason}. So the designs are not compared: measure again on a quiet machine.")
    elif report.machine.shared and report.machine.others is not None:
        yield ReportFinding("trust",
                            f"Other processes used {report.machine.others:.0%} of the processors during the run. This "
                            "affects latencies, and figures with several threads or procs; less so ratios. Measure "
                            "again on a quiet machine.")
    if rough and reason is None:
        repeats = report.plan.repeats
        yield ReportFinding("trust",
                            f"The rounds of {rough} of {total} ratios differ by more than {ROUGH:.0%}. The findings "
                            "count a ratio only if all its rounds agree on which design is better; with "
                            f"{repeats} rounds, they agree by chance in {2 / 2 ** repeats:.0%} of cases.")
    if report.plan.repeats == 1:
        yield ReportFinding("trust", "There was only one round, so any of these differences may be chance.")
    if report.plan.quick:
        yield ReportFinding("trust", "Measured with --quick: short samples at few points.")
    if report.interrupted:
        yield ReportFinding("trust", "The run was interrupted: only what was measured before that is shown.")


def _rough_ratios(report: Report) -> tuple[int, int]:
    """How many of the table's ratios are rough, and of how many with several rounds."""
    figures = [report.better(workload, design, report.headline(workload))
               for workload in report.measured for design in report.present if design != report.reference]
    several = [figure for figure in figures if figure is not None and figure.rounds > 1]
    return sum(map(_rough, several)), len(several)


def _where(workload: Workload, point: int) -> str:
    where = place(workload, point)
    return f"{_capitalized(workload.title)}, {where}" if where else _capitalized(workload.title)


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]
