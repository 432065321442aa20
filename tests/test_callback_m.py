"""The M/G cache under many threads: each test releases its threads together."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import gothreads
from gothreads.threaded import ThreadedApp
from tests.conftest import together, wait_until


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
    with threaded(calls, 16) as app:
        stop = threading.Event()

        def trim() -> int:
            trimmed = 0
            while not stop.is_set():
                trimmed += app.trim()
            return trimmed

        def call() -> list[int]:
            try:
                return [app.exports.ask(n) for n in range(200)]
            finally:
                done.append(1)
                if len(done) == 6:
                    stop.set()
        done: list[int] = []
        results = together(trim, *(call for _ in range(6)))
        assert results[1:] == [[2 * n for n in range(200)]] * 6
        statistics = app._cache.statistics()
        assert statistics.attached - statistics.detached == statistics.total
        assert statistics.detached >= results[0] >= 1  # type: ignore[operator]


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
        assert app._cache.statistics().total == 1


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
