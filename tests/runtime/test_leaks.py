"""Nothing leaks: threads, memory, descriptors, Go's heap."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import psutil
import pytest

import gothreads
from tests.support.waiting import PATIENCE, few_threads, wait_until


@pytest.mark.long
def test_two_hundred_runs_leave_no_threads_memory_or_descriptors(calls: Path) -> None:
    process = psutil.Process()

    def run() -> None:
        with gothreads.open(calls, callers=8) as app:
            blocked = [app.submit("hang") for _ in range(2)]
            assert app.exports.ask(4) == 8
            assert app.request("upper", "x") == b"X"
        for future in blocked:
            assert isinstance(future.exception(PATIENCE), gothreads.AppClosed)

    def settle() -> tuple[int, int, int]:
        wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("gothreads-")
                                and t.name != "gothreads-interrupt"])
        gc.collect()
        return process.num_threads(), process.num_fds(), process.memory_info().rss
    for _ in range(40):  # allocators and wasmtime's own pools warm up
        run()
    threads, descriptors, memory = settle()
    for _ in range(200):
        run()
    few_threads(process, threads)
    _, descriptors_after, memory_after = settle()
    assert descriptors_after <= descriptors
    # Less than 20 KB a run; one instance alone takes 20 to 50 KB.
    assert memory_after - memory < 4 << 20, f"{(memory_after - memory) / 200:.0f} bytes a run"


def test_a_hundred_thousand_requests_leave_nothing(calls: Path) -> None:
    process = psutil.Process()
    with gothreads.open(calls, env={"GOGC": "12"}) as app:  # frequent collections: the heap soon has its final size
        def many(count: int) -> None:
            for n in range(count):
                payload = b"x" * (n % 1000)
                assert app.request("echo", payload) == payload
        many(5_000)
        heap, memory = app.exports.heap(), process.memory_info().rss
        many(100_000)
        assert app.exports.heap() < heap + (256 << 10)
        assert process.memory_info().rss < memory + (16 << 20)
        large = bytes(8 << 20)
        for _ in range(20):
            assert app.request("echo", large) == large
        assert app.exports.heap() < heap + (1 << 20)


def test_callers_are_small(calls: Path) -> None:
    process = psutil.Process()
    with gothreads.open(calls, callers=256) as app:
        app.exports.add(1, 1)
        before = process.memory_info().rss
        blocked = [app.submit("hang") for _ in range(200)]
        wait_until(lambda: app.statistics().callers.in_use == 200)  # type: ignore[union-attr]
        each = (process.memory_info().rss - before) / 200
        assert each < 400 << 10  # including a Python thread each, and Go's stacks
        app.close()
        assert all(isinstance(future.exception(PATIENCE), gothreads.AppClosed) for future in blocked)
