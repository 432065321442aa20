"""Workloads that need a fresh process each time: start-up, and memory by the number of callers that are blocked."""

from __future__ import annotations

import contextlib
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import psutil

from gothreads.errors import GothreadsError
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Sample
from gothreads.tools.compare.peers import HostFunction, Peer
from gothreads.tools.compare.plan import Plan
from gothreads.tools.compare.workload import Metric, Workload, check

#: How long callers may take to get in, in seconds.
PATIENCE = 60.0
#: How much of the memory that is free a sample may take.
SHARE = 0.6
#: What an instance takes beside its data, in bytes, about: to see beforehand whether a pool has room.
INSTANCE = 8 << 20

#: Opens the program; its calls of the host go to the function that it is given.
Opener = Callable[[HostFunction], Peer]


class Fresh(Workload):
    """Opens the program itself, in a process that has not had it before."""

    fresh = True

    @abstractmethod
    def measure_fresh(self, opener: Opener, point: int, plan: Plan) -> Sample:
        """One sample. WrongResult when a result is not what it must be."""

    def measure(self, peer: Peer, point: int, plan: Plan) -> Sample:
        raise NotImplementedError("it opens the program itself: measure_fresh")


class Start(Fresh):
    name = "start"
    title = "start-up"
    about = "Until the first call has come back: in a fresh process, once the module is compiled; and one more of it, in the same process."
    axis = ""
    metrics = (Metric("opened", "open, and a call", "s", more=False), Metric("next", "one more in the same process, and a call", "s", more=False))

    def points(self, plan: Plan) -> Sequence[int]:
        return (1,)

    def measure_fresh(self, opener: Opener, point: int, plan: Plan) -> Sample:
        peer, seconds = self._timed(lambda: opener(self.host()))
        values = {"opened": seconds}
        with contextlib.closing(peer):
            begin = time.perf_counter()
            another = peer.another()
            if another is not None:
                with contextlib.closing(another):
                    check("add", another.function("add")(2, 3), 5)
                    values["next"] = time.perf_counter() - begin
        return Sample(values)

    @staticmethod
    def _timed(opened: Callable[[], Peer]) -> tuple[Peer, float]:
        begin = time.perf_counter()
        peer = opened()
        try:
            check("add", peer.function("add")(2, 3), 5)
        except BaseException:
            peer.close()
            raise
        return peer, time.perf_counter() - begin


class ColdStart(Start):
    name = "start-cold"
    title = "start-up, cold"
    about = "The same, where nothing was compiled before: the module's machine code has to be made first."
    metrics = (Metric("opened", "compile, open, and a call", "s", more=False), Metric("cpu", "CPU time of that", "s", more=False))

    def cannot(self, design: Design, point: int, plan: Plan) -> str | None:
        return "has the same module as single, and compiles it as that does" if design.model in ("idle", "pool") else None

    def measure_fresh(self, opener: Opener, point: int, plan: Plan) -> Sample:
        cpu = time.process_time()
        peer, seconds = self._timed(lambda: opener(self.host()))
        cpu = time.process_time() - cpu
        peer.close()
        return Sample({"opened": seconds, "cpu": cpu})


class Blocked(Fresh):
    name = "memory"
    title = "memory by blocked callers"
    about = ("So many Python threads are each in a call that waits. What the process takes above a Python that has not opened the program: the threads' "
             "own stacks too. A pool needs an instance for each.")
    axis = "callers"
    metrics = (Metric("resident", "resident memory", "bytes", more=False), Metric("each", "for each caller", "bytes", more=False))
    DATA: ClassVar[bool] = False

    def points(self, plan: Plan) -> Sequence[int]:
        return plan.callers

    def headline(self, plan: Plan, processors: int) -> int:
        return min(64, self.points(plan)[-1])

    def instances(self, design: Design, point: int) -> int | None:
        return point if design.model == "pool" else None

    def cannot(self, design: Design, point: int, plan: Plan) -> str | None:
        if design.one_at_a_time and point > 1:
            return "takes one call at a time: the others wait at the door, not in the program"
        needed = (point if design.model == "pool" else 1) * (INSTANCE + self._data(plan))
        if needed > (free := psutil.virtual_memory().available) * SHARE:
            return f"would need some {needed / 1e9:.1f} GB for {point} instances, and this machine has {free / 1e9:.1f} GB left"
        return None

    def _data(self, plan: Plan) -> int:
        return plan.heap_megabytes << 20 if self.DATA else 0

    def measure_fresh(self, opener: Opener, point: int, plan: Plan) -> Sample:
        inside, released = threading.Semaphore(0), threading.Event()

        def host(value: int) -> int:
            if value == 0:
                inside.release()
                return 0
            return int(released.is_set())
        megabytes = plan.heap_megabytes if self.DATA else 0
        expected = sum(((page & 0xff) | 1) for page in range((megabytes << 20) >> 12))
        process = psutil.Process()
        before = process.memory_info().rss
        failed: list[BaseException] = []
        with contextlib.closing(opener(host)) as peer:
            hold, have_heap = peer.function("hold"), peer.function("have_heap")

            def call() -> None:
                try:
                    hold(megabytes)
                    check("the sum of the data", have_heap(megabytes), expected)
                except BaseException as error:
                    failed.append(error)
                    inside.release()
            threads = [threading.Thread(target=call, daemon=True) for _ in range(point)]
            for thread in threads:
                thread.start()
            try:
                for _ in threads:
                    if not inside.acquire(timeout=PATIENCE):
                        raise GothreadsError(f"not all of {point} callers got in within {PATIENCE:g} s")
                resident = process.memory_info().rss - before
            finally:
                released.set()
                for thread in threads:
                    thread.join(PATIENCE)
        if failed:
            raise failed[0]
        return Sample({"resident": resident, "each": resident / point})


class BlockedWithData(Blocked):
    name = "memory-data"
    title = "memory with data"
    about = "The same, and the program has data of 50 MB that all calls read: one module has it once, a pool in each instance."
    DATA = True

    def points(self, plan: Plan) -> Sequence[int]:
        return plan.heap_callers
