"""What preemption's checks in loops cost, and what they give: the same program built with and without, side by side.

    python -m benchmarks.preemption [--rounds 7] [--json]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import gothreads
from benchmarks.command import run
from gothreads.build.builder import Request, build

PROGRAM = Path(__file__).parent / "preemption"
WORK = {"calls": 33, "allocation": 40, "tight": 150_000_000}


def measure(rounds: int) -> dict[str, Any]:
    """Milliseconds with and without, the ratio of the two, and how long a collection waited."""
    modules = {on: build(Request(str(PROGRAM), preemption=on)).path for on in (True, False)}
    with gothreads.open(modules[True]) as on, gothreads.open(modules[False]) as off:
        def seconds(app: gothreads.App, export: str) -> float:
            begin = time.perf_counter()
            app.exports[export](WORK[export])
            return time.perf_counter() - begin
        found: dict[str, Any] = {}
        for export in WORK:
            pairs = [(seconds(on, export), seconds(off, export)) for _ in range(rounds + 1)][1:]
            found[export] = {"with": statistics.median(a for a, _ in pairs) * 1e3, "without": statistics.median(b for _, b in pairs) * 1e3,
                             "ratio": statistics.median(a / b for a, b in pairs)}
        found["collection during a tight loop"] = {
            "with": statistics.median(on.exports.collection(300_000_000) for _ in range(3)) / 1e6,
            "without": statistics.median(off.exports.collection(300_000_000) for _ in range(3)) / 1e6}
    return found


def show(found: dict[str, Any], _rounds: int) -> None:
    print(f"{'':32} {'with':>10} {'without':>10}   with against without")
    for name, figures in found.items():
        ratio = f"   {figures['ratio']:.2f}" if "ratio" in figures else ""
        print(f"{name:32} {figures['with']:8.1f}ms {figures['without']:8.1f}ms{ratio}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show))
