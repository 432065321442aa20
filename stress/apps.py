"""Twenty apps in one process, of every model and several modules: opened, called, killed and closed at random, all at
the same time.

    python -m stress.apps [--seconds 60] [--apps 20] [--threads 8] [--seed N]

Every answer is right; a call fails only when its app is being killed or closed, with one of the errors that say so; and
once all are closed, no thread, no descriptor and no memory is left: after the first third, which warms up, memory stays
the same. Otherwise it ends with exit code 1 and prints the seed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import gc
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import gothreads
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.tools.stress.leftovers import threads_left

MODULES = Path(__file__).parent.parent / "tests" / "modules"
#: How much memory all closed apps may leave, in bytes. What allocators keep, and the stacks of ended threads, varies by
#: 40 MB from one moment
#: to the next (and no more, over thousands of apps); one app that is not freed takes 9 MB.
SLACK = 64 << 20
#: The errors of a call whose app is being killed or closed.
ENDS = (gothreads.GuestError, gothreads.AppClosed)


class Nowhere:
    def write(self, data: bytes) -> None: ...


def late(payload: bytes) -> bytes:
    return payload


def raises() -> None:
    raise ValueError("as it should")


def within(n: int) -> int:
    return n


Answered = Callable[[Any, random.Random], bool]


def _add(app: Any, choose: random.Random) -> bool:
    a, b = choose.randrange(1 << 30), choose.randrange(1 << 30)
    return bool(app.exports.add(a, b) == a + b)


def _submit(app: Any, choose: random.Random) -> bool:
    return bool(app.submit("fib", 10).result(60) == 55)


def _upper(app: Any, choose: random.Random) -> bool:
    text = "x" * choose.randrange(5000)
    return bool(app.request("upper", text) == text.upper().encode())


def _length(app: Any, choose: random.Random) -> bool:
    return bool(app.exports.length("é" * 10) == 20)


def _ask(app: Any, choose: random.Random) -> bool:
    n = choose.randrange(1 << 40)
    return bool(app.exports.ask(n) == 2 * n)


def _map(app: Any, choose: random.Random) -> bool:
    return list(app.map("add", range(5), range(5))) == [0, 2, 4, 6, 8]


def _double(app: Any, choose: random.Random) -> bool:
    n = choose.randrange(1 << 40)
    return bool(app.exports.double(n) == 2 * n)


def _late(app: Any, choose: random.Random) -> bool:
    return bool(app.request("echoes", "7 late") == b"7")


def _look(app: Any, choose: random.Random) -> bool:
    return bool(app.statistics().model == app.model)


@dataclass(frozen=True)
class AppKind:
    """A way to open a module, the calls it can answer, and the calls that end it. `isolated`: these end only their own
    call.
    """

    name: str
    module: str
    model: str
    asks: tuple[Answered, ...]
    kills: tuple[tuple[str, tuple[Any, ...]], ...]
    supervised: bool = False
    isolated: bool = False

    def open(self) -> Any:
        # Trusted: so the flag stops optimized code that the main thread calls.
        options: dict[str, Any] = {"model": self.model, "callers": 8, "stderr": Nowhere(), "stdout": Nowhere(),
                                   "trust": True}
        if self.module == "talk":
            options["handlers"] = {"late": late}
        if self.module == "keeps":
            options["host"] = {"env": {"raise": raises, "within": within}}
        if self.model == "pool":
            options["instances"] = 2
        if self.supervised:
            return gothreads.supervise(self.path, backoff=gothreads.Backoff(first=0.001, most=0.02), save_every=0.05,
                                       on_restart=lambda restart: None, **options)
        return gothreads.open(self.path, **options)

    @property
    def path(self) -> Path:
        return _BUILT[self.module, "threaded" if self.model == "threaded" else "single"]


_BUILT: dict[tuple[str, str], Path] = {}
_ANY = (_add, _submit, _upper, _length, _map, _look)
_FAULTS: tuple[tuple[str, tuple[Any, ...]], ...] = (("panics", ()), ("exits", (3,)), ("deep", (50_000_000,)))
_KEEPS: tuple[tuple[str, tuple[Any, ...]], ...] = (("crash", ()), ("exit", (3,)), ("trap", ()), ("hostraise", ()))
KINDS = (
    AppKind("threads", "calls", "threaded", (*_ANY, _ask), _FAULTS),
    AppKind("single", "calls", "single", _ANY, _FAULTS),
    AppKind("idle", "calls", "idle", _ANY, _FAULTS),
    AppKind("pool", "calls", "pool", _ANY, _FAULTS, isolated=True),
    AppKind("talk", "talk", "threaded", (_late, _look), (("dieLater", (1,)),)),
    AppKind("keeps", "keeps", "threaded", (_double, _look), _KEEPS),
    AppKind("supervised", "keeps", "threaded", (_double, _look), _KEEPS, supervised=True),
)


class AppPlace:
    """Holds one app after the other, with its kind. `ending`: a thread is killing or closing the app, or has done so.
    """

    def __init__(self) -> None:
        self.changing = threading.Lock()  # held while opening, killing and closing
        self.now: tuple[AppKind, Any] | None = None
        self.ending = False


class Stress:
    """One run. `done` counts what was done, by kind."""

    def __init__(self, apps: int, threads: int, seed: int) -> None:
        self.places = [AppPlace() for _ in range(apps)]
        self.threads, self.seed = threads, seed
        self.failed: list[str] = []
        self.done: collections.Counter[str] = collections.Counter()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._rounds = 0

    def round(self, seconds: float) -> None:
        """Do everything at random for some seconds, then close all apps."""
        self._rounds += 1
        self._stop.clear()
        workers = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(self.threads)]
        for worker in workers:
            worker.start()
        self._stop.wait(seconds)  # less if something fails
        self._stop.set()
        for worker in workers:
            worker.join(60)
        if any(worker.is_alive() for worker in workers):
            self.failed.append("a call, an open or a close does not return")
            return
        for place in self.places:
            self._close(place)

    def _work(self, number: int) -> None:
        choose = random.Random(f"{self.seed} {self._rounds} {number}")
        while not self._stop.is_set():
            place = choose.choice(self.places)
            try:
                self._visit(place, choose)
            except BaseException as error:
                kind = place.now[0].name if place.now else "nothing open"
                self.failed.append(f"{kind}: {type(error).__name__}: {error}")
                self._stop.set()

    def _visit(self, place: AppPlace, choose: random.Random) -> None:
        now, chance = place.now, choose.random()
        if now is None or chance < 0.02:
            if place.changing.acquire(blocking=False):
                try:
                    if now is None:
                        self._open(place, choose)
                    else:
                        self._close(place)
                finally:
                    place.changing.release()
            return
        if chance < 0.03:
            with place.changing:
                if place.now is now:
                    self._kill(place, *now, choose)
            return
        kind, app = now
        ask = choose.choice(kind.asks)
        try:
            right = ask(app, choose)
        except ENDS:
            # A supervised module may end during a call at any time, without anyone closing it.
            assert kind.supervised or place.now is not now or place.ending, "a call failed, and nobody ended the app"
            self._count("calls that met an end")
        else:
            assert right, f"{ask.__name__} has a wrong answer"
            self._count(f"{kind.name}: answers")

    def _open(self, place: AppPlace, choose: random.Random) -> None:
        if place.now is None:
            kind = choose.choice(KINDS)
            place.ending = False
            place.now = kind, kind.open()
            self._count("opened")

    def _close(self, place: AppPlace) -> None:
        if place.now is not None:
            place.ending = True
            place.now[1].close()
            place.now = None
            self._count("closed")

    def _kill(self, place: AppPlace, kind: AppKind, app: Any, choose: random.Random) -> None:
        export, args = choose.choice(kind.kills)
        if not kind.isolated:
            place.ending = True
        with contextlib.suppress(*ENDS):
            app.exports[export](*args)
        self._count("killed")
        if not kind.isolated and not kind.supervised:
            self._close(place)

    def _count(self, what: str) -> None:
        with self._lock:
            self.done[what] += 1


@dataclass(frozen=True)
class Left:
    """What the process has once all apps are closed. `memory` in bytes."""

    threads: tuple[str, ...]
    descriptors: int
    memory: int


def settled() -> Left:
    """What is left, once everything that ends by itself has ended."""
    threads = threads_left(30)
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that the C library keeps is not counted
    process = psutil.Process()
    return Left(tuple(threads), process.num_fds(), process.memory_info().rss)


def run(seconds: float, apps: int, threads: int, seed: int) -> int:
    """Returns the exit code."""
    for kind in KINDS:
        model = "threaded" if kind.model == "threaded" else "single"
        if (kind.module, model) not in _BUILT:
            _BUILT[kind.module, model] = build(Request(str(MODULES / kind.module), model=model)).path
    for kind in KINDS:
        kind.open().close()  # compiles it, and loads what is loaded late
    stress = Stress(apps, threads, seed)
    begin = time.monotonic()
    stress.round(seconds / 3)
    warm = settled()
    if not stress.failed:
        stress.round(seconds * 2 / 3)
    after = settled()
    if after.threads:
        stress.failed.append(f"threads are left: {', '.join(after.threads)}")
    if after.descriptors > warm.descriptors:
        stress.failed.append(f"descriptors are left: {after.descriptors}, before {warm.descriptors}")
    if after.memory > warm.memory + SLACK:
        stress.failed.append(f"memory is left: {after.memory / 1e6:.0f} MB, before {warm.memory / 1e6:.0f} MB")
    print(f"seed {seed}: {time.monotonic() - begin:.0f} s, {sum(stress.done.values()):,} things done: "
          f"{dict(sorted(stress.done.items()))}")
    print(f"all closed: {after.descriptors} descriptors (before {warm.descriptors}), {after.memory / 1e6:.0f} MB "
          f"(before {warm.memory / 1e6:.0f})")
    for failure in stress.failed:
        print(f"FAILED (seed {seed}): {failure}")
    return 1 if stress.failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--apps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    return run(arguments.seconds, arguments.apps, arguments.threads, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
