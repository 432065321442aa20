"""Ends that coincide with something else: calls, reads of the memory, statistics, failures of Python functions."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import gothreads
from gothreads.runtime.exit_reasons import ExitReasons
from tests.support.modules import built, opened
from tests.support.waiting import PATIENCE, together, under_load


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "single"])
def test_close_meets_calls_statistics_and_reads_of_the_memory(calls: Path, calls_single: Path, model: str) -> None:
    for _ in range(15):
        app: Any = gothreads.open(calls if model == "threaded" else calls_single)
        closing = threading.Event()

        def until_closed(use: Any, closing: threading.Event = closing) -> int:
            used = 0
            try:
                while not closing.is_set() or used < 5:
                    use()
                    used += 1
            except gothreads.AppClosed:
                pass
            return used

        def close(app: Any = app, closing: threading.Event = closing) -> None:
            app.exports.add(1, 1)
            app.close()
            closing.set()
        uses = [partial(app.exports.add, 1, 1), partial(app.exports.add, 1, 1), app.statistics]
        if model == "threaded":  # in single, only the call in the module may use its memory
            uses.append(partial(app.memory.read, 0, 1 << 20))
        together(close, *(partial(until_closed, use) for use in uses))
        assert app.state is gothreads.State.CLOSED


class Refuses(io.RawIOBase):
    """A file object whose writes raise an exception that cannot even be formatted."""

    def write(self, data: object, /) -> int:
        raise Unspeakable


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Breaks(io.RawIOBase):
    def write(self, data: object, /) -> int:
        raise LookupError("disk on fire")


def test_what_a_python_function_raised_is_the_cause(calls: Path) -> None:
    with gothreads.open(calls, stdout=Breaks()) as app:
        for _ in range(2):
            with pytest.raises(gothreads.HostFunctionError, match="raised LookupError: disk on fire") as caught:
                app.exports.write("x", 1)
            assert isinstance(caught.value.__cause__, LookupError)
        assert app.state in (gothreads.State.ENDING, gothreads.State.FAILED)


def test_an_exception_without_words_is_an_error_too(calls: Path) -> None:
    with gothreads.open(calls, stdout=Refuses()) as app, pytest.raises(gothreads.HostFunctionError,
                                                                       match="raised Unspeakable"):
        app.exports.write("x", 1)


def test_an_app_can_be_closed_from_a_python_function_that_it_calls(calls: Path) -> None:
    closed: list[float] = []

    class Closes(io.RawIOBase):
        def write(self, data: Any, /) -> int:
            begin = time.monotonic()
            app.close()
            closed.append(time.monotonic() - begin)
            return len(data)
    app = gothreads.open(calls, stdout=Closes())
    with pytest.raises(gothreads.AppClosed):
        app.exports.write("x", 1)
    app.close()
    assert closed[0] < under_load(1)
    assert app.state is gothreads.State.CLOSED


def test_a_python_function_that_the_module_calls_may_call_exports(calls: Path) -> None:
    sums: list[int] = []

    class Calls(io.RawIOBase):
        def write(self, data: Any, /) -> int:
            sums.append(app.exports.add(len(data), 1))
            return len(data)
    with gothreads.open(calls, stdout=Calls()) as app:
        app.exports.write("abc", 2)
    assert sums == [4, 4]


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "single"])
def test_text_that_is_longer_in_bytes_than_in_letters_is_read_whole(calls: Path, calls_single: Path,
                                                                    model: str) -> None:
    module = calls if model == "threaded" else built("calls", model="single", buildmode="exe")
    text, out = "é" * 3_000, io.StringIO()
    with gothreads.open(module, args=["cat"], stdin=io.StringIO(text), stdout=out) as app:
        assert app.wait(PATIENCE) == 0
    assert out.getvalue() == text


def test_an_open_that_is_refused_leaves_no_descriptors(calls: Path) -> None:
    process = psutil.Process()

    def refused() -> None:
        with pytest.raises(gothreads.ModuleError, match="Raise it .--memory"):
            gothreads.open(calls, limits=gothreads.Limits(memory=1 << 20))
    refused()
    before = process.num_fds()
    for _ in range(20):
        refused()
    assert process.num_fds() <= before


def test_statistics_never_wait_for_a_caller(calls: Path) -> None:
    with gothreads.open(calls, callers=1) as app:
        blocked = app.submit("hang")
        while app.statistics().callers.in_use < 1:  # type: ignore[union-attr]
            pass
        assert app.statistics().go is not None  # uses a caller of its own
        app.close()
        assert isinstance(blocked.exception(PATIENCE), gothreads.AppClosed)


@pytest.mark.long
def test_statistics_do_not_wait_for_go_that_does_not_answer() -> None:
    with gothreads.open(built("calls", preemption=False), procs=1) as app:
        app.submit("spin")
        while app.statistics().callers.in_use < 1:  # type: ignore[union-attr]
            pass
        time.sleep(0.1)
        begin = time.monotonic()
        assert app.statistics().go is None
        assert 0.5 < time.monotonic() - begin < under_load(3.0)
        begin = time.monotonic()
    assert time.monotonic() - begin < under_load(1.0)


def test_in_a_child_of_fork_nothing_waits_for_threads_that_are_not_there(calls: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
        import gothreads, os, sys
        app = gothreads.open({str(calls)!r})
        app.submit("add", 1, 2).result()
        if os.fork() == 0:
            for call in (lambda: app.submit("add", 1, 2).result(60), lambda: app.request("echo"), lambda: list(app.map("add", [1], [2]))):
                try:
                    call()
                except gothreads.AppForked:
                    os.write(1, b"refused ")
            os._exit(0)
        os.wait()
    """),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (0, "refused refused refused "), done.stderr


def test_ctrl_c_at_any_moment_leaves_no_caller_behind(calls: Path) -> None:
    """A caller lost to a KeyboardInterrupt between acquire and release, or in a host function, would show here."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(f"""
        import gothreads, os, random, signal, threading, time
        signal.signal(signal.SIGINT, signal.default_int_handler)
        app = gothreads.open({str(calls)!r}, callers=4, stdout=open(os.devnull, "wb"))
        shots = []
        def shoot():
            for _ in range(200):
                time.sleep(random.uniform(0.0002, 0.003))
                os.kill(os.getpid(), signal.SIGINT)
            shots.append(1)
        thread = threading.Thread(target=shoot)
        hits = 0
        started = False
        while not shots:
            try:
                if not started:
                    started = True
                    thread.start()
                while not shots:
                    app.exports.write("x", 3)
                    assert app.exports.add(1, 2) == 3
            except KeyboardInterrupt:
                hits += 1
        for _ in range(50):
            try:
                thread.join(); time.sleep(0.02); break
            except KeyboardInterrupt:
                hits += 1
        from tests.support.waiting import under_load
        callers = app.statistics().callers
        begin = time.monotonic()
        app.close()
        print(hits > 50, callers.in_use, callers.total, time.monotonic() - begin < under_load(1))
    """)], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "True 0 1 True\n"), done.stderr


@pytest.mark.parametrize("model", ["threaded", "single", "idle"])
def test_nobody_gets_what_a_trap_has_left_in_the_middle_of_something(model: str, monkeypatch: pytest.MonkeyPatch,
                                                                     nothing_left: None) -> None:
    """A trap ends the app before another call can get the caller or the lock, as Go may have held any of its locks."""
    describe, trapped = ExitReasons.of_trap, threading.Event()

    def slowly(*arguments: Any) -> Any:
        trapped.set()
        time.sleep(0.2)  # the app has not ended yet: another call would get in now if it could
        return describe(*arguments)
    monkeypatch.setattr(ExitReasons, "of_trap", slowly)
    host = {"env": {"block": lambda: None, "raises": lambda: None, "close": lambda: None}}
    came_in = 0
    with opened("faults", model, callers=1, host=host, stderr=io.BytesIO()) as app:
        def call() -> None:
            nonlocal came_in
            with contextlib.suppress(gothreads.GuestTrap):
                while True:
                    after = trapped.is_set()
                    app.exports.plus(1, 1)
                    came_in += after
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        with pytest.raises(gothreads.GuestTrap):
            app.exports.fault_now("unreachable")
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
    assert trapped.is_set()
    assert came_in == 0
