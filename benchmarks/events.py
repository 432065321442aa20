"""Events and calls of the host: how many a second, how long each takes; against a request and an export for each event,
and stock Go.

    python -m benchmarks.events [--rounds 3] [--milliseconds 500] [--json]

Throughput: Python threads send payloads for some milliseconds, and the time ends when Go has taken the last one (a sum
is checked). Latency: from app.signal until a Python handler runs that Go called because of that event; one event at a
time, with a pause between. Calls: goroutines call the host, each one call after the other. Each round measures
everything in turn; ratios are medians of the rounds', against threads, one sender, 16 bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import gothreads
from benchmarks.command import run
from gothreads.tools.compare.figures import median_ratio
from gothreads.tools.compare.rounds import in_rounds

MODULE = Path(__file__).parent / "events"
MODELS = ("threaded", "idle", "single")
SENDERS = (1, 4)
SIZES = (16, 1024)
GOROUTINES = (1, 64)
PROCS = 2
PINGS = 300      # for a latency, in each round
PAUSE = 0.001    # seconds before each, so that every thread is asleep
PATIENCE = 60    # seconds

Figures = dict[str, dict[str, float]]


class Subject:
    """One app, and its handlers."""

    def __init__(self, model: str) -> None:
        self._arrived = 0.0
        self._heard = threading.Event()
        done: Future[None] = Future()
        done.set_result(None)

        async def coroutine(payload: bytes) -> None: ...
        handlers = {"seen": self._seen,
                    "function": lambda payload: None, "future": lambda payload: done, "coroutine": coroutine}
        self.model = model
        self.app = gothreads.open(MODULE, model=model, handlers=handlers, procs=PROCS)

    def _seen(self, payload: bytes) -> None:
        self._arrived = time.perf_counter()
        self._heard.set()

    def throughput(self, way: str, senders: int, size: int, seconds: float) -> float:
        """Payloads a second."""
        app, payload = self.app, b"x" * size
        ways: dict[str, Callable[[], object]] = {
            "signal": lambda: app.signal("take", payload), "request": lambda: app.request("take", payload),
            "export": lambda: app.exports.take_string(payload)}
        send = ways[way]
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
                app.wait_idle(PATIENCE)  # nothing else lets the module run
            else:
                threads[-1].join(0.01)
        for thread in threads:
            thread.join()
        while app.exports.taken() - before < sum(sent):
            if time.perf_counter() > deadline + PATIENCE:
                raise SystemExit(f"{self.model}: {app.exports.taken() - before} of {sum(sent)} payloads arrived")
            if self.model == "single":
                app.wait_idle(PATIENCE)
        taken = time.perf_counter() - begin
        if app.exports.taken() - before != sum(sent) or app.exports.summed() - summed != sum(sent) * size * ord("x"):
            raise SystemExit(f"{self.model}: what arrived is not what was sent")
        return sum(sent) / taken

    def latencies(self, way: str, size: int, burning: int) -> list[float]:
        """Microseconds from app.signal to a handler in Python."""
        payload, microseconds = b"x" * size, []
        self.app.exports.burn(burning)
        for _ in range(PINGS):
            time.sleep(PAUSE)
            self._heard.clear()
            begin = time.perf_counter()
            self.app.signal(way, payload)
            if not self._heard.wait(PATIENCE):
                raise SystemExit(f"{self.model}: an event did not come back")
            microseconds.append((self._arrived - begin) * 1e6)
        self.app.exports.burn(0)
        return microseconds

    def calls(self, handler: str, goroutines: int, seconds: float) -> tuple[float, float]:
        """Host calls a second, and the mean time of each in microseconds."""
        calls, nanoseconds = map(int, self.app.request("calls", f"{handler} {goroutines} {seconds * 1e3:.0f}").split())
        return calls / nanoseconds * 1e9, nanoseconds / 1e3 * goroutines / calls


class Samples:
    """What was measured, by name: `throughput` in events a second, `latency` in microseconds, `calls` as (rate,
    microseconds each).
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.throughput: dict[str, list[float]] = {}
        self.latency: dict[str, list[float]] = {}
        self.calls: dict[str, list[tuple[float, float]]] = {}

    def take(self, subject: Subject) -> None:
        """One round of everything for one app."""
        for way, senders, size in itertools.product(("signal", "request", "export"), SENDERS, SIZES):
            name = f"{subject.model} {way} {senders} {size}"
            self.throughput.setdefault(name, []).append(subject.throughput(way, senders, size, self._seconds))
        if subject.model == "single":  # nothing comes back by itself
            return
        loads = range(PROCS + 1) if subject.model == "threaded" else (0,)
        for way, size, burning in itertools.product(("notify", "call"), SIZES, loads):
            self.latency.setdefault(f"{subject.model} {way} {size} {burning}",
                                    []).extend(subject.latencies(way, size, burning))
        for handler, goroutines in itertools.product(("function", "future", "coroutine"), GOROUTINES):
            name = f"{subject.model} {handler} {goroutines}"
            self.calls.setdefault(name, []).append(subject.calls(handler, goroutines, self._seconds))


def measure(rounds: int, milliseconds: int) -> dict[str, Figures]:
    """Throughput, latency and calls: the figures, by the name of what was measured."""
    samples = Samples(milliseconds / 1e3)
    with contextlib.ExitStack() as cleanup:
        subjects = []
        for model in MODELS:
            subjects.append(Subject(model))
            cleanup.callback(subjects[-1].app.close)
        for _, subject in in_rounds(subjects, rounds):
            samples.take(subject)
    events = samples.throughput["threaded signal 1 16"]
    calls = [rate for rate, _ in samples.calls["threaded function 1"]]
    return {"throughput": {name: {"per_second": statistics.median(rates), "ratio": median_ratio(rates, events)}
                           for name, rates in samples.throughput.items()},
            "latency": {name: _quantiles(microseconds) for name, microseconds in samples.latency.items()},
            "calls": {name: {"per_second": statistics.median(rate for rate, _ in taken),
                             "microseconds": statistics.median(each for _, each in taken),
                             "ratio": median_ratio((rate for rate, _ in taken), calls)}
                      for name, taken in samples.calls.items()}}


def _quantiles(microseconds: list[float]) -> dict[str, float]:
    parts = statistics.quantiles(microseconds, n=100)
    return {"p50_us": parts[49], "p99_us": parts[98]}


def show(figures: dict[str, Figures], rounds: int) -> None:
    print("model     way      senders  bytes     events/s  of threads' signal, 1 sender, 16 bytes (medians of "
          f"{rounds} rounds)")
    for name, row in figures["throughput"].items():
        model, way, senders, size = name.split()
        print(f"{model:9} {way:8} {senders:>7} {size:>6}  {row['per_second']:11,.0f}  {row['ratio']:.2f}")
    print(f"\nmodel     back by  bytes  busy procs of {PROCS}        p50        p99   from signal to a handler "
          "in Python")
    for name, row in figures["latency"].items():
        model, way, size, busy = name.split()
        print(f"{model:9} {way:8} {size:>5}  {busy:15} {row['p50_us']:7.0f} µs {row['p99_us']:7.0f} µs")
    print("\nmodel     handler    goroutines      calls/s       each  of threads' plain function, 1 goroutine")
    for name, row in figures["calls"].items():
        model, handler, goroutines = name.split()
        print(f"{model:9} {handler:10} {goroutines:>10}  {row['per_second']:11,.0f}  {row['microseconds']:6.0f} µs  "
              f"{row['ratio']:.2f}")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3, milliseconds=500))
