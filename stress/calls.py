"""Everything at once, with invariants that are checked to the last unit: calls, blocked exports, requests, garbage collection,
trimming, short-lived threads, apps that open and close.

    python -m stress.calls [--seconds 30] [--threads 16] [--seed N]

Ends with 1 and the seed at the first answer that is wrong.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gothreads
from gothreads.runtime.models.threaded import ThreadedApp

CALLS = Path(__file__).parent.parent / "tests" / "modules" / "calls"


class Stress:
    """One run. `done` counts what was answered, by kind."""

    def __init__(self, app: gothreads.App, seed: int) -> None:
        self.app, self.seed = app, seed
        self.stop = threading.Event()
        self.failed: list[str] = []
        self.done: collections.Counter[str] = collections.Counter()
        self.counted: set[int] = set()
        self._lock = threading.Lock()

    def work(self, number: int) -> None:
        """One thread: random calls until told to stop."""
        choose = random.Random(f"{self.seed} {number}")
        kinds: list[Callable[[random.Random], None]] = [self.add, self.ask, self.count, self.echo, self.keep, self.refuse, self.churn, self.sleep, self.thread]
        try:
            while not self.stop.is_set():
                kind = choose.choice(kinds)
                kind(choose)
                with self._lock:
                    self.done[kind.__name__] += 1
        except BaseException as error:
            self.failed.append(f"thread {number}: {type(error).__name__}: {error}")
            self.stop.set()

    def add(self, choose: random.Random) -> None:
        a, b = choose.randrange(1 << 30), choose.randrange(1 << 30)
        assert self.app.exports.add(a, b) == a + b

    def ask(self, choose: random.Random) -> None:
        n = choose.randrange(1 << 60)
        assert self.app.exports.ask(n) == 2 * n

    def count(self, _choose: random.Random) -> None:
        n = self.app.exports.count()
        with self._lock:
            assert n not in self.counted, f"{n} was given out twice"
            self.counted.add(n)

    def echo(self, choose: random.Random) -> None:
        payload = choose.randbytes(choose.choice((0, 1, 100, 70_000)))
        assert self.app.request("echo", payload) == payload

    def keep(self, choose: random.Random) -> None:
        text = str(choose.random())
        number = self.app.exports.remember(text)
        with self._lock:
            self.counted.add(number)
        assert self.app.exports.same(number, text)

    def refuse(self, choose: random.Random) -> None:
        try:
            answer = self.app.request("fail", "x")
        except gothreads.HandlerError as error:
            answer = str(error).encode()
        assert answer == b"no: x"

    def churn(self, choose: random.Random) -> None:
        n = choose.randrange(500)
        assert self.app.exports.churn(n) == sum(len(f"{i}-") + i % 50 for i in range(n))

    def sleep(self, choose: random.Random) -> None:
        self.app.exports.sleep(choose.randrange(3))

    def thread(self, choose: random.Random) -> None:
        results: list[int] = []
        worker = threading.Thread(target=lambda: results.append(self.app.exports.add(1, 1)))
        worker.start()
        worker.join()
        assert results == [2]
        if isinstance(self.app, ThreadedApp) and choose.random() < 0.1:
            self.app.trim()


def run(seconds: float, threads: int, seed: int) -> int:
    """The exit code."""
    begin = time.monotonic()
    with gothreads.open(CALLS, callers=max(2, threads // 2)) as app:
        stress = Stress(app, seed)
        app.exports.collect(True)
        workers = [threading.Thread(target=stress.work, args=(number,), daemon=True) for number in range(threads)]
        for worker in workers:
            worker.start()
        while not stress.stop.is_set() and time.monotonic() - begin < seconds:
            stress.stop.wait(1)
            if sys.stderr.isatty():
                print(f"\r{time.monotonic() - begin:4.0f} s, {sum(stress.done.values()):,} calls", end="", file=sys.stderr, flush=True)
            with gothreads.open(CALLS) as other:
                if other.exports.count() != 1:
                    stress.failed.append("another app's memory was not its own")
        stress.stop.set()
        for worker in workers:
            worker.join(60)
        if any(worker.is_alive() for worker in workers):
            stress.failed.append("a call does not come back")
        counted = app.exports.count() - 1 if not stress.failed else 0
        if not stress.failed and stress.counted != set(range(1, counted + 1)):
            stress.failed.append(f"{counted} were counted, {len(stress.counted)} were given out")
    print(f"\nseed {seed}: {sum(stress.done.values()):,} calls in {time.monotonic() - begin:.0f} s: {dict(sorted(stress.done.items()))}")
    for failure in stress.failed:
        print(f"FAILED (seed {seed}): {failure}")
    return 1 if stress.failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    return run(arguments.seconds, arguments.threads, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
