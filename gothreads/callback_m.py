"""The M/G cache: lets threads that Go did not start call into Go.

This works as in cgo (runtime/cgocall.go, cgocallback), except that an M is bound to an instance, not to a thread:
WebAssembly does not know about threads. A CallbackM (a "caller") is an instance that has taken one of Go's extra Ms
(attach, which is needm) and keeps it, with its goroutine, from call to call. Any thread may take a caller from the
cache, make a call and put it back. Between calls a caller rests in a system call (enter and leave in the wrapped
exports), so neither the garbage collector nor the scheduler waits for it.

The cache is last in, first out: the most recently used caller is warm, and callers at the bottom are not needed and
are trimmed (detach, which is dropm, gives the M back to Go).

Invariants:
 1. A CallbackM is either in `_idle` or held by exactly one thread, never both.
 2. `_total` counts the idle callers, those held by threads, and those being made. Only nested calls take it over the
    limit, and a caller that is released while it is over the limit is detached.
 3. A caller that is put back is at rest, unless the app has ended: a trap can leave Go in any state, for example with
    the scheduler's lock held. So the end of the app begins before the caller is put back, and a thread that takes such
    a caller from `_idle` also sees that the app has ended.
 4. Who ends the app, and then counts the callers in use, sees every call that is in the module or will enter it: a
    thread takes a caller first, and then looks whether the app has ended.
      taker    T1 takes a caller from `_idle`   T2 reads whether the app has ended
      end      E1 sets the cause                E2 counts the callers in use
    If T2 does not see E1, T1 comes before E2. That needs more than this order in both threads, since a processor may
    delay a store past a load: T1 and E2 are steps of `_idle`, which come one after the other, and what was written
    before the earlier is read after the later. So E2 takes a copy; `len` would be a load only.
 5. One thread at a time attaches or detaches (`_attaching`). Each attach is followed by an enter before the next one
    begins: only an enter refills Go's list of extra Ms, and an attach on an empty list blocks. Detach runs on the g0
    stack of the M that it gives back, so a concurrent attach that took this M would run on the same stack.

The race between releasing and waiting (sync/wait_queue.py) needs no lock on the fast path:
  waiter    W1 increments `waiting`   W2 looks into `_idle`   W3 sleeps
  release   R1 appends to `_idle`     R2 reads `waiting`      R3 wakes one
If R2 reads before W1 increments, then R1 precedes W2, and W2 finds the caller. Otherwise R3 needs the lock, which the
waiter holds from W1 until it sleeps: the wake-up comes after that and is not lost.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NoReturn, TypeVar

from gothreads.bridge.buffers import Buffers, Cancel
from gothreads.bridge.instances import Instance, Instances
from gothreads.engine import ffi
from gothreads.engine.callers import Caller, IdleCallers
from gothreads.engine.interrupt import Postponed
from gothreads.engine.stack import CALLER_MARGIN
from gothreads.errors import MORE_CALLERS, CallersBusy
from gothreads.shared_memory import SharedMemory
from gothreads.sync.wait_queue import WaitQueue
from gothreads.wasm import layout

T = TypeVar("T")

#: How long a CallbackM may be idle before it is detached, in seconds.
IDLE_SECONDS = 30.0


class CallbackM(Caller):
    """A caller: an instance with an M and a G. Used by one thread at a time."""

    def __init__(self, instance: Instance, memory: SharedMemory, cancel: Cancel | None) -> None:
        super().__init__()
        self.instance, self._memory = instance, memory
        self.slot = Buffers(self.function, memory, cancel)
        self.goroutine = 0  # the address of its g

    def attach(self) -> None:
        """Take an extra M (needm) and come to rest. Only one thread of the app may do this at a time."""
        self.goroutine = self.instance.function("gt_attach", "I", "I")(layout.BOOTSTRAP_STACK)

    def detach(self) -> None:
        """Give the M back (dropm), after `slot.close`. The instance cannot be used any more.

        Only one thread of the app may do this at a time.
        """
        self.instance.function("gt_detach")()

    def function(self, name: str, params: str = "", result: str = "") -> ffi.Function:
        """An exported function; it is looked up once and then cached."""
        found = self.functions.get(name)
        if found is None:
            found = self.functions[name] = self.instance.function(name, params, result)
        return found


@dataclass(frozen=True)
class CallerStatistics:
    """The callers of a threaded app: what a thread of the host needs for a call, with one of Go's Ms and a goroutine.

    limit: how many there may be: the option `callers`.
    total: how many there are: `idle` + `in_use`, which includes those being made.
    waiting: threads that wait for a caller.
    calls: that have returned, since the start.
    attached, detached: callers that were made and that were given up, since the start.
    """

    limit: int
    total: int
    idle: int
    in_use: int
    waiting: int
    calls: int
    attached: int
    detached: int


@dataclass(frozen=True)
class CacheEnvironment:
    """What all caches of one app share.

    ended: whether the app has ended.
    trapped: ends the app because of a trap, if it has not ended already.
    attaching: held while an M is attached or detached.
    """

    instances: Instances
    memory: SharedMemory
    ended: Callable[[], bool]
    trapped: Callable[[ffi.Trapped], None]
    attaching: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class FastPath:
    """For calls through the C fast path.

    postponed: brackets calls on the main thread; None: these are not for the fast path.
    stack: the stack that WebAssembly may use, in bytes.
    error: returns the exception with which the app has ended.
    """

    postponed: Postponed | None
    stack: int
    error: Callable[[], BaseException]


class CallbackMCache:
    """A cache of at most `limit` callers, or `most` including those of nested calls. May be used from any thread.

    timeout: how long to wait for a caller, in seconds; None: for ever.
    cancel: passed to the callers' slots.
    """

    def __init__(self, environment: CacheEnvironment, limit: int, *, timeout: float | None = None, most: int = 0,
                 cancel: Cancel | None = None, fast_path: FastPath | None = None) -> None:
        self._instances, self._memory = environment.instances, environment.memory
        self._ended, self._trapped, self._attaching = environment.ended, environment.trapped, environment.attaching
        self._limit, self._timeout, self._most, self._cancel = limit, timeout, max(limit, most), cancel
        self._error = None if fast_path is None else fast_path.error
        postponed, stack = (None, 0) if fast_path is None else (fast_path.postponed, fast_path.stack)
        self._idle = IdleCallers(self, postponed, stack + CALLER_MARGIN, IDLE_SECONDS, *self._memory.pointers)
        self._condition = threading.Condition()
        # Guarded by _condition.
        self._wait_queue = WaitQueue(self._condition, lambda: bool(self._idle) or self._total < limit, self._idle)
        self._total = self._attached = self._detached = self._old_calls = 0
        self._members: set[CallbackM] = set()

    def use(self, work: Callable[[CallbackM], T], nested: bool = False) -> T:
        """Take a caller, run `work` with it, and release it. Raises as `acquire` does."""
        caller = self.acquire(nested)
        try:
            return work(caller)
        except ffi.Trapped as trapped:
            self._trapped(trapped)
            raise
        finally:
            self.release(caller)

    def acquire(self, nested: bool = False) -> CallbackM:
        """Take a caller; make one, or wait for one, if none is idle.

        Raises CallersBusy after the timeout, and ffi.Trapped if the app has ended.

        nested: for a call made inside another call. It never waits, since the calls that it would wait for may be
        waiting for it.
        """
        if (nested or not self._idle.passed) and (caller := self._take_idle()) is not None:
            return caller
        return self._make_or_wait(nested=nested)

    def _take_idle(self) -> CallbackM | None:
        """Take a caller if one is idle. Raises ffi.Trapped if one is idle and the app has ended."""
        try:
            caller: CallbackM = self._idle.pop()
        except IndexError:
            return None
        if self._ended():  # now that the caller counts as in use: invariant 4
            self._idle.append(caller)
            raise ffi.Trapped(ffi.Trap("the app has ended"))
        caller.since = time.monotonic()
        return caller

    def release(self, caller: CallbackM) -> None:
        """Put a caller back. It must be at rest, unless the app has ended."""
        caller.calls += 1
        caller.since = time.monotonic()
        if self._idle.over and self._give_up(caller):
            return
        self._idle.append(caller)
        self.released()

    def released(self) -> None:
        """A caller was put back: wake a waiting thread, or trim the cache."""
        if self._idle.waiting:
            self._wake()
        elif self.has_old():
            self.trim(IDLE_SECONDS)

    def trapped(self, caller: CallbackM, trapped: ffi.Trapped | None) -> NoReturn:
        """End the app because a call on the fast path (runtime/fast_calls.py) trapped, and raise the app's error.

        trapped: the trap; None when there was no memory to describe it.
        """
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
        """On a trap, end the app first: before an enclosing lock is released and before the exception propagates."""
        try:
            yield
        except ffi.Trapped as trapped:
            self._trapped(trapped)
            raise

    def trim(self, seconds: float = 0.0) -> int:
        """Detach callers that have been idle for at least `seconds`; returns how many."""
        trimmed = 0
        while not self._ended():
            try:
                oldest = self._idle.popleft()
            except IndexError:
                break
            if time.monotonic() - oldest.since < seconds or self._ended():
                self._idle.appendleft(oldest)
                self._wake()  # another thread may have looked for a caller meanwhile
                break
            if not self._give_up(oldest):
                self._idle.append(oldest)  # the app is ending and will free it
                break
            trimmed += 1
        return trimmed

    def _give_up(self, caller: CallbackM) -> bool:
        """Detach a caller that no other thread holds. False if the app has ended: then the app frees the caller."""
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
        """Whether a caller has been idle long enough to be trimmed."""
        try:
            oldest: CallbackM = self._idle[0]
        except IndexError:  # another thread took the last one
            return False
        return oldest.since < time.monotonic() - IDLE_SECONDS

    @property
    def idle(self) -> IdleCallers:
        """The idle callers, for the C fast path."""
        return self._idle

    @property
    def in_use(self) -> int:
        """How many callers are held by threads or being made, and so may be in the module's code."""
        with self._condition:
            return self._total - len(self._idle.copy())

    def in_flight(self) -> dict[CallbackM, float]:
        """The callers that threads hold now, and since when, in seconds of the monotonic clock."""
        with self._condition:
            idle = set(self._idle.copy())  # a copy, since other threads take callers while a set is made
            return {caller: caller.since for caller in self._members if caller not in idle}

    def wake_all(self) -> None:
        """Wake all waiting threads, to see that the app has ended."""
        with self._condition:
            self._condition.notify_all()

    def statistics(self) -> CallerStatistics:
        with self._condition:
            idle = len(self._idle.copy())
            calls = self._old_calls + sum(caller.calls for caller in self._members)
            return CallerStatistics(self._limit, self._total, idle, self._total - idle, self._idle.waiting, calls,
                                       self._attached, self._detached)

    def _make_or_wait(self, *, nested: bool) -> CallbackM:
        def take(*, may_take: bool) -> CallbackM | Literal["new"] | None:
            if self._ended():
                raise ffi.Trapped(ffi.Trap("the app has ended"))
            if (may_take or nested) and (caller := self._take_idle()) is not None:
                return caller
            if self._total < (self._most if nested else self._limit):
                self._count(1)
                return "new"
            if nested:
                raise CallersBusy(f"calls are nested too deep: {self._total:,} callers are in use, and there can be no "
                                  "more. Do an export and a Python function call each other without end?")
            return None
        with self._condition:
            taken = self._wait_queue.wait(take, self._timeout)
        if taken is None:
            raise CallersBusy(f"all {self._limit} callers are in use, and none came free within {self._timeout:g} s. "
                              f"{MORE_CALLERS}")
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
