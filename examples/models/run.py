"""Measures how one Go program behaves under each execution model, and prints a table that compares them.

Everything in the table is measured, nothing is taken from a document. docs/models.md explains what it means.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import queue
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import gothreads

EXAMPLES = """examples:
  python examples/models/run.py
  python examples/models/run.py --model threaded --model idle
  python examples/models/run.py --json | jq .single"""

MODELS = ("threaded", "single", "idle", "pool")
SLOW = 0.3          # seconds until Python answers
MORE = 4            # more instances, to measure the memory of each
TICKS_SECONDS = 0.5
QUICK_CALLS = 2000
COMPUTING = 0.05    # seconds that a computing call takes, approximately
ROUNDS = 8


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _after(seconds: float | None) -> str:
    return "not until a call" if seconds is None else f"after {seconds * 1e3:.0f} ms"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


@dataclass(frozen=True)
class Facts:
    """The measurements of one model. Times are in seconds, memory in MB. None: it did not happen until a call."""

    main_runs: bool
    ticks: int
    begun: float | None
    event: float | None
    timer: float | None
    answer: float | None
    begins: float
    two_against_one: float
    beside_computing: float
    beside_waiting: float
    calls_meet: bool
    shared: bool
    other_call: str
    next_call: str
    opened: float
    call: float
    memory: float


#: By field of Facts: its title in the table, and how it is shown.
ROWS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "main_runs": ("main runs", _yes),
    "ticks": (f"steps of a 1 ms ticker, {TICKS_SECONDS:g} s without a call", str),
    "begun": ("what a call has begun is done", _after),
    "event": ("an event is received", _after),
    "timer": ("a timer of 50 ms fires", _after),
    "answer": (f"the host's answer, given after {SLOW * 1e3:.0f} ms, is there", _after),
    "begins": (f"a call that only begins {10 * COMPUTING * 1e3:.0f} ms of computing", _milliseconds),
    "two_against_one": ("two computing calls at once, against one", "{:.2f}".format),
    "beside_computing": (f"a quick call while one computes for {10 * COMPUTING * 1e3:.0f} ms", _milliseconds),
    "beside_waiting": (f"a quick call while one waits {SLOW * 1e3:.0f} ms for the host", _milliseconds),
    "calls_meet": ("one call can wait for another", _yes),
    "shared": ("calls see each other's state", _yes),
    "other_call": ("one call panics: one begun before it", str),
    "next_call": ("one call panics: the next call", str),
    "opened": ("opening, once it was built and compiled", _milliseconds),
    "call": ("a quick call", lambda seconds: f"{seconds * 1e6:.1f} µs"),
    "memory": ("one more instance, resident", "{:.1f} MB".format),
}
assert ROWS.keys() == {field.name for field in fields(Facts)}


class Measurement:
    """Measures one model. `patience`: how long to wait, in seconds without a call, for something to happen."""

    def __init__(self, model: str, patience: float) -> None:
        self._model, self._patience = model, patience
        self._happened: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def run(self) -> Facts:
        self.open().close()  # builds and compiles
        with self.open() as app:
            opened = app.statistics().uptime
            quick = self._quick_call(app)
            facts: dict[str, Any] = {name: self._without_a_call(app, name, action) for name, action in {
                "begun": lambda: app.exports.begin(1000), "event": lambda: app.signal("event", "event"),
                "timer": lambda: app.exports.later(50), "answer": lambda: app.exports.ask()}.items()}
            steps = self._steps(app)
            facts |= {"main_runs": app.exports.main_runs(), "ticks": self._ticks(app),
                      "two_against_one": self._two_against_one(app, steps),
                      "beside_computing": self._beside(app, app.submit("computes", 10 * steps)),
                      "beside_waiting": self._beside(app, app.submit("waits")), "shared": self._shared(app),
                      "begins": self._begins(app, 10 * steps), "calls_meet": self._calls_meet(app)}
        other, following = self._panic()
        return Facts(opened=opened, call=quick, other_call=other, next_call=following, memory=self._memory(), **facts)

    def open(self, instances: int = 2) -> gothreads.App:
        return gothreads.open(Path(__file__).parent, model=self._model, procs=2,
                              instances=instances if self._model == "pool" else None,
                              handlers={"happened": self._happened.put, "slow": self._slow},
                              stderr=open(os.devnull, "w"))

    @staticmethod
    async def _slow(payload: bytes) -> None:
        await asyncio.sleep(SLOW)

    def _without_a_call(self, app: gothreads.App, name: str, action: Callable[[], object]) -> float | None:
        """Return the seconds until Go reports that it has happened; None when that takes a call.

        SystemExit when it does not happen in 10 s of calls either.
        """
        begin = time.perf_counter()
        action()
        with contextlib.suppress(queue.Empty):
            self._happened.get(timeout=self._patience)
            return time.perf_counter() - begin
        deadline = time.monotonic() + 10
        while self._happened.empty():
            app.wait_idle()
            if time.monotonic() > deadline:
                raise SystemExit(f"{self._model}: {name} does not happen at all")
            time.sleep(0.01)
        self._happened.get()
        return None

    @staticmethod
    def _ticks(app: gothreads.App) -> int:
        before = app.exports.ticked()
        time.sleep(TICKS_SECONDS)
        return int(app.exports.ticked() - before)

    @staticmethod
    def _quick_call(app: gothreads.App) -> float:
        call = app.exports.ticked
        call()
        begin = time.perf_counter()
        for _ in range(QUICK_CALLS):
            call()
        return (time.perf_counter() - begin) / QUICK_CALLS

    @staticmethod
    def _steps(app: gothreads.App) -> int:
        """Return the number of steps that take about COMPUTING seconds."""
        steps = 10_000_000
        return int(steps * COMPUTING / min(_seconds(lambda: app.exports.computes(steps)) for _ in range(5)))

    @staticmethod
    def _two_against_one(app: gothreads.App, steps: int) -> float:
        def run(calls: int) -> float:
            return _seconds(lambda: list(app.map("computes", [steps] * calls)))
        run(2)  # starts the threads
        one, two = zip(*((run(1), run(2)) for _ in range(ROUNDS)), strict=True)
        return float(min(two) / min(one))  # other load on the machine only adds time

    def _beside(self, app: gothreads.App, other: Future[Any]) -> float:
        """Return the seconds that a quick call takes while another call is in progress."""
        time.sleep(0.05)  # let the other call begin
        taken = _seconds(app.exports.main_runs)
        other.result()
        return taken

    @staticmethod
    def _begins(app: gothreads.App, steps: int) -> float:
        taken = _seconds(lambda: app.exports.computes_behind(steps))
        app.wait_idle()
        return taken

    @staticmethod
    def _shared(app: gothreads.App) -> bool:
        first = app.exports.count()
        busy = app.submit("waits")  # in a pool, it takes the instance that has counted
        time.sleep(0.05)
        second = app.exports.count()
        busy.result()
        return bool(second == first + 1)

    @staticmethod
    def _calls_meet(app: gothreads.App) -> bool:
        """Whether a call can wait for something that a later call provides."""
        receiving = app.submit("receive", 500)
        time.sleep(0.05)
        sending = app.submit("send", 7, 500)
        sending.result()
        return bool(receiving.result() == 7)

    def _panic(self) -> tuple[str, str]:
        """Return the outcomes of a call in progress while another panics, and of the call after the panic."""
        with self.open() as app:
            other = app.submit("waits")
            time.sleep(0.05)
            with contextlib.suppress(gothreads.GuestPanic):
                app.exports.panics()
            return _end(other.result), _end(app.exports.main_runs)

    def _memory(self) -> float:
        """Return the resident memory of one more instance, in MB: in a pool one of its instances, otherwise an app."""
        with contextlib.ExitStack() as opened:
            opened.enter_context(self.open(1))
            before = _resident()
            if self._model == "pool":
                opened.enter_context(self.open(1 + MORE))
                opened.enter_context(self.open(1))
                return (_resident() - before) / (MORE + 2)
            for _ in range(MORE):
                opened.enter_context(self.open())
            return (_resident() - before) / MORE


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _end(call: Callable[[], object]) -> str:
    try:
        call()
    except gothreads.GothreadsError as error:
        return type(error).__name__
    return "returns"


def _resident() -> float:
    """Return the resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def show(found: dict[str, Facts]) -> None:
    width = max(len(title) for title, _ in ROWS.values())
    print(f"{'':{width}}  " + "".join(f"{model:18}" for model in found))
    for name, (title, shown) in ROWS.items():
        cells = "".join(f"{shown(getattr(facts, name)):18}" for facts in found.values())
        print(f"{title:{width}}  {cells}".rstrip())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=MODELS,
                        help="measure this model; may be repeated (default: all)")
    parser.add_argument("--patience", type=float, default=1, metavar="S",
                        help="how many seconds to wait, without a call, for something to happen (default: %(default)g)")
    parser.add_argument("--json", action="store_true",
                        help="print JSON, by model and fact; times in seconds, memory in MB; null: not until a call")
    arguments = parser.parse_args(argv)
    if arguments.patience <= SLOW:
        parser.error(f"--patience must be above {SLOW:g}, which is how long an answer takes")
    try:
        found = {}
        for model in arguments.model or MODELS:
            if not arguments.json:
                print(f"models: asking {model}, which takes some ten seconds", file=sys.stderr, flush=True)
            found[model] = Measurement(model, arguments.patience).run()
    except gothreads.GothreadsError as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({model: asdict(facts) for model, facts in found.items()}, indent=2))
    else:
        show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
