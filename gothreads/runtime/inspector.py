"""Inspects a running module: how many goroutines do what, which callers wait, the stacks.

It must work when nothing else does, so it has its own caller and its own thread: all others may be blocked. To answer,
Go still needs a P for a moment; a module built without preemption whose loops hold all Ps answers late.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from gothreads.callback_m import CacheEnvironment, CallbackM, CallbackMCache
from gothreads.engine.call_threads import CallThreads
from gothreads.errors import GothreadsError
from gothreads.runtime.statistics import GoStatistics
from gothreads.text import printable
from gothreads.wasm import abi, layout

T = TypeVar("T")

_HEADER = re.compile(r"goroutine ([0-9]{1,20}) (?:gp=\S+ m=\S+ (?:mp=\S+ )?)?\[(.*)\]:$")
#: How the stack of an idle caller begins, and that of the goroutine that takes the traceback (last: in older modules).
_NOT_SHOWN = ("runtime.goexit", "gothreads/guest/slot.stacks", "gothreads/guest.stacks")
#: How many words Go's side writes at layout.COUNTS.
_WORDS = 14
#: The longest name of a function that is asked for, in bytes.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Goroutine:
    """`state` is Go's description of what it does or waits for, such as "chan receive, 2 minutes".

    `stack` is the rest of its traceback.
    """

    id: int
    state: str
    stack: str

    def __str__(self) -> str:
        return f"goroutine {self.id} [{self.state}]:\n{self.stack}"


class Goroutines(list[Goroutine]):
    """A list of goroutines, whose str() is as Go prints them: one after the other, with an empty line between.

    IPython shows it so, too.
    """

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


def parse_goroutines(text: str) -> list[Goroutine]:
    """Parse Go's traceback of all goroutines. Leaves out idle callers, and the goroutine that took the traceback."""
    found = []
    for block in text.strip().split("\n\n"):
        header, _, stack = block.partition("\n")
        match = _HEADER.match(printable(header))
        if match is not None and not stack.startswith(_NOT_SHOWN):
            found.append(Goroutine(int(match[1]), match[2], printable(stack.rstrip())))
    return found


class GoroutineCounts(NamedTuple):
    """The counts that Go's side writes (inspect_gothreads.go)."""

    go: GoStatistics
    blocked: int  # callers whose goroutines wait
    busy: int     # what runs, or will when a timer fires or a host call returns; also the runtime's own (a collection)


class SchedulerWords(NamedTuple):
    """Where the host finds what each of Go's processors runs: an address and offsets (inspect_gothreads.go)."""

    allp: int
    p_m: int
    m_id: int
    m_curg: int
    g_id: int
    g_status: int
    g_start: int


class Inspector:
    """`in_flight` returns the callers that threads hold, and since when.

    `submit` runs a function in the app on the given threads, as calls are run.
    """

    def __init__(self, environment: CacheEnvironment, *, stack: int, in_flight: Callable[[], dict[CallbackM, float]],
                 submit: Callable[[CallThreads, Callable[[], Any]], Future[Any]]) -> None:
        self._memory, self._in_flight, self._submit = environment.memory, in_flight, submit
        self._cache = CallbackMCache(environment, limit=1)
        self._worker = CallThreads(1, stack)

    @property
    def in_use(self) -> int:
        """1 while it may be in the module's code, else 0."""
        return self._cache.in_use

    def statistics(self, timeout: float) -> GoStatistics | None:
        """None if Go does not answer within `timeout` seconds, or the app ends."""
        def look(caller: CallbackM) -> GoStatistics:
            calls, now = self._in_flight(), time.monotonic()
            blocked = sorted((now - calls[c] for c in self._blocked(caller, calls)), reverse=True)
            return replace(self._counts(caller, exact=False).go, blocked_calls=tuple(blocked))
        try:
            return self.ask(look, timeout)
        except (GothreadsError, TimeoutError):
            return None

    def counts(self, timeout: float | None) -> GoroutineCounts:
        """What all goroutines do at one moment, with the world stopped.

        GothreadsError if the app has ended, TimeoutError if Go does not answer.
        """
        return self.ask(lambda caller: self._counts(caller, exact=True), timeout)

    def goroutines(self, timeout: float | None = None) -> list[Goroutine]:
        """All goroutines with their stacks. Raises as counts."""
        return parse_goroutines(self.ask(lambda caller: caller.slot.stacks(), timeout))

    def handlers(self, timeout: float | None) -> list[str]:
        """The names of the handlers that are registered now. Raises as counts."""
        return self.ask(lambda caller: caller.slot.handlers(), timeout)

    def preparing(self, timeout: float) -> tuple[list[str], bool]:
        """The handlers, and whether the program goes on by itself, so that it may register more. Raises as counts."""
        def look(caller: CallbackM) -> tuple[list[str], bool]:
            goes_on = bool(caller.function("gothreads_preparing", "", "?")())
            return caller.slot.handlers(), goes_on
        return self.ask(look, timeout)

    def scheduler(self, timeout: float) -> SchedulerWords:
        """Raises as counts. Only in modules that export abi.SCHEDULER."""
        return self.ask(lambda caller: SchedulerWords(*self._scheduler(caller, 0)[:7]), timeout)

    def functions(self, pcs: Sequence[int], timeout: float) -> list[str]:
        """The names of the functions at these PCs, as the module has them; "" where there is none. As `scheduler`."""
        def look(caller: CallbackM) -> list[str]:
            found = (self._scheduler(caller, pc)[7:] for pc in pcs)
            return [self._memory.read(address, min(length, _LONGEST_NAME)).decode(errors="replace")
                    for address, length in found]
        return self.ask(look, timeout)

    def wake_all(self) -> None:
        """Let a waiting thread see that the app has ended."""
        self._cache.wake_all()

    def close(self) -> None:
        """End its thread. No thread may be in the module any more."""
        self._worker.close()

    def ask(self, look: Callable[[CallbackM], T], timeout: float | None) -> T:
        future: Future[T] = self._submit(self._worker, lambda: self._cache.use(look))
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise

    def _counts(self, caller: CallbackM, *, exact: bool) -> GoroutineCounts:
        caller.function("gothreads_counts", "Ii")(layout.COUNTS, exact)
        *go, blocked, busy, procs, busy_procs, pauses = (self._memory.read_u64(layout.COUNTS + 8 * i)
                                                         for i in range(_WORDS))
        return GoroutineCounts(GoStatistics(*go, procs=procs, busy_procs=busy_procs, pause_seconds=pauses / 1e9),
                               blocked, busy)

    def _scheduler(self, caller: CallbackM, pc: int) -> list[int]:
        self._memory.write_u64(layout.COUNTS, pc)
        caller.function(abi.SCHEDULER, "I")(layout.COUNTS)
        return [self._memory.read_u64(layout.COUNTS + 8 * i) for i in range(1, 10)]

    def _blocked(self, caller: CallbackM, calls: dict[CallbackM, float]) -> list[CallbackM]:
        blocked = caller.function("gothreads_blocked", "I", "?")
        return [other for other in calls if blocked(other.goroutine)]
