"""The M/G cache: what lets a thread that Go did not start call into Go.

As cgo does it (runtime/cgocall.go, cgocallback), but an M is bound to an instance instead of to a thread: WebAssembly does
not know threads. A CallbackM is an instance that has taken one of Go's extra Ms (attach, which is needm) and keeps it,
with its goroutine, from call to call. Any thread takes one from the cache, calls, puts it back. Between calls it rests
in a system call (enter and leave in the wrapped exports), so neither the collector nor the scheduler waits for it.

Last in, first out: what ran last is warm, and what lies at the bottom is not needed and is trimmed (detach, which is
dropm, gives the M back to Go).

Invariants:
 1. A CallbackM is in `_idle` or with exactly one thread, never both.
 2. `_total` counts those in `_idle`, those with threads, and those being made; it exceeds the limit by nested calls
    only: a caller that comes back while it does is given up.
 3. What is put back is at rest, or the app has ended: a trap leaves Go in the middle of anything (holding the scheduler's lock, for one). So the
    end begins before the caller goes back, and who finds it in `_idle` finds the end too.
 4. One thread at a time attaches or detaches (`_attaching`). Attach is followed by an enter before the next begins: only an
    enter refills Go's list of extra Ms, and an attach on an empty list waits. And detach runs on the g0 stack of the M that
    it gives back: an attach that took this M at once would run on the same stack.

The race of putting back and waiting (sync/wait_queue.py), without a lock on the fast path:
  a waiter   W1 counts itself in `waiting`   W2 looks into `_idle`   W3 sleeps
  a return   R1 appends to `_idle`           R2 reads `waiting`      R3 wakes one
If R2 reads before W1 counts, R1 came before W2 looks, and W2 finds it. Else R3 needs the lock that the waiter holds
from W1 until it sleeps: the wake-up comes after, and is not lost.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeVar

from gothreads.bridge.buffers import Buffers, Cancel
from gothreads.engine import ffi
from gothreads.engine.callers import Caller, IdleCallers
from gothreads.engine.interrupt import Postponed
from gothreads.engine.stack import CALLER_MARGIN
from gothreads.errors import CallersBusy
from gothreads.instances import Instance, Instances
from gothreads.shared_memory import SharedMemory
from gothreads.sync.wait_queue import WaitQueue
from gothreads.wasm import layout

T = TypeVar("T")

#: A CallbackM that has not been used for so long is given back, in seconds.
IDLE_SECONDS = 30.0


class CallbackM(Caller):
    """One caller: an instance with an M and a G. Used by one thread at a time."""

    def __init__(self, instance: Instance, memory: SharedMemory, cancel: Cancel | None) -> None:
        super().__init__()
        self.instance, self._memory = instance, memory
        self.slot = Buffers(self.function, memory, cancel)
        self.goroutine = 0  # where its g is

    def attach(self) -> None:
        """Take an extra M (needm) and come to rest. One thread in the app at a time."""
        self.goroutine = self.instance.function("gt_attach", "I", "I")(layout.BOOTSTRAP_STACK)

    def detach(self) -> None:
        """Give the M back (dropm), after `slot.close`. The instance is of no more use. One thread in the app at a time."""
        self.instance.function("gt_detach")()

    def function(self, name: str, params: str = "", result: str = "") -> ffi.Function:
        """An export, looked up once."""
        found = self.functions.get(name)
        if found is None:
            found = self.functions[name] = self.instance.function(name, params, result)
        return found


@dataclass(frozen=True)
class CallbackMStatistics:
    """`total` = `idle` + `in_use` (and those being made). `waiting`: threads that wait for one. The rest count since the start."""

    limit: int
    total: int
    idle: int
    in_use: int
    waiting: int
    calls: int
    attached: int
    detached: int


class CallbackMCache:
    """At most `limit` callers; with those of nested calls `most`. `timeout` is how long to wait for one, in seconds; None: for ever.

    `trapped` makes a trap the app's end, if it has none yet. All caches of one app share `attaching`. `cancel` is for the callers' slots;
    `postponed` is around calls of C's on the main thread, `stack` what they must have, in bytes, `error` how the app has ended, for them.
    """

    def __init__(self, instances: Instances, memory: SharedMemory, limit: int, timeout: float | None, ended: Callable[[], bool],
                 trapped: Callable[[ffi.Trapped], None], attaching: threading.Lock, most: int = 0, cancel: Cancel | None = None,
                 postponed: Postponed | None = None, stack: int = 0,
                 error: Callable[[], BaseException] | None = None) -> None:
        self._instances, self._memory, self._limit, self._timeout, self._ended, self._trapped = instances, memory, limit, timeout, ended, trapped
        self._most, self._cancel, self._error = max(limit, most), cancel, error
        self._idle = IdleCallers(self, postponed, stack + CALLER_MARGIN, IDLE_SECONDS, *memory.pointers)
        self._attaching = attaching
        self._condition = threading.Condition()
        # Guarded by _condition.
        self._line = WaitQueue(self._condition, lambda: bool(self._idle) or self._total < limit, self._idle)
        self._total = self._attached = self._detached = self._old_calls = 0
        self._members: set[CallbackM] = set()

    def use(self, work: Callable[[CallbackM], T], nested: bool = False) -> T:
        """Do something in a caller, and put it back. Raises as acquire."""
        caller = self.acquire(nested)
        try:
            return work(caller)
        except ffi.Trapped as trapped:
            self._trapped(trapped)
            raise
        finally:
            self.release(caller)

    def acquire(self, nested: bool = False) -> CallbackM:
        """Take a caller, making or waiting for one. CallersBusy after the timeout; ffi.Trapped when the app ends meanwhile.

        nested: for a call from inside another. It does not wait: those that it would wait for may be waiting for it.
        """
        if (nested or not self._idle.passed) and (caller := self._take_idle()) is not None:
            return caller
        return self._make_or_wait(nested)

    def _take_idle(self) -> CallbackM | None:
        """Take a caller if one is idle. ffi.Trapped when the app has ended."""
        try:
            caller: CallbackM = self._idle.pop()
        except IndexError:
            return None
        # Looked at after it was taken: not ended now means that it counts as in use before anybody looks whether all have left.
        if self._ended():
            self._idle.append(caller)
            raise ffi.Trapped(ffi.Trap("the app has ended"))
        caller.since = time.monotonic()
        return caller

    def release(self, caller: CallbackM) -> None:
        """Put a caller back. It must be at rest, or the app ended."""
        caller.calls += 1
        caller.since = time.monotonic()
        if self._idle.over and self._give_up(caller):
            return
        self._idle.append(caller)
        self.released()

    def released(self) -> None:
        """One was put back: wake who waits, or trim."""
        if self._idle.waiting:
            self._wake()
        elif self.has_old():
            self.trim(IDLE_SECONDS)

    def trapped(self, caller: CallbackM, trapped: ffi.Trapped | None) -> NoReturn:
        """A call that took the short way (runtime/fast_calls.py) did not return; None: for want of memory nobody knows why. Raises what it has come to."""
        self._trapped(trapped or ffi.Trapped(ffi.Trap("it has trapped, and there is no memory to say why")))
        self.release(caller)
        assert self._error is not None
        cause = self._error()
        raise cause from cause.__cause__

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify()

    @contextlib.contextmanager
    def _ends_with_a_trap(self) -> Iterator[None]:
        """A trap is the app's end before anybody else may come: into the next lock, or to the caller."""
        try:
            yield
        except ffi.Trapped as trapped:
            self._trapped(trapped)
            raise

    def trim(self, seconds: float = 0.0) -> int:
        """Detach callers that have not been used for so many seconds; returns how many."""
        trimmed = 0
        while not self._ended():
            try:
                oldest = self._idle.popleft()
            except IndexError:
                break
            if time.monotonic() - oldest.since < seconds or self._ended():
                self._idle.appendleft(oldest)
                self._wake()  # somebody may have looked for it meanwhile
                break
            if not self._give_up(oldest):
                self._idle.append(oldest)  # the app ends, and frees it
                break
            trimmed += 1
        return trimmed

    def _give_up(self, caller: CallbackM) -> bool:
        """Detach a caller that nobody has. False when the app has ended, and frees it."""
        if self._ended():
            return False
        try:
            with self._ends_with_a_trap():
                caller.slot.close()
            with self._attaching, self._ends_with_a_trap():
                caller.detach()
        except ffi.Trapped:
            return False
        self._instances.close(caller.instance)
        with self._condition:
            self._count(-1)
            self._detached += 1
            self._old_calls += caller.calls
            self._members.discard(caller)
            self._condition.notify()
        return True

    def has_old(self) -> bool:
        """Whether one has been idle for so long that it is given back."""
        try:
            oldest: CallbackM = self._idle[0]
        except IndexError:  # another thread took the last one
            return False
        return oldest.since < time.monotonic() - IDLE_SECONDS

    @property
    def rest(self) -> IdleCallers:
        """The callers at rest, for calls of C's."""
        return self._idle

    @property
    def in_use(self) -> int:
        """Callers with threads, or being made: these may be in the module's code."""
        with self._condition:
            return self._total - len(self._idle)

    def in_flight(self) -> dict[CallbackM, float]:
        """The callers that threads have now, and since when, in seconds of the monotonic clock."""
        with self._condition:
            idle = set(self._idle)
            return {caller: caller.since for caller in self._members if caller not in idle}

    def wake_all(self) -> None:
        """Let waiting threads see that the app has ended."""
        with self._condition:
            self._condition.notify_all()

    def statistics(self) -> CallbackMStatistics:
        with self._condition:
            idle = len(self._idle)
            calls = self._old_calls + sum(caller.calls for caller in self._members)
            return CallbackMStatistics(self._limit, self._total, idle, self._total - idle, self._idle.waiting, calls, self._attached, self._detached)

    def _make_or_wait(self, nested: bool) -> CallbackM:
        def take(may: bool) -> CallbackM | Literal["new"] | None:
            if self._ended():
                raise ffi.Trapped(ffi.Trap("the app has ended"))
            if (may or nested) and (caller := self._take_idle()) is not None:
                return caller
            if self._total < (self._most if nested else self._limit):
                self._count(1)
                return "new"
            if nested:
                raise CallersBusy(f"calls are nested too deep: {self._total:,} callers are in use, and there can be no more. "
                                  "Do an export and a Python function call each other without end?")
            return None
        with self._condition:
            taken = self._line.wait(take, self._timeout)
        if taken is None:
            raise CallersBusy(f"all {self._limit} callers are in use, and none came free within {self._timeout:g} s. "
                              "Raise `callers`, or call less at once")
        if isinstance(taken, CallbackM):
            return taken
        try:
            return self._attach()
        except BaseException:
            with self._condition:
                self._count(-1)
                self._condition.notify()
            raise

    def _count(self, more: int) -> None:
        self._total += more
        self._idle.over = self._total > self._limit

    def _attach(self) -> CallbackM:
        with self._attaching, self._ends_with_a_trap():
            caller = CallbackM(self._instances.new(), self._memory, self._cancel)
            caller.attach()
        caller.since = time.monotonic()
        with self._condition:
            self._attached += 1
            self._members.add(caller)
        return caller
