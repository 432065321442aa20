"""Inspecting a running module, and detecting stalls, in which nothing in it can make progress."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import gothreads
from gothreads.cli.main import main
from gothreads.runtime.inspector import parse_goroutines
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until


def go(app: gothreads.App) -> gothreads.GoStatistics:
    found = app.statistics().go
    assert found is not None
    return found


@pytest.fixture
def few(calls: Path) -> Iterator[gothreads.App]:
    with gothreads.open(calls, callers=3, stderr=io.BytesIO()) as app:
        yield app


def test_statistics_tell_what_goroutines_do_and_how_long_calls_wait(app: gothreads.App) -> None:
    # main
    wait_until(lambda: (now := go(app)) and (now.waiting, now.running, now.runnable, now.syscalls) == (1, 0, 0, 0))
    for _ in range(3):
        app.submit("hang")
    wait_until(lambda: go(app).waiting == 4)
    first = go(app).blocked_calls
    time.sleep(0.2)
    later = go(app).blocked_calls
    assert len(first) == len(later) == 3
    assert list(later) == sorted(later, reverse=True)
    assert all(b - a >= 0.2 for a, b in zip(first, later, strict=True))
    app.submit("spin")
    wait_until(lambda: go(app).running + go(app).runnable == 1)
    assert len(go(app).blocked_calls) == 3
    app.submit("sleep", 60_000)
    wait_until(lambda: (now := go(app)).timers >= 1 and now.goroutines == 6)


def test_statistics_tell_of_processors_and_collections(app: gothreads.App) -> None:
    before = go(app)
    assert before.procs == app.exports.procs()
    app.exports.heap()  # which collects twice
    later = go(app)
    assert later.collections >= before.collections + 2
    assert before.pause_seconds < later.pause_seconds < app.statistics().uptime
    app.submit("spin")
    wait_until(lambda: 1 <= go(app).busy_procs <= before.procs)


def test_it_can_be_looked_into_when_every_caller_is_blocked(few: gothreads.App) -> None:
    for _ in range(5):
        few.submit("hang")
    wait_until(lambda: len(go(few).blocked_calls) == 3)
    stacks = [str(g) for g in few.goroutines()]
    assert sum("main.hang" in s for s in stacks) == 3
    main_goroutine = few.goroutines()[0]
    assert (main_goroutine.id, main_goroutine.state) == (1, "chan receive")
    assert "main.main()" in main_goroutine.stack
    assert all("gothreads/guest" not in s for s in stacks)


def test_goroutines_are_a_list_that_prints_as_go_prints_them(app: gothreads.App) -> None:
    app.submit("hang")
    wait_until(lambda: len(app.goroutines()) == 2)
    found = app.goroutines()
    assert str(found) == f"{found[0]}\n\n{found[1]}"
    assert str(found).startswith("goroutine 1 [chan receive]:\nmain.main()\n\t")
    assert [type(g) for g in found] == [gothreads.Goroutine] * 2


def test_callers_at_rest_are_not_shown(app: gothreads.App) -> None:
    futures = [app.submit("sleep", 50) for _ in range(8)]
    for future in futures:
        future.result()
    assert [g.id for g in app.goroutines()] == [1]
    assert go(app).goroutines == 1


def test_goroutines_of_a_closed_app_and_of_stock_go(calls: Path, calls_single: Path) -> None:
    app = gothreads.open(calls)
    app.close()
    with pytest.raises(gothreads.AppClosed):
        app.goroutines()
    with gothreads.open(calls_single) as single:
        assert single.exports.add(1, 2) == 3
        assert all(isinstance(g, gothreads.Goroutine) for g in single.goroutines())


def test_parsing_a_traceback() -> None:
    text = ("goroutine 7 [running]:\ngothreads/guest.stacks(0x1)\n\tx.go:1\n\ngoroutine 1 [select, 3 "
            "minutes]:\nmain.main()\n\tmain.go:9 +0x1\n\ngoroutine 9 [syscall, locked to "
            "thread]:\nruntime.goexit({})\n\tasm.s:1\n")
    assert parse_goroutines(text) == [gothreads.Goroutine(1, "select, 3 minutes", "main.main()\n\tmain.go:9 +0x1")]
    assert parse_goroutines("") == []


@pytest.mark.long
def test_a_stall_is_reported_once_with_all_stacks(calls: Path) -> None:
    stalls: list[gothreads.Stall] = []
    with gothreads.open(calls, stall_timeout=1.0, on_stall=stalls.append) as app:
        time.sleep(2.0)
        assert stalls == []  # no stall: no call is in the module, which waits for calls
        begin = time.monotonic()
        for _ in range(3):
            app.submit("hang")
        wait_until(lambda: stalls)
        assert time.monotonic() - begin >= 1.0
        assert len(stalls[0].calls) == 3
        assert stalls[0].calls[0] >= 1.0
        assert str(stalls[0]).count("main.hang") == 3
        time.sleep(2.0)
        assert len(stalls) == 1
        assert app.exports.add(1, 2) == 3  # it still works
        app.submit("hang")
        wait_until(lambda: len(stalls) == 2)  # another stall, with one more call
        assert len(stalls[1].calls) == 4


@pytest.mark.long
@pytest.mark.parametrize("busy", [("spin",), ("sleep", 60_000)])
def test_what_runs_or_waits_for_a_timer_is_no_stall(calls: Path, busy: tuple[str, int]) -> None:
    stalls: list[gothreads.Stall] = []
    with gothreads.open(calls, stall_timeout=0.1, on_stall=stalls.append) as app:
        app.submit(*busy)
        app.submit("hang")
        time.sleep(0.8)
        assert stalls == []


@pytest.mark.long
def test_a_garbage_collection_is_no_stall(calls: Path) -> None:
    stalls: list[gothreads.Stall] = []
    with gothreads.open(calls, stall_timeout=0.1, on_stall=stalls.append) as app:
        app.exports.fill(64)
        app.exports.collect(True)  # starts a goroutine that nearly always waits for the collector
        app.submit("hang")
        time.sleep(1.5)
        assert stalls == []


def test_a_read_of_standard_input_is_no_stall(calls: Path) -> None:
    read_end, write_end = os.pipe()
    stalls: list[gothreads.Stall] = []
    with os.fdopen(read_end, "rb") as stdin, os.fdopen(write_end, "wb"), \
            gothreads.open(calls, args=["cat"], stdin=stdin, stall_timeout=0.1, on_stall=stalls.append) as app:
        app.submit("hang")
        time.sleep(0.8)
        assert stalls == []


def test_goroutines_after_an_end_give_its_cause(calls: Path) -> None:
    with gothreads.open(calls, stderr=io.BytesIO()) as app:
        assert app.goroutines()
        with pytest.raises(gothreads.GuestPanic):
            app.exports.panics()
        with pytest.raises(gothreads.GuestPanic):
            app.goroutines()


def test_goroutines_in_a_child_of_fork(calls: Path) -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(f"""
        import gothreads, os, sys
        app = gothreads.open({str(calls)!r})
        app.goroutines()
        if os.fork() == 0:
            try:
                app.goroutines()
            except gothreads.AppForked:
                os._exit(7)
            os._exit(1)
        sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
    """)], timeout=PATIENCE)
    assert done.returncode == 7


@pytest.mark.long
def test_goroutines_within_a_time() -> None:
    with gothreads.open(built("calls", preemption=False), procs=1) as app:
        app.submit("spin")
        time.sleep(0.2)
        with pytest.raises(TimeoutError):
            app.goroutines(timeout=0.2)


def test_a_stall_can_end_the_app(calls: Path) -> None:
    with gothreads.open(calls, stall_timeout=0.2, on_stall="exit") as app:
        with pytest.raises(gothreads.Stalled, match=r"stalled: 1 call \(the longest for \d+\.\d s\)") as caught:
            app.exports.hang()
        assert "main.hang" in str(caught.value)
        assert app.exit == 2


def test_a_stall_is_logged_and_a_handler_that_raises_does_no_harm(calls: Path,
                                                                  caplog: pytest.LogCaptureFixture) -> None:
    def broken(_stall: gothreads.Stall) -> None:
        raise ValueError("mine")
    with gothreads.open(calls,
                        stall_timeout=0.1) as app, gothreads.open(calls, stall_timeout=0.1, on_stall=broken) as other:
        app.submit("hang")
        other.submit("hang")
        wait_until(lambda: len(caplog.records) >= 2)
        assert (app.state, other.state) == (gothreads.State.RUNNING, gothreads.State.RUNNING)
    assert all(r.name == "gothreads" and r.levelno >= logging.WARNING for r in caplog.records)
    assert any("stalled: 1 call" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("wrong", [0, -1, "5", True, float("nan")])
def test_a_wrong_stall_timeout_is_said(calls: Path, wrong: object) -> None:
    with pytest.raises(gothreads.MisuseError, match="stall_timeout must be a number of seconds above 0"):
        gothreads.open(calls, stall_timeout=wrong)  # type: ignore[arg-type]
    with pytest.raises(gothreads.MisuseError, match="on_stall must be"):
        gothreads.open(calls, on_stall="explode")  # type: ignore[arg-type]
    with pytest.raises(gothreads.MisuseError, match=r"on_stall \(--on-stall\) needs stall_timeout"):
        gothreads.open(calls, on_stall="exit")


def test_run_reports_a_stall_and_exits_with_2_when_told(calls: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--stall-timeout", "0.2", "--on-stall", "exit", str(calls)]) == 2
    said = capfd.readouterr().err
    assert "stalled: all goroutines wait" in said
    assert "main.main()" in said
    assert "Traceback" not in said
    with contextlib.suppress(SystemExit):
        assert main(["run", "--stall-timeout", "soon", str(calls)]) == 2
    assert "not a number of seconds" in capfd.readouterr().err
    assert main(["run", "--on-stall", "exit", str(calls)]) == 1
    assert "on_stall (--on-stall) needs stall_timeout" in capfd.readouterr().err


def test_run_goes_on_after_a_report(calls: Path) -> None:
    with subprocess.Popen([sys.executable, "-m", "gothreads", "run", "--stall-timeout", "0.2", str(calls)],
                          stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "stalled: all goroutines wait" in line:
                break
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert process.returncode == 143
