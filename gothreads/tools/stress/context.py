"""What a scenario is run with, and what it tells meanwhile.

A scenario runs on a thread of its own and makes more, which call the module; the runner looks on from the main thread. Whatever thread finds
something wrong says so here: the first is the scenario's failure, and all stacks are taken at that moment, while the app still runs.
After that, `over` is true, and everything comes to an end.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Unpack

from gothreads.errors import GothreadsError
from gothreads.launch import OpenOptions, available_processors, open_loaded
from gothreads.runtime.app import App
from gothreads.runtime.module_file import LoadedModule
from gothreads.wasi.streams import Writable

#: How long Go is given to tell its stacks, in seconds.
_STACKS_SECONDS = 5.0
#: Of how many apps that are open at the same time the stacks are kept.
_MOST_STACKS = 4


class Broken(Exception):
    """An invariant does not hold. The text says which, and how."""


@dataclass(frozen=True)
class Plan:
    """How to run scenarios. The same plan does the same things, but for the moments at which threads do them.

    seconds: how long each runs. threads: of Python's, that call in. procs: GOMAXPROCS. hang: how long nothing may go on, in seconds.
    broken: the Go side has a bug, on purpose. sharpen: the seed with which the Go program's races are widened (wasm/passes/sharpen.py); None: they are not.
    """

    seed: int
    seconds: float = 10.0
    threads: int = 8
    procs: int = 0
    hang: float = 60.0
    broken: bool = False
    sharpen: int | None = None

    @property
    def processors(self) -> int:
        """GOMAXPROCS: at least 2 unless told otherwise, so that things happen in parallel."""
        return self.procs or max(2, available_processors())


class Discarded:
    """What modules print: what they print at their end is in the error."""

    def write(self, data: bytes, /) -> int:
        return len(data)


_DISCARDED: Writable = Discarded()


@dataclass(frozen=True)
class Stacks:
    """Of all goroutines and Python threads, as text."""

    goroutines: str
    python: str


class Context:
    """One run of one scenario. All methods may be called from any thread."""

    def __init__(self, name: str, plan: Plan, module: LoadedModule, options: OpenOptions) -> None:
        """`options`: how the module is opened, unless told otherwise."""
        self.name, self.plan, self.module, self._options = name, plan, module, options
        self.failure: BaseException | None = None
        self.stacks: Stacks | None = None
        self._lock = threading.Lock()
        self._calls = self._checked = self._steps = 0  # guarded by _lock
        self._apps: list[App] = []                     # guarded by _lock; those that are open, the oldest first
        self._deadline: float | None = None
        self._stopped = threading.Event()

    # Chance.

    def random(self, *names: object) -> Random:
        """A generator of its own for whoever these names tell from others."""
        return Random(f"{self.plan.seed} {self.name} {' '.join(map(str, names))}")

    # Time.

    @property
    def over(self) -> bool:
        """Whether the time is up, or something has gone wrong. The time begins when the first app is open."""
        return self._stopped.is_set() or (self._deadline is not None and time.monotonic() >= self._deadline)

    @property
    def begun(self) -> bool:
        """Whether an app was opened."""
        return self._deadline is not None

    @property
    def seconds(self) -> float:
        """For how long it has run, since the first app was open."""
        return 0.0 if self._deadline is None else time.monotonic() - self._deadline + self.plan.seconds

    def stop(self) -> None:
        """Let everything come to its end."""
        self._stopped.set()

    def wait(self, seconds: float) -> bool:
        """Wait, unless everything is over earlier; whether it is."""
        if self._deadline is not None:
            seconds = min(seconds, self._deadline - time.monotonic())
        self._stopped.wait(max(0.0, seconds))
        return self.over

    # What was done.

    def count(self, calls: int = 1, checked: int = 1) -> None:
        """Note calls into the module, and operations that were checked."""
        with self._lock:
            self._calls += calls
            self._checked += checked
            self._steps += 1

    def alive(self) -> None:
        """Note that something goes on, though nothing can be counted."""
        with self._lock:
            self._steps += 1

    @property
    def calls(self) -> int:
        return self._calls

    @property
    def checked(self) -> int:
        return self._checked

    @property
    def steps(self) -> int:
        """It rises as long as something goes on."""
        return self._steps

    # What goes wrong.

    def check(self, holds: object, problem: str) -> None:
        """Broken when it does not hold."""
        if not holds:
            raise Broken(problem)

    def fail(self, failure: BaseException) -> None:
        """Note a failure, if it is the first, with all stacks."""
        with self._lock:
            if self.failure is not None:
                return
            self.failure = failure
        self.stacks = self.take_stacks()
        self.stop()

    def take_stacks(self) -> Stacks:
        """All stacks, now. It takes some seconds when Go does not answer."""
        python = python_stacks()
        return Stacks("\n\n".join(map(goroutine_stacks, self.apps[:_MOST_STACKS])) or "none: no app is open", python)

    # Apps.

    @property
    def apps(self) -> list[App]:
        with self._lock:
            return list(self._apps)

    @contextmanager
    def open(self, **options: Unpack[OpenOptions]) -> Iterator[App]:
        """An app of the scenario's program (or the user's module); closed at the end."""
        given: OpenOptions = {"procs": self.plan.processors, "stdout": _DISCARDED, "stderr": _DISCARDED, "callers": max(64, 2 * self.plan.threads)}
        given.update(self._options)
        given.update(options)
        app = open_loaded(self.module, **given)
        with self._lock:
            self._apps.append(app)
            self._steps += 1
            if self._deadline is None:
                self._deadline = time.monotonic() + self.plan.seconds
        try:
            yield app
        except BaseException as failure:
            self.fail(failure)  # while it is still open
            raise
        finally:
            with self._lock:
                self._apps.remove(app)
            app.close()

    # Threads.

    def callers(self, work: Callable[[int, Random], object], threads: int | None = None) -> None:
        """Let threads do some work over and over again, each with its number and a generator of its own, until all is over.

        Raises the first failure.
        """
        def repeat(place: int, draw: Random) -> None:
            while not self.over:
                work(place, draw)
        self.each(repeat, self.plan.threads if threads is None else threads)

    def each(self, work: Callable[[int, Random], object], threads: int) -> None:
        """Let threads do some work once. Raises the first failure, when all have come back."""
        def run(place: int) -> None:
            try:
                work(place, self.random("thread", place))
            except BaseException as failure:
                self.fail(failure)
        running = [threading.Thread(target=run, args=(place,), name=f"stress-{self.name}-{place}", daemon=True) for place in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        if self.failure is not None:
            raise self.failure


def goroutine_stacks(app: App) -> str:
    try:
        return "\n\n".join(map(str, app.goroutines(_STACKS_SECONDS))) or "none"
    except TimeoutError:
        return f"none: Go has not answered within {_STACKS_SECONDS:g} s"
    except GothreadsError as error:
        return f"none: {error}"


def python_stacks() -> str:
    """The stacks of all Python threads."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"thread {names.get(ident, 'unknown')}:\n{''.join(traceback.format_stack(frame)).rstrip()}")
    return "\n\n".join(parts)
