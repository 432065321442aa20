"""What profiles consist of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ValueType(NamedTuple):
    """What a value of a sample is: name, such as "cpu", and unit: "nanoseconds", "bytes" or "count"."""

    name: str
    unit: str


class Line(NamedTuple):
    """A frame of a stack. start: the line where the function begins; 0: unknown."""

    function: str
    file: str = ""
    line: int = 0
    start: int = 0


@dataclass(frozen=True)
class Sample:
    """`stack`: innermost first. `labels`: those of pprof.Do; of goroutines, what they do or wait for."""

    stack: tuple[Line, ...]
    values: tuple[int, ...]
    labels: tuple[tuple[str, str], ...] = ()


def amount(value: int, of: ValueType) -> str:
    """A value for people."""
    match of.unit:
        case "nanoseconds":
            return f"{value / 1e9:,.2f} s" if abs(value) >= 1e9 or not value else f"{value / 1e6:,.2f} ms"
        case "bytes":
            return f"{value / 1e6:,.2f} MB" if abs(value) >= 1e5 or not value else f"{value / 1e3:,.2f} kB"
        case _:
            return f"{value:,}"
