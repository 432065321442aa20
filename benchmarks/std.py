"""Go's own benchmarks, of its standard library, and some small kernels: native, stock Go in WebAssembly, and threads
without and with --optimize.

    python -m benchmarks.std                     all: a quarter of an hour, and 20 minutes to build them the first time
    python -m benchmarks.std --only sort bytes   some packages
    python -m benchmarks.std --write docs/std-benchmarks.md

All run on one proc (GOMAXPROCS=1) and are timed by the CPU time of the process, its garbage collector included. In each
round, each design runs the benchmarks of one package; the figures are the least of the rounds. An interrupted run
continues where it stopped, and what an earlier run has measured is not measured again, unless something it depends on
has changed. That does not include the host's code: after changing it, use --again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.command import check_calls_in_c
from benchmarks.document import missing, put
from benchmarks.std_measure import DESIGNS, REPEATED, Measurement, Record, Settings
from benchmarks.std_plan import FLOAT_LOOPS, KERNELS, PLAN, Package
from gothreads.build.toolchain import Toolchain, find_go
from gothreads.errors import GothreadsError

_PLACE = "std"
#: From which ratio to the time without the optimizer on a benchmark counts as slower.
SLOWER = 1.03


@dataclass(frozen=True)
class Row:
    """One benchmark: nanoseconds of CPU time of an iteration, by design. assembly: native Go has assembly for it."""

    package: str
    name: str
    assembly: bool
    nanoseconds: dict[str, float]

    def ratio(self, design: str, to: str) -> float:
        return self.nanoseconds[design] / self.nanoseconds[to]


@dataclass(frozen=True)
class Bar:
    """What is to be reached at most: a figure of the rows."""

    what: str
    value: Callable[[Sequence[Row]], float | None]
    bar: float


def rows_of(package: Package, record: Record) -> list[Row]:
    return [Row(package.path, name, name in package.assembly,
                {design: record.least(design, name) for design in DESIGNS}) for name in package.names]


def mean(rows: Iterable[Row], design: str, to: str) -> float | None:
    """The geometric mean of the ratios of two designs; None when there are no rows."""
    ratios = [row.ratio(design, to) for row in rows]
    return geometric_mean(ratios) if ratios else None


def of_std(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.package != KERNELS]


def slower(rows: Iterable[Row]) -> list[Row]:
    """The benchmarks that the optimizer makes slower, the worst first."""
    found = [row for row in rows if row.ratio("optimized", "threaded") > SLOWER]
    return sorted(found, key=lambda row: -row.ratio("optimized", "threaded"))


def _worst(rows: Sequence[Row], names: Sequence[str]) -> float | None:
    return max((row.ratio("optimized", "native") for row in rows if row.package == KERNELS and row.name in names),
               default=None)


BARS = (
    Bar("std, where native Go has no assembly: time, of native's",
        lambda rows: mean((row for row in of_std(rows) if not row.assembly), "optimized", "native"), 2.3),
    Bar("std, all: time, of native's", lambda rows: mean(of_std(rows), "optimized", "native"), 3.0),
    Bar("std, all: time, of stock Go's module", lambda rows: mean(of_std(rows), "optimized", "stock"), 0.55),
    Bar(f"float loops, the slowest of {', '.join(FLOAT_LOOPS)}: time, of native's",
        lambda rows: _worst(rows, FLOAT_LOOPS), 1.3),
    Bar("Fib: time, of native's", lambda rows: _worst(rows, ["Fib"]), 1.7),
    Bar(f"benchmarks slower than without the optimizer by more than {SLOWER - 1:.0%}",
        lambda rows: float(len(slower(rows))), 0),
)


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The bars, with the figures reached."""
    found = []
    for bar in BARS:
        value = bar.value(rows)
        found.append({"what": bar.what, "value": value, "bar": bar.bar,
                      "reached": None if value is None else value <= bar.bar})
    return found


def table(rows: Sequence[Row], about: str) -> str:
    """The figures as Markdown."""
    lines = ["| what | here | bar | |", "|---|---|---|---|"]
    for found in summary(rows):
        value, sign = found["value"], "" if found["bar"] == 0 else "×"
        here = "not measured" if value is None else f"{value:.3g}{sign}"
        word = "" if value is None else "reached" if found["reached"] else "not reached"
        lines.append(f"| {found['what']} | {here} | ≤ {found['bar']:g}{sign} | {word} |")
    if worse := slower(rows):
        named = ", ".join(f"{row.package} {row.name} {row.ratio('optimized', 'threaded'):.2f}" for row in worse)
        lines += ["", f"Slower with the optimizer than without: {named}."]
    lines += ["", "| | | native | stock | threaded | optimized | of threaded | of stock |", f"|{'---|' * 8}"]
    groups = {"std, no assembly in native Go": [row for row in of_std(rows) if not row.assembly],
              "std, assembly in native Go": [row for row in of_std(rows) if row.assembly],
              "small kernels": [row for row in rows if row.package == KERNELS]}
    for title, group in groups.items():
        if group:
            lines.append(f"| **{title}: {len(group)}** | geometric mean | | {_ratios(group)} |")
    for group in groups.values():
        lines += [f"| {row.package} | {row.name} | {_time(row.nanoseconds['native'])} | {_ratios([row])} |"
                  for row in group]
    return "\n".join(lines) + f"\n\n{about}\n"


def _ratios(rows: Sequence[Row]) -> str:
    pairs = (("stock", "native"), ("threaded", "native"), ("optimized", "native"), ("optimized", "threaded"),
             ("optimized", "stock"))
    return " | ".join(f"{mean(rows, *pair):.2f}" for pair in pairs)


def _time(nanoseconds: float) -> str:
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def about(toolchain: Toolchain, settings: Settings, records: Sequence[Record]) -> str:
    loads = [record.load for record in records]
    return (f"The least of {settings.rounds} rounds, in each of which each ran {REPEATED} times for "
            f"{settings.seconds:g} s of CPU time; {toolchain.version}, wasmtime {version('wasmtime')}, "
            f"{os.cpu_count()} processors; load average {min(loads):.1f} to {max(loads):.1f}.")


def measure(plan: Sequence[Package], toolchain: Toolchain, settings: Settings, *, again: bool,
            console: Console) -> tuple[list[Row], str]:
    """The rows of all packages, and a line about how they were measured."""
    rows, records = [], []
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(plan))
        measurement = Measurement(toolchain, settings, again=again,
                                  running=lambda what: progress.update(task, description=what))
        for package in plan:
            record = measurement.record(package)
            records.append(record)
            rows += rows_of(package, record)
            progress.advance(task)
    return rows, about(toolchain, settings, records)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.std", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--time", type=float, default=0.1, metavar="SECONDS",
                        help=f"for each benchmark, {REPEATED} times in each round (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="PACKAGE", choices=[package.path for package in PLAN],
                        help="only these packages; kernels_go: the small kernels")
    parser.add_argument("--again", action="store_true", help="measure again what an earlier run has measured")
    parser.add_argument("--go", metavar="PATH", help="the go command to use")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FILE",
                        help=f"put the tables there, between <!-- {_PLACE}: begin --> and end")
    arguments = parser.parse_args()
    check_calls_in_c(parser)
    if arguments.write is not None and (why := missing(arguments.write, _PLACE)) is not None:
        parser.error(why)
    console = Console(stderr=True, highlight=False)
    plan = [package for package in PLAN if arguments.only is None or package.path in arguments.only]
    try:
        rows, line = measure(plan, find_go(arguments.go), Settings(arguments.rounds, arguments.time),
                             again=arguments.again, console=console)
    except (GothreadsError, subprocess.TimeoutExpired) as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; the same command continues from here")
        return 130
    text = table(rows, line)
    if arguments.json:
        json.dump({"bars": summary(rows), "rows": [vars(row) for row in rows], "about": line}, sys.stdout, indent=2)
    else:
        print(text, end="")
    if arguments.write is not None:
        put(arguments.write, _PLACE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
