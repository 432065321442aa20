"""What threads give Go, and what they cost: the same program threaded on one and two procs, stock (one thread), and
native.

    python -m benchmarks.scaling [--rounds 5] [--times 3] [--json]

Each round runs all of them in turn, so that whatever else the machine does affects all alike; figures are medians of
the rounds, and of the rounds' ratios. A run takes the best of `times` for each kind of work (scaling_go/main.go).
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gothreads
from benchmarks.command import run
from benchmarks.samples import compared, medians
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import Toolchain
from gothreads.tools.compare.rounds import in_rounds

SOURCE = Path(__file__).parent / "scaling_go"
KINDS = ("cpu", "alloc", "mixed", "mutex", "channel", "spawn", "pool", "timers")

#: Seconds by kind of work.
Seconds = dict[str, float]
#: Runs the program with a number of goroutines, and so many times.
RunProgram = Callable[[int, int], Seconds]


def in_wasm(path: Path, model: str, procs: int) -> RunProgram:
    def seconds(goroutines: int, times: int) -> Seconds:
        out = io.BytesIO()
        arguments = [str(goroutines), str(times)]
        with gothreads.open(path, model=model, procs=procs if model == "threaded" else None, args=arguments,
                            stdout=out) as app:
            if app.wait() != 0:
                raise gothreads.GothreadsError("the program failed")
        return {kind: taken / 1e9 for kind, taken in json.loads(out.getvalue()).items()}
    return seconds


def natively(go: Toolchain, folder: Path, procs: int) -> RunProgram:
    program = folder / "scaling"
    if not program.exists():
        environment = os.environ | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        subprocess.run([str(go.go), "build", "-o", str(program), "."], cwd=SOURCE, env=environment, check=True)

    def seconds(goroutines: int, times: int) -> Seconds:
        done = subprocess.run([str(program), str(goroutines), str(times)], env=os.environ | {"GOMAXPROCS": str(procs)},
                              capture_output=True, check=True)
        return {kind: taken / 1e9 for kind, taken in json.loads(done.stdout).items()}
    return seconds


#: All runs: the design, and the number of goroutines.
RUNS = [(design, goroutines) for design in ("threaded-1", "threaded-2", "single", "native-1", "native-2")
        for goroutines in (1, 2, 8)]


#: By title: the kind of work, and the two runs whose times are divided. benchmarks/targets.py has the targets.
RATIOS = {
    "one proc against stock, cpu (speed)": ("cpu", ("single", 1), ("threaded-1", 1)),
    "one proc against stock, mixed (speed)": ("mixed", ("single", 8), ("threaded-1", 8)),
    "two procs against stock, mixed (speed)": ("mixed", ("single", 8), ("threaded-2", 8)),
    "two goroutines against one, cpu (time)": ("cpu", ("threaded-2", 2), ("threaded-2", 1)),
    "two goroutines against one, alloc (time)": ("alloc", ("threaded-2", 2), ("threaded-2", 1)),
    "two goroutines against one, alloc, native": ("alloc", ("native-2", 2), ("native-2", 1)),
    "against native, cpu (time)": ("cpu", ("threaded-2", 2), ("native-2", 2)),
    "against native, alloc (time)": ("alloc", ("threaded-2", 2), ("native-2", 2)),
}


def measure(rounds: int, times: int) -> dict[str, Any]:
    """Seconds by design, goroutines and kind of work; and ratios."""
    threaded = build(Request(str(SOURCE), "threaded"))
    single = build(Request(str(SOURCE), "single", buildmode="exe"))
    with tempfile.TemporaryDirectory() as folder:
        programs = {
            "threaded-1": in_wasm(threaded.path, "threaded", 1), "threaded-2": in_wasm(threaded.path, "threaded", 2),
            "single": in_wasm(single.path, "single", 1), "native-1": natively(threaded.toolchain, Path(folder), 1),
            "native-2": natively(threaded.toolchain, Path(folder), 2)}
        samples: dict[tuple[str, int], list[Seconds]] = {key: [] for key in RUNS}
        for number, (design, goroutines) in in_rounds(RUNS, rounds):
            _show_progress(f"round {number + 1} of {rounds}: {design}, {goroutines} goroutines")
            samples[design, goroutines].append(programs[design](goroutines, times))
        _show_progress("")

    ratios = {title: compared(samples, *terms) for title, terms in RATIOS.items()}
    return {"seconds": {f"{design}, {goroutines}": seconds
                        for (design, goroutines), seconds in medians(samples).items()}, "ratios": ratios}


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def show(figures: dict[str, Any], rounds: int) -> None:
    print(f"{'design, goroutines':20}" + "".join(f"{kind:>10}" for kind in KINDS)
          + f"   milliseconds, medians of {rounds} rounds")
    for name, row in figures["seconds"].items():
        print(f"{name:20}" + "".join(f"{row[kind] * 1e3:10.1f}" for kind in KINDS))
    for name, value in figures["ratios"].items():
        print(f"{name:55} {value:.2f}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=5, times=3))
