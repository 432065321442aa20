"""Random faults under load: every call gets its right answer or one gothreads error; none is lost, none runs twice,
nothing is left behind.

    python -m stress.chaos [--seconds 1800] [--seed N] [--model threaded …] [--fault panic …] [--json]

One life after the other: an app is opened, threads call it in every way there is, a fault ends it, and the ledger of
all calls is audited:

    each call         has one outcome: its answer, the app's first cause, or an error of its own (its timeout expired,
                      callers were busy)
    answered calls    were answered right and ran once; others ran once at most
    events            are received once each, as long as the module lives
    the end           reaches all callers within a moment, and leaves no thread, no descriptor, no memory

Ends with exit code 1 at the first error that the audit finds, with what is needed to repeat that life: --seed N
--life K. After a hang, a file has all stacks.

random_clients.py has the clients, call_ledger.py the ledger and its audit, faults.py the faults.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import itertools
import json
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import gothreads
from gothreads import errors
from gothreads.files import write_atomically
from gothreads.tools.stress.leftovers import threads_left
from stress import faults
from stress.call_ledger import AuditError, CallLedger
from stress.faults import FAULTS, ONLY_THREADED
from stress.random_clients import PATIENCE, RandomClients

MODELS = ("threaded", "single", "idle", "pool")
#: Leftovers are checked after so many lives; descriptors are compared with those after the warm-up.
_CHECK_EVERY, _WARM_UP = 25, 75


class Life:
    """One app, from its opening to its end."""

    def __init__(self, seed: str, model: str, fault: str) -> None:
        self.model, self.fault = model, fault
        self.ledger = CallLedger()
        self.clients = RandomClients(seed, model, self.ledger)
        self._draw = random.Random(seed)

    def run(self) -> float:
        """Returns the seconds from the end until the last caller knew of it. AuditError; or what a client must not
        get.
        """
        try:
            app = self.clients.open(self._draw, faults.limits(self.fault, self._draw),
                                    (2, 4) if self.fault == "map" else (1, 2, 4))  # one proc never writes concurrently
        except errors.LimitExceeded:
            if self.fault != "seconds":
                raise
            return 0.0  # its time was up before it was open
        threads = [threading.Thread(target=self.clients.run, args=(app, place))
                   for place in range(self._draw.choice((2, 6, 16)))]
        for thread in threads:
            thread.start()
        time.sleep(self._draw.uniform(0, 0.4))
        if self.model in ("threaded", "idle") and self.fault in ("close", "drain") and app.error is None:
            self._check_events(app)
        faults.end(app, self.fault, self.model, self._draw, lambda: self.clients.call(app))
        self._wait(app, lambda: app.error is not None, "the app to end")
        ended = time.monotonic()
        for thread in threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                self.clients.record_hang(app)
                raise AuditError(f"a caller hangs {PATIENCE:g} s after the end: {app.error!r}")
        if self.clients.failures:
            raise self.clients.failures[0]
        self._audit(app)
        return max(0.0, max(self.clients.ends, default=ended) - ended)

    def _audit(self, app: gothreads.App) -> None:
        cause, pool = app.error, self.model == "pool"
        assert cause is not None
        if not isinstance(cause, (*FAULTS[self.fault], errors.AppClosed) if pool else FAULTS[self.fault]):
            raise AuditError(f"the cause is {cause!r}")
        app.close()
        ended_states = (gothreads.State.CLOSED, gothreads.State.EXITED, gothreads.State.FAILED)
        self._wait(app, lambda: app.state in ended_states, "the end to be complete")
        self.ledger.audit(cause, same_cause=not pool)
        # A worker runs a call's callbacks after it has woken those who wait for the call: perhaps only now.
        self._wait(app, lambda: self.ledger.all_called_back, "the callbacks of all futures")
        self.ledger.audit_callbacks()

    def _check_events(self, app: gothreads.App) -> None:
        with contextlib.suppress(errors.CallersBusy):
            self.ledger.check_events(*map(int, app.request("events").split()))

    def _wait(self, app: gothreads.App, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                self.clients.record_hang(app)
                raise AuditError(f"waited {PATIENCE:g} s for {what}")
            time.sleep(0.0005)


class Chaos:
    """One life after the other, and their totals."""

    def __init__(self, seed: int, models: list[str], faults: list[str]) -> None:
        self._seed, self._models, self._faults = seed, models, faults
        self._process = psutil.Process()
        self._begin = time.monotonic()
        self._lives: collections.Counter[str] = collections.Counter()
        self._kinds: collections.Counter[str] = collections.Counter()
        self._ends: list[float] = []
        self._memory: list[int] = []
        self._descriptors: int | None = None  # how many there were after the warm-up

    def run(self, seconds: float, only: int | None, report: Callable[[str], None]) -> None:
        """All lives, or `only` one. AuditError, with the number of the life."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in itertools.count() if only is None else [only]:
            if time.monotonic() - self._begin > seconds:
                break
            self._live(number)
            if (number + 1) % _CHECK_EVERY == 0:
                self._check_leftovers(number)
                report(f"{time.monotonic() - self._begin:6.0f} s  {sum(self._lives.values()):6} lives  "
                       f"{self._kinds['calls']:9,} calls  {self._memory[-1] / 1e6:6.0f} MB  "
                       f"slowest end {max(self._ends) * 1e3:.0f} ms")

    def _live(self, number: int) -> None:
        draw = random.Random(f"{self._seed} {number}")
        model = draw.choices(self._models, [4 if model == "threaded" else 1 for model in self._models])[0]
        fault = draw.choice([fault for fault in self._faults if model == "threaded" or fault not in ONLY_THREADED])
        life = Life(f"{self._seed} {number}", model, fault)
        try:
            self._ends.append(life.run())
        except Exception as error:
            audit = isinstance(error, AuditError)
            problem = str(error) if audit else "".join(traceback.format_exception(error)).rstrip()
            problem += f"\n  in life {number} ({model}, {fault}): --seed {self._seed} --life {number}"
            if life.clients.hang:
                file = Path(f"gothreads-chaos-{self._seed}-{number}.txt")
                write_atomically(file, f"{problem}\n\n{life.clients.hang}\n".encode(errors="backslashreplace"))
                problem += f"\n  all stacks are in {file}"
            raise AuditError(problem) from (None if audit else error)
        self._lives[f"{model} {fault}"] += 1
        self._kinds += life.ledger.kinds
        self._kinds["event"] += len(life.ledger.events)
        self._kinds["calls"] += len(life.ledger.outcomes)

    def _check_leftovers(self, number: int) -> None:
        gc.collect()
        threads, descriptors = threads_left(PATIENCE), self._process.num_fds()
        if self._descriptors is None and number + 1 >= _WARM_UP:
            self._descriptors = descriptors
        if threads or (self._descriptors is not None and descriptors > self._descriptors + 4):
            raise AuditError(f"after life {number} {len(threads)} threads and {descriptors} descriptors are left "
                             f"(at first {self._descriptors} descriptors): "
                             f"{[thread.name for thread in threading.enumerate()]}")
        self._memory.append(self._process.memory_info().rss)

    def summary(self) -> dict[str, Any]:
        ends, memory, kinds = sorted(self._ends), self._memory, self._kinds.copy()
        quarter = len(memory) // 4
        return {"seed": self._seed, "seconds": round(time.monotonic() - self._begin),
                "lives": sum(self._lives.values()), "by_model_and_fault": dict(sorted(self._lives.items())),
                "calls": kinds.pop("calls", 0), "outcomes": dict(kinds.most_common()),
                "end_ms": {"median": round(ends[len(ends) // 2] * 1e3, 1),
                           "p99": round(ends[int(len(ends) * 0.99)] * 1e3, 1),
                           "most": round(ends[-1] * 1e3, 1)},
                "memory_mb": {"second_quarter": round(sum(memory[quarter:2 * quarter]) / quarter / 1e6),
                              "last_quarter": round(sum(memory[-quarter:]) / quarter / 1e6)} if quarter else None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="(default: %(default)g)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), metavar="N",
                        help="(default: a different one each time)")
    parser.add_argument("--life", type=int, help="run only the life with that number")
    parser.add_argument("--model", action="append", choices=MODELS, help="(default: all; threaded most of the time)")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="(default: all)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    arguments = parser.parse_args()
    try:
        chaos = Chaos(arguments.seed, arguments.model or list(MODELS), arguments.fault or list(FAULTS))
        chaos.run(arguments.seconds, arguments.life, lambda line: print(line, file=sys.stderr, flush=True))
    except AuditError as error:
        print(f"BROKEN: {error}", file=sys.stderr)
        return 1
    summary = chaos.summary()
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        for name, value in summary.items():
            print(f"{name:20} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
