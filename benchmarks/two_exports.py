"""Two CPU-bound exports on two threads, against one alone: threaded Go and stock Go behind a lock, side by side.

    python -m benchmarks.two_exports [--rounds 7] [--json]

Each round measures all four in turn, so that whatever else the machine does affects all alike; the figure is the median
of the rounds' ratios.
"""

from __future__ import annotations

import functools
import statistics
import sys
from pathlib import Path

import gothreads
from benchmarks.command import run
from gothreads.tools.compare.callers import together
from gothreads.tools.compare.rounds import interleaved

CALLS = Path(__file__).parent.parent / "tests" / "modules" / "calls"
FIB = 34


def seconds(app: gothreads.App, threads: int) -> float:
    """Run the export on several threads at once."""
    return together([lambda: app.exports.fib(FIB)] * threads)


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """By model: seconds for one and for two at once, and their ratio."""
    with gothreads.open(CALLS) as threaded, gothreads.open(CALLS, model="single") as single:
        apps = {"threaded": threaded, "single": single}
        for app in apps.values():
            app.exports.fib(20)
        samples = interleaved({model: functools.partial(_one_and_two, app) for model, app in apps.items()}, rounds)
    return {model: {"one": statistics.median(one for one, _ in pairs),
                    "two": statistics.median(two for _, two in pairs),
                    "ratio": statistics.median(two / one for one, two in pairs)} for model, pairs in samples.items()}


def _one_and_two(app: gothreads.App) -> tuple[float, float]:
    return seconds(app, 1), seconds(app, 2)


def show(figures: dict[str, dict[str, float]], rounds: int) -> None:
    print(f"{'model':10} {'one':>9} {'two':>9}   two against one (fib({FIB}), medians of {rounds} rounds)")
    for model, row in figures.items():
        print(f"{model:10} {row['one'] * 1e3:7.1f}ms {row['two'] * 1e3:7.1f}ms   {row['ratio']:.2f}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show))
