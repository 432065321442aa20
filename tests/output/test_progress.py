"""Progress of building and compiling: who is told, and what people see."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import pty
import re
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

import gothreads
from gothreads.cli.main import main
from gothreads.output import progress
from gothreads.output.progress import BUILD, COMPILE, WAIT, ProgressLine, reporting, timed, watching
from gothreads.output.terminal import Terminal
from tests.support.modules import built
from tests.support.waiting import wait_until

Reports = list[tuple[str, float, float | None]]
SOURCE = """package main

//go:wasmexport add
func add(a, b int32) int32 { return a + b }

func main() { select {} }
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that was never built, and an empty cache. (Go's own is as it is.)"""
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "hello.go"
    path.write_text(SOURCE)
    return path


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def shown(text: str) -> list[str]:
    """What was on the line, one after the other."""
    return [line.strip() for line in text.split("\r") if line.strip()]


@pytest.mark.long
def test_a_function_is_told_of_both_stages(program: Path) -> None:
    told: Reports = []
    with gothreads.open(program, progress=lambda *report: told.append(report)) as app:
        assert app.exports.add(2, 3) == 5
    built_, compiled = ([report[1:] for report in told if report[0] == stage] for stage in (BUILD, COMPILE))
    assert [report[0] for report in told] == [BUILD] * len(built_) + [COMPILE] * len(compiled)
    for reports in (built_, compiled):
        assert reports, told
        assert reports == sorted(reports, key=lambda report: report[0])
        assert reports[-1][0] == reports[-1][1]
    assert all(total is None for _, total in compiled[:-1]), "nothing was compiled before on this machine"
    told.clear()
    with gothreads.open(program, progress=lambda *report: told.append(report)):
        pass
    assert told == []


@pytest.mark.long
def test_the_second_compilation_has_an_estimate(program: Path) -> None:
    for _ in range(2):
        told: Reports = []
        gothreads.open(program, progress=lambda *report: told.append(report)).close()  # noqa: B023
        program.write_text(program.read_text() + f"//go:wasmexport f\nfunc f() int32 {{ return {len(told)} }}\n")
    estimates = {total for stage, _, total in told[:-1] if stage == COMPILE}
    assert estimates - {None}, told


@pytest.mark.parametrize("value", [1, "yes", [True]])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(gothreads.MisuseError, match="progress must be None, False, True or a function"):
        gothreads.open(built("calls"), progress=value)  # type: ignore[arg-type]


def output(code: str, *, on_a_terminal: bool) -> str:
    """What a program writes to standard error."""
    read, write = pty.openpty() if on_a_terminal else os.pipe()
    with subprocess.Popen([sys.executable, "-c", code], stderr=write) as process:
        os.close(write)
        text = b""
        with contextlib.suppress(OSError):  # the terminal's other end is closed
            while some := os.read(read, 4096):
                text += some
    os.close(read)
    assert process.returncode == 0, text
    return text.decode()


@pytest.mark.long
@pytest.mark.parametrize(("option", "on_a_terminal", "seen"),
                         [(None, True, True), (None, False, False), (True, False, True), (False, True, False)])
def test_people_see_progress_where_they_look_or_ask_for_it(option: bool | None, on_a_terminal: bool,
                                                           seen: bool) -> None:
    code = f"""
import time
from gothreads.output.progress import COMPILE, timed, watching
with watching({option}), timed(COMPILE, None):
    time.sleep(1)
"""
    assert bool(shown(output(code, on_a_terminal=on_a_terminal))) == seen


def test_a_notebook_is_like_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = io.StringIO()
    monkeypatch.setattr(sys, "stderr", cell)
    for shell in (None, object()):
        ipython = types.ModuleType("IPython")
        ipython.get_ipython = lambda shell=shell: shell  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setattr(progress, "_SHORT_SECONDS", 0.0)
        with watching(None), reporting(BUILD) as report:
            report(1, 20)
        assert shown(cell.getvalue()) == (["gothreads: compiling Go packages: 1 (of up to 20), 0 s"] if shell else [])


def test_the_log_has_one_line_for_the_standard_library(caplog: pytest.LogCaptureFixture,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(None), reporting(BUILD) as report:
        for done in range(1, 59):
            report(done, 59)
    assert [record.message for record in caplog.records] == [progress.STANDARD_LIBRARY]
    monkeypatch.setattr(progress, "_LONG_SECONDS", 0.0)  # on a slow machine, after the count
    caplog.clear()
    with watching(None), reporting(BUILD) as report:
        for done in range(1, 59):
            report(done, 59)
    assert caplog.messages == ["compiling Go packages: 1 (of up to 59), 0 s", progress.STANDARD_LIBRARY]
    assert "once for each version" in caplog.text


def test_the_seconds_go_on_while_the_count_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SHORT_SECONDS", 0.0)
    screen = Screen()
    with watching(Terminal(io.StringIO(), screen).watch, again=True), reporting(BUILD) as report:
        report(40, 86)
        wait_until(lambda: re.search(r"compiling Go packages: 40 \(of up to 86\), [1-9]\d* s", screen.getvalue()))


def test_a_function_of_the_users_is_told_only_what_is_new() -> None:
    told: Reports = []
    with watching(lambda *report: told.append(report)), reporting(BUILD) as report:
        report(40, 86)
        assert not [thread for thread in threading.enumerate() if thread.name == "gothreads-progress"]
    assert told == [(BUILD, 40, 86), (BUILD, 86, 86)]


@pytest.mark.long
@pytest.mark.parametrize("of_a_command", [False, True])
def test_the_log_goes_on_while_a_stage_does(of_a_command: bool, caplog: pytest.LogCaptureFixture,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AGAIN_SECONDS", 1.0)
    errors = io.StringIO()

    def lines() -> list[str]:
        return errors.getvalue().splitlines() if of_a_command else caplog.messages
    watch = Terminal(io.StringIO(), errors).watch if of_a_command else None
    with watching(watch, again=of_a_command), reporting(BUILD) as report:
        report(40, 86)
        wait_until(lambda: len(lines()) >= 3)
    first, *others = lines()
    assert first.endswith(progress.STANDARD_LIBRARY)
    assert all(re.search(r"compiling Go packages: 40 \(of up to 86\), [1-9]\d* s$", line) for line in others)


@pytest.mark.parametrize(("stage", "total", "said"), [
    (BUILD, 15, "compiling Go packages: 1 (of up to 15), 0 s"),
    (WAIT, None, "waiting for another build of this program"),
    (COMPILE, None, "compiling to machine code (once for each build): 1 s"),
    (COMPILE, 61.2, "compiling to machine code (once for each build): 1 of about 61 s")])
def test_the_log_has_one_line_for_a_stage_that_takes_long(stage: str, total: float | None, said: str,
                                                          caplog: pytest.LogCaptureFixture,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(None), reporting(stage) as report:
        report(1, total)
    assert caplog.messages == []
    monkeypatch.setattr(progress, "_LONG_SECONDS", 0.0)
    with watching(None), reporting(stage) as report:
        report(1, total)
        report(2, total)
    assert caplog.messages == [said]


def test_a_build_that_has_compiled_nothing_yet_is_not_silent(caplog: pytest.LogCaptureFixture,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LONG_SECONDS", 0.0)
    with watching(None), reporting(BUILD, (0, 218)):
        assert caplog.messages == []
        wait_until(lambda: caplog.messages)
    assert caplog.messages == ["building the Go program: 0 s"]


def test_without_a_configured_log_the_line_names_its_sender() -> None:
    assert output("from gothreads.output.progress import BUILD, reporting\nwith reporting(BUILD) as report: report(20, 59)",
                  on_a_terminal=False) == f"gothreads: {progress.STANDARD_LIBRARY}\n"


@pytest.mark.long
def test_the_log_says_that_a_module_is_compiled(program: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gothreads"):
        gothreads.open(program, progress=False).close()
    [said, after] = [record.message for record in caplog.records if "compil" in record.message
                     and "standard library" not in record.message]
    assert re.fullmatch(r"compiling \d\.\d MB of WebAssembly to machine code \(once for each build\)", said)
    assert after.startswith("compiled in ")


def test_what_is_short_is_not_shown() -> None:
    screen = Screen()
    line = ProgressLine(screen)
    line(COMPILE, 0.1, None)
    line(COMPILE, 0.2, 0.2)
    assert screen.getvalue() == ""


def test_the_line_is_erased_when_a_stage_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SHORT_SECONDS", 0.0)
    screen = Screen()
    line = ProgressLine(screen)
    line(COMPILE, 1.2, 6.0)
    line(COMPILE, 1.4, 6.0)  # the same text: nothing is written
    line(COMPILE, 6.0, 6.0)
    text = "gothreads: compiling to machine code (once for each build): 1 of about 6 s"
    assert screen.getvalue() == f"\r{text}\r{' ' * len(text)}\r"


def test_a_function_that_fails_is_logged_and_not_called_again(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def fails(*report: object) -> None:
        calls.append(report)
        raise ZeroDivisionError
    with watching(fails), reporting(BUILD) as report:
        report(1, 3)
        report(2, 3)
    assert calls == [(BUILD, 1, 3)]
    assert "ZeroDivisionError" in caplog.text


def test_the_ticker_ends_with_the_stage_even_if_it_fails() -> None:
    told: Reports = []

    def fail() -> None:
        with watching(lambda *report: told.append(report)), timed(COMPILE, 100.0):
            wait_until(lambda: told)
            raise KeyError
    with pytest.raises(KeyError):
        fail()
    assert told[0][2] == 100.0
    assert told[-1][1] == told[-1][2]
    assert not [thread for thread in threading.enumerate() if thread.name == "gothreads-progress"]


@pytest.mark.long
def test_a_supervised_module_has_the_option_too(program: Path) -> None:
    told: Reports = []
    with gothreads.supervise(program, progress=lambda *report: told.append(report)) as app:
        assert app.exports.add(2, 3) == 5
    assert {stage for stage, _, _ in told} == {BUILD, COMPILE}


def test_the_function_stays_when_its_app_travels() -> None:
    with (gothreads.open(built("calls"), progress=lambda *_: None) as app, pickle.loads(pickle.dumps(app)) as other):
        assert other.exports.add(2, 3) == 5


@pytest.mark.long
@pytest.mark.parametrize(("arguments", "quiet"), [
    (["call", "hello.go", "add", "2", "3"], False), (["compile", "-q", "hello.go"], True)])
def test_a_command_shows_both_stages_unless_it_is_to_be_quiet(
        program: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], quiet: bool) -> None:
    monkeypatch.chdir(program.parent)
    monkeypatch.setattr(progress, "_SHORT_SECONDS", 0.0)
    screen = Screen()
    assert main(arguments, io.StringIO(), screen) == 0
    for text in ("compiling Go packages: ", "compiling to machine code (once for each build): "):
        assert any(line.startswith(f"gothreads: {text}") for line in shown(screen.getvalue())) != quiet
