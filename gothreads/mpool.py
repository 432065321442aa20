"""The pool of host threads that run a module's own threads: Go's Ms, or the threads of wasi-threads.

The module asks for a thread to run a job (for an M: its g0). The pool provides one, and takes it back when the job is
done. Each thread has a runner, which owns what its jobs need, such as an instance. The threads are daemons: the app
ends them before Python exits.

Invariant: a thread counts as active from before `spawn` returns until it has left WebAssembly for good or has become
idle. So "no active threads" means that no thread is in the module's code.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gothreads.bridge.instances import Instance, Instances
from gothreads.engine import ffi
from gothreads.engine.stack import big_stack, in_module
from gothreads.engine.thread_names import name_thread
from gothreads.errors import GothreadsError

Job = TypeVar("Job")
Job_contra = TypeVar("Job_contra", contravariant=True)

#: How long an idle thread waits for another job before it ends, in seconds.
IDLE_SECONDS = 10.0


@dataclass(frozen=True)
class ThreadStatistics:
    """The threads of the host that run the module's own threads: Go's Ms, or those of wasi-threads.

    limit: how many may run at a time: `limits.threads`.
    running: the module's threads that run now.
    idle: threads of the host that are kept for the module's next ones.
    started: the module's threads that were started so far.
    peak: the most that ran at a time.
    """

    limit: int
    running: int
    idle: int
    started: int
    peak: int


class Runner(Protocol[Job_contra]):
    """Runs the jobs of one thread of the pool."""

    def run(self, job: Job_contra) -> None:
        """Run a job. Raises ffi.Trapped; then the app ends, and the runner is not called again, not even to close."""

    def close(self) -> None:
        """Called in the thread when it has no more jobs and ends."""


class MRunner:
    """Runs Go's Ms: a job is the address of an M's g0. The first job makes the instance, and later jobs reuse it."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        self._instance: Instance | None = None

    def run(self, job: int) -> None:
        if self._instance is None:
            self._instance = self._instances.new()
        self._instance.function("gt_thread_start", "I")(job)

    def close(self) -> None:
        if self._instance is not None:
            self._instances.close(self._instance)


class MPool(Generic[Job]):
    """A pool of at most `limit` active threads. May be used from any thread.

    runner: makes the runner of a new thread, in that thread.
    stack: how much stack WebAssembly may use on a thread, in bytes.
    failed: called, in the thread, when a job trapped instead of returning.
    """

    def __init__(self, runner: Callable[[], Runner[Job]], limit: int, stack: int,
                 failed: Callable[[ffi.Trapped], None]) -> None:
        self._runner, self._limit, self._stack, self._failed = runner, limit, stack, failed
        self._condition = threading.Condition()
        # Guarded by _condition.
        self._active = self._started = self._peak = self._idle = 0
        self._closed = False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def spawn(self, job: Job) -> bool:
        """Run a job on a thread. False if the limit is reached, the pool is closed, or no thread can be started."""
        with self._condition:
            if self._closed or self._active >= self._limit:
                return False
            self._active += 1
            self._started += 1
            self._peak = max(self._peak, self._active)
            if self._idle:
                # Decremented here and not by the thread: an idle thread must not be promised to two jobs.
                self._idle -= 1
                self._jobs.put(job)
                return True
            number = self._started
        try:
            with big_stack(self._stack):
                threading.Thread(target=self._run, args=(job, number), name=f"gothreads-m{number}", daemon=True).start()
        except (RuntimeError, MemoryError):
            self._left()
            return False
        return True

    def start(self, first: Callable[[], None]) -> None:
        """Start the module's first thread, which is not a job. GothreadsError when no thread can be started.

        first: runs in the new thread; may raise ffi.Trapped, as a runner may.
        """
        with self._condition:
            self._active += 1
            self._started += 1
            self._peak = max(self._peak, self._active)
        try:
            with big_stack(self._stack):
                threading.Thread(target=self._run_first, args=(first,), name="gothreads-m0", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            self._left()
            raise GothreadsError(f"cannot start a thread for the module: {error}") from None

    @property
    def active(self) -> int:
        """How many threads may be in the module's code."""
        with self._condition:
            return self._active

    def statistics(self) -> ThreadStatistics:
        with self._condition:
            return ThreadStatistics(self._limit, self._active, self._idle, self._started, self._peak)

    def close(self) -> None:
        """Refuse further jobs and end the idle threads."""
        with self._condition:
            self._closed = True
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._jobs.put(None)

    def _run_first(self, first: Callable[[], None]) -> None:
        name_thread("go-m0")
        self._guarded(first)

    def _run(self, job: Job | None, number: int) -> None:
        name_thread(f"go-m{number}")
        runner = self._runner()
        while job is not None:
            if not self._guarded(functools.partial(runner.run, job)):
                return  # the app is ending: it frees the runner's resources when all threads have left
            job = self._next_job()
        runner.close()

    def _guarded(self, run: Callable[[], None]) -> bool:
        """Run the module's code. True if it returned, so that the thread can take another job."""
        try:
            with in_module:
                try:
                    run()
                    return True
                except ffi.Trapped as trapped:
                    self._failed(trapped)
                except BaseException as error:
                    self._failed(ffi.Trapped(ffi.Trap(f"cannot run a thread: {error}")))
                return False
        finally:
            self._left()

    def _left(self) -> None:
        with self._condition:
            self._active -= 1

    def _next_job(self) -> Job | None:
        """Wait for the next job; None when the thread is to end."""
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
            return self._jobs.get()  # spawn or close has already claimed this thread: a job or None is on its way
