"""Twenty apps in one process: of every model and several modules, opened, called, killed and closed at random, all at the same time.

    python -m stress.apps [--seconds 60] [--apps 20] [--threads 8] [--seed N]

Every answer is right; a call fails only when its app is being killed or closed, with one of the errors that say so; and when all are
closed no thread and no descriptor is left, and no memory: after the first third, which warms up, it stays the same.
Ends with 1 and the seed when one of that is not so.
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
from gothreads.build.builder import Request, build

MODULES = Path(__file__).parent.parent / "tests" / "modules"
#: What all closed apps may leave, in bytes. What allocators keep, and the stacks of threads that were, varies by 40 MB from one moment to the
#: next (and no more, over thousands of apps); one app that is not freed has 9 MB.
SLACK = 64 << 20
#: How a call may fail whose app is being killed or closed.
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
class Kind:
    """A way to open a module; what it can be asked; and what ends it. `isolated`: an end is only that call's."""

    name: str
    module: str
    model: str
    asks: tuple[Answered, ...]
    kills: tuple[tuple[str, tuple[Any, ...]], ...]
    supervised: bool = False
    isolated: bool = False

    def open(self) -> Any:
        options: dict[str, Any] = {"model": self.model, "callers": 8, "stderr": Nowhere(), "stdout": Nowhere()}
        if self.module == "talk":
            options["handlers"] = {"late": late}
        if self.module == "keeps":
            options["host"] = {"env": {"raise": raises, "within": within}}
        if self.model == "pool":
            options["instances"] = 2
        if self.supervised:
            return gothreads.supervise(self.path, backoff=gothreads.Backoff(first=0.001, most=0.02), save_every=0.05, on_restart=lambda restart: None,
                                       **options)
        return gothreads.open(self.path, **options)

    @property
    def path(self) -> Path:
        return _BUILT[self.module, "threaded" if self.model == "threaded" else "single"]


_BUILT: dict[tuple[str, str], Path] = {}
_ANY = (_add, _submit, _upper, _length, _map, _look)
_FAULTS: tuple[tuple[str, tuple[Any, ...]], ...] = (("panics", ()), ("exits", (3,)), ("deep", (50_000_000,)))
_KEEPS: tuple[tuple[str, tuple[Any, ...]], ...] = (("crash", ()), ("exit", (3,)), ("overflow", (0,)), ("hostraise", ()))
KINDS = (
    Kind("threads", "calls", "threaded", (*_ANY, _ask), _FAULTS),
    Kind("single", "calls", "single", _ANY, _FAULTS),
    Kind("idle", "calls", "idle", _ANY, _FAULTS),
    Kind("pool", "calls", "pool", _ANY, _FAULTS, isolated=True),
    Kind("talk", "talk", "threaded", (_late, _look), (("dieLater", (1,)),)),
    Kind("keeps", "keeps", "threaded", (_double, _look), _KEEPS),
    Kind("supervised", "keeps", "threaded", (_double, _look), _KEEPS, supervised=True),
)


class Place:
    """Where one app after the other is, with its kind. `ending`: somebody kills or closes it, or has."""

    def __init__(self) -> None:
        self.changing = threading.Lock()  # held to open, kill and close
        self.now: tuple[Kind, Any] | None = None
        self.ending = False


class Stress:
    """One run. `done` counts what was done, by kind."""

    def __init__(self, apps: int, threads: int, seed: int) -> None:
        self.places = [Place() for _ in range(apps)]
        self.threads, self.seed = threads, seed
        self.failed: list[str] = []
        self.done: collections.Counter[str] = collections.Counter()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._rounds = 0

    def round(self, seconds: float) -> None:
        """Everything at random for so long; then all are closed."""
        self._rounds += 1
        self._stop.clear()
        workers = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(self.threads)]
        for worker in workers:
            worker.start()
        self._stop.wait(seconds)  # less when something fails
        self._stop.set()
        for worker in workers:
            worker.join(60)
        if any(worker.is_alive() for worker in workers):
            self.failed.append("a call, an open or a close does not come back")
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

    def _visit(self, place: Place, choose: random.Random) -> None:
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
            # A supervised module may end under a call at any time, with nobody closing it.
            assert kind.supervised or place.now is not now or place.ending, "a call failed, and nobody ended the app"
            self._count("calls that met an end")
        else:
            assert right, f"{ask.__name__} has a wrong answer"
            self._count(f"{kind.name}: answers")

    def _open(self, place: Place, choose: random.Random) -> None:
        if place.now is None:
            kind = choose.choice(KINDS)
            place.ending = False
            place.now = kind, kind.open()
            self._count("opened")

    def _close(self, place: Place) -> None:
        if place.now is not None:
            place.ending = True
            place.now[1].close()
            place.now = None
            self._count("closed")

    def _kill(self, place: Place, kind: Kind, app: Any, choose: random.Random) -> None:
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
    """What the process has, when all apps are closed. `memory` in bytes."""

    threads: tuple[str, ...]
    descriptors: int
    memory: int


def settled() -> Left:
    """What is there, once what ends by itself has."""
    deadline = time.monotonic() + 30
    while (threads := _threads()) and time.monotonic() < deadline:
        time.sleep(0.01)
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps of what was freed is not ours
    process = psutil.Process()
    return Left(tuple(threads), process.num_fds(), process.memory_info().rss)


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gothreads-") and thread.name != "gothreads-interrupt"]


def run(seconds: float, apps: int, threads: int, seed: int) -> int:
    """The exit code."""
    for kind in KINDS:
        model = "threaded" if kind.model == "threaded" else "single"
        if (kind.module, model) not in _BUILT:
            _BUILT[kind.module, model] = build(Request(str(MODULES / kind.module), model=model)).path
    for kind in KINDS:
        kind.open().close()  # compiled, and nothing is loaded late
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
    print(f"seed {seed}: {time.monotonic() - begin:.0f} s, {sum(stress.done.values()):,} things done: {dict(sorted(stress.done.items()))}")
    print(f"all closed: {after.descriptors} descriptors (before {warm.descriptors}), {after.memory / 1e6:.0f} MB (before {warm.memory / 1e6:.0f})")
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
