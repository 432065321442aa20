"""The pool of host threads that run Go's Ms.

Go asks for a thread (newosproc) with the g0 of a new M; the pool gives it one, with an instance of its own, and takes the
thread and the instance back when the M exits. The threads are daemons: the app ends them before Python ends.

Invariant: a thread counts as active from before `spawn` returns until it has left WebAssembly for good or has become idle,
so that "no active threads" means that nobody is in the module's code.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from gothreads.errors import GothreadsError
from gothreads.host import ffi
from gothreads.host.instance import Instance, Instances
from gothreads.host.stack import big_stack, inside

#: How long an idle thread waits for another M before it ends, in seconds.
IDLE_SECONDS = 10.0


@dataclass(frozen=True)
class MPoolStatistics:
    """`running`: threads that run an M now. `idle`: threads that wait for one. `started`: Ms so far. `peak`: most at a time."""

    limit: int
    running: int
    idle: int
    started: int
    peak: int


class MPool:
    """`failed` is told, in the thread, when an M did not return but trapped. May be used from any thread."""

    def __init__(self, instances: Instances, limit: int, stack: int, failed: Callable[[ffi.Trapped], None]) -> None:
        self._instances, self._limit, self._stack, self._failed = instances, limit, stack, failed
        self._condition = threading.Condition()
        # Guarded by _condition.
        self._active = self._started = self._peak = self._idle = 0
        self._closed = False
        self._jobs: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def spawn(self, g0: int) -> bool:
        """Run an M on a thread. False when the limit is reached, or the system has no thread left."""
        with self._condition:
            if self._closed or self._active >= self._limit:
                return False
            self._active += 1
            self._started += 1
            self._peak = max(self._peak, self._active)
            if self._idle:
                # Counted down here, not by the thread: one idle thread must not be promised to two Ms.
                self._idle -= 1
                self._jobs.put(g0)
                return True
            number = self._started
        try:
            with big_stack(self._stack):
                threading.Thread(target=self._run, args=(g0,), name=f"gothreads-m{number}", daemon=True).start()
        except RuntimeError:
            self._left()
            return False
        return True

    def start(self, entry: str) -> None:
        """Run the module's own first thread: `entry` is _start or _initialize."""
        with self._condition:
            self._active += 1
            self._started += 1
            self._peak = max(self._peak, self._active)
        try:
            with big_stack(self._stack):
                threading.Thread(target=self._run_entry, args=(entry,), name="gothreads-m0", daemon=True).start()
        except RuntimeError as error:
            self._left()
            raise GothreadsError(f"cannot start a thread for the module: {error}") from None

    @property
    def active(self) -> int:
        """Threads that may be in the module's code."""
        with self._condition:
            return self._active

    def statistics(self) -> MPoolStatistics:
        with self._condition:
            return MPoolStatistics(self._limit, self._active, self._idle, self._started, self._peak)

    def close(self) -> None:
        """Start no more Ms, and end the idle threads."""
        with self._condition:
            self._closed = True
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._jobs.put(None)

    def _run_entry(self, entry: str) -> None:
        self._guarded(lambda: self._instances.new().function(entry, 0)())

    def _run(self, g0: int) -> None:
        mine: list[Instance] = []  # made by the first M, used by the next ones too

        def run_m(g0: int) -> None:
            if not mine:
                mine.append(self._instances.new())
            start = mine[0].function("gt_thread_start", 1)
            start.values[0].i32 = ffi.signed32(g0)
            start()
        job: int | None = g0
        while job is not None:
            if not self._guarded(functools.partial(run_m, job)):
                return  # the app is ending: it frees the instance when all have left
            job = self._next_job()
        self._instances.close(mine[0])

    def _guarded(self, run: Callable[[], None]) -> bool:
        """Run the module's code; True when the M has exited and the thread can take another."""
        inside.depth += 1
        try:
            run()
            return True
        except ffi.Trapped as trapped:
            self._failed(trapped)
            return False
        except BaseException as error:
            self._failed(ffi.Trapped(ffi.Trap(f"cannot run a thread: {error}")))
            return False
        finally:
            inside.depth -= 1
            self._left()

    def _left(self) -> None:
        with self._condition:
            self._active -= 1

    def _next_job(self) -> int | None:
        """The next M's g0, or None when the thread is to end."""
        with self._condition:
            if self._closed:
                return None
            self._idle += 1
        try:
            return self._jobs.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._condition:
                if self._idle:
                    self._idle -= 1
                    return None
            return self._jobs.get()  # spawn or close has counted on this thread: a job is on its way
