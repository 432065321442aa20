"""The end of a module: what every caller gets, how soon, and that nothing else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import gothreads
from tests.conftest import raises_within, wait_until


def in_flight(app: gothreads.App) -> list[Future[Any]]:
    """Calls that would never end: blocked, asleep, running."""
    futures = [app.submit("hang") for _ in range(20)] + [app.submit("sleep", 3_600_000) for _ in range(5)] + [app.submit("spin")]
    wait_until(lambda: app.statistics().callers.in_use >= len(futures))  # type: ignore[union-attr]
    return futures


@pytest.mark.parametrize(("export", "args", "kind", "code", "said"), [
    ("panics", (), gothreads.GuestPanic, 2, "assignment to entry in nil map"),
    ("panics_elsewhere", (), gothreads.GuestPanic, 2, "panic: elsewhere"),
    ("exits", (3,), gothreads.GuestExit, 3, "exit code 3"),
    ("goexits", (), gothreads.GuestPanic, 2, "Goexit"),
])
def test_all_callers_get_the_first_cause_at_once(app: gothreads.App, export: str, args: tuple[int, ...], kind: type[gothreads.GuestExit],
                                                 code: int, said: str) -> None:
    futures = in_flight(app)
    with raises_within(kind, 5):
        app.exports[export](*args)
    ended = time.monotonic()
    for future in futures:
        error = future.exception(timeout=5)
        assert type(error) is kind
        assert error.code == code
        assert said in str(error)
    assert time.monotonic() - ended < 0.5
    assert app.wait(5) == code
    assert app.exit == code
    assert app.state is gothreads.State.EXITED
    with pytest.raises(kind):
        app.exports.add(1, 2)


def test_stack_exhaustion_is_an_error_with_frames_or_gos_own(app: gothreads.App) -> None:
    with pytest.raises(gothreads.GuestError) as caught:
        app.exports.deep(100_000_000)
    assert caught.value.frames or "stack overflow" in str(caught.value)
    if caught.value.frames:
        assert any("deep" in frame.function for frame in caught.value.frames)


def test_memory_beyond_the_limit_is_gos_out_of_memory(calls: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with gothreads.open(calls, limits=gothreads.Limits(memory=64 << 20)) as app:
        assert app.exports.fill(10) == 10
        with pytest.raises(gothreads.GuestPanic, match="out of memory"):
            app.exports.fill(1000)


def test_too_many_threads_is_an_error_of_gos_with_the_limit_named(calls: Path) -> None:
    with gothreads.open(calls, procs=2, limits=gothreads.Limits(threads=8), stderr=open(os.devnull, "wb")) as app, \
            pytest.raises(gothreads.GuestPanic, match="no thread left"):
        app.exports.locked(30)


def test_a_caller_that_finds_all_busy_waits_and_gives_up_after_the_timeout(calls: Path) -> None:
    with gothreads.open(calls, callers=2, callers_timeout=0.05) as app:
        sleeping = [app.submit("sleep", 300) for _ in range(2)]
        wait_until(lambda: app.statistics().callers.in_use == 2)  # type: ignore[union-attr]
        with pytest.raises(gothreads.CallersBusy, match="all 2 callers are in use"):
            app.exports.add(1, 1)
        for future in sleeping:
            future.result(10)
        assert app.exports.add(1, 1) == 2


def test_callers_that_wait_for_a_slot_get_the_cause_too(calls: Path) -> None:
    with gothreads.open(calls, callers=2) as app:
        blocked = [app.submit("hang") for _ in range(2)]
        errors: list[BaseException] = []

        def call() -> None:
            try:
                app.exports.add(1, 1)
            except gothreads.GothreadsError as error:
                errors.append(error)
        threads = [threading.Thread(target=call) for _ in range(3)]
        wait_until(lambda: app.statistics().callers.in_use == 2)  # type: ignore[union-attr]
        for thread in threads:
            thread.start()
        wait_until(lambda: app.statistics().callers.waiting == 3)  # type: ignore[union-attr]
        app.close()
        for thread in threads:
            thread.join(5)
        assert [type(error) for error in errors] == [gothreads.AppClosed] * 3
        assert all(isinstance(future.exception(5), gothreads.AppClosed) for future in blocked)


def test_close_ends_everything_at_once(app: gothreads.App) -> None:
    futures = in_flight(app)
    begin = time.monotonic()
    app.close()
    assert time.monotonic() - begin < 0.5
    assert all(isinstance(future.exception(1), gothreads.AppClosed) for future in futures)
    assert app.state is gothreads.State.CLOSED
    app.close()
    with pytest.raises(gothreads.AppClosed, match="was closed"):
        app.exports.add(1, 2)
    with pytest.raises(gothreads.AppClosed):
        app.submit("add", 1, 2).result()


def test_after_an_end_the_same_module_opens_again_and_others_are_untouched(calls: Path) -> None:
    with gothreads.open(calls) as other, gothreads.open(calls, stderr=open(os.devnull, "wb")) as app:
        other.exports.count()
        with pytest.raises(gothreads.GuestPanic):
            app.exports.panics()
        assert other.exports.count() == 2
        with gothreads.open(calls) as again:
            assert again.exports.count() == 1


def test_a_module_that_ends_before_main_is_an_error_of_open(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module bad\n\ngo 1.25\n")
    (tmp_path / "main.go").write_text('package main\n\nfunc init() { panic("in init") }\n\nfunc main() {}\n')
    with pytest.raises(gothreads.GuestPanic, match="panic: in init") as caught:
        gothreads.open(tmp_path, stderr=open(os.devnull, "wb"))  # noqa: SIM115
    assert "goroutine 1" in caught.value.stderr


def test_a_program_without_exports_whose_goroutines_all_wait_is_deadlocked_as_in_go(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module stuck\n\ngo 1.25\n")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { <-make(chan int) }\n")
    with gothreads.open(tmp_path, stderr=open(os.devnull, "wb")) as app:
        assert app.wait(10) == 2
        assert "all goroutines are asleep - deadlock!" in str(app.error)


def python(code: str, *options: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize("options", [(), ("-X", "dev")])
def test_python_ends_normally_without_close(calls: Path, options: tuple[str, ...]) -> None:
    done = python(f"""
        import gothreads, threading, time
        app = gothreads.open({str(calls)!r})
        futures = [app.submit("hang") for _ in range(10)] + [app.submit("spin")]
        while app.statistics().callers.in_use < 11: pass
        print(app.exports.add(1, 2))
    """, *options)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert "Error" not in done.stderr


def test_a_child_of_fork_is_told_that_the_app_is_the_parents(calls: Path) -> None:
    done = python(f"""
        import gothreads, os, sys
        app = gothreads.open({str(calls)!r})
        child = os.fork()
        if child == 0:
            try:
                app.exports.add(1, 2)
            except gothreads.AppForked as error:
                sys.stdout.write(str(error)); sys.stdout.flush()
            app.close()
            try:
                gothreads.open({str(calls)!r})
            except gothreads.AppForked as error:
                sys.stdout.write(str(error)); sys.stdout.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(app.exports.add(2, 2))
    """)
    assert done.returncode == 0, done.stderr
    assert "belongs to the parent process" in done.stdout
    assert "'spawn' start method" in done.stdout
    assert done.stdout.endswith("4\n")


def test_ctrl_c_interrupts_a_wait_and_the_app_closes(calls: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(f"""
        import gothreads, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        with gothreads.open({str(calls)!r}) as app:
            print("up", flush=True)
            app.wait()
    """)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - begin < 1.0
    assert "KeyboardInterrupt" in errors
    assert process.returncode in (1, 130, -signal.SIGINT)


def test_faulthandler_enabled_late_does_not_kill_python(calls: Path) -> None:
    done = python(f"""
        import gothreads, faulthandler, os
        app = gothreads.open({str(calls)!r}, stderr=open(os.devnull, "wb"))
        app.exports.add(1, 2)
        faulthandler.enable()
        try:
            app.exports.deep(100_000_000)
        except gothreads.GuestError as error:
            print(type(error).__name__)
        with gothreads.open({str(calls)!r}) as again:
            print(again.exports.add(1, 2))
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "3"


@pytest.mark.parametrize("export", ["hang", "spin"])
def test_ctrl_c_ends_a_call_that_blocks_the_main_thread(calls: Path, export: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(f"""
        import gothreads, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with gothreads.open({str(calls)!r}) as app:
            try:
                print("up", flush=True)
                app.exports.{export}()
            except KeyboardInterrupt:
                print("interrupted", app.state, flush=True)
    """)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    assert "interrupted" in out, errors
    assert process.returncode == 0
    assert time.monotonic() - begin < 2.0
