"""Waits for conditions, and threads that start at the same moment."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import gothreads


def gothreads_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("gothreads-") and t.name != "gothreads-interrupt"]


def wait_until(condition: Callable[[], object], seconds: float = 10.0, left: Callable[[], object] = lambda: "what was waited for did not happen") -> None:
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


def one_in_one_waiting(app: gothreads.App, inside: Callable[[], Future[Any]], waiting: Callable[[], Future[Any]]) -> list[Future[Any]]:
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
    begin = time.monotonic()
    with pytest.raises(kind):
        yield
    assert time.monotonic() - begin < seconds
