"""Performance targets, and the figures reached here: runs the benchmarks that have targets, one after the other.

    python -m benchmarks.targets                                a quarter of an hour: leave the machine alone meanwhile
    python -m benchmarks.targets --rounds 1                     a look
    python -m benchmarks.targets --write benchmarks/README.md   puts the table there, too
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import blocked, call_path, compiler, scaling
from benchmarks.command import check_calls_in_c
from benchmarks.document import missing, put

BENCHMARKS: dict[str, Callable[[int], dict[str, Any]]] = {
    "call_path": call_path.measure,
    "blocked": lambda rounds: blocked.measure(rounds, 256), "scaling": lambda rounds: scaling.measure(rounds, 3),
    "compiler": compiler.measure}
_PLACE = "targets"


@dataclass(frozen=True)
class Target:
    """A bar for one figure. `pick` takes the figure from a benchmark's result; None: it could not be measured. `more`:
    whether higher is better.

    beside: another figure to show with it, and its title.
    """

    what: str
    benchmark: str
    pick: Callable[[Any], float | None]
    bar: float
    more: bool = False
    unit: str = "×"
    beside: tuple[str, Callable[[Any], float | None]] | None = None

    def row(self, results: Mapping[str, Any]) -> dict[str, Any]:
        result = results[self.benchmark]
        value = self.pick(result)
        reached = None if value is None else value >= self.bar if self.more else value <= self.bar
        beside = None if self.beside is None else {"what": self.beside[0], "value": self.beside[1](result)}
        return {"what": self.what, "benchmark": self.benchmark, "value": value, "bar": self.bar, "more": self.more,
                "unit": self.unit, "reached": reached, "beside": beside}


def _ratio(name: str) -> Callable[[Any], float | None]:
    def pick(result: Any) -> float | None:
        value: float | None = next((value for key, value in result["ratios"].items() if key.startswith(name)), None)
        return value
    return pick


def _seconds(kind: str, one: str, other: str) -> Callable[[Any], float | None]:
    """The time of one design (with its goroutines) as a multiple of another's."""
    return lambda result: result["seconds"][one][kind] / result["seconds"][other][kind]


def _beyond_python(result: Any) -> float:
    """The host memory that a caller takes, less that of its Python thread."""
    ours = result["designs"]["threads"]
    return float(ours["KB"] - ours["inside"] - result["designs"]["Python's own"]["KB"])


def _compiler_seconds(result: Any, design: str) -> float:
    seconds: float = result["compile"][design]["seconds"]
    return seconds


TARGETS = (
    Target("a short call in C: its time, of native through ctypes and cgo", "call_path", _ratio("add: C / native"),
           1.3),
    Target("the same: times cheaper than wasmtime-py's", "call_path", _ratio("add: wasmtime-py / C"), 60, more=True),
    Target("a short call through ctypes: times cheaper than wasmtime-py's", "call_path",
           _ratio("add: wasmtime-py / ctypes"), 8, more=True),
    Target("Go calls Python: times cheaper than wasmtime-py's", "call_path", _ratio("host: wasmtime-py / C"), 8,
           more=True),
    Target("a request of 64 bytes", "call_path",
           lambda result: result["microseconds"].get("C", {}).get("request 64"), 3, unit=" µs"),
    Target("a request of 64 KiB, of 3 copies there and back and 3 µs", "call_path", _ratio("request 65536: C"), 1),
    Target("the same, lent (guest.HandleLent)", "call_path", _ratio("lent 65536: C"), 1),
    Target("one proc, computing: speed, of stock Go's", "scaling", _ratio("one proc against stock, cpu"), 0.95,
           more=True),
    Target("one proc, mixed: speed, of stock Go's", "scaling", _ratio("one proc against stock, mixed"), 0.92,
           more=True),
    Target("two procs, mixed, 8 goroutines: speed, of stock Go's", "scaling", _ratio("two procs against stock, mixed"),
           1.6, more=True),
    Target("two goroutines, double work, computing: time, of one's", "scaling",
           _ratio("two goroutines against one, cpu"), 1.05),
    Target("the same, allocating", "scaling", _ratio("two goroutines against one, alloc ("), 1.30,
           beside=("native Go's", _ratio("two goroutines against one, alloc, native"))),
    Target("computing (fib): time, of native Go's", "scaling", _ratio("against native, cpu"), 2.7,
           beside=("stock Go's in WebAssembly", _seconds("cpu", "single, 1", "native-1, 1"))),
    Target("allocating: time, of native Go's", "scaling", _ratio("against native, alloc"), 3,
           beside=("stock Go's in WebAssembly, one thread both", _seconds("alloc", "single, 1", "native-1, 1"))),
    Target("a round trip to another goroutine, 8 threads: time, of native's", "blocked", _ratio("trips"), 1.5),
    Target("256 callers that wait: memory of each, beyond Go's and Python's", "blocked", _beyond_python, 64,
           unit=" KB"),
    Target("the same: processor", "blocked", lambda result: result["designs"]["threads"]["idle"], 0.1, unit=" %"),
    Target("Go's compiler on go/types: speed of two procs, of one's", "compiler",
           lambda result: 1 / result["compile"]["two procs"]["ratio"], 1.7, more=True,
           beside=("native Go's",
                   lambda result: _compiler_seconds(result, "native, one") / _compiler_seconds(result, "native, two"))),
    Target("Go's compiler (56 MB) prints its version: the whole process", "compiler",
           lambda result: result["version"]["version"]["seconds"], 0.5, unit=" s"),
)


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| what | here | target | | beside it |", "|---|---|---|---|---|"]
    for row in rows:
        value = "not measured" if row["value"] is None else f"{row['value']:.3g}{row['unit']}"
        word = "" if row["reached"] is None else "reached" if row["reached"] else "not reached"
        beside = row["beside"]
        measured = beside is not None and beside["value"] is not None
        other = f"{beside['what']}: {beside['value']:.3g}{row['unit']}" if measured else ""
        target = f"{'≥' if row['more'] else '≤'} {row['bar']:g}{row['unit']}"
        lines.append(f"| {row['what']} | {value} | {target} | {word} | {other} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the table and all results as JSON")
    parser.add_argument("--write", type=Path, metavar="FILE",
                        help="put the table there, between <!-- targets: begin --> and end")
    arguments = parser.parse_args()
    check_calls_in_c(parser)
    if arguments.write is not None and (why := missing(arguments.write, _PLACE)) is not None:
        parser.error(why)
    results = {}
    for name, measure in BENCHMARKS.items():
        print(f"benchmarks.{name} …", file=sys.stderr)
        results[name] = measure(arguments.rounds)
    rows = [target.row(results) for target in TARGETS]
    print(json.dumps({"targets": rows, "found": results}, indent=2) if arguments.json else table(rows), end="")
    if arguments.write is not None:
        put(arguments.write, _PLACE, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
