"""What tests share: real modules, built by the real toolchain once and kept in gothreads' cache."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gothreads
from gothreads.build.builder import Request, build

MODULES = Path(__file__).parent / "modules"


def built(name: str, model: str = "threaded", **options: object) -> Path:
    """A module of tests/modules (or of examples), built."""
    folder = MODULES / name
    if not folder.exists():
        folder = Path(__file__).parent.parent / "examples" / name
    return build(Request(str(folder), model=model, **options)).path  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def calls() -> Path:
    """The threaded module `calls`."""
    return built("calls")


@pytest.fixture(scope="session")
def calls_single() -> Path:
    """The same program for stock Go."""
    return built("calls", model="single")


@pytest.fixture
def app(calls: Path) -> Iterator[gothreads.App]:
    """A running `calls` of the test's own."""
    with gothreads.open(calls, stderr=open(os.devnull, "wb")) as running:
        yield running


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something to become true; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.002)


def together(*jobs: Callable[[], object]) -> list[object]:
    """Run jobs on threads of their own, released at the same moment; the results, or the first exception."""
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


@contextlib.contextmanager
def raises_within(kind: type[BaseException], seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    with pytest.raises(kind):
        yield
    assert time.monotonic() - begin < seconds
