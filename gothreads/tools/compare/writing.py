"""The files of a report: report.json, report.html, table.md, and each plot as SVG. Written in place of those of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gothreads.files import write_atomically
from gothreads.tools.compare.findings import HEADINGS, Finding
from gothreads.tools.compare.plots import plots
from gothreads.tools.compare.report import Report, percentiles
from gothreads.tools.compare.table import CAPTION, markdown, rows
from gothreads.tools.compare.words import number, place, seconds, spread, times
from gothreads.tools.compare.workload import Workload

#: What stands under each plot.
_CAPTIONS = {
    "timeline": "Work in the background, and a ticker, while calls come and go. With threads all goes on all the time (case 1). In single and in a pool it "
                "moves only while a call is in, and freezes when that returns (case 2). Of each design the "
                "round in which most was done.",
    "throughput": "Calls a second by the threads that call at the same time; medians, with the lowest and the highest round.",
    "latency": "How long a call takes, by the part of calls that is faster; further right, the slowest of more.",
    "memory": "What the process takes above a Python that has not opened the program, by calls that are blocked in it.",
    "bytes": "How many bytes go in and out each second, by the size of one payload."}


@dataclass(frozen=True)
class Line:
    """Of a workload's own table: what the figures are, and a cell for each design."""

    title: str
    cells: tuple[str, ...]


def write(report: Report, found: Sequence[Finding], folder: Path) -> Path:
    """All files, and where the report is. GothreadsError when one cannot be written."""
    about = report.to_json([finding.to_json() for finding in found])
    write_atomically(folder / "report.json", (json.dumps(about, ensure_ascii=False) + "\n").encode())  # first: it is what was measured
    write_atomically(folder / "table.md", markdown(report, found).encode())
    drawn = plots(report)
    for name, svg in drawn.items():
        write_atomically(folder / f"{name}.svg", svg.encode())
    write_atomically(folder / "report.html", html(report, found, drawn).encode())
    return folder / "report.html"


def html(report: Report, found: Sequence[Finding], drawn: dict[str, str]) -> str:
    """One file that needs no other, and no script."""
    environment = Environment(loader=PackageLoader("gothreads.tools.compare", "."), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    groups = [(heading, [finding.text for finding in found if finding.kind == kind]) for kind, heading in HEADINGS.items()]
    return environment.get_template("report.html.jinja").render(
        report=report, rows=rows(report), caption=CAPTION.format(reference=report.reference.name), groups=[group for group in groups if group[1]],
        plots=[(name, Markup(svg), _CAPTIONS[name]) for name, svg in drawn.items()],
        details=[(workload, details(report, workload)) for workload in report.measured])


def details(report: Report, workload: Workload) -> list[Line]:
    """All figures of a workload: each metric at each point, with the spread of its ratio; and the percentiles."""
    lines = []
    for point in workload.points(report.plan):
        where = place(workload, point)
        for metric in workload.metrics:
            cells = []
            for design in report.present:
                result = report.result(workload.name, design.name, point)
                figure, better = result.figure(metric.name), report.better(workload, design, point, metric=metric)
                cell = "–" if figure is None else number(figure.median, metric.unit)
                if figure is not None and figure.rounds > 1:
                    cell += f" [{number(figure.low, metric.unit)} – {number(figure.high, metric.unit)}]"
                if better is not None and design != report.reference:
                    cell += f" ×{times(better.median)} {f'[{spread(better)}]' if spread(better) else ''}"
                cells.append("cannot" if result.cannot else cell.strip())
            lines.append(Line(f"{where}: {metric.title}" if where else metric.title, tuple(cells)))
        told = [percentiles(report.result(workload.name, design.name, point).latencies) for design in report.present]
        if any(told):
            title = "p50, p90, p99, p99.9 of a call's time (–: too few calls)"
            lines.append(Line(f"{where}: {title}" if where else title, tuple(
                "–" if one is None else ", ".join(seconds(one[name]) if one[name] is not None else "–" for name in ("p50", "p90", "p99", "p99.9"))  # type: ignore[arg-type]
                for one in told)))
    return lines
