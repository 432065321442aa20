"""Waits for conditions, and threads that start at the same moment."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

import gothreads

#: For waits that must end, in seconds: less than a test's timeout, and much more than they take on a loaded machine. So
#: a hang fails, and slowness does not.
PATIENCE = 120.0


def slowness() -> float:
    """How many times as long as on a quiet machine things may take now.

    A thread that shares each processor with n others gets its turn n + 1 times as late.
    """
    load, runnable = Path("/proc/loadavg").read_text().split()[:4:3]
    return 1 + max(float(load), int(runnable.partition("/")[0])) / len(os.sched_getaffinity(0))


def under_load(seconds: float) -> float:
    """How long something may take now that may take `seconds` on a quiet machine."""
    return seconds * slowness()


def gothreads_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("gothreads-")
            and t.name != "gothreads-interrupt"]


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE,
               left: Callable[[], object] = lambda: "what was waited for did not happen") -> None:
    """Wait until `condition` is true; on timeout, fail with the value of `left`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, left()
        time.sleep(0.002)


def together(*jobs: Callable[[], object]) -> list[object]:
    """Run each job on its own thread, all released at the same moment; the results, or the first exception."""
    barrier = threading.Barrier(len(jobs))
    results: list[object] = [None] * len(jobs)
    failed: list[BaseException] = []

    def run(place: int, job: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[place] = job()
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return results


def one_in_one_waiting(app: gothreads.App, inside: Callable[[], Future[Any]],
                       waiting: Callable[[], Future[Any]]) -> list[Future[Any]]:
    """Start two calls of an app that runs one at a time.

    The first, which must not return, is in the module when the second begins to wait.
    """
    call_lock = app._call_lock  # type: ignore[attr-defined]
    futures = [inside()]
    wait_until(lambda: call_lock._owner)
    futures.append(waiting())
    wait_until(lambda: call_lock.taken == 2)
    return futures


@contextlib.contextmanager
def raises_within(kind: type[BaseException], seconds: float) -> Iterator[None]:
    """The block raises in that time, if the machine is quiet."""
    begin = time.monotonic()
    with pytest.raises(kind):
        yield
    assert time.monotonic() - begin < under_load(seconds)


def few_threads(process: psutil.Process, most: int) -> None:
    """Wait until a process has no more threads than that: one leaves the system after Python has forgotten it."""
    wait_until(lambda: process.num_threads() <= most)
