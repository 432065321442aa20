"""Ends of a module that involve its environment: busy callers, deadlock, fork, faulthandler.

See test_faults_table.py for what callers get from each fault, and test_stopping.py for stopping.
"""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import gothreads
from tests.support.waiting import PATIENCE, wait_until


def test_a_caller_that_finds_all_busy_waits_and_gives_up_after_the_timeout(calls: Path) -> None:
    with gothreads.open(calls, callers=2, callers_timeout=0.05) as app:
        sleeping = [app.submit("sleep", 300) for _ in range(2)]
        wait_until(lambda: app.statistics().callers.in_use == 2)  # type: ignore[union-attr]
        with pytest.raises(gothreads.CallersBusy, match="all 2 callers are in use"):
            app.exports.add(1, 1)
        for future in sleeping:
            future.result(PATIENCE)
        assert app.exports.add(1, 1) == 2


@pytest.mark.long
def test_a_program_without_exports_whose_goroutines_all_wait_is_deadlocked_as_in_go(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module stuck\n\ngo 1.25\n")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { <-make(chan int) }\n")
    def run() -> None:  # it may end before `open` returns, or after
        with gothreads.open(tmp_path, stderr=io.BytesIO()) as app:
            assert app.wait(PATIENCE) == 2
            assert app.error is not None
            raise app.error
    with pytest.raises(gothreads.GuestPanic, match="all goroutines are asleep - deadlock!"):
        run()


def python(code: str, *options: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", textwrap.dedent(code)], capture_output=True, text=True,
                          timeout=timeout)


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
    assert done.stdout.count("(multiprocessing: the 'spawn' start method, or 'forkserver')") == 2
    assert done.stdout.endswith("4\n")


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
