"""What the numbers say, in words, by rules: another machine's numbers lead to other findings.

A ratio counts when all its rounds are on the same side of 1: only then was one design better than the other, and not by
chance. The findings give its median.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Figure
from gothreads.tools.compare.formatting import listed, number, place, spread, times
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.workload import Workload

#: What a finding is about, and the heading it is listed under.
Kind = Literal["wrong", "short", "wins", "loses", "even", "scales", "price", "between", "memory", "cannot", "trust"]
HEADINGS: dict[Kind, str] = {
    "wrong": "Wrong results",
    "short": "In short",
    "between": "What goes on while nobody calls",
    "wins": "Where threads win",
    "loses": "Where threads lose, and to whom",
    "even": "Where it makes no difference",
    "scales": "What more processors bring",
    "price": "What threads cost",
    "memory": "What callers cost in memory",
    "cannot": "What cannot be done",
    "trust": "How far to trust this"}

#: A smaller difference does not count.
EVEN = 0.05
#: Ratios whose rounds differ by more than this are rough.
ROUGH = 0.4


@dataclass(frozen=True)
class ReportFinding:
    """A sentence or a few."""

    kind: Kind
    text: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "text": self.text}


def findings(report: Report) -> list[ReportFinding]:
    """Everything the report's numbers say, in the order of HEADINGS."""
    rules = (_wrong, _short, _peers, _scaling, _price, _between, _memory, _cannot, _failed, _trust)
    every = [finding for rule in rules for finding in rule(report)]
    return sorted(every, key=lambda finding: list(HEADINGS).index(finding.kind))


def verdict(figure: Figure | None) -> Literal["better", "worse", "even", "open"]:
    """Judges a ratio that is above 1 where the first design is better. "open": the rounds disagree."""
    if figure is None:
        return "open"
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


def _short(report: Report) -> Iterator[ReportFinding]:
    """Each peer in one sentence: where it is worse than the reference and where better, by the table's figures."""
    ours = report.reference
    for peer in report.present:
        names: dict[str, list[str]] = {"worse": [], "better": [], "even": [], "open": [], "cannot": []}
        for workload in report.measured:
            point = report.headline(workload)
            if report.result(workload.name, peer.name, point).cannot:
                names["cannot"].append(workload.name)
            elif (better := report.better(workload, peer, point)) is not None:
                names[verdict(better)].append(workload.name)
        words = {"worse": "worse in", "better": "better in", "even": "as good in", "open": "now better, now worse in",
                 "cannot": "cannot do"}
        parts = [f"{words[how]} {len(listing)} ({', '.join(listing)})" for how, listing in names.items() if listing]
        if peer.model != "threaded" and parts:
            yield ReportFinding("short", f"{peer.name}, against {ours.name}: {'; '.join(parts)}.")


def _peers(report: Report) -> Iterator[ReportFinding]:
    """The reference against each peer, at the headline point of each workload, and with a single caller."""
    for workload in report.measured:
        if workload.name in ("memory", "memory-data", "timers"):  # they have rules of their own
            continue
        points = [report.headline(workload)]
        if workload.axis == "threads" and 1 in workload.points(report.plan) and points != [1]:
            points.append(1)
        for point in points:
            yield from _peers_at(report, workload, point)


def _peers_at(report: Report, workload: Workload, point: int) -> Iterator[ReportFinding]:
    ours, metric = report.reference, workload.metrics[0]
    own = report.result(workload.name, ours.name, point).figure(metric.name)
    if own is None:
        return
    figures: dict[str, list[tuple[Design, Figure | None]]] = {"better": [], "worse": [], "even": []}
    for design in report.present:
        figure = _reciprocal(report.better(workload, design, point))
        if design.model != "threaded" and (judged := verdict(figure)) != "open":
            figures[judged].append((design, figure))
    what = f"{_where(workload, point)}: {number(own.median, metric.unit)} ({metric.title}) in {ours.name}"
    if figures["better"]:
        yield ReportFinding("wins", f"{what}; that is {_against(figures['better'])}.")
    if figures["worse"]:
        worse = [f"{design.name} ({_ratio(_reciprocal(figure))})" for design, figure in figures["worse"]]
        yield ReportFinding("loses", f"{what}. Better: {listed(worse)}.")
    if figures["even"]:
        names = listed([design.name for design, _ in figures["even"]])
        yield ReportFinding("even", f"{_where(workload, point)}: {ours.name} and {names}.")


def _against(better: list[tuple[Design, Figure | None]]) -> str:
    return listed([f"{_ratio(figure)} better than {design.name}" for design, figure in better])


def _ratio(figure: Figure | None) -> str:
    assert figure is not None
    rounds = spread(figure)
    return f"{times(figure.median)} times{f' [{rounds}]' if rounds else ''}"


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
    grown, not_grown = [], []
    for workload in report.measured:
        if workload.axis != "threads" or ours.procs not in workload.points(report.plan):
            continue
        figure = report.better(workload, ours, ours.procs, than=one)
        gain = f"{workload.title} ({times(figure.median)} times)" if figure else ""
        match verdict(figure):
            case "better":
                grown.append(gain)
            case "worse" | "even":
                not_grown.append(gain)
    callers = f"With {ours.procs} threads that call, {ours.procs} procs"
    if grown:
        yield ReportFinding("scales", f"{callers} give more than one: {listed(grown)}.")
    if not_grown:
        yield ReportFinding("scales", f"{callers} give no more than one: {listed(not_grown)}.")


def _price(report: Report) -> Iterator[ReportFinding]:
    """CPU time of the same call with a single caller: other load on the machine affects it least."""
    ours = report.reference
    for peer in report.present:
        if peer.model not in ("single", "native"):
            continue
        costs = []
        for workload in report.measured:
            metric = next((metric for metric in workload.metrics if metric.name == "cpu"), None)
            if metric is not None and 1 in workload.points(report.plan) and not workload.fresh:
                figure = report.better(workload, peer, 1, than=ours, metric=metric)
                if figure is not None and verdict(figure) != "open":
                    costs.append(f"{workload.title} ({times(figure.median)})")
        if costs:
            yield ReportFinding("price",
                                f"CPU time of a call by one caller alone, {ours.name} as a multiple of {peer.name}: "
                                f"{listed(costs)}.")


def _between(report: Report) -> Iterator[ReportFinding]:
    """Case 1 and case 2: what goes on while no call is in the module."""
    for name, metric, what in (("background", "between", "steps of work in the background, while no call is in"),
                               ("timers", "fired", "ticks of a ticker, while nobody calls")):
        workload = next((workload for workload in report.measured if workload.name == name), None)
        if workload is None:
            continue
        unit = next(known.unit for known in workload.metrics if known.name == metric)
        figures = {design.name: figure for design in report.present
                   if (figure := report.result(name, design.name, 1).figure(metric))}
        moving = [f"{design}: {number(figure.median, unit)}" for design, figure in figures.items() if figure.high > 0]
        still = [design for design, figure in figures.items() if figure.high == 0]
        if figures:
            stand = "stands" if len(still) == 1 else "stand"
            stopped = f" None at all: {listed(still)}, which {stand} still." if still else ""
            yield ReportFinding("between",
                                f"{what[0].upper()}{what[1:]}. {', '.join(moving) or 'None moves'}.{stopped}")
        if name == "background":
            yield from _beside(report)


def _beside(report: Report) -> Iterator[ReportFinding]:
    """How background work affects a call."""
    latencies = []
    for design in report.present:
        alone, beside = (report.result("background", design.name, 1).figure(which) for which in ("alone", "beside"))
        if alone and beside:
            latencies.append(f"{design.name}: {number(alone.median, 's')} → {number(beside.median, 's')}")
    if latencies:
        yield ReportFinding("between",
                            "What that work does to a call (median, without it → beside it). "
                            f"{', '.join(latencies)}.")


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
        yield ReportFinding("memory",
                            f"{point} blocked callers{_data(report, workload)}: {number(mine.median, 'bytes')} in "
                            f"{ours.name}, {number(theirs.median, 'bytes')} in a pool of {point} instances, "
                            f"{_ratio(ratio)} as much.")


def _memory_of_native(report: Report, workload: Workload) -> Iterator[ReportFinding]:
    native = next((design for design in report.present if design.model == "native"), None)
    if native is None:
        return
    point = report.headline(workload)
    figure = report.better(workload, native, point)
    theirs = report.result(workload.name, native.name, point).figure("resident")
    if theirs is not None and verdict(figure) == "better":
        yield ReportFinding("loses", f"{point} blocked callers{_data(report, workload)}: {native.name} takes "
                            f"{number(theirs.median, 'bytes')}, and {report.reference.name} {_ratio(figure)} as much.")


def _data(report: Report, workload: Workload) -> str:
    return f", with data of {report.plan.heap_megabytes} MB" if workload.name == "memory-data" else ""


def _cannot(report: Report) -> Iterator[ReportFinding]:
    for design in report.designs:
        if design.name in report.missing:
            yield ReportFinding("cannot", f"{design.name} was not measured: {report.missing[design.name]}.")
    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}  # why not: the designs, and what they cannot do
    for result in report.results:
        workload = next((workload for workload in report.measured if workload.name == result.workload), None)
        if workload is not None and result.cannot:
            names, titles = reasons.setdefault(result.cannot, ({}, {}))
            names[result.design], titles[workload.title] = None, None
    for why, (names, titles) in reasons.items():
        what, which = listed(list(titles)), listed(list(names))
        sentence = f"{what}, {which}: each {why}." if len(names) > 1 else f"{what}: {which} {why}."
        yield ReportFinding("cannot", sentence[0].upper() + sentence[1:])


def _failed(report: Report) -> Iterator[ReportFinding]:
    for result in report.results:
        if result.problems and not result.wrong:
            yield ReportFinding("cannot",
                                f"{result.workload} at {result.point}: {result.design} failed: {result.problems[0]}")


def _trust(report: Report) -> Iterator[ReportFinding]:
    if report.machine.shared and report.machine.others is not None:
        yield ReportFinding("trust",
                            f"Other processes used {report.machine.others:.0%} of the processors meanwhile, which "
                            "affects the figures for several threads or procs, and latencies. Read ratios, and run it "
                            "again on a quiet machine.")
    rough = total = 0
    for workload in report.measured:
        for design in report.present:
            figure = report.better(workload, design, report.headline(workload))
            if design != report.reference and figure is not None and figure.rounds > 1:
                total += 1
                rough += _rough(figure)
    if rough:
        repeats = report.plan.repeats
        yield ReportFinding("trust",
                            f"{rough} of {total} ratios differ by more than {ROUGH:.0%} from round to round. The "
                            "findings above use only ratios whose rounds all agree on which design is better; with "
                            f"{repeats} rounds, {2 / 2 ** repeats:.0%} of chance results agree, too.")
    if report.plan.quick:
        yield ReportFinding("trust", "This was --quick: short samples at few points.")
    if report.interrupted:
        yield ReportFinding("trust", "It was interrupted: this is what was measured until then.")


def _where(workload: Workload, point: int) -> str:
    title = workload.title[0].upper() + workload.title[1:]
    where = place(workload, point)
    return f"{title}, {where}" if where else title
