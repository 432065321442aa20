"""Calls that wait inside: what that costs in time, in memory and, when nothing comes, in processor; threads, and native Go through cgo.

    python -m benchmarks.blocked [--rounds 5] [--callers 256] [--json]

Each round gives each design a fresh process. A round trip: an export asks another goroutine, which answers at once, from one Python thread and
from eight; microseconds of each. Then so many threads wait in an export for the last one: KB that each takes, less what a Python thread takes that
waits in Python; and the processor that the process uses meanwhile.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

import gothreads
from benchmarks.command import ratio, run
from benchmarks.worker import Design, Measure, Worker, work
from gothreads.shared_memory import SharedMemory
from gothreads.tools.compare.native import NativePeer
from gothreads.tools.compare.programs import Programs, build_programs

TRIPS, THREADS = 4_000, 8
#: How long the processor's use is looked at, and how long threads get to come to rest. Seconds.
IDLE_SECONDS, REST_SECONDS = 5.0, 1.5
CALLERS = "BLOCKED_CALLERS"


def trips(trip: Callable[[int], int], threads: int) -> float:
    """Microseconds of wall time for each."""
    def go(place: int) -> None:
        for value in range(place, TRIPS, threads):
            if (answer := trip(value)) != 2 * value:
                raise SystemExit(f"the answer to {value} is {answer}")
    workers = [threading.Thread(target=go, args=(place,)) for place in range(threads)]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - begin) / TRIPS * 1e6


def waiting(wait: Callable[[], Any], last: Callable[[], Any], within: Callable[[], int]) -> dict[str, float]:
    """So many threads wait until the last one comes. within: the bytes of what is told apart (Go's memory)."""
    callers = int(os.environ[CALLERS])
    process = psutil.Process()
    gc.collect()
    before, inner = process.memory_info().rss, within()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(wait())) for _ in range(callers)]
    for thread in threads:
        thread.start()
    time.sleep(REST_SECONDS)
    begin, cpu = time.perf_counter(), time.process_time()
    time.sleep(IDLE_SECONDS)
    cpu = (time.process_time() - cpu) / (time.perf_counter() - begin)
    grown, grown_inner = process.memory_info().rss - before, within() - inner
    expected = last()
    for thread in threads:
        thread.join()
    if answers != [expected] * callers:
        raise SystemExit(f"not all {callers} waited")
    return {"KB": grown / callers / 1024, "inside": grown_inner / callers / 1024, "idle": cpu * 100}


def measured(function: Callable[[str], Callable[..., int]], within: Callable[[], int] = lambda: 0) -> dict[str, float]:
    meet, callers = function("meet"), int(os.environ[CALLERS])
    meet(1)
    trips(function("trip"), THREADS)
    return {"trip": trips(function("trip"), 1), "trips": trips(function("trip"), THREADS),
            **waiting(lambda: meet(callers + 1), lambda: meet(callers + 1), within)}


def threaded(programs: Programs) -> Measure:
    callers = int(os.environ[CALLERS])
    app = gothreads.open(programs.threaded, callers=callers + THREADS, host={"env": {"host": abs}}, limits=gothreads.Limits(threads=4 * callers))
    memory = app.memory
    assert isinstance(memory, SharedMemory)
    base, _ = memory.pointers

    def within() -> int:
        """What of Go's memory is there, in bytes."""
        maps = psutil.Process().memory_maps(grouped=False)
        return int(sum(found.rss for found in maps if base <= int(found.addr.split("-")[0], 16) < base + (1 << 32)))
    return lambda: measured(lambda name: app.exports[name], within)


def native(programs: Programs) -> Measure:
    assert programs.native is not None
    peer = NativePeer(programs.native, programs.exports, abs)
    return lambda: measured(peer.function)


def python(_programs: Programs) -> Measure:
    event = threading.Event()

    def last() -> bool:
        event.set()
        return True
    return lambda: waiting(event.wait, last, lambda: 0)


DESIGNS: dict[str, Design] = {"threads": threaded, "native": native, "Python's own": python}


def measure(rounds: int, callers: int) -> dict[str, Any]:
    programs = build_programs()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in DESIGNS if not (name == "native" and programs.native is None)}
    for _ in range(rounds):
        for name, samples in found.items():
            worker = Worker("benchmarks.blocked", name, programs, {CALLERS: str(callers)})
            samples.append(worker.measure())
            worker.close()
    return {"callers": callers, "designs": {name: {what: statistics.median(sample[what] for sample in samples) for what in samples[0]}
                                            for name, samples in found.items()},
            "ratios": {what: ratio((sample[what] for sample in found["threads"]), (sample[what] for sample in found["native"]))
                       for what in ("trip", "trips")} if "native" in found else {}}


def show(found: dict[str, Any], rounds: int) -> None:
    print(f"{found['callers']} callers wait (medians of {rounds} rounds)")
    rest = found["designs"]["Python's own"]["KB"]
    for name, figures in found["designs"].items():
        times = f"{figures['trip']:8.1f} µs by one thread, {figures['trips']:.1f} by {THREADS}" if "trip" in figures else ""
        print(f"{name:13} {figures['KB']:6.1f} KB each, {figures['KB'] - rest:.1f} beyond Python's, {figures['inside']:.1f} of it in "
              f"Go's memory; idle {figures['idle']:.3f} % of a processor{times}")
    for what, value in found["ratios"].items():
        print(f"{what}: {value:.2f} of native")


if __name__ == "__main__":
    if not work(DESIGNS):
        sys.exit(run(__doc__, measure, show, rounds=5, callers=256))
