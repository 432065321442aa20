"""Events and calls of the host: how many a second, how long each takes; against a request and an export for each event, and stock Go.

    python -m benchmarks.events [--rounds 3] [--milliseconds 500] [--json]

Throughput: threads of Python's send payloads for so many milliseconds, and the time ends when Go has taken the last (a sum is checked).
Latency: from app.signal until a Python handler runs that Go has called because of that event, one event at a time, a pause between.
Calls: goroutines that call the host, one call after the other each. Each round measures everything, one after the other; the ratios
are the medians of the rounds', against threads, one sender, 16 bytes.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import gothreads
from benchmarks.command import ratio, run

MODULE = Path(__file__).parent / "events"
MODELS = ("threaded", "idle", "single")
SENDERS = (1, 4)
SIZES = (16, 1024)
GOROUTINES = (1, 64)
PROCS = 2
PINGS = 300      # of a latency, in a round
PAUSE = 0.001    # seconds before each: everybody has gone to sleep
PATIENCE = 60    # seconds

Figures = dict[str, dict[str, float]]


class Subject:
    """One app, and its handlers."""

    def __init__(self, model: str) -> None:
        self._came = 0.0
        self._heard = threading.Event()
        done: Future[None] = Future()
        done.set_result(None)

        async def coroutine(payload: bytes) -> None: ...
        handlers = {"seen": self._seen, "function": lambda payload: None, "future": lambda payload: done, "coroutine": coroutine}
        self.model = model
        self.app = gothreads.open(MODULE, model=model, handlers=handlers, procs=PROCS)

    def _seen(self, payload: bytes) -> None:
        self._came = time.perf_counter()
        self._heard.set()

    def throughput(self, way: str, senders: int, size: int, seconds: float) -> float:
        """Payloads a second."""
        app, payload = self.app, b"x" * size
        send: Callable[[], object] = {"signal": lambda: app.signal("take", payload), "request": lambda: app.request("take", payload),
                                      "export": lambda: app.exports.take_string(payload)}[way]
        before, summed = app.exports.taken(), app.exports.summed()
        sent = [0] * senders
        barrier = threading.Barrier(senders + 1)
        deadline = 0.0

        def work(place: int) -> None:
            barrier.wait()
            barrier.wait()
            while time.perf_counter() < deadline:
                send()
                sent[place] += 1
        threads = [threading.Thread(target=work, args=(place,)) for place in range(senders)]
        for thread in threads:
            thread.start()
        barrier.wait()
        begin = time.perf_counter()
        deadline = begin + seconds
        barrier.wait()
        while any(thread.is_alive() for thread in threads):
            if self.model == "single" and way == "signal":
                app.wait_idle(PATIENCE)  # nobody else lets the module run
            else:
                threads[-1].join(0.01)
        for thread in threads:
            thread.join()
        while app.exports.taken() - before < sum(sent):
            if time.perf_counter() > deadline + PATIENCE:
                raise SystemExit(f"{self.model}: of {sum(sent)} payloads {app.exports.taken() - before} came")
            if self.model == "single":
                app.wait_idle(PATIENCE)
        taken = time.perf_counter() - begin
        if app.exports.taken() - before != sum(sent) or app.exports.summed() - summed != sum(sent) * size * ord("x"):
            raise SystemExit(f"{self.model}: what came is not what was sent")
        return sum(sent) / taken

    def latencies(self, way: str, size: int, burning: int) -> list[float]:
        """Microseconds from app.signal to a handler in Python."""
        payload, found = b"x" * size, []
        self.app.exports.burn(burning)
        for _ in range(PINGS):
            time.sleep(PAUSE)
            self._heard.clear()
            begin = time.perf_counter()
            self.app.signal(way, payload)
            if not self._heard.wait(PATIENCE):
                raise SystemExit(f"{self.model}: an event did not come back")
            found.append((self._came - begin) * 1e6)
        self.app.exports.burn(0)
        return found

    def calls(self, handler: str, goroutines: int, seconds: float) -> tuple[float, float]:
        """Calls of the host a second, and how long each took, on average, in microseconds."""
        calls, nanoseconds = map(int, self.app.request("calls", f"{handler} {goroutines} {seconds * 1e3:.0f}").split())
        return calls / nanoseconds * 1e9, nanoseconds / 1e3 * goroutines / calls


def measure(rounds: int, milliseconds: int) -> dict[str, Figures]:
    """Throughput, latency, calls: by a name of what was measured, its figures."""
    seconds = milliseconds / 1e3
    throughput: dict[str, list[float]] = {}
    latency: dict[str, list[float]] = {}
    calls: dict[str, list[tuple[float, float]]] = {}
    subjects = [Subject(model) for model in MODELS]
    try:
        for _ in range(rounds):
            for subject in subjects:
                for way in ("signal", "request", "export"):
                    for senders in SENDERS:
                        for size in SIZES:
                            name = f"{subject.model} {way} {senders} {size}"
                            throughput.setdefault(name, []).append(subject.throughput(way, senders, size, seconds))
                if subject.model == "single":  # nothing comes back by itself
                    continue
                for way in ("notify", "call"):
                    for size in SIZES:
                        for burning in range(PROCS + 1) if subject.model == "threaded" else (0,):
                            name = f"{subject.model} {way} {size} {burning}"
                            latency.setdefault(name, []).extend(subject.latencies(way, size, burning))
                for handler in ("function", "future", "coroutine"):
                    for goroutines in GOROUTINES:
                        calls.setdefault(f"{subject.model} {handler} {goroutines}", []).append(subject.calls(handler, goroutines, seconds))
    finally:
        for subject in subjects:
            subject.app.close()
    events, called = throughput["threaded signal 1 16"], calls["threaded function 1"]
    return {"throughput": {name: {"per_second": statistics.median(found), "ratio": ratio(found, events)} for name, found in throughput.items()},
            "latency": {name: _quantiles(found) for name, found in latency.items()},
            "calls": {name: {"per_second": statistics.median(rate for rate, _ in found), "microseconds": statistics.median(each for _, each in found),
                             "ratio": ratio([rate for rate, _ in found], [rate for rate, _ in called])} for name, found in calls.items()}}


def _quantiles(microseconds: list[float]) -> dict[str, float]:
    parts = statistics.quantiles(microseconds, n=100)
    return {"p50_us": parts[49], "p99_us": parts[98]}


def show(found: dict[str, Figures], rounds: int) -> None:
    print(f"model     way      senders  bytes     events/s  of threads' signal, 1 sender, 16 bytes (medians of {rounds} rounds)")
    for name, figures in found["throughput"].items():
        model, way, senders, size = name.split()
        print(f"{model:9} {way:8} {senders:>7} {size:>6}  {figures['per_second']:11,.0f}  {figures['ratio']:.2f}")
    print(f"\nmodel     back by  bytes  busy procs of {PROCS}        p50        p99   from signal to a handler in Python")
    for name, figures in found["latency"].items():
        model, way, size, busy = name.split()
        print(f"{model:9} {way:8} {size:>5}  {busy:15} {figures['p50_us']:7.0f} µs {figures['p99_us']:7.0f} µs")
    print("\nmodel     handler    goroutines      calls/s       each  of threads' plain function, 1 goroutine")
    for name, figures in found["calls"].items():
        model, handler, goroutines = name.split()
        print(f"{model:9} {handler:10} {goroutines:>10}  {figures['per_second']:11,.0f}  {figures['microseconds']:6.0f} µs  {figures['ratio']:.2f}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3, milliseconds=500))
