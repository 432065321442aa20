"""The plots, as SVG. Only this module imports matplotlib. Text stays text in the SVG, so that it can be read and
searched.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Figure
from gothreads.tools.compare.formatting import number, place, seconds, size
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.workload import Unit, Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")

#: By model. Okabe and Ito's colours can be told apart with colour-blindness, too.
_COLOURS = {"threaded": "#0072b2", "single": "#d55e00", "idle": "#009e73", "pool": "#aa4499", "native": "#777777"}
_MARKS = {"threaded": "o", "single": "s", "idle": "^", "pool": "D", "native": "x"}
_LINES = {"threaded": "-", "single": "-", "idle": "-", "pool": "-", "native": "--"}
_STYLE: Any = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "axes.grid": True,
               "grid.alpha": 0.25,
               "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9, "legend.frameon": False,
               "path.simplify": True}
_PERCENTS = (50.0, 90.0, 99.0, 99.9)


def render(report: Report, save: Callable[[Canvas, str], T]) -> dict[str, T]:
    """What `save` makes of each plot and its name, by name. Plots without data are left out."""
    makers: dict[str, Callable[[Report], Canvas | None]] = {
        "timeline": timeline, "throughput": throughput, "latency": latency, "memory": memory, "bytes": sizes}
    with matplotlib.rc_context(_STYLE):
        return {name: save(canvas, name) for name, make in makers.items() if (canvas := make(report)) is not None}


def plots(report: Report) -> dict[str, str]:
    """The plots as SVG, by name."""
    return render(report, _svg)


def throughput(report: Report) -> Canvas | None:
    """Calls a second, by the number of threads that call at the same time."""
    workloads = [workload for workload in report.measured if workload.axis == "threads"
                 and len(workload.points(report.plan)) > 1]
    return _panels(report, workloads, "rate", "/s", "threads that call", ticks=str)


def memory(report: Report) -> Canvas | None:
    """Resident memory, by the number of blocked callers."""
    workloads = [workload for workload in report.measured if workload.name in ("memory", "memory-data")]
    return _panels(report, workloads, "resident", "bytes", "blocked callers", ticks=str)


def sizes(report: Report) -> Canvas | None:
    """Bytes a second, by the size of the payload."""
    workloads = [workload for workload in report.measured if workload.name == "bytes"]
    return _panels(report, workloads, "bytes", "bytes/s", "bytes in, and out again", ticks=size)


def latency(report: Report) -> Canvas | None:
    """How long calls take, by percentile: the fraction of calls that was faster."""
    shown = []
    for workload in report.measured:
        if workload.name in ("cpu", "short", "blocking", "background"):
            point = report.headline(workload)
            curves = [(design, measured) for design in report.present
                      if (measured := report.result(workload.name, design.name, point).latencies) is not None]
            if any(measured.count > 1 for _, measured in curves):
                shown.append((workload, point, curves))
    if not shown:
        return None
    canvas, axes = _canvas(len(shown))
    for one, (workload, point, curves) in zip(axes, shown, strict=True):
        deepest = 2.0
        for design, measured in curves:
            curve = [(1 / (1 - part), value) for part, value in measured.curve() if part < 1 - 0.5 / measured.count]
            curve = [pair for pair in curve if pair[0] >= 1.25] or curve
            if curve:
                deepest = max(deepest, curve[-1][0])
                one.plot([x for x, _ in curve], [y for _, y in curve], drawstyle="steps-post",
                         **_style(report, design, marks=False))
        one.set_xscale("log")
        ticks = [percent for percent in _PERCENTS if 1 / (1 - percent / 100) <= deepest * 1.5]
        one.set_xticks([1 / (1 - percent / 100) for percent in ticks], [f"{percent:g} %" for percent in ticks])
        one.minorticks_off()
        one.set_xlim(1.25, min(deepest, 4000) * 1.1)
        _scale(one, seconds)
        one.set_title(", ".join(filter(None, (workload.title, place(workload, point)))))
        one.set_xlabel("part of the calls that is faster")
    axes[0].set_ylabel("time of a call")
    _legend(report, canvas)
    return canvas


def timeline(report: Report) -> Canvas | None:
    """When each design made progress: case 1 and case 2 as a picture."""
    lanes = [(design, series)
             for design in report.present if (series := report.result("background", design.name, 1).series)]
    if not lanes:
        return None
    canvas = Canvas(figsize=(9.5, 0.75 * len(lanes) + 1.2), layout="constrained")
    axes = canvas.subplots()
    whole = max(series["seconds"] for _, series in lanes)
    most = max((count for _, series in lanes for count in series["steps"]), default=1) or 1
    for lane, (design, series) in enumerate(lanes):
        base, colour, bucket = len(lanes) - 1 - lane, _COLOURS[design.model], series["bucket"]
        heights = [0.45 * (count / most) ** 0.5 for count in series["steps"]]
        axes.stairs([base + height for height in heights], [at * bucket for at in range(len(heights) + 1)],
                    baseline=base, fill=True,
                    color=colour, alpha=0.85)
        axes.broken_barh([(begin, max(end - begin, whole / 1500)) for begin, end in series["calls"]],
                         (base + 0.52, 0.16), color="#222222")
        axes.plot(series["ticks"], [base + 0.78] * len(series["ticks"]), linestyle="none", marker="|", markersize=5,
                  color="#cc9900")
        axes.axhline(base, color="#bbbbbb", linewidth=0.6)
    part = report.plan.background_seconds / 5
    for first in (1, 3):
        axes.axvspan(first * part, (first + 1) * part, color="#000000", alpha=0.05, linewidth=0)
    axes.set_yticks([len(lanes) - 1 - lane + 0.35 for lane in range(len(lanes))], [design.name for design, _ in lanes])
    axes.set(xlim=(0, whole), ylim=(-0.05, len(lanes)), xlabel="seconds; calls come where the background is grey")
    axes.grid(visible=False)
    axes.legend(handles=[Patch(color="#222222", label="a call is in the module"),
                         Patch(color="#cc9900", label="a ticker of 10 ms ticks"),
                         Patch(color=_COLOURS["threaded"],
                               label="the background goroutine works (the higher, the more)")],
                loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return canvas


def _panels(report: Report, workloads: Sequence[Workload], metric: str, unit: Unit, across: str, *,
            ticks: Callable[[int], str]) -> Canvas | None:
    """One small plot for each workload: the median of the rounds at each point, with the lowest and the highest.

    Doubling is the same distance everywhere: both axes are logarithmic.
    """
    if not workloads:
        return None
    canvas, axes = _canvas(len(workloads))
    for one, workload in zip(axes, workloads, strict=True):
        points = list(workload.points(report.plan))
        for design in report.present:
            measured = [(point, figure) for point in points
                        if (figure := report.result(workload.name, design.name, point).figure(metric))]
            if measured:
                one.errorbar([point for point, _ in measured], [figure.median for _, figure in measured],
                             yerr=_bars([figure for _, figure in measured]), capsize=2, elinewidth=0.8,
                             **_style(report, design))
        one.set_xscale("log", base=2)
        one.set_xticks(points, [ticks(point) for point in points])
        one.minorticks_off()
        _scale(one, lambda value: number(value, unit))
        one.set_title(workload.title)
        one.set_xlabel(across)
    _legend(report, canvas)
    return canvas


def _canvas(count: int) -> tuple[Canvas, list[Axes]]:
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3 if count <= 6 else 4)
    lines = -(-count // columns)
    canvas = Canvas(figsize=({1: 7.5, 2: 9.5, 3: 10.5}.get(columns, 12.5), 2.7 * lines + 0.5), layout="constrained")
    grid = canvas.subplots(lines, columns, squeeze=False)
    axes = [one for line in grid for one in line]
    for spare in axes[count:]:
        spare.remove()
    return canvas, axes[:count]


def _scale(axes: Axes, words: Callable[[float], str]) -> None:
    """A logarithmic vertical axis, whose numbers have units."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: words(value)))


def _bars(figures: Sequence[Figure]) -> tuple[list[float], list[float]]:
    return [figure.median - figure.low for figure in figures], [figure.high - figure.median for figure in figures]


def _style(report: Report, design: Design, *, marks: bool = True) -> dict[str, Any]:
    lesser = design.model == "threaded" and design != report.reference
    style: dict[str, Any] = {"color": _COLOURS[design.model], "linestyle": ":" if lesser else _LINES[design.model],
                             "linewidth": 1.4, "label": design.name}
    return {**style, "marker": _MARKS[design.model], "markersize": 4} if marks else style


def _legend(report: Report, canvas: Canvas) -> None:
    known: dict[str, Any] = {}
    for axes in canvas.axes:
        handles, labels = axes.get_legend_handles_labels()
        known.update(zip(labels, handles, strict=True))
    names = [design.name for design in report.present if design.name in known]
    canvas.legend([known[name] for name in names], names, loc="outside upper center", ncols=len(names))


def _svg(canvas: Canvas, name: str) -> str:
    """For a file of its own, or within HTML: ids are unique across plots."""
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.id": name}), io.StringIO() as text:
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg"):]
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', drawn)
    drawn = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", drawn)
    drawn = re.sub(r"(\d\.\d\d)\d+", r"\1", drawn)  # hundredths of a point
    return re.sub(r"[ \t]+$", "", drawn, flags=re.MULTILINE)
