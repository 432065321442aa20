"""Who waits for a caller, or an instance, gets one: also while others take and give back without end."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import pytest

from gothreads.sync.wait_queue import WaitQueue
from tests.support.modules import opened
from tests.support.waiting import together


class Few:
    """Things to be taken, as a cache has them. `most`: how many were out at a time."""

    def __init__(self, count: int) -> None:
        self.free = list(range(count))
        self.condition = threading.Condition()
        self.line = WaitQueue(self.condition, lambda: bool(self.free))
        self.out = self.most = 0

    def take(self, timeout: float | None = None) -> int | None:
        def take(*, may_take: bool) -> int | None:
            if not may_take or not self.free:
                return None
            self.out += 1
            self.most = max(self.most, self.out)
            return self.free.pop()
        with self.condition:
            return self.line.wait(take, timeout)

    def give(self, thing: int) -> None:
        with self.condition:
            self.free.append(thing)
            self.out -= 1
            if self.line.counts.waiting:
                self.condition.notify()


@pytest.mark.parametrize("count", [1, 3])
def test_all_that_is_taken_is_given_and_nobody_is_forgotten(count: int) -> None:
    few = Few(count)

    def use() -> int:
        taken = 0
        for turn in range(300):
            if (thing := few.take(0.0005 if turn % 7 == 0 else None)) is not None:
                taken += 1
                few.give(thing)
        return taken
    assert min(int(str(n)) for n in together(*[use] * 12)) > 250
    assert few.most <= count
    assert sorted(few.free) == list(range(count))
    assert (few.line.counts.waiting, few.line.counts.passed) == (0, 0)


def test_nothing_there_is_none_after_the_timeout_and_what_take_raises_ends_the_waiting() -> None:
    few = Few(0)
    begin = time.monotonic()
    assert few.take(0.02) is None
    assert time.monotonic() - begin >= 0.02

    def fails(*, may_take: bool) -> int | None:
        raise LookupError
    with few.condition, pytest.raises(LookupError):
        few.line.wait(fails, None)
    assert (few.line.counts.waiting, few.line.counts.passed) == (0, 0)


@pytest.mark.parametrize(("model", "options"),
                         [("threaded", {"callers": 1}), ("pool", {"instances": 1}), ("single", {}), ("idle", {})])
def test_a_call_is_made_though_others_call_without_end(model: str, options: dict[str, Any], nothing_left: None) -> None:
    host = {"env": {"block": lambda: None, "raises": lambda: None, "close": lambda: None}}
    with opened("faults", model, host=host, stderr=io.BytesIO(), **options) as app:
        done = threading.Event()

        def call() -> None:
            while not done.is_set():
                app.exports.plus(1, 1)
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            assert app.exports.plus(2, 3) == 5
        done.set()
        for thread in threads:
            thread.join()
