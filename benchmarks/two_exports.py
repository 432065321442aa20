"""Two CPU-bound exports on two threads, against one alone: threaded Go and stock Go behind a lock, side by side.

    python -m benchmarks.two_exports [--rounds 7] [--json]

Each round measures all four, one after the other, so that what else the machine does falls on all alike; the figure is
the median of the rounds' ratios.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from pathlib import Path

import gothreads
from benchmarks.command import run

CALLS = Path(__file__).parent.parent / "tests" / "modules" / "calls"
FIB = 34


def seconds(app: gothreads.App, threads: int) -> float:
    """Run the export on so many threads at once."""
    barrier = threading.Barrier(threads + 1)

    def work() -> None:
        barrier.wait()
        app.exports.fib(FIB)
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    begin = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begin


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds for one and two at once, and the ratio, by model."""
    with gothreads.open(CALLS) as threaded, gothreads.open(CALLS, model="single") as single:
        apps = {"threaded": threaded, "single": single}
        for app in apps.values():
            app.exports.fib(20)
        taken: dict[str, list[tuple[float, float]]] = {model: [] for model in apps}
        for _ in range(rounds):
            for model, app in apps.items():
                taken[model].append((seconds(app, 1), seconds(app, 2)))
    return {model: {"one": statistics.median(one for one, _ in pairs), "two": statistics.median(two for _, two in pairs),
                    "ratio": statistics.median(two / one for one, two in pairs)} for model, pairs in taken.items()}


def show(found: dict[str, dict[str, float]], rounds: int) -> None:
    print(f"{'model':10} {'one':>9} {'two':>9}   two against one (fib({FIB}), medians of {rounds} rounds)")
    for model, figures in found.items():
        print(f"{model:10} {figures['one'] * 1e3:7.1f}ms {figures['two'] * 1e3:7.1f}ms   {figures['ratio']:.2f}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show))
