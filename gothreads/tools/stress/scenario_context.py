"""What a scenario runs with, and where it reports.

A scenario runs on its own thread and starts more, which call the module; the runner watches from the main thread. Any
thread that finds something wrong reports it here. The first report is the scenario's failure: all stacks are taken at
that moment, while the app still runs. From then on `over` is true, and everything ends.
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

from gothreads.errors import GothreadsError, GuestError
from gothreads.launch import OpenOptions, available_processors, open_loaded
from gothreads.runtime.app import App
from gothreads.runtime.module_file import LoadedModule
from gothreads.wasi.streams import Writable

#: How long Go may take to return its stacks, in seconds.
_STACKS_SECONDS = 5.0
#: The number of open apps whose stacks are kept.
_MOST_STACKS = 4


class InvariantBroken(Exception):
    """An invariant does not hold. The text says which one, and how."""


@dataclass(frozen=True)
class StressPlan:
    """How to run scenarios. The same plan does the same things, but not at the same moments.

    seconds: how long each runs. threads: how many Python threads call in. procs: GOMAXPROCS, 0 for the default. hang:
    after how many seconds without progress a scenario counts as hung. broken: run with a deliberate bug on the Go side.
    sharpen: the seed with which the Go program's races are widened (wasm/passes/sharpen.py); None: they are not.
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
        """GOMAXPROCS: at least 2 by default, so that things happen in parallel."""
        return self.procs or max(2, available_processors())


class Discarded:
    """Swallows what modules print; errors contain what they print as they end."""

    def write(self, data: bytes, /) -> int:
        return len(data)


_DISCARDED: Writable = Discarded()


@dataclass(frozen=True)
class StackDump:
    """The stacks of all goroutines and Python threads, as text."""

    goroutines: str
    python: str


class ScenarioContext:
    """One run of one scenario. All methods may be called from any thread."""

    def __init__(self, name: str, plan: StressPlan, module: LoadedModule, options: OpenOptions) -> None:
        """`options`: the defaults for opening the module."""
        self.name, self.plan, self.module, self._options = name, plan, module, options
        self.failure: BaseException | None = None
        self.stacks: StackDump | None = None
        self._lock = threading.Lock()
        self._calls = self._checked = self._steps = 0  # guarded by _lock
        self._apps: list[App] = []                     # guarded by _lock; the open ones, oldest first
        self._deadline: float | None = None
        self._stopped = threading.Event()

    # Random numbers.

    def random(self, *names: object) -> Random:
        """A generator that depends on the seed and these names only."""
        return Random(f"{self.plan.seed} {self.name} {' '.join(map(str, names))}")

    # Time.

    @property
    def over(self) -> bool:
        """Whether the time is up, or something has failed. Time starts when the first app is open."""
        return self._stopped.is_set() or (self._deadline is not None and time.monotonic() >= self._deadline)

    @property
    def begun(self) -> bool:
        """Whether an app has been opened."""
        return self._deadline is not None

    @property
    def seconds(self) -> float:
        """How long it has run since the first app was open."""
        return 0.0 if self._deadline is None else time.monotonic() - self._deadline + self.plan.seconds

    def stop(self) -> None:
        """Let everything end."""
        self._stopped.set()

    def wait(self, seconds: float) -> bool:
        """Wait, or until everything is over. Returns `over`."""
        if self._deadline is not None:
            seconds = min(seconds, self._deadline - time.monotonic())
        self._stopped.wait(max(0.0, seconds))
        return self.over

    # Progress.

    def count(self, calls: int = 1, checked: int = 1) -> None:
        """Record calls into the module, and operations that were checked."""
        with self._lock:
            self._calls += calls
            self._checked += checked
            self._steps += 1

    def alive(self) -> None:
        """Record that something goes on, though nothing can be counted."""
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
        """Rises as long as anything goes on."""
        return self._steps

    # Failures.

    def check(self, holds: object, problem: str) -> None:
        """Raises InvariantBroken unless `holds`."""
        if not holds:
            raise InvariantBroken(problem)

    def fail(self, failure: BaseException) -> None:
        """Record a failure with all stacks, if it is the first."""
        with self._lock:
            if self.failure is not None:
                return
            if isinstance(failure, GuestError) and failure.came_after:  # what has ended the module is the failure
                failure = next((app.error for app in self._apps if app.error is not None), failure)
            self.failure = failure
        self.stacks = self.take_stacks()
        self.stop()

    def take_stacks(self) -> StackDump:
        """All stacks as of now. Takes some seconds when Go does not answer."""
        python = python_stacks()
        return StackDump("\n\n".join(map(goroutine_stacks, self.apps[:_MOST_STACKS])) or "none: no app is open", python)

    # Apps.

    @property
    def apps(self) -> list[App]:
        with self._lock:
            return list(self._apps)

    @contextmanager
    def open(self, **options: Unpack[OpenOptions]) -> Iterator[App]:
        """Opens the scenario's program (or the user's module), and closes it at the end."""
        merged: OpenOptions = {"procs": self.plan.processors, "stdout": _DISCARDED, "stderr": _DISCARDED,
                               "callers": max(64, 2 * self.plan.threads)}
        merged.update(self._options)
        merged.update(options)
        app = open_loaded(self.module, **merged)
        with self._lock:
            self._apps.append(app)
            self._steps += 1
            if self._deadline is None:
                self._deadline = time.monotonic() + self.plan.seconds
        try:
            yield app
        except BaseException as failure:
            self.fail(failure)  # the stacks are taken while the app is still open
            raise
        finally:
            with self._lock:
                self._apps.remove(app)
            app.close()

    # Threads.

    def callers(self, work: Callable[[int, Random], object], threads: int | None = None) -> None:
        """Let threads do some work over and over, each with its number and its own generator, until everything is over.

        Each does it once at least, however slow the machine is. Raises the first failure.
        """
        def repeat(place: int, draw: Random) -> None:
            work(place, draw)
            while not self.over:
                work(place, draw)
        self.each(repeat, self.plan.threads if threads is None else threads)

    def each(self, work: Callable[[int, Random], object], threads: int) -> None:
        """Let threads do some work once. Raises the first failure, after all have ended."""
        def run(place: int) -> None:
            try:
                work(place, self.random("thread", place))
            except BaseException as failure:
                self.fail(failure)
        running = [threading.Thread(target=run, args=(place,), name=f"stress-{self.name}-{place}", daemon=True)
                   for place in range(threads)]
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
