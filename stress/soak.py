"""Full load for a long time: the numbers of threads and descriptors, and memory, stay the same.

    python -m stress.soak [--seconds 1800] [--clients 8] [--seed N] [--plot docs/soak.png] [--json]

One threaded app takes calls of all the kinds in stress.chaos, with nothing that ends it. Figures are taken every
second, and in the end those of the second quarter are compared with those of the last. Ends with exit code 1 when a
call is answered wrong, or something has grown. --plot needs matplotlib: pip install '.[plots]'
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

import gothreads
from gothreads.errors import AppClosed
from stress.call_ledger import AuditError, CallLedger
from stress.random_clients import RandomClients

#: The allowed growth from the second quarter to the last: for memory, which varies with the collector; and for all
#: else.
MEMORY_GROWTH, GROWTH = 1.05, 1.02
#: Threads come and go: so many more do not count.
SLACK = 4


@dataclass(frozen=True)
class SoakSample:
    """Resident `memory` and Go's `heap` in bytes; `calls` so far."""

    seconds: float
    memory: int
    heap: int
    threads: int
    descriptors: int
    callers: int
    goroutines: int
    calls: int
    cpu: float


class SoakLedger(CallLedger):
    """Checks each call when it has an outcome, and forgets it: the ledger of an app that does not end."""

    def record_outcome(self, number: int, outcome: object) -> None:
        with self.lock:
            self.kinds["done"] += 1
            if self.outcomes.pop(number, None) is None:
                raise AuditError(f"call {number} has a second outcome: {outcome!r}")
            runs = self.runs.pop(number, 0)
        if runs > 1 or (isinstance(outcome, int) and runs != 1):
            raise AuditError(f"call {number} ran {runs} times: {outcome!r}")

    def record_run(self, number: int) -> None:
        with self.lock:
            if number in self.outcomes:  # calls that were given up may run later
                self.runs[number] += 1

    def record_event(self, number: int) -> None:
        pass  # the module counts them

    def expect_callback(self, number: int) -> None:
        pass

    def record_callback(self, number: int) -> None:
        pass


def run(seconds: float, clients: int, seed: int) -> list[SoakSample]:
    """AuditError when a call is answered wrong."""
    ledger, process, samples = SoakLedger(), psutil.Process(), list[SoakSample]()
    running = RandomClients(f"{seed}", "threaded", ledger)
    with running.open(random.Random(seed), gothreads.Limits(memory=512 << 20)) as app:
        threads = [threading.Thread(target=running.run, args=(app, place), name=f"client-{place}")
                   for place in range(clients)]
        for thread in threads:
            thread.start()
        begin = time.monotonic()
        process.cpu_percent()
        try:
            while (now := time.monotonic() - begin) < seconds and not running.failures:
                time.sleep(1)
                statistics = app.statistics()
                go, callers = statistics.go, statistics.callers
                samples.append(SoakSample(
                    seconds=round(now, 1), memory=process.memory_info().rss, heap=go.heap if go else 0,
                    threads=process.num_threads(), descriptors=process.num_fds(),
                    callers=callers.total if callers else 0,
                    goroutines=go.goroutines if go else 0, calls=ledger.kinds["done"], cpu=process.cpu_percent()))
                if len(samples) % 60 == 0:
                    print(_line(samples), file=sys.stderr, flush=True)
        finally:
            app.close()
            for thread in threads:
                thread.join()
    failures = [failure for failure in running.failures if not isinstance(failure, AppClosed)]
    if failures:
        raise AuditError(f"{type(failures[0]).__name__}: {failures[0]}")
    return samples


def _line(samples: list[SoakSample]) -> str:
    last = samples[-1]
    return (f"{last.seconds:6.0f} s  {last.calls:11,} calls  {last.memory / 1e6:6.1f} MB resident  "
            f"{last.heap / 1e6:5.1f} MB Go's heap  "
            f"{last.threads:4} threads  {last.descriptors:3} descriptors  {last.goroutines:4} goroutines  "
            f"{last.cpu:4.0f} % CPU")


def compare(samples: list[SoakSample]) -> dict[str, dict[str, Any]]:
    """For each figure its median in the second and in the last quarter, and whether it has stayed the same."""
    quarter = len(samples) // 4
    growth = {"memory": MEMORY_GROWTH, "threads": GROWTH, "descriptors": GROWTH, "callers": GROWTH, "goroutines": 1.5,
              "heap": 1.5}
    figures = {}
    for name, most in growth.items():
        before, after = (median(getattr(sample, name) for sample in part)
                         for part in (samples[quarter:2 * quarter], samples[-quarter:]))
        figures[name] = {"second_quarter": before, "last_quarter": after,
                         "stayed": after <= max(before * most, before + SLACK)}
    return figures


def plot(samples: list[SoakSample], path: Path) -> None:
    """Memory and threads over time."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    minutes = [sample.seconds / 60 for sample in samples]
    figure, (upper, middle, lower) = pyplot.subplots(3, 1, sharex=True, figsize=(9, 7), layout="constrained")
    upper.plot(minutes, [sample.memory / 1e6 for sample in samples], label="resident, of the process")
    upper.plot(minutes, [sample.heap / 1e6 for sample in samples], label="Go's heap", linewidth=0.7)
    upper.set(ylabel="MB", ylim=(0, None),
              title=f"{samples[-1].calls:,} calls in {minutes[-1]:.0f} minutes: memory, threads, calls a second")
    middle.plot(minutes, [sample.threads for sample in samples], label="threads of the process")
    middle.plot(minutes, [sample.descriptors for sample in samples], label="descriptors")
    middle.set(ylim=(0, None))
    window = 10
    rates = [(later.calls - earlier.calls) / (later.seconds - earlier.seconds)
             for earlier, later in zip(samples, samples[window:], strict=False)]
    lower.plot(minutes[window:], rates, label="calls a second")
    lower.set(xlabel="minutes", ylim=(0, None))
    for axes in (upper, middle, lower):
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="a PNG file")
    parser.add_argument("--json", action="store_true", help="all samples as JSON")
    arguments = parser.parse_args()
    try:
        samples = run(arguments.seconds, arguments.clients, arguments.seed)
    except AuditError as error:
        print(f"BROKEN: {error}\n  --seed {arguments.seed}", file=sys.stderr)
        return 1
    compared = compare(samples)
    if arguments.plot:
        plot(samples, arguments.plot)
    if arguments.json:
        print(json.dumps({"compared": compared, "samples": [asdict(sample) for sample in samples]}))
    else:
        print(_line(samples))
        for name, figures in compared.items():
            print(f"{name:12} {figures['second_quarter']:15,.0f} → {figures['last_quarter']:15,.0f}  "
                  f"{'stayed' if figures['stayed'] else 'HAS GROWN'}")
    return 0 if all(figures["stayed"] for figures in compared.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
