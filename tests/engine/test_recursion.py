"""Recursion in the threaded model: on any thread it may be as deep as Go's own limit allows.

Endless recursion ends at that limit, in the same frame each time.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading

import pytest

import gothreads
from tests.support.modules import opened
from tests.support.waiting import together

pytestmark = pytest.mark.long  # a program of their own is built

KINDS = {"sum": 0, "large": 1, "visits": 2, "yields": 3, "zigzag": 4}


def app() -> gothreads.App:
    return opened("recursion", stderr=io.BytesIO(), host={"env": {"visit": lambda n: n}})


def elided(error: gothreads.GuestError) -> str:
    """Return the number of frames that Go's traceback leaves out."""
    assert type(error) is gothreads.GuestPanic
    assert error.code == 2
    assert "fatal error: stack overflow (endless recursion? runtime/debug.SetMaxStack raises the limit)" in str(error)
    found = re.search(r"\.\.\.(\d+) frames elided", error.stderr)
    assert found, error.stderr
    return found[1]


def test_endless_recursion_ends_in_the_same_frame_each_time() -> None:
    def ended(begin: str) -> str:
        with app() as running:
            if begin == "call":
                with pytest.raises(gothreads.GuestError):
                    running.exports.forever(False)
            else:
                running.exports.forever_later()
                assert running.wait() == 2
            assert isinstance(running.error, gothreads.GuestError)
            return elided(running.error)
    assert len({ended("call") for _ in range(3)}) == 1
    assert len({ended("goroutine") for _ in range(3)}) == 1


def test_endless_recursion_ends_in_the_same_frame_under_load() -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        found = set()
        for _ in range(20):
            with app() as running:
                running.exports.limit(4 << 20)
                with pytest.raises(gothreads.GuestError) as caught:
                    running.exports.forever(False)
            found.add(elided(caught.value))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert len(found) == 1


def test_endless_recursion_through_the_host_ends_so_too() -> None:
    with app() as running, pytest.raises(gothreads.GuestError) as caught:
        running.exports.forever(True)
    elided(caught.value)


@pytest.mark.parametrize(("kind", "depth", "expected"), [
    ("sum", 800_000, 800_000 * 800_001 // 2), ("large", 250, 250 * 251 // 2), ("visits", 20_000, 0),
    ("yields", 20_000, 20_000 * 20_001 // 2),
    ("zigzag", 30_000, 30_000 * 30_001 // 2)])
def test_deep_recursion_works(kind: str, depth: int, expected: int) -> None:
    with app() as running:
        for _ in range(3):  # a call does not affect the depth of the next
            assert running.exports.deep(KINDS[kind], depth) == expected
        assert together(*[lambda: running.exports.deep(KINDS[kind], depth // 4)] * 4)
        assert running.submit("deep", KINDS[kind], depth).result() == expected


def test_set_max_stack_raises_the_limit() -> None:
    with app() as running:
        running.exports.limit(200_000_000)
        assert running.exports.deep(KINDS["sum"], 1_500_000) == 1_500_000 * 1_500_001 // 2


def test_deep_recursion_works_on_a_thread_with_a_small_stack() -> None:
    results: list[int] = []
    with app() as running:
        before = threading.stack_size(256 << 10)
        try:
            thread = threading.Thread(target=lambda: results.append(running.exports.deep(0, 800_000)))
            thread.start()
        finally:
            threading.stack_size(before)
        thread.join()
    assert results == [800_000 * 800_001 // 2]


def test_go_that_python_calls_from_inside_go_recurses_as_deeply() -> None:
    def visit(n: int, context: gothreads.Context) -> int:
        return int(context.app.exports.deep(KINDS["sum"], 500_000)) % 2 if n > 0 else n
    with opened("recursion", host={"env": {"visit": visit}}) as running:
        assert running.exports.deep(KINDS["visits"], 10) == 10 * (500_000 * 500_001 // 2 % 2) - 10
