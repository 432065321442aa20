"""What the preemption checks in loops cost, and what they give: the same program built with and without them, side by
side.

    python -m benchmarks.preemption [--rounds 7] [--json]
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import gothreads
from benchmarks.command import run
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.tools.compare.figures import median_ratio
from gothreads.tools.compare.rounds import interleaved

PROGRAM = Path(__file__).parent / "preemption"
WORK = {"calls": 33, "allocation": 40, "tight": 150_000_000}


def measure(rounds: int) -> dict[str, Any]:
    """Milliseconds with and without the checks, their ratio, and how long a collection waited."""
    modules = {on: build(Request(str(PROGRAM), preemption=on)).path for on in (True, False)}
    with gothreads.open(modules[True]) as on, gothreads.open(modules[False]) as off:
        figures: dict[str, Any] = {}
        for export, amount in WORK.items():
            samples = interleaved({"with": functools.partial(milliseconds, on, export, amount),
                                   "without": functools.partial(milliseconds, off, export, amount)}, rounds + 1)
            warm = {name: taken[1:] for name, taken in samples.items()}
            figures[export] = {name: statistics.median(taken) for name, taken in warm.items()}
            figures[export]["ratio"] = median_ratio(warm["with"], warm["without"])
        figures["collection during a tight loop"] = {
            "with": statistics.median(on.exports.collection(300_000_000) for _ in range(3)) / 1e6,
            "without": statistics.median(off.exports.collection(300_000_000) for _ in range(3)) / 1e6}
    return figures


def milliseconds(app: gothreads.App, export: str, amount: int) -> float:
    begin = time.perf_counter()
    app.exports[export](amount)
    return (time.perf_counter() - begin) * 1e3


def show(figures: dict[str, Any], _rounds: int) -> None:
    print(f"{'':32} {'with':>10} {'without':>10}   with against without")
    for name, row in figures.items():
        ratio = f"   {row['ratio']:.2f}" if "ratio" in row else ""
        print(f"{name:32} {row['with']:8.1f}ms {row['without']:8.1f}ms{ratio}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show))
