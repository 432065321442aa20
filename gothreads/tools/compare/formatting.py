"""Numbers with their units, as tables, plots and findings show them."""

from __future__ import annotations

from gothreads.tools.compare.figures import Figure
from gothreads.tools.compare.workload import Unit, Workload


def number(value: float, unit: Unit) -> str:
    """Three digits or so, and the unit."""
    match unit:
        case "/s":
            return f"{_scaled(value, 1000, ('', 'k', 'M', 'G'))}/s"
        case "s":
            return seconds(value)
        case "bytes":
            return f"{_scaled(value, 1000, ('B', 'kB', 'MB', 'GB'), ' ')}"
        case "bytes/s":
            return f"{_scaled(value, 1000, ('B', 'kB', 'MB', 'GB'), ' ')}/s"
        case "CPU s/s":
            return f"{100 * value:.2g} %"
        case "%":
            return f"{value:.0f} %"


def seconds(value: float) -> str:
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= scale * 0.9995:
            return f"{_digits(value / scale)} {unit}"
    return f"{value * 1e9:.0f} ns"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def spread(figure: Figure) -> str:
    """The lowest and the highest round of a ratio, when there are several."""
    return f"{times(figure.low)}–{times(figure.high)}" if figure.rounds > 1 else ""


def size(count: int) -> str:
    """Bytes, as powers of two."""
    for scale, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= scale:
            return f"{count / scale:g} {unit}"
    return f"{count} B"


def place(workload: Workload, point: int) -> str:
    """The point at which a workload was measured, such as "2 threads"; empty when there is only one point."""
    match workload.axis:
        case "bytes":
            return size(point)
        case "":
            return ""
        case axis:
            return f"{point:,} {axis if point > 1 else axis.removesuffix('s')}"


def listed(names: list[str]) -> str:
    """a, b and c."""
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def _scaled(value: float, step: int, units: tuple[str, ...], gap: str = "") -> str:
    place = 0
    while value >= step * 0.9995 and place < len(units) - 1:
        value, place = value / step, place + 1
    return f"{_digits(value)}{gap}{units[place]}"


def _digits(value: float) -> str:
    if value >= 99.95 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
