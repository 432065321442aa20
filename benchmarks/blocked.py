"""Calls that wait in the module: what they cost in time, in memory and, while nothing happens, in processor; threads,
and native Go through cgo.

    python -m benchmarks.blocked [--rounds 5] [--callers 256] [--json]

Each round gives each design a fresh process. A round trip: an export asks another goroutine, which answers at once,
from one Python thread and from eight; microseconds each. Then many threads wait in an export for the last one: the KB
that each takes, less what a Python thread takes that waits in Python; and the processor that the process uses
meanwhile.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

import gothreads
from benchmarks.command import run
from benchmarks.samples import compared, medians
from benchmarks.worker import Design, Measure, Worker, work
from gothreads.shared_memory import SharedMemory
from gothreads.tools.compare.callers import together
from gothreads.tools.compare.native import NativePeer
from gothreads.tools.compare.programs import Programs, build_programs
from gothreads.tools.compare.rounds import interleaved
from gothreads.tools.compare.workload import check

TRIPS, THREADS = 4_000, 8
#: For how long the use of the processor is measured, and how long threads get to settle. Seconds.
IDLE_SECONDS, REST_SECONDS = 5.0, 1.5
CALLERS = "BLOCKED_CALLERS"


def trip_time(trip: Callable[[int], int], threads: int) -> float:
    """Microseconds of wall time for each round trip."""
    def make(place: int) -> None:
        for value in range(place, TRIPS, threads):
            if (answer := trip(value)) != 2 * value:
                check(f"trip({value})", answer, 2 * value)
    return together([functools.partial(make, place) for place in range(threads)]) / TRIPS * 1e6


def wait_cost(wait: Callable[[], Any], last: Callable[[], Any], inner_memory: Callable[[], int]) -> dict[str, float]:
    """Many threads wait until the last call comes. inner_memory: the bytes to report apart (Go's memory)."""
    callers = int(os.environ[CALLERS])
    process = psutil.Process()
    gc.collect()
    before, inner = process.memory_info().rss, inner_memory()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(wait())) for _ in range(callers)]
    for thread in threads:
        thread.start()
    time.sleep(REST_SECONDS)
    begin, cpu = time.perf_counter(), time.process_time()
    time.sleep(IDLE_SECONDS)
    cpu = (time.process_time() - cpu) / (time.perf_counter() - begin)
    grown, grown_inner = process.memory_info().rss - before, inner_memory() - inner
    expected = last()
    for thread in threads:
        thread.join()
    check("answers of the callers that waited", answers, [expected] * callers)
    return {"KB": grown / callers / 1024, "inside": grown_inner / callers / 1024, "idle": cpu * 100}


def costs(function: Callable[[str], Callable[..., int]],
          inner_memory: Callable[[], int] = lambda: 0) -> dict[str, float]:
    meet, callers = function("meet"), int(os.environ[CALLERS])
    meet(1)
    trip_time(function("trip"), THREADS)
    return {"trip": trip_time(function("trip"), 1), "trips": trip_time(function("trip"), THREADS),
            **wait_cost(lambda: meet(callers + 1), lambda: meet(callers + 1), inner_memory)}


def threaded(programs: Programs) -> Measure:
    callers = int(os.environ[CALLERS])
    app = gothreads.open(programs.threaded, callers=callers + THREADS, host={"env": {"host": abs}},
                         limits=gothreads.Limits(threads=4 * callers))
    memory = app.memory
    assert isinstance(memory, SharedMemory)
    base, _ = memory.pointers

    def resident() -> int:
        """How much of Go's memory is resident, in bytes."""
        maps = psutil.Process().memory_maps(grouped=False)
        return int(sum(area.rss for area in maps if base <= int(area.addr.split("-")[0], 16) < base + (1 << 32)))
    return lambda: costs(lambda name: app.exports[name], resident)


def native(programs: Programs) -> Measure:
    assert programs.native is not None
    peer = NativePeer(programs.native, programs.exports, abs)
    return lambda: costs(peer.function)


def python(_programs: Programs) -> Measure:
    event = threading.Event()

    def last() -> bool:
        event.set()
        return True
    return lambda: wait_cost(event.wait, last, lambda: 0)


DESIGNS: dict[str, Design] = {"threads": threaded, "native": native, "Python's own": python}


def measure(rounds: int, callers: int) -> dict[str, Any]:
    programs = build_programs()

    def sample(name: str) -> dict[str, float]:
        with Worker("benchmarks.blocked", name, programs, {CALLERS: str(callers)}) as worker:
            return worker.measure()
    names = [name for name in DESIGNS if not (name == "native" and programs.native is None)]
    samples = interleaved({name: functools.partial(sample, name) for name in names}, rounds)
    ratios = {name: compared(samples, name, "threads", "native") for name in ("trip", "trips") if "native" in samples}
    return {"callers": callers, "designs": medians(samples), "ratios": ratios}


def show(figures: dict[str, Any], rounds: int) -> None:
    print(f"{figures['callers']} callers wait (medians of {rounds} rounds)")
    baseline = figures["designs"]["Python's own"]["KB"]
    for name, row in figures["designs"].items():
        times = f"{row['trip']:8.1f} µs by one thread, {row['trips']:.1f} by {THREADS}" if "trip" in row else ""
        print(f"{name:13} {row['KB']:6.1f} KB each, {row['KB'] - baseline:.1f} beyond Python's, {row['inside']:.1f} "
              f"of it in Go's memory; idle {row['idle']:.3f} % of a processor{times}")
    for what, value in figures["ratios"].items():
        print(f"{what}: {value:.2f} of native")


if __name__ == "__main__":
    if not work(DESIGNS):
        sys.exit(run(__doc__, measure, show, rounds=5, callers=256))
