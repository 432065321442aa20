"""Statistics of an app: frozen values, which metrics, dashboards and the inspector read.

str() of AppStatistics is for people. IPython shows it, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gothreads.callback_m import CallerStatistics
from gothreads.mpool import ThreadStatistics


@dataclass(frozen=True)
class GoStatistics:
    """Figures from Go's runtime.

    goroutines: the program's own, including those of calls: `running` + `runnable` (waiting for a processor) +
        `waiting` (for each other, a lock, a timer) + `syscalls` (in a host call).
    timers: those that are set.
    ms: threads, as Go counts them.
    collections: garbage collections so far.
    heap: in bytes.
    procs, busy_procs: GOMAXPROCS, and how many processors run goroutines, the runtime's own included. 0 in a module
        that an earlier gothreads has built.
    pause_seconds: how long garbage collections have stopped all goroutines so far.
    blocked_calls: for each call whose goroutine waits, the seconds it has been in the module, longest first.
    """

    goroutines: int
    running: int
    runnable: int
    waiting: int
    syscalls: int
    timers: int
    ms: int
    collections: int
    heap: int
    procs: int = field(default=0, kw_only=True)
    busy_procs: int = field(default=0, kw_only=True)
    pause_seconds: float = field(default=0.0, kw_only=True)
    blocked_calls: tuple[float, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class PoolStatistics:
    """The instances of an app of the model "pool".

    limit: how many there are to be: the option `instances`.
    total: how many there are: `idle` + `in_use`.
    waiting: threads that wait for an instance.
    replaced: instances whose module has ended, so far.
    """

    limit: int
    total: int
    idle: int
    in_use: int
    waiting: int
    replaced: int


@dataclass(frozen=True, kw_only=True)
class AppStatistics:
    """What an app is doing. str() describes it in some lines.

    model, state: as App.model and App.state have them.
    uptime: in seconds.
    calls: calls of exports and handlers that have returned.
    calls_in_progress: calls that are in the module now. In a model with one instance, those that wait for their turn,
        too.
    waits_for_streams: readers of iterators, and of handlers that stream, that wait for Go to write something. They hold
        no caller.
    memory, memory_limit: the module's memory, in bytes. 0 if it cannot be read now.
    compile_seconds: how long it took to compile the module to machine code. None if the machine code was there already.
    callers: what calls go through, in the model "threaded".
    threads: the module's own threads, in models with threads.
    go: figures from Go's runtime, in the model "threaded". None if Go does not answer, or the app has ended.
    pool: the instances, in the model "pool".
    queued_events: how many events of each name wait for the module, which has asked for them.
    call_path: how calls are made: in "C", or through "ctypes", which is slower (`gothreads doctor` says why).
    """

    model: str
    state: str
    uptime: float
    calls: int
    calls_in_progress: int = 0
    waits_for_streams: int = 0
    memory: int
    memory_limit: int
    compile_seconds: float | None
    callers: CallerStatistics | None = None
    threads: ThreadStatistics | None = None
    go: GoStatistics | None = None
    pool: PoolStatistics | None = None
    queued_events: Mapping[str, int] = field(default_factory=dict)
    call_path: str

    def __str__(self) -> str:
        return "\n".join(f"{name and name + ':':10}{words}" for name, words in self._lines())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For IPython and notebooks."""
        printer.text(str(self))

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield "app", f"{self.model}, {self.state}, for {self.uptime:,.1f} s"
        yield "calls", f"{self.calls:,} returned, {self.calls_in_progress:,} in progress; made in {self.call_path}"
        if self.waits_for_streams:
            yield "", f"{self.waits_for_streams:,} wait for a stream of Go's, outside the module"
        yield "memory", f"{_megabytes(self.memory)} of at most {_megabytes(self.memory_limit)}"
        yield "compiled", ("before, by another run" if self.compile_seconds is None
                           else f"in {self.compile_seconds:,.1f} s")
        if (callers := self.callers) is not None:
            yield "callers", (f"{callers.in_use:,} in use, {callers.idle:,} idle, of at most {callers.limit:,}; "
                              f"{callers.waiting:,} threads wait for one")
        if (pool := self.pool) is not None:
            yield "pool", (f"{pool.in_use:,} in use, {pool.idle:,} idle, of {pool.limit:,} instances; "
                           f"{pool.waiting:,} threads wait for one, {pool.replaced:,} replaced")
        if (threads := self.threads) is not None:
            yield "threads", (f"{threads.running:,} running, {threads.idle:,} idle, of at most {threads.limit:,}; "
                              f"{threads.started:,} started, at most {threads.peak:,} at a time")
        if (go := self.go) is not None:
            yield "go", (f"goroutines: {go.goroutines:,} ({go.running:,} running, {go.runnable:,} runnable, "
                         f"{go.waiting:,} waiting, {go.syscalls:,} in host calls), timers: {go.timers:,}, "
                         f"Ms: {go.ms:,}, heap: {_megabytes(go.heap)}, collected {go.collections:,} times")
            if go.blocked_calls:
                longest = ", ".join(f"{seconds:,.1f}" for seconds in go.blocked_calls[:3])
                yield "", f"calls that wait in Go: {len(go.blocked_calls):,}, the longest for {longest} s"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
