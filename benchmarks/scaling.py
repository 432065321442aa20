"""What threads do for Go, and what they cost: the same program threaded on one and two procs, stock (one thread), and native.

    python -m benchmarks.scaling [--rounds 5] [--times 3] [--json]

Each round runs all of them, one after the other, so that what else the machine does falls on all alike; the figures are medians of the rounds,
and of the rounds' ratios. Of each kind of work (scaling_go/main.go) a run takes the best of `times`.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gothreads
from benchmarks.command import ratio, run
from gothreads.build.builder import Request, build
from gothreads.build.toolchain import Toolchain

SOURCE = Path(__file__).parent / "scaling_go"
KINDS = ("cpu", "alloc", "mixed", "mutex", "channel", "spawn", "pool", "timers")

Found = dict[str, float]
Runner = Callable[[int, int], Found]


def in_wasm(path: Path, model: str, procs: int) -> Runner:
    def seconds(goroutines: int, times: int) -> Found:
        out = io.BytesIO()
        with gothreads.open(path, model=model, procs=procs if model == "threaded" else None, args=[str(goroutines), str(times)], stdout=out) as app:
            if app.wait() != 0:
                raise gothreads.GothreadsError("it has failed")
        return {kind: taken / 1e9 for kind, taken in json.loads(out.getvalue()).items()}
    return seconds


def natively(go: Toolchain, folder: Path, procs: int) -> Runner:
    program = folder / "scaling"
    if not program.exists():
        environment = os.environ | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        subprocess.run([str(go.go), "build", "-o", str(program), "."], cwd=SOURCE, env=environment, check=True)

    def seconds(goroutines: int, times: int) -> Found:
        done = subprocess.run([str(program), str(goroutines), str(times)], env=os.environ | {"GOMAXPROCS": str(procs)}, capture_output=True, check=True)
        return {kind: taken / 1e9 for kind, taken in json.loads(done.stdout).items()}
    return seconds


#: Which runs there are: the design, and how many goroutines.
RUNS = [(design, goroutines) for design in ("threaded-1", "threaded-2", "single", "native-1", "native-2") for goroutines in (1, 2, 8)]


def measure(rounds: int, times: int) -> dict[str, Any]:
    """Seconds, by design and goroutines and kind; and ratios."""
    threaded = build(Request(str(SOURCE), "threaded"))
    single = build(Request(str(SOURCE), "single", buildmode="exe"))
    with tempfile.TemporaryDirectory() as folder:
        runners = {"threaded-1": in_wasm(threaded.path, "threaded", 1), "threaded-2": in_wasm(threaded.path, "threaded", 2),
                   "single": in_wasm(single.path, "single", 1), "native-1": natively(threaded.toolchain, Path(folder), 1),
                   "native-2": natively(threaded.toolchain, Path(folder), 2)}
        found: dict[tuple[str, int], list[Found]] = {key: [] for key in RUNS}
        for number in range(rounds):
            for design, goroutines in RUNS:
                print(f"\rround {number + 1} of {rounds}: {design}, {goroutines} goroutines   ", end="", file=sys.stderr, flush=True)
                found[design, goroutines].append(runners[design](goroutines, times))
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)

    def of(kind: str, one: tuple[str, int], other: tuple[str, int]) -> float:
        return ratio((sample[kind] for sample in found[one]), (sample[kind] for sample in found[other]))
    ratios = {
        "one proc against stock, cpu (its speed, bar 0.95)": of("cpu", ("single", 1), ("threaded-1", 1)),
        "one proc against stock, mixed (its speed, bar 0.92)": of("mixed", ("single", 8), ("threaded-1", 8)),
        "two procs against stock, mixed (its speed, bar 1.6)": of("mixed", ("single", 8), ("threaded-2", 8)),
        "two goroutines against one, cpu (time, bar 1.05)": of("cpu", ("threaded-2", 2), ("threaded-2", 1)),
        "two goroutines against one, alloc (time, bar 1.30)": of("alloc", ("threaded-2", 2), ("threaded-2", 1)),
        "two goroutines against one, alloc, native": of("alloc", ("native-2", 2), ("native-2", 1)),
        "against native, cpu (time, bar 2.7)": of("cpu", ("threaded-2", 2), ("native-2", 2)),
        "against native, alloc (time, bar 3)": of("alloc", ("threaded-2", 2), ("native-2", 2)),
    }
    return {"seconds": {f"{design}, {goroutines}": {kind: statistics.median(one[kind] for one in samples) for kind in KINDS}
                        for (design, goroutines), samples in found.items()}, "ratios": ratios}


def show(found: dict[str, Any], rounds: int) -> None:
    print(f"{'design, goroutines':20}" + "".join(f"{kind:>10}" for kind in KINDS) + f"   milliseconds, medians of {rounds} rounds")
    for name, figures in found["seconds"].items():
        print(f"{name:20}" + "".join(f"{figures[kind] * 1e3:10.1f}" for kind in KINDS))
    for name, value in found["ratios"].items():
        print(f"{name:55} {value:.2f}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=5, times=3))
