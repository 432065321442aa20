"""Workloads that need a fresh process for each sample: start-up, and memory by the number of blocked callers."""

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
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.peers import HostFunction, Peer
from gothreads.tools.compare.workload import Metric, Workload, check

#: How long callers may take to get into the module, in seconds.
PATIENCE = 60.0
#: The fraction of free memory that a sample may take.
SHARE = 0.6
#: About how much an instance takes beside its data, in bytes: to tell beforehand whether a pool fits.
INSTANCE = 8 << 20

#: Opens the program with the function that it calls in the host.
Opener = Callable[[HostFunction], Peer]


class Fresh(Workload):
    """Opens the program itself, in a process that has not had it before."""

    fresh = True

    @abstractmethod
    def measure_fresh(self, opener: Opener, point: int, plan: MeasurementPlan) -> Sample:
        """One sample. IncorrectResult when a result is wrong."""

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        raise NotImplementedError("it opens the program itself: measure_fresh")


class Start(Fresh):
    name = "start"
    title = "warm start"
    about = ("Until the first call has returned: in a fresh process that has imported gothreads, with the module "
             "already compiled; and a second instance in that process.")
    axis = ""
    metrics = (Metric("opened", "open, and a call", "s", more=False),
               Metric("next", "one more in the same process, and a call", "s", more=False))

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return (1,)

    def measure_fresh(self, opener: Opener, point: int, plan: MeasurementPlan) -> Sample:
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
    title = "cold start"
    about = "Like start, with nothing compiled before: the module's machine code has to be generated first."
    metrics = (Metric("opened", "compile, open, and a call", "s", more=False),
               Metric("cpu", "CPU time of that", "s", more=False))

    def cannot(self, design: Design, point: int, plan: MeasurementPlan) -> str | None:
        if design.model in ("idle", "pool"):
            return "runs the same module as single, and compiles it the same way"
        return None

    def measure_fresh(self, opener: Opener, point: int, plan: MeasurementPlan) -> Sample:
        cpu = time.process_time()
        peer, seconds = self._timed(lambda: opener(self.host()))
        cpu = time.process_time() - cpu
        peer.close()
        return Sample({"opened": seconds, "cpu": cpu})


class BlockedCallers(Fresh):
    name = "memory"
    title = "memory by blocked callers"
    about = ("Python threads, each in a call that waits. What the process takes above a Python that has not opened the "
             "program, including the threads' own stacks. A pool needs an instance for each.")
    axis = "callers"
    metrics = (Metric("resident", "resident memory", "bytes", more=False),
               Metric("each", "for each caller", "bytes", more=False))
    DATA: ClassVar[bool] = False

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return plan.callers

    def headline(self, plan: MeasurementPlan, processors: int) -> int:
        return min(64, self.points(plan)[-1])

    def instances(self, design: Design, point: int) -> int | None:
        return point if design.model == "pool" else None

    def cannot(self, design: Design, point: int, plan: MeasurementPlan) -> str | None:
        if design.one_at_a_time and point > 1:
            return "takes one call at a time; the others wait outside the program"
        needed = (point if design.model == "pool" else 1) * (INSTANCE + self._data(plan))
        if needed > (free := psutil.virtual_memory().available) * SHARE:
            return (f"would need about {needed / 1e9:.1f} GB for {point} instances, and this machine has "
                    f"{free / 1e9:.1f} GB left")
        return None

    def _data(self, plan: MeasurementPlan) -> int:
        return plan.heap_megabytes << 20 if self.DATA else 0

    def measure_fresh(self, opener: Opener, point: int, plan: MeasurementPlan) -> Sample:
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
        failures: list[BaseException] = []
        with contextlib.closing(opener(host)) as peer:
            hold, have_heap = peer.function("hold"), peer.function("have_heap")

            def call() -> None:
                try:
                    hold(megabytes)
                    check("the sum of the data", have_heap(megabytes), expected)
                except BaseException as error:
                    failures.append(error)
                    inside.release()
            threads = [threading.Thread(target=call, daemon=True) for _ in range(point)]
            for thread in threads:
                thread.start()
            try:
                for _ in threads:
                    if not inside.acquire(timeout=PATIENCE):
                        raise GothreadsError(f"not all {point} callers got into the module within {PATIENCE:g} s")
                resident = process.memory_info().rss - before
            finally:
                released.set()
                for thread in threads:
                    thread.join(PATIENCE)
        if failures:
            raise failures[0]
        return Sample({"resident": resident, "each": resident / point})


class BlockedCallersWithData(BlockedCallers):
    name = "memory-data"
    title = "memory with data"
    about = ("Like memory, with 50 MB of data in the program that all calls read: one module has it once, a pool has "
             "it in each instance.")
    DATA = True

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return plan.heap_callers
