"""The plots, as SVG. Only this module imports matplotlib. Text stays text in the SVG, so that it can be read and
searched.

A plot can be drawn in two ways: as one picture with all its panels (for files and documents), or as one SVG for each
panel and one for the legend. The HTML report arranges the latter to fit the screen.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Figure, Latencies
from gothreads.tools.compare.formatting import number, place, seconds, size
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.workload import Unit, Workload

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

#: By model. Okabe and Ito's colours can be told apart with colour-blindness, too.
_COLOURS = {"threaded": "#0072b2", "single": "#d55e00", "idle": "#009e73", "pool": "#aa4499", "native": "#777777"}
_MARKERS = {"threaded": "o", "single": "s", "idle": "^", "pool": "D", "native": "x"}
_LINES = {"threaded": "-", "single": "-", "idle": "-", "pool": "-", "native": "--"}
_STYLE: Any = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "axes.grid": True,
               "grid.alpha": 0.25, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9,
               "legend.frameon": False, "path.simplify": True}
_PERCENTS = (50.0, 90.0, 99.0, 99.9)
#: The width of a panel or a legend that is drawn alone, in inches: legible on a telephone.
_PANEL_WIDTH = 4.2

#: Draws one panel.
Panel = Callable[["Axes"], None]


@dataclass(frozen=True)
class Plot:
    """`height`: of each panel, in inches; `width`: of the whole picture when there is only one panel."""

    name: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[Artist, ...]
    height: float = 2.7
    width: float = 7.5

    def whole(self) -> Canvas:
        """All panels in one picture."""
        count = len(self.panels)
        columns = {1: 1, 2: 2, 4: 2}.get(count, 3 if count <= 6 else 4)
        lines = -(-count // columns)
        width = {1: self.width, 2: 9.5, 3: 10.5}.get(columns, 12.5)
        with matplotlib.rc_context(_STYLE):
            canvas = Canvas(figsize=(width, self.height * lines + 0.5), layout="constrained")
            grid: list[Axes] = list(canvas.subplots(lines, columns, squeeze=False).flat)
            for axes, draw in zip(grid, self.panels, strict=False):
                draw(axes)
            for spare in grid[count:]:
                spare.remove()
            canvas.legend(handles=list(self.legend), loc="outside upper center", ncols=len(self.legend))
        return canvas

    def svg(self) -> str:
        """The whole picture, for a file of its own."""
        return _svg(self.whole(), self.name)

    def panel_svgs(self) -> list[str]:
        drawn = []
        for index, draw in enumerate(self.panels):
            with matplotlib.rc_context(_STYLE):
                canvas = Canvas(figsize=(_PANEL_WIDTH, self.height), layout="constrained")
                draw(canvas.subplots())
            drawn.append(_svg(canvas, f"{self.name}-{index}"))
        return drawn

    def legend_svg(self) -> str:
        columns = 3 if len(self.legend) > 3 else 1
        lines = -(-len(self.legend) // columns)
        with matplotlib.rc_context(_STYLE):
            canvas = Canvas(figsize=(_PANEL_WIDTH, 0.2 * lines + 0.05))
            canvas.legend(handles=list(self.legend), loc="center left", ncols=columns, borderpad=0, borderaxespad=0.3)
        return _svg(canvas, f"{self.name}-legend")


def plots(report: Report) -> list[Plot]:
    """The plots, without those for which there is no data."""
    makers = (_timeline, _throughput, _latency, _memory, _payloads)
    return [plot for make in makers if (plot := make(report)) is not None]


def _throughput(report: Report) -> Plot | None:
    workloads = [workload for workload in report.measured if workload.axis == "threads"
                 and len(workload.points(report.plan)) > 1]
    caption = ("Calls a second, by the number of threads that call at the same time; medians, with the lowest and the "
               "highest round.")
    return _by_point("throughput", caption, report, workloads, _Scales("rate", "/s", "threads that call", str))


def _memory(report: Report) -> Plot | None:
    workloads = [workload for workload in report.measured if workload.name in ("memory", "memory-data")]
    caption = ("What the process takes above a Python that has not opened the program, by the number of calls blocked "
               "in it.")
    return _by_point("memory", caption, report, workloads, _Scales("resident", "bytes", "blocked callers", str))


def _payloads(report: Report) -> Plot | None:
    workloads = [workload for workload in report.measured if workload.name == "bytes"]
    caption = "How many bytes go in and out each second, by the size of one payload."
    return _by_point("bytes", caption, report, workloads,
                     _Scales("bytes", "bytes/s", "size of a payload, sent in and returned", size))


@dataclass(frozen=True)
class _Scales:
    """Vertical: a metric and its unit. Horizontal: what the points are, and how one is shown."""

    metric: str
    unit: Unit
    points: str
    show_point: Callable[[int], str]


def _by_point(name: str, caption: str, report: Report, workloads: Sequence[Workload], scales: _Scales) -> Plot | None:
    """A panel for each workload: the median of the rounds at each point, with the lowest and the highest.

    Doubling is the same distance everywhere: both axes are logarithmic.
    """
    def figures(workload: Workload, design: Design) -> list[tuple[int, Figure]]:
        return [(point, figure) for point in workload.points(report.plan)
                if (figure := report.result(workload.name, design.name, point).figure(scales.metric))]

    def panel(workload: Workload) -> Panel:
        def draw(axes: Axes) -> None:
            for design in report.present:
                measured = figures(workload, design)
                if measured:
                    axes.errorbar([point for point, _ in measured], [figure.median for _, figure in measured],
                                  yerr=_error_bars([figure for _, figure in measured]), capsize=2, elinewidth=0.8,
                                  **_style(report, design))
            points = list(workload.points(report.plan))
            axes.set_xscale("log", base=2)
            axes.set_xticks(points, [scales.show_point(point) for point in points])
            axes.minorticks_off()
            _logarithmic(axes, lambda value: number(value, scales.unit))
            axes.set(title=workload.title, xlabel=scales.points)
        return draw
    shown = [design for design in report.present if any(figures(workload, design) for workload in workloads)]
    if not shown:
        return None
    return Plot(name, caption, tuple(map(panel, workloads)), _legend(report, shown))


def _latency(report: Report) -> Plot | None:
    """How long calls take, by percentile: the fraction of calls that was faster."""
    panels: list[Panel] = []
    shown: set[Design] = set()
    for workload in report.measured:
        if workload.name in ("cpu", "short", "blocking", "background"):
            point = report.headline(workload)
            curves = {design: measured for design in report.present
                      if (measured := report.result(workload.name, design.name, point).latencies) is not None}
            if any(measured.count > 1 for measured in curves.values()):
                title = ", ".join(filter(None, (workload.title, place(workload, point))))
                panels.append(_percentile_panel(report, title, curves))
                shown.update(curves)
    if not panels:
        return None
    caption = "How long a call takes, by the fraction of calls that is faster; the slowest calls are on the right."
    return Plot("latency", caption, tuple(panels),
                _legend(report, (design for design in report.present if design in shown), markers=False))


def _percentile_panel(report: Report, title: str, curves: dict[Design, Latencies]) -> Panel:
    """The horizontal axis is 1 / (1 - fraction), on a logarithmic scale: each further nine takes the same distance."""
    def draw(axes: Axes) -> None:
        deepest = 2.0
        for design, measured in curves.items():
            curve = [(1 / (1 - part), value) for part, value in measured.curve() if part < 1 - 0.5 / measured.count]
            curve = [pair for pair in curve if pair[0] >= 1.25] or curve
            if curve:
                deepest = max(deepest, curve[-1][0])
                axes.plot([x for x, _ in curve], [y for _, y in curve], drawstyle="steps-post",
                          **_style(report, design, markers=False))
        axes.set_xscale("log")
        ticks = [percent for percent in _PERCENTS if 1 / (1 - percent / 100) <= deepest * 1.5]
        axes.set_xticks([1 / (1 - percent / 100) for percent in ticks], [f"{percent:g} %" for percent in ticks])
        axes.minorticks_off()
        axes.set_xlim(1.25, min(deepest, 4000) * 1.1)
        _logarithmic(axes, seconds)
        axes.set(title=title, xlabel="fraction of the calls that is faster")
    return draw


def _timeline(report: Report) -> Plot | None:
    """When each design made progress: case 1 and case 2 as a picture."""
    lanes = [(design, series)
             for design in report.present if (series := report.result("background", design.name, 1).series)]
    if not lanes:
        return None
    whole = max(series["seconds"] for _, series in lanes)
    most = max((count for _, series in lanes for count in series["steps"]), default=1) or 1

    def draw(axes: Axes) -> None:
        for lane, (design, series) in enumerate(lanes):
            base, bucket = len(lanes) - 1 - lane, series["bucket"]
            heights = [0.45 * (count / most) ** 0.5 for count in series["steps"]]
            axes.stairs([base + height for height in heights], [at * bucket for at in range(len(heights) + 1)],
                        baseline=base, fill=True, color=_COLOURS[design.model], alpha=0.85)
            axes.broken_barh([(begin, max(end - begin, whole / 1500)) for begin, end in series["calls"]],
                             (base + 0.52, 0.16), color="#222222")
            axes.plot(series["ticks"], [base + 0.78] * len(series["ticks"]), linestyle="none", marker="|",
                      markersize=5, color="#cc9900")
            axes.axhline(base, color="#bbbbbb", linewidth=0.6)
        part = report.plan.background_seconds / 5
        for first in (1, 3):
            axes.axvspan(first * part, (first + 1) * part, color="#000000", alpha=0.05, linewidth=0)
        axes.set_yticks([len(lanes) - 1 - lane + 0.35 for lane in range(len(lanes))],
                        [design.name for design, _ in lanes])
        axes.set(xlim=(0, whole), ylim=(-0.05, len(lanes)), xlabel="seconds; calls are made where the ground is grey")
        axes.grid(visible=False)
    caption = ("Work in the background, and a ticker, while calls come and go. With threads everything goes on all the "
               "time (case 1). In single and in a pool things move only while a call is in the module, and freeze when "
               "it returns (case 2). Each design is shown in the round in which it got most done.")
    legend = (Patch(color="#222222", label="a call is in the module"),
              Patch(color="#cc9900", label="a ticker of 10 ms ticks"),
              Patch(color=_COLOURS["threaded"], label="the background goroutine works (the higher, the more)"))
    return Plot("timeline", caption, (draw,), legend, height=0.75 * len(lanes) + 0.7, width=9.5)


def _logarithmic(axes: Axes, show: Callable[[float], str]) -> None:
    """Makes the vertical axis logarithmic, with units at its numbers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _index: show(value)))


def _error_bars(figures: Sequence[Figure]) -> tuple[list[float], list[float]]:
    return [figure.median - figure.low for figure in figures], [figure.high - figure.median for figure in figures]


def _style(report: Report, design: Design, *, markers: bool = True) -> dict[str, Any]:
    dotted = design.model == "threaded" and design != report.reference
    style: dict[str, Any] = {"color": _COLOURS[design.model], "linestyle": ":" if dotted else _LINES[design.model],
                             "linewidth": 1.4, "label": design.name}
    return {**style, "marker": _MARKERS[design.model], "markersize": 4} if markers else style


def _legend(report: Report, shown: Iterable[Design], *, markers: bool = True) -> tuple[Artist, ...]:
    return tuple(Line2D([], [], **_style(report, design, markers=markers)) for design in shown)


def _svg(canvas: Canvas, name: str) -> str:
    """For a file of its own, or within HTML: ids are unique across plots."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), io.StringIO() as text:
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg"):]
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', drawn)
    drawn = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", drawn)
    drawn = re.sub(r"(\d\.\d\d)\d+", r"\1", drawn)  # hundredths of a point
    return re.sub(r"[ \t]+$", "", drawn, flags=re.MULTILINE)
