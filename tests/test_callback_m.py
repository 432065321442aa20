"""The M/G cache under many threads: each test releases its threads together."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import gothreads
from gothreads.runtime.models.threaded import ThreadedApp
from tests.support.modules import built
from tests.support.waiting import PATIENCE, together, wait_until


def threaded(calls: Path, callers: int) -> ThreadedApp:
    app = gothreads.open(calls, callers=callers)
    assert isinstance(app, ThreadedApp)
    return app


@pytest.mark.parametrize("callers", [1, 2, 8])
def test_no_more_callers_are_made_than_the_limit_and_no_call_is_lost(calls: Path, callers: int) -> None:
    with threaded(calls, callers) as app:
        counts = together(*(lambda: [app.exports.count() for _ in range(100)] for _ in range(16)))
        assert sorted(n for part in counts for n in part) == list(range(1, 1601))  # type: ignore[attr-defined]
        statistics = app._cache.statistics()
        assert statistics.total == statistics.idle <= callers
        assert statistics.attached == statistics.total
        assert statistics.calls == 1600
        assert statistics.waiting == 0


def test_waiting_threads_are_all_woken_when_calls_are_short(calls: Path) -> None:
    """The race of putting back and waiting: a lost wake-up would hang here."""
    with threaded(calls, 1) as app:
        together(*(lambda: [app.exports.add(1, 1) for _ in range(500)] for _ in range(4)))


def test_the_caller_used_last_is_used_first(calls: Path) -> None:
    with threaded(calls, 8) as app:
        together(*(lambda: app.exports.sleep(20) for _ in range(4)))
        total = app._cache.statistics().total
        warm = app._cache._idle[-1]
        before = warm.calls
        for _ in range(10):
            app.exports.add(1, 1)
        assert app._cache.statistics().total == total
        assert warm.calls == before + 10


def test_trimmed_callers_give_their_m_back_to_go(calls: Path) -> None:
    with threaded(calls, 32) as app:
        for _ in range(5):
            barrier = [app.submit("sleep", 20) for _ in range(20)]
            for future in barrier:
                future.result()
            ms = app.statistics().go
            assert app.trim() >= 1
            assert app._cache.statistics().total == 0
        assert app.exports.add(1, 1) == 2
        after = app.statistics().go
        assert ms is not None
        assert after is not None
        assert after.ms <= ms.ms + 1  # Ms are used again, not made anew


def test_attach_and_detach_while_others_call(calls: Path) -> None:
    """Six threads call, and one trims whenever one of the six is out of the module.

    They say so and wait, for a thread that only looked would hardly ever find a caller at rest: a thread that calls
    again and again lets go of Python's lock inside the module only, and so the others run while all callers are in use.
    """
    with threaded(calls, 16) as app:
        outside: queue.SimpleQueue[threading.Event | None] = queue.SimpleQueue()  # None: a thread has ended
        enough = threading.Event()

        def trim() -> int:
            trimmed = ended = 0
            while ended < 6:
                waits = outside.get(timeout=PATIENCE)
                trimmed += app.trim()
                if trimmed >= 20:
                    enough.set()
                if waits is None:
                    ended += 1
                else:
                    waits.set()
            return trimmed

        def call() -> None:
            try:
                for n in itertools.count():
                    if n % 10 == 0:
                        outside.put(trimmed := threading.Event())
                        assert trimmed.wait(PATIENCE)
                    assert app.exports.ask(n) == 2 * n
                    if n >= 200 and enough.is_set():
                        return
            finally:
                outside.put(None)
        trimmed = together(trim, *(call for _ in range(6)))[0]
        statistics = app._cache.statistics()
        assert statistics.attached - statistics.detached == statistics.total
        assert statistics.detached >= trimmed >= 20  # type: ignore[operator]


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_the_world_stops_though_a_system_call_begins_meanwhile_that_needs_it_to_start(seed: int) -> None:
    """A host function that calls an export, a collection in the other caller, and no timer that would wake sysmon:
    stock Go's order of looking (syscall_gothreads.go), with races sharpened, stood still after some thousand calls.
    """
    def again(number: int, context: gothreads.Context) -> int:
        return int(context.app.exports.work(number, 0))
    path = built("chaos", sharpen=seed)
    host: dict[str,
               dict[str, Callable[..., int | None]]] = {"env": {"ran": lambda number: None, "again": again,
                                                                "fails": lambda: None}}
    with gothreads.open(path, procs=2, callers=2, host=host) as app:
        slowest, end = [0.0] * 8, time.monotonic() + 12

        def calls(place: int) -> None:
            collects = place % 2
            while (begin := time.monotonic()) < end:
                app.exports.work(16, 3 if collects else 4)
                slowest[place] = max(slowest[place], time.monotonic() - begin)
        threads = [threading.Thread(target=calls, args=(place,), daemon=True) for place in range(len(slowest))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end + 10 - time.monotonic()))
        assert not any(thread.is_alive() for thread in threads)
        assert 0 < max(slowest) < 5


def test_short_lived_threads_leave_nothing_behind(calls: Path) -> None:
    with threaded(calls, 4) as app:
        for _ in range(200):
            thread = threading.Thread(target=app.exports.add, args=(1, 1))
            thread.start()
            thread.join()
        statistics = app._cache.statistics()
        assert statistics.calls == 200
        assert statistics.total <= 2


def test_callers_idle_for_long_are_trimmed_by_use(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gothreads.callback_m.IDLE_SECONDS", 0.01)
    with threaded(calls, 16) as app:
        together(*(lambda: app.exports.sleep(20) for _ in range(8)))
        deadline = time.monotonic() + 5
        while app._cache.statistics().total > 1 and time.monotonic() < deadline:
            app.exports.add(1, 1)
        statistics = app._cache.statistics()
        assert statistics.total <= 1  # on a slow machine the last one, too, is idle for so long
        assert statistics.detached == statistics.attached - statistics.total


def test_close_while_callers_attach_wait_and_call(calls: Path) -> None:
    for _ in range(10):
        app = threaded(calls, 4)

        def call(app: ThreadedApp = app) -> int:
            answered = 0
            try:
                while True:
                    assert app.exports.add(answered, 1) == answered + 1
                    answered += 1
            except gothreads.AppClosed:
                return answered

        def close(app: ThreadedApp = app) -> None:
            wait_until(lambda: app._cache.statistics().calls > 20)
            app.close()
        together(close, *(call for _ in range(12)))
        assert app.state is gothreads.State.CLOSED
