"""Callers: threads that call as fast as they can, or at given times, and record how long each call took.

All start at the same moment. The first exception in any of them stops all, and is raised where they were started.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from gothreads.tools.compare.figures import Latencies, Sample

#: Makes the function that one thread calls over and over, given the thread's number.
Caller = Callable[[int], Callable[[], None]]


def together(jobs: Sequence[Callable[[], None]]) -> float:
    """Run each job on its own thread, all released at the same moment. Returns the seconds until the last one ended.

    Raises the first exception of a job.
    """
    barrier = threading.Barrier(len(jobs) + 1)
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        barrier.wait()
        try:
            job()
        except BaseException as error:
            failures.append(error)
    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    if failures:
        raise failures[0]
    return seconds


def loop(threads: int, seconds: float, caller: Caller) -> Sample:
    """Threads that each call for some seconds, at least once. Values: rate, cpu (seconds for each call), calls."""
    taken: list[list[int]] = [[] for _ in range(threads)]
    stop = threading.Event()

    def job(place: int) -> Callable[[], None]:
        call, mine, clock = caller(place), taken[place], time.perf_counter_ns
        call()  # what only the first call does is not to be measured

        def run() -> None:
            deadline = clock() + int(seconds * 1e9)
            try:
                now = clock()
                while True:
                    call()
                    before, now = now, clock()
                    mine.append(now - before)
                    if now >= deadline or stop.is_set():
                        return
            except BaseException:
                stop.set()
                raise
        return run
    jobs = [job(place) for place in range(threads)]
    cpu = time.process_time()
    passed = together(jobs)
    cpu = time.process_time() - cpu
    latencies = Latencies.of(nanoseconds for mine in taken for nanoseconds in mine)
    return Sample({"rate": latencies.count / passed, "cpu": cpu / latencies.count, "calls": latencies.count}, latencies)


def paced(begin: float, end: float, every: float, call: Callable[[], None]) -> list[tuple[float, float, float]]:
    """Call at fixed times on this thread, from `begin` to `end` of time.monotonic(). A call that is late delays no
    later due time.

    For each call, when it was due, started and done, by time.monotonic().
    """
    times = []
    due = begin
    while due < end:
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        begun = time.monotonic()
        call()
        times.append((due, begun, time.monotonic()))
        due += every
    return times
