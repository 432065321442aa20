"""Signals that are sent to a module: its os/signal gets them, or they do what they do natively."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import gothreads
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until

GOTHREADS = (sys.executable, "-m", "gothreads")


class Output(io.StringIO):
    """What the module has printed so far."""

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    def wait_for(self, count: int) -> None:
        """Wait until there are so many lines."""
        wait_until(lambda: len(self.lines) == count)


def opened(what: str, **options: object) -> tuple[gothreads.App, Output]:
    output = Output()
    app = gothreads.open(built("signals"), args=[what], stdout=output, **options)  # type: ignore[arg-type]
    wait_until(lambda: "ready" in output.lines)
    return app, output


def test_a_program_gets_the_signals_that_it_asked_for() -> None:
    app, output = opened("notify")
    with app:
        ways: list[str | int] = ["HUP", "SIGUSR1", signal.SIGUSR2, "int", "QUIT", 15]
        for count, which in enumerate(ways, 2):
            assert app.send_signal(which)
            output.wait_for(count)
        assert app.wait(PATIENCE) == 0
        with pytest.raises(gothreads.GuestExit, match=r"main returned, or os.Exit\(0\), after SIGINT, SIGQUIT, SIGTERM$"):
            app.goroutines()
    assert output.lines[1:] == ["got hangup", "got user defined signal 1", "got user defined signal 2",
                                "got interrupt", "got quit",
                                "got terminated"]


def test_each_of_many_signals_arrives_while_the_program_receives() -> None:
    app, output = opened("notify", procs=2)
    with app:
        for n in range(1, 301):
            assert app.send_signal("USR1")
            output.wait_for(1 + n)  # one at a time: pending ones are one, as natively


def test_ignored_signals_do_nothing_and_others_end_the_module() -> None:
    app, _ = opened("ignore")
    with app:
        assert app.send_signal("INT")
        assert app.send_signal("HUP")
        assert not app.send_signal("WINCH")
        assert app.exit is None
        assert not app.send_signal("USR1", default=False)
        assert app.exit is None
        assert not app.send_signal("USR1")
        assert app.wait(PATIENCE) == 128 + 10
        with pytest.raises(gothreads.GuestExit, match="signal USR1"):
            app.request("any")


def test_after_stop_a_signal_does_what_it_does_by_default() -> None:
    app, _ = opened("default")
    with app:
        assert not app.send_signal("TERM")
        assert app.wait(PATIENCE) == 143


def test_quit_prints_all_stacks_and_ends_the_module() -> None:
    errors = Output()
    app, _ = opened("ignore", stderr=errors)
    with app:
        assert not app.send_signal("QUIT")
        assert app.wait(PATIENCE) == 2
    assert errors.getvalue().startswith("SIGQUIT: quit\n\ngoroutine 1 [chan receive")
    assert "main.main()" in errors.getvalue()


def test_a_program_may_send_itself_signals() -> None:
    done = subprocess.run([*GOTHREADS, "run", str(built("signals")), "self"], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.stdout.splitlines() == ["sent <nil>", "got user defined signal 1"]
    assert done.returncode == 128 + 10  # the second one has no handler


def test_a_program_that_waits_for_signals_is_idle() -> None:
    app, _ = opened("notify")
    with app:
        app.wait_idle(PATIENCE)


@pytest.mark.parametrize("which", ["", "TERMS", "NONE", 0, 99, None])
def test_what_is_no_signal_is_refused(app: gothreads.App, which: object) -> None:
    with pytest.raises(gothreads.MisuseError, match="there is no signal .* for a module; there are: HUP, INT"):
        app.send_signal(which)  # type: ignore[arg-type]


def test_stock_go_has_no_handlers(calls_single: Path) -> None:
    with gothreads.open(calls_single) as app:
        assert not app.send_signal("TERM", default=False)
        assert app.exports.add(2, 3) == 5
        assert not app.send_signal("TERM")
        assert app.wait(PATIENCE) == 143


# The command line.

def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_signals_of_the_command_reach_the_program() -> None:
    with subprocess.Popen([*GOTHREADS, "run", str(built("signals")), "notify"], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            assert line(process) == "ready"
            for number, said in ((signal.SIGHUP, "got hangup"), (signal.SIGUSR1, "got user defined signal 1"),
                                 (signal.SIGINT, "got interrupt")):
                process.send_signal(number)
                assert line(process) == said
            process.send_signal(signal.SIGTERM)
            assert line(process) == "got terminated"
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"),
                         [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, -signal.SIGUSR1),
                          (signal.SIGQUIT, 2)])
def test_without_a_handler_signals_end_the_command(number: signal.Signals, code: int) -> None:
    with subprocess.Popen([*GOTHREADS, "run", str(built("signals")), "default"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            assert line(process) == "ready"
            process.send_signal(number)
            assert process.wait(PATIENCE) == code
            assert process.stderr is not None
            assert ("SIGQUIT: quit" in process.stderr.read()) == (number == signal.SIGQUIT)
        finally:
            process.kill()


@pytest.mark.parametrize(("which", "said"), [("notify", "got"), ("default", None)])
def test_signals_that_a_shell_has_ignored_reach_a_handler_only(which: str, said: str | None) -> None:
    """As natively: nohup, and jobs in a shell's background."""
    command = ["sh", "-c", "trap '' HUP INT QUIT; exec \"$@\"", "sh", *GOTHREADS, "run", str(built("signals")), which]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert line(process) == "ready"
            for number, name in ((signal.SIGHUP, "hangup"), (signal.SIGINT, "interrupt"), (signal.SIGQUIT, "quit")):
                process.send_signal(number)
                if said:
                    assert line(process) == f"{said} {name}"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == (0 if said else 143)
        finally:
            process.kill()


def test_a_second_ctrl_c_always_ends_the_command() -> None:
    with subprocess.Popen([*GOTHREADS, "run", str(built("signals")), "notify"], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            assert line(process) == "ready"
            process.send_signal(signal.SIGINT)
            assert line(process) == "got interrupt"
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
        finally:
            process.kill()


def test_a_server_answers_all_requests_when_it_is_told_to_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = [*GOTHREADS, "run", "--listen", address, str(built("signals")), "serve", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, ThreadPoolExecutor(64) as pool:
        try:
            assert line(process) == "ready"
            begun = threading.Semaphore(0)

            def get(_: int) -> str:
                with httpx.Client(timeout=PATIENCE) as client, client.stream("GET", f"http://{address}/") as response:
                    begun.release()
                    return response.read().decode()
            answers = [pool.submit(get, n) for n in range(64)]
            for _ in answers:
                assert begun.acquire(timeout=PATIENCE)
            process.send_signal(signal.SIGTERM)
            assert [answer.result(PATIENCE) for answer in answers] == ["done\n"] * 64
            assert line(process) == "shutdown <nil> http: Server closed"
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_without_a_handler_signals_end_the_first_process_of_a_container() -> None:
    container = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces of processes are not permitted")
    with subprocess.Popen([*container, *GOTHREADS, "run", str(built("signals")), "default"], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            assert line(process) == "ready"
            [first] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(first), signal.SIGHUP)
            assert process.wait(PATIENCE) == 128 + signal.SIGHUP
        finally:
            process.kill()
