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
from gothreads.tools.compare.findings import ReportFinding, grouped
from gothreads.tools.compare.formatting import number, place, seconds, spread, times
from gothreads.tools.compare.plots import Plot, plots
from gothreads.tools.compare.report import Report, percentiles
from gothreads.tools.compare.table import COLOURS, NOT_MEASURED, caption, markdown, rows
from gothreads.tools.compare.workload import Metric, Workload


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
    for plot in drawn:
        write_atomically(folder / f"{plot.name}.svg", plot.svg().encode())
    write_atomically(folder / "report.html", _html(report, conclusions, drawn).encode())
    return folder / "report.html"


def _html(report: Report, conclusions: Sequence[ReportFinding], drawn: Sequence[Plot]) -> str:
    """One file that needs no other file and no script."""
    environment = Environment(loader=PackageLoader("gothreads.tools.compare", "."), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["svg"] = Markup
    return environment.get_template("report.html.jinja").render(
        report=report, rows=rows(report), caption=f"{caption(report)} {COLOURS}", groups=grouped(conclusions),
        plots=drawn, details=[(workload, _details(report, workload)) for workload in report.measured])


def _details(report: Report, workload: Workload) -> list[DetailRow]:
    """All figures of a workload: each metric at each point, with the range of its ratio; and the percentiles."""
    lines: list[DetailRow] = []
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
        return NOT_MEASURED
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
