"""Watches Go's scheduler: which thread (M) runs which goroutine, and when.

It only looks: a thread of the host reads the module's memory every millisecond (csrc/scheduler.c). So the module does
nothing for it, no call waits for it, and it costs nothing while nobody watches. What runs for less than a millisecond
is seen now and then, in proportion to the time that it takes.

It is written in C, since a look from Python would be biased: Python's lock is free to take whenever a thread is in the
module, and only then.

Invariant: a look holds `_looking`, and so does `close`, which comes before the memory is freed. No call takes that
lock.
"""

from __future__ import annotations

import struct
import threading
import time
from dataclasses import dataclass

from gothreads.engine import extension
from gothreads.errors import AppClosed, GothreadsError
from gothreads.runtime.inspector import Inspector, SchedulerWords
from gothreads.shared_memory import SharedMemory
from gothreads.text import printable

#: How long between two looks, in ns: doubled while so much goes on that there would be too many runs.
LEAST_NS, MOST_NS = 1_000_000, 16_000_000
#: The interval grows when there are more runs in a second, and shrinks when there are fewer than a quarter of these.
_MANY_RUNS = 4000
#: The most names of functions that are kept.
_MOST_NAMES = 1000
#: How long Go may take to answer, in seconds.
_ANSWER_SECONDS = 1.0
#: A goroutine that began nowhere is that of a caller, which runs calls from the host.
CALL, SCHEDULER = "call", "scheduler"

_RUN = struct.Struct("<QQQIIII")


@dataclass(frozen=True)
class Run:
    """A goroutine that ran on a thread. `goroutine`: its id; 0: the thread ran the scheduler, or the garbage collector.

    m: Go's number of the thread. proc: that of the processor. function: with which the goroutine began. begin, end: in
    seconds, of time.monotonic(); no more exact than `Runs.interval`.
    """

    m: int
    proc: int
    goroutine: int
    function: str
    begin: float
    end: float


@dataclass(frozen=True)
class Runs:
    """What was seen from `begin` to `end`, in looks that were `interval` seconds apart."""

    begin: float
    end: float
    interval: float
    runs: list[Run]


class SchedulerWatch:
    """Of one module. Not on the main thread: a signal handler there may close the app.

    is_there: whether the module says where its scheduler's words are.
    """

    def __init__(self, inspector: Inspector, memory: SharedMemory, *, is_there: bool) -> None:
        self._inspector, self._memory, self._is_there = inspector, memory, is_there
        self._looking = threading.Lock()
        self._stop = bytearray(1)  # set: a look ends at once
        # Guarded by _looking.
        self._words: SchedulerWords | None = None
        self._interval = LEAST_NS
        self._names: dict[int, str] = {0: CALL}

    @property
    def missing(self) -> str | None:
        """Why nothing can be seen; None if it can."""
        if extension.compiled is None:  # also one that is not used: it does not know wasmtime's functions
            return f"calls do not go through C: {extension.missing}"
        if not self._is_there:
            return "the module was built by an earlier gothreads. Build it again: gothreads build"
        return None

    def runs(self, seconds: float) -> Runs:
        """Look for so many seconds, at most 1, or less if very much goes on.

        GothreadsError, TimeoutError: the app has ended, Go does not answer, or nothing can be seen (`missing`).
        """
        if (missing := self.missing) is not None:
            raise GothreadsError(missing)
        with self._looking:
            if self._words is None and not self._stop[0]:
                self._words = self._inspector.scheduler(_ANSWER_SECONDS)
            if self._stop[0] or self._words is None:
                raise AppClosed("the app has ended")
            interval = self._interval
            looks = max(1, int(min(seconds, 1.0) * 1e9 / interval))
            begun, found = extension.compiled.scheduler_runs(*self._memory.pointers, self._words, interval, looks,
                                                             self._stop)
            end = time.monotonic()
            seen = list(_RUN.iter_unpack(found))
            self._pace(len(seen) / max(end - begun / 1e9, interval / 1e9))  # it ends early if it has no room
            self._learn({start for _, goroutine, start, *_ in seen if goroutine})
            runs = [Run(m, proc, goroutine, self._names.get(start, "") if goroutine else SCHEDULER,
                        begun / 1e9 + begin / 1e6, begun / 1e9 + end / 1e6)
                    for m, goroutine, start, proc, begin, end, _ in seen]
        return Runs(begun / 1e9, end, interval / 1e9, runs)

    def stop(self) -> None:
        """Nothing runs any more. From anywhere."""
        self._stop[0] = 1

    def close(self) -> None:
        """To be called before the memory is freed."""
        self.stop()
        with self._looking:
            pass

    def _pace(self, runs_per_second: float) -> None:
        if runs_per_second > _MANY_RUNS:
            self._interval = min(self._interval * 2, MOST_NS)
        elif runs_per_second < _MANY_RUNS / 4:
            self._interval = max(self._interval // 2, LEAST_NS)

    def _learn(self, starts: set[int]) -> None:
        """Ask for the names of functions that are not known yet."""
        new = sorted(starts - self._names.keys())[:_MOST_NAMES - len(self._names)]
        if new:
            names = self._inspector.functions(new, _ANSWER_SECONDS)
            self._names.update(zip(new, map(printable, names), strict=True))
