"""The table: a row for each workload, a column for each design. The cells are values, shown by rich, in Markdown or by
the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gothreads.tools.compare.findings import ReportFinding, grouped, verdict, why_not_compared
from gothreads.tools.compare.formatting import number, place, times
from gothreads.tools.compare.report import Report

#: What is shown where a design was not measured; the findings say why.
NOT_MEASURED = "n/a"
COLOURS = "Green: better in every round; red: worse in every round."

_STYLES = {"better": "green", "worse": "red", "wrong": "bold red", "cannot": "dim"}


@dataclass(frozen=True)
class Cell:
    """`value` with its unit; `against`: the ratio to the reference; `verdict`: the findings' verdict on the ratio, or
    "wrong" or "cannot".
    """

    value: str
    against: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Row:
    """A workload at its headline point; `metric`: what the figures are."""

    name: str
    title: str
    metric: str
    cells: tuple[Cell, ...]


def caption(report: Report) -> str:
    """How to read the table."""
    reference = report.reference.name
    return (f"×2 means twice as good as {reference}, ×0.5 half as good: the median of the rounds. "
            f"{NOT_MEASURED}: not measured; the reasons are below.")


def rows(report: Report) -> list[Row]:
    """The same rows for the terminal, Markdown and HTML."""
    table = []
    compares = why_not_compared(report) is None
    for workload in report.measured:
        point, metric = report.headline(workload), workload.metrics[0]
        cells = []
        for design in report.present:
            result = report.result(workload.name, design.name, point)
            figure, better = result.figure(metric.name), report.better(workload, design, point)
            if result.cannot:
                cells.append(Cell(NOT_MEASURED, verdict="cannot"))
            elif result.wrong:
                cells.append(Cell("WRONG", verdict="wrong"))
            elif figure is None:
                cells.append(Cell("failed" if result.problems else "–"))
            elif design == report.reference or better is None:
                cells.append(Cell(number(figure.median, metric.unit)))
            else:
                cells.append(Cell(number(figure.median, metric.unit), f"×{times(better.median)}",
                                  verdict(better) if compares else ""))
        where = place(workload, point)
        table.append(Row(workload.name, f"{workload.title}, {where}" if where else workload.title, metric.title,
                         tuple(cells)))
    return table


def show(report: Report, conclusions: Sequence[ReportFinding], console: Console) -> None:
    """Prints the table and the findings to a terminal."""
    table = Table(show_lines=False, pad_edge=False, header_style="bold")
    table.add_column("")
    for design in report.present:
        table.add_column(design.name, justify="right", no_wrap=True)
    for row in rows(report):
        cells = [Text(f"{cell.value}\n{cell.against}" if cell.against else cell.value, _STYLES.get(cell.verdict, ""))
                 for cell in row.cells]
        title = Text(row.title)
        title.append(f"\n{row.metric}", "dim")
        table.add_row(title, *cells)
    console.print(table)
    console.print(Text(f"{caption(report)} {COLOURS}", "dim"))
    for heading, sentences in grouped(conclusions):
        console.print(Text(f"\n{heading}", "bold"))
        bullets = Table.grid(padding=(0, 1))
        for sentence in sentences:
            bullets.add_row(" -", Text(sentence))
        console.print(bullets)
    console.print(Text(f"\n{report.machine.summary}", "dim"))


def markdown(report: Report, conclusions: Sequence[ReportFinding]) -> str:
    """The same, for a document."""
    names = [design.name for design in report.present]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in rows(report):
        cells = [f"{cell.value} {cell.against}".strip() for cell in row.cells]
        lines.append(f"| {row.title}: {row.metric} | {' | '.join(cells)} |")
    lines += ["", caption(report), ""]
    for heading, sentences in grouped(conclusions):
        lines += [f"**{heading}**", "", *(f"- {sentence}" for sentence in sentences), ""]
    plan = report.plan
    lines += [f"{report.begun[:10]}, in {report.seconds / 60:.0f} minutes, medians of {plan.repeats} rounds "
              f"({plan.fresh_repeats} where each sample takes its own process). {report.machine.summary}."]
    return "\n".join(lines) + "\n"
