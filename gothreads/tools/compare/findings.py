"""What the numbers say, in words: by rules, so that another machine's numbers say something else.

A ratio counts when all its rounds are on the same side: only then was one design better than another, and not by chance. What is said of
each is its median.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Figure
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.words import listed, number, place, spread, times
from gothreads.tools.compare.workload import Workload

#: What a finding is about; and the heading that it comes under.
Kind = Literal["wrong", "short", "wins", "loses", "even", "scales", "price", "between", "memory", "cannot", "trust"]
HEADINGS: dict[Kind, str] = {
    "wrong": "What gave wrong results", "short": "In short", "between": "What goes on while nobody calls", "wins": "Where threads win",
    "loses": "Where threads lose, and to whom", "even": "Where it makes no difference", "scales": "What more processors give", "price": "What threads cost",
    "memory": "What callers cost in memory", "cannot": "What cannot be done", "trust": "How far to trust this"}

#: A difference that is smaller is none.
EVEN = 0.05
#: Ratios whose rounds differ by so much are rough.
ROUGH = 0.4


@dataclass(frozen=True)
class Finding:
    """One sentence, or a few."""

    kind: Kind
    text: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "text": self.text}


def findings(report: Report) -> list[Finding]:
    """All that the report's numbers say, in the order of HEADINGS."""
    rules = (_wrong, _short, _peers, _scaling, _price, _between, _memory, _cannot, _trust)
    found = [finding for rule in rules for finding in rule(report)]
    return sorted(found, key=lambda finding: list(HEADINGS).index(finding.kind))


def verdict(figure: Figure | None) -> Literal["better", "worse", "even", "open"]:
    """Of a ratio that is above 1 where ours is better. "open": the rounds do not agree."""
    if figure is None:
        return "open"
    if figure.low > 1 and figure.median > 1 + EVEN:
        return "better"
    if figure.high < 1 and figure.median < 1 - EVEN:
        return "worse"
    return "even" if abs(figure.median - 1) <= EVEN and not _rough(figure) else "open"


def _rough(figure: Figure) -> bool:
    return figure.high > figure.low * (1 + ROUGH)


def _wrong(report: Report) -> Iterator[Finding]:
    for result in report.wrong:
        workload = next(workload for workload in report.measured if workload.name == result.workload)
        yield Finding("wrong", f"{_where(workload, result.point)}: {result.design}: {result.problems[0]}")


def _short(report: Report) -> Iterator[Finding]:
    """Each peer in one sentence: in what it is worse than the reference, in what better, by the table's figures."""
    ours = report.reference
    for peer in report.present:
        said: dict[str, list[str]] = {"worse": [], "better": [], "even": [], "open": [], "cannot": []}
        for workload in report.measured:
            point = report.headline(workload)
            if report.result(workload.name, peer.name, point).cannot:
                said["cannot"].append(workload.name)
            elif (better := report.better(workload, peer, point)) is not None:
                said[verdict(better)].append(workload.name)
        words = {"worse": "worse in", "better": "better in", "even": "as good in", "open": "now better, now worse in", "cannot": "cannot do"}
        told = [f"{words[how]} {len(names)} ({', '.join(names)})" for how, names in said.items() if names]
        if peer.model != "threaded" and told:
            yield Finding("short", f"{peer.name}, against {ours.name}: {'; '.join(told)}.")


def _peers(report: Report) -> Iterator[Finding]:
    """The reference against each peer, where each workload is at its most telling; and one caller alone."""
    ours = report.reference
    peers = [design for design in report.present if design.model != "threaded"]
    for workload in report.measured:
        if workload.name in ("memory", "memory-data", "timers"):  # they have rules of their own
            continue
        points = [report.headline(workload)]
        if workload.axis == "threads" and 1 in workload.points(report.plan) and points != [1]:
            points.append(1)
        metric = workload.metrics[0]
        for point in points:
            figures: dict[str, list[tuple[Design, Figure | None]]] = {"better": [], "worse": [], "even": []}
            for design in peers:
                figure = _reciprocal(report.better(workload, design, point))
                if (said := verdict(figure)) != "open":
                    figures[said].append((design, figure))
            own = report.result(workload.name, ours.name, point).figure(metric.name)
            if own is None:
                continue
            what = f"{_where(workload, point)}: {number(own.median, metric.unit)} ({metric.title}) in {ours.name}"
            if figures["better"]:
                yield Finding("wins", f"{what}; that is {_against(figures['better'])}.")
            if figures["worse"]:
                worse = [(design, _reciprocal(figure)) for design, figure in figures["worse"]]
                yield Finding("loses", f"{what}. Better: {listed([f'{design.name} ({_ratio(figure)})' for design, figure in worse])}.")
            if figures["even"]:
                yield Finding("even", f"{_where(workload, point)}: {ours.name} and {listed([design.name for design, _ in figures['even']])}.")


def _against(better: list[tuple[Design, Figure | None]]) -> str:
    return listed([f"{_ratio(figure)} better than {design.name}" for design, figure in better])


def _ratio(figure: Figure | None) -> str:
    assert figure is not None
    between = spread(figure)
    return f"{times(figure.median)} times{f' [{between}]' if between else ''}"


def _reciprocal(figure: Figure | None) -> Figure | None:
    if figure is None or not figure.low:
        return None
    return Figure(1 / figure.median, 1 / figure.high, 1 / figure.low, figure.rounds)


def _scaling(report: Report) -> Iterator[Finding]:
    """One proc against all, with as many callers as procs; and natively too, one caller against as many."""
    ours = report.reference
    one = next((design for design in report.present if design.model == "threaded" and design.procs == 1), None)
    if one is None or ours.procs == 1:
        return
    grown, not_grown = [], []
    for workload in report.measured:
        if workload.axis != "threads" or ours.procs not in workload.points(report.plan):
            continue
        figure = report.better(workload, ours, ours.procs, than=one)
        said = f"{workload.title} ({times(figure.median)} times)" if figure else ""
        match verdict(figure):
            case "better":
                grown.append(said)
            case "worse" | "even":
                not_grown.append(said)
    if grown:
        yield Finding("scales", f"With {ours.procs} threads that call, {ours.procs} procs give more than one: {listed(grown)}.")
    if not_grown:
        yield Finding("scales", f"With {ours.procs} threads that call, {ours.procs} procs give no more than one: {listed(not_grown)}.")


def _price(report: Report) -> Iterator[Finding]:
    """CPU time of the same call, by one caller alone: what others do on the machine matters least to it."""
    ours = report.reference
    for peer in report.present:
        if peer.model not in ("single", "native"):
            continue
        said = []
        for workload in report.measured:
            metric = next((metric for metric in workload.metrics if metric.name == "cpu"), None)
            if metric is not None and 1 in workload.points(report.plan) and not workload.fresh:
                figure = report.better(workload, peer, 1, than=ours, metric=metric)
                if figure is not None and verdict(figure) != "open":
                    said.append(f"{workload.title} ({times(figure.median)})")
        if said:
            yield Finding("price", f"CPU time of a call by one caller alone, {ours.name} against {peer.name}, as a multiple: {listed(said)}.")


def _between(report: Report) -> Iterator[Finding]:
    """Case 1 and case 2: what goes on while no call is in."""
    for name, metric, what in (("background", "between", "steps of work in the background, while no call is in"),
                               ("timers", "fired", "ticks of a ticker, while nobody calls")):
        workload = next((workload for workload in report.measured if workload.name == name), None)
        if workload is None:
            continue
        unit = next(known.unit for known in workload.metrics if known.name == metric)
        figures = {design.name: figure for design in report.present if (figure := report.result(name, design.name, 1).figure(metric))}
        moving = [f"{design}: {number(figure.median, unit)}" for design, figure in figures.items() if figure.high > 0]
        still = [design for design, figure in figures.items() if figure.high == 0]
        if figures:
            yield Finding("between", f"{what[0].upper()}{what[1:]}. {', '.join(moving) or 'None moves'}"
                          + (f". None at all: {listed(still)}, which {'stands' if len(still) == 1 else 'stand'} still." if still else "."))
        if name == "background":
            said = []
            for design in report.present:
                alone, beside = (report.result(name, design.name, 1).figure(which) for which in ("alone", "beside"))
                if alone and beside:
                    said.append(f"{design.name}: {number(alone.median, 's')} → {number(beside.median, 's')}")
            if said:
                yield Finding("between", f"What that work does to a call (median, without it → beside it). {', '.join(said)}.")


def _memory(report: Report) -> Iterator[Finding]:
    ours = report.reference
    for workload in report.measured:
        if workload.name not in ("memory", "memory-data"):
            continue
        data = f", with data of {report.plan.heap_megabytes} MB" if workload.name == "memory-data" else ""
        pool = next((design for design in report.present if design.model == "pool"), None)
        if pool is not None:
            both = [point for point in workload.points(report.plan) if all(
                report.result(workload.name, design.name, point).figure("resident") for design in (ours, pool))]
            if both:
                point = max(point for point in both if point <= 64) if min(both) <= 64 else min(both)
                ratio = _reciprocal(report.better(workload, pool, point))
                mine, its = (report.result(workload.name, design.name, point).figure("resident") for design in (ours, pool))
                if mine and its:
                    yield Finding("memory", f"{point} blocked callers{data}: {number(mine.median, 'bytes')} in {ours.name}, {number(its.median, 'bytes')} in a "
                                  f"pool of {point} instances, {_ratio(ratio)} as much.")
        native = next((design for design in report.present if design.model == "native"), None)
        point = report.headline(workload)
        if native is None:
            continue
        figure, its = report.better(workload, native, point), report.result(workload.name, native.name, point).figure("resident")
        if its is not None and verdict(figure) == "better":
            yield Finding("loses", f"{point} blocked callers{data}: {native.name} takes {number(its.median, 'bytes')}, and {ours.name} "
                          f"{_ratio(figure)} as much.")


def _cannot(report: Report) -> Iterator[Finding]:
    for design in report.designs:
        if design.name in report.missing:
            yield Finding("cannot", f"{design.name} was not measured: {report.missing[design.name]}.")
    said: dict[str, tuple[dict[str, None], dict[str, None]]] = {}  # why not: which designs, what
    for result in report.results:
        workload = next((workload for workload in report.measured if workload.name == result.workload), None)
        if workload is not None and result.cannot:
            names, titles = said.setdefault(result.cannot, ({}, {}))
            names[result.design], titles[workload.title] = None, None
    for why, (names, titles) in said.items():
        what = listed(list(titles))
        yield Finding("cannot", f"{what[0].upper()}{what[1:]}, {listed(list(names))}: each {why}." if len(names) > 1 else f"{what[0].upper()}{what[1:]}: "
                      f"{listed(list(names))} {why}.")
    for result in report.results:
        if result.problems and not result.wrong:
            yield Finding("cannot", f"{result.workload} at {result.point}: {result.design} failed: {result.problems[0]}")


def _trust(report: Report) -> Iterator[Finding]:
    if report.machine.shared and report.machine.others is not None:
        yield Finding("trust", f"Other processes used {report.machine.others:.0%} of the processors meanwhile: what is said of several threads or procs, and "
                      "of latencies, is theirs too. Read ratios, and run it again on a quiet machine.")
    rough = total = 0
    for workload in report.measured:
        for design in report.present:
            figure = report.better(workload, design, report.headline(workload))
            if design != report.reference and figure is not None and figure.rounds > 1:
                total += 1
                rough += _rough(figure)
    if rough:
        yield Finding("trust", f"Of {total} ratios {rough} differ by more than {ROUGH:.0%} from round to round. Only those are told above whose rounds all "
                      f"agree on which is better; with {report.plan.repeats} rounds, {2 / 2 ** report.plan.repeats:.0%} of what is mere chance agree too.")
    if report.plan.quick:
        yield Finding("trust", "This was --quick: short samples at few points.")
    if report.interrupted:
        yield Finding("trust", "It was interrupted: this is what was measured until then.")


def _where(workload: Workload, point: int) -> str:
    title = workload.title[0].upper() + workload.title[1:]
    where = place(workload, point)
    return f"{title}, {where}" if where else title
