"""Short calls from several threads against one thread, in several Pythons: builds with the GIL, and free-threaded ones.

    python -m benchmarks.free_threads [--python PATH ...] [--threads 2] [--rounds 7] [--json]

Each Python (default: this one) needs these sources installed (pip install -e .). Each has a process of its own, and all
are measured in turn, so that whatever else the machine does affects all alike. A figure is the median of the rounds'
ratios: how many calls all threads make in a second, of those that one makes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gothreads
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.engine import extension

MODULE = Path(__file__).parent.parent / "tests" / "modules" / "calls"
#: How many calls each thread makes in a round.
TIMES = 100_000


def calls_per_second(app: Any, threads: int) -> float:
    barrier = threading.Barrier(threads + 1)

    def calls() -> None:
        add = app.exports.add
        for _ in range(100):  # each thread's first calls are not short
            add(1, 2)
        barrier.wait()
        for _ in range(TIMES):
            add(1, 2)
        barrier.wait()
    for _ in range(threads):
        threading.Thread(target=calls).start()
    barrier.wait()
    begin = time.perf_counter()
    barrier.wait()
    return threads * TIMES / (time.perf_counter() - begin)


def serve(module: str, threads: int) -> None:
    """Measure for each line of input."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    with gothreads.open(module, callers=2 * threads) as app:
        print(json.dumps({"python": f"{sys.version.split()[0]}{'t' if extension.FREE_THREADED else ''}",
                          "gil": gil, "calls": extension.PATH}), flush=True)
        for _ in sys.stdin:
            print(json.dumps([calls_per_second(app, 1), calls_per_second(app, threads)]), flush=True)


class Child:
    """A Python that measures."""

    def __init__(self, python: str, module: Path, threads: int) -> None:
        self.process = subprocess.Popen([python, "-m", "benchmarks.free_threads", "--serve", str(module),
                                         "--threads", str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, cwd=Path(__file__).parent.parent)
        self.about = self._read()

    def measure(self) -> list[float]:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        figures: list[float] = self._read()
        return figures

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", metavar="PATH")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve, arguments.threads)
        return
    module = build(Request(str(MODULE))).path
    with contextlib.ExitStack() as cleanup:
        children = [Child(python, module, arguments.threads) for python in arguments.python or [sys.executable]]
        for child in children:
            cleanup.callback(child.close)
        samples = [[child.measure() for child in children] for _ in range(arguments.rounds)]
    found = [child.about | {"one": statistics.median(sample[place][0] for sample in samples),
                            "all": statistics.median(sample[place][1] for sample in samples),
                            "ratio": statistics.median(sample[place][1] / sample[place][0] for sample in samples)}
             for place, child in enumerate(children)]
    if arguments.json:
        json.dump(found, sys.stdout, indent=2)
        return
    for one in found:
        print(f"{one['python']:9} GIL {'on ' if one['gil'] else 'off'} {one['calls']:6} one thread "
              f"{one['one']:11,.0f}/s   {arguments.threads} threads {one['all']:11,.0f}/s   {one['ratio']:.2f}")


if __name__ == "__main__":
    main()
