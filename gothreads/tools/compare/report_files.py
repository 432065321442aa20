"""The files of a report: report.json, report.html, table.md, and each plot as SVG. They replace those of an earlier
run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gothreads.files import write_atomically
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.findings import HEADINGS, ReportFinding
from gothreads.tools.compare.formatting import number, place, seconds, spread, times
from gothreads.tools.compare.plots import plots
from gothreads.tools.compare.report import Report, percentiles
from gothreads.tools.compare.table import CAPTION, markdown, rows
from gothreads.tools.compare.workload import Metric, Workload

#: The caption of each plot.
_CAPTIONS = {
    "timeline": "Work in the background, and a ticker, while calls come and go. With threads everything goes on all "
                "the time (case 1). In single and in a pool things move only while a call is in the module, and freeze "
                "when it returns (case 2). Each design is shown in the round in which it got most done.",
    "throughput": "Calls a second, by the number of threads that call at the same time; medians, with the lowest and "
                  "the highest round.",
    "latency": "How long a call takes, by the fraction of calls that is faster; the slowest calls are on the right.",
    "memory": "What the process takes above a Python that has not opened the program, by the number of calls "
              "blocked in it.",
    "bytes": "How many bytes go in and out each second, by the size of one payload."}


@dataclass(frozen=True)
class DetailRow:
    """A row of a workload's own table: what the figures are, and a cell for each design."""

    title: str
    cells: tuple[str, ...]


def write(report: Report, conclusions: Sequence[ReportFinding], folder: Path) -> Path:
    """Writes all files, and returns the path of the HTML. GothreadsError when one cannot be written."""
    about = report.to_json([finding.to_json() for finding in conclusions])
    # First the JSON: it has the measurements, from which all else can be made again.
    write_atomically(folder / "report.json", (json.dumps(about, ensure_ascii=False) + "\n").encode())
    write_atomically(folder / "table.md", markdown(report, conclusions).encode())
    drawn = plots(report)
    for name, svg in drawn.items():
        write_atomically(folder / f"{name}.svg", svg.encode())
    write_atomically(folder / "report.html", html(report, conclusions, drawn).encode())
    return folder / "report.html"


def html(report: Report, conclusions: Sequence[ReportFinding], drawn: dict[str, str]) -> str:
    """One file that needs no other file and no script."""
    environment = Environment(loader=PackageLoader("gothreads.tools.compare", "."), autoescape=True,
                              undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    groups = [(heading, [finding.text for finding in conclusions if finding.kind == kind])
              for kind, heading in HEADINGS.items()]
    return environment.get_template("report.html.jinja").render(
        report=report, rows=rows(report), caption=CAPTION.format(reference=report.reference.name),
        groups=[group for group in groups if group[1]],
        plots=[(name, Markup(svg), _CAPTIONS[name]) for name, svg in drawn.items()],
        details=[(workload, details(report, workload)) for workload in report.measured])


def details(report: Report, workload: Workload) -> list[DetailRow]:
    """All figures of a workload: each metric at each point, with the spread of its ratio; and the percentiles."""
    lines = []
    for point in workload.points(report.plan):
        prefix = f"{where}: " if (where := place(workload, point)) else ""
        lines += [DetailRow(prefix + metric.title,
                            tuple(_cell(report, workload, design, point, metric) for design in report.present))
                  for metric in workload.metrics]
        measured = [percentiles(report.result(workload.name, design.name, point).latencies)
                    for design in report.present]
        if any(measured):
            title = f"{prefix}p50, p90, p99, p99.9 of a call's time (–: too few calls)"
            lines.append(DetailRow(title, tuple(map(_percentile_cell, measured))))
    return lines


def _cell(report: Report, workload: Workload, design: Design, point: int, metric: Metric) -> str:
    result = report.result(workload.name, design.name, point)
    if result.cannot:
        return "cannot"
    figure, better = result.figure(metric.name), report.better(workload, design, point, metric=metric)
    cell = "–" if figure is None else number(figure.median, metric.unit)
    if figure is not None and figure.rounds > 1:
        cell += f" [{number(figure.low, metric.unit)} – {number(figure.high, metric.unit)}]"
    if better is not None and design != report.reference:
        cell += f" ×{times(better.median)} {f'[{spread(better)}]' if spread(better) else ''}"
    return cell.strip()


def _percentile_cell(measured: dict[str, float | int | None] | None) -> str:
    if measured is None:
        return "–"
    values = (measured[name] for name in ("p50", "p90", "p99", "p99.9"))
    return ", ".join("–" if value is None else seconds(value) for value in values)
