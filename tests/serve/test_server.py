"""`gothreads serve` as a separate process, over real HTTP."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.command_line import GOTHREADS, command
from tests.support.modules import built
from tests.support.server import Server, running
from tests.support.sockets_program import free_port
from tests.support.waiting import PATIENCE, under_load, wait_until

#: SIGHUP if the program does not handle it.
STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture
def server(calls: Path) -> Iterator[Server]:
    with running(calls) as started:
        yield started


def test_many_clients_call_at_the_same_time(server: Server) -> None:
    with ThreadPoolExecutor(20) as clients:
        replies = list(clients.map(lambda n: server.call("ask", n).json(), range(400)))
    assert replies == [{"result": 2 * n} for n in range(400)]
    assert sorted(r.json()["result"] for r in (server.call("count") for _ in range(3))) == [1, 2, 3]
    assert server.client.post("/api/request/upper", content=b"abc").content == b"ABC"
    assert "<form" in server.client.get("/").text


def test_a_slow_call_does_not_hold_up_others(server: Server) -> None:
    slow = server.begin("hang")
    assert server.call("add", 2, 3).json() == {"result": 5}
    assert not slow.done()


@pytest.mark.long
@pytest.mark.parametrize("number", STOPS)
def test_a_signal_drains_the_requests_in_flight_then_the_server_exits_0(server: Server, number: signal.Signals) -> None:
    slow = [server.begin("sleep", 600) for _ in range(3)]
    server.process.send_signal(number)
    assert [(r.result(PATIENCE).status_code, r.result().json()) for r in slow] == [(200, {"result": None})] * 3
    assert server.end() == (0,
                            "gothreads: shutting down: waiting up to 10 s for 3 requests (Ctrl-C again to stop now)\n"
                            f"gothreads: stopped by {number.name}\n")


@pytest.mark.long
@pytest.mark.parametrize("number", STOPS)
def test_an_idle_server_ends_at_once(server: Server, number: signal.Signals) -> None:
    assert server.client.get("/healthz").status_code == 200  # and the connection stays open
    begin = time.monotonic()
    server.process.send_signal(number)
    assert server.end() == (0, f"gothreads: stopped by {number.name}\n")
    assert time.monotonic() - begin < under_load(2)


def test_sighup_goes_to_a_program_that_handles_it_and_the_server_goes_on(server: Server) -> None:
    assert server.call("hangups").json() == {"result": 0}
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.call("hangups").json() == {"result": 1})
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.call("hangups").json() == {"result": 2})
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == (0, "gothreads: stopped by SIGTERM\n")


@pytest.mark.long
def test_while_it_drains_it_takes_no_new_connections(server: Server) -> None:
    slow = server.begin("sleep", 1500)
    server.process.send_signal(signal.SIGTERM)

    def refused() -> bool:
        try:
            socket.create_connection((server.client.base_url.host, server.client.base_url.port or 80)).close()
        except ConnectionRefusedError:
            return True
        return False
    wait_until(refused)
    assert not slow.done()
    assert slow.result(PATIENCE).status_code == 200


def test_a_second_signal_does_not_wait_for_calls_that_hang(calls: Path) -> None:
    with running("--drain", 10 * PATIENCE, calls) as server:
        stuck = server.begin("hang")
        server.process.send_signal(signal.SIGINT)
        server.process.send_signal(signal.SIGTERM)  # may come while the first one is handled
        reply = stuck.result(PATIENCE)
        assert (reply.status_code, reply.json()) == (503, {"error": reply.json()["error"]})
        assert "the app was closed" in reply.json()["error"]
        assert server.end()[0] == 0


@pytest.mark.long
@pytest.mark.parametrize(("drain", "said"),
                         [("0.2",
                           "gothreads: shutting down: waiting up to 0.2 s for 1 request (Ctrl-C again to stop now)\n"),
                           ("0", "")])
def test_how_long_it_waits_is_an_option(calls: Path, drain: str, said: str) -> None:
    with running("--drain", drain, calls) as server:
        stuck = server.begin("hang")
        server.process.send_signal(signal.SIGINT)
        assert stuck.result(PATIENCE).status_code == 503
        assert server.end() == (0, f"{said}gothreads: stopped by SIGINT\n")


@pytest.mark.parametrize(("export", "args", "code", "said"), [
    ("exits", [7], 7, "the module has ended: exit code 7"),
    ("exits", [0], 0, "the module has ended: main returned"),
    ("panics", [], 2, "the module has ended: panic: assignment to entry in nil map"),
    ("traps", [], 134, "the module trapped: "),
    ("deep", [10**8], 2, "the module has ended: fatal error: stack overflow"),
])
def test_when_the_module_ends_calls_get_503_and_the_server_exits_with_its_code(
    server: Server, export: str, args: list[int], code: int, said: str
) -> None:
    stuck = [server.begin("hang") for _ in range(3)]
    for reply in (server.call(export, *args), *(s.result(PATIENCE) for s in stuck)):
        assert reply.status_code == 503
        assert said in reply.json()["error"]
    got, err = server.end()
    assert got == code
    assert re.search(rf"gothreads: \S+: {re.escape(said)}", err.splitlines()[-1])
    assert "Traceback" not in err


def test_a_port_in_use_is_one_line(calls: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([*GOTHREADS, "serve", "--port", str(port), str(calls)],
                              capture_output=True, text=True, timeout=PATIENCE)
        assert command("serve", "--port", port, "nofolder") == (1, "", f"gothreads: there is no file or folder nofolder in {Path.cwd()}\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"gothreads: cannot listen on 127.0.0.1:{port}: Address already in use. Choose another with --port (0: any)\n"


def test_a_module_that_fails_to_start_is_not_served(calls: Path) -> None:
    done = subprocess.run([*GOTHREADS, "serve", "--port", "0", "--memory", "1M", str(calls)],
                          capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_callers_are_a_limit_and_others_wait(calls: Path) -> None:
    with running("--callers", 1, calls) as server:
        assert [r.result(PATIENCE).status_code for r in [server.begin("sleep", 20) for _ in range(5)]] == [200] * 5


def test_a_client_that_goes_away_gives_its_request_up(patient_host: Path) -> None:
    with running("--python", patient_host, built("patient")) as server:
        def counts() -> str:
            """How many calls are waiting, cancelled, and finished."""
            return server.client.post("/api/request/counts").text
        for cancelled in (1, 2):
            with socket.create_connection((server.client.base_url.host, server.client.base_url.port or 80)) as client:
                client.sendall(b"POST /api/request/wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
                wait_until(lambda: counts()[0] == "1")
            wait_until(lambda: counts() == f"0 {cancelled} 0")  # noqa: B023


@pytest.mark.long
def test_a_module_that_ends_is_begun_again_and_later_requests_are_answered(calls: Path) -> None:
    with running("--restart", calls) as server:
        stuck = [server.begin("hang") for _ in range(3)]
        assert server.call("panics").status_code == 503
        assert [r.result(PATIENCE).status_code for r in stuck] == [503] * 3
        assert server.call("add", 2, 3).json() == {"result": 5}
        assert server.call("exits", 7).status_code == 503
        assert server.call("count").json() == {"result": 1}
        health = server.client.get("/healthz")
        assert health.status_code == 200
        assert health.json()["supervision"]["by_cause"] == {"GuestPanic": 1, "GuestExit": 1}
        assert ", running, 2 restarts ·" in server.client.get("/").text
        server.process.send_signal(signal.SIGTERM)
        code, said = server.end()
        assert code == 0
        assert re.search(r"^gothreads: restart 1, in 0\.1 s: \S+: the module has ended: panic: assignment to entry in "
                         r"nil map, at main\.go:\d+$", said, re.MULTILINE)
        assert re.search(r"^gothreads: restart 2, in 0\.2 s: \S+: the module has ended: exit code 7$", said,
                         re.MULTILINE)


@pytest.mark.long
def test_a_module_that_leaves_with_0_ends_the_server_unless_it_is_always_to_run(calls: Path) -> None:
    with running("--restart", calls) as server:
        assert server.call("exits", 0).status_code == 503
        assert server.end()[0] == 0
    with running("--restart", "always", calls) as server:
        assert server.call("exits", 0).status_code == 503
        assert server.call("add", 2, 3).json() == {"result": 5}


@pytest.mark.long
def test_a_signal_ends_a_server_whose_module_never_starts(tmp_path: Path) -> None:
    (tmp_path / "app.go").write_text('package main\n\nimport "os"\n\nfunc init() { os.Exit(4) }\n\n//go:wasmexport '
                                     'f\nfunc f() {}\n\nfunc main() {}\n')
    with running("--restart", tmp_path / "app.go") as server:
        wait_until(lambda: server.client.get("/healthz").json()["supervision"]["restarts"] >= 3)
        health = server.client.get("/healthz")
        assert (health.status_code, health.json()["state"]) == (503, "restarting")
        assert int(health.headers["Retry-After"]) >= 1
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0


def test_what_is_for_restarts_needs_them(calls: Path) -> None:
    done = subprocess.run([*GOTHREADS, "serve", "--save-every", "3", str(calls)], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (1, "gothreads: --save-every and --while-down need --restart\n")


def test_bytes_behind_a_request_that_closes_get_an_answer_and_leave_no_traceback(server: Server) -> None:
    with socket.create_connection((server.client.base_url.host, server.client.base_url.port or 80), 10) as connection:
        connection.sendall(b"POST /api/call/count HTTP/1.0\r\nContent-Length: 0\r\n\r\nPOST /api/call/count "
                           b"HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        reply = connection.makefile("rb").read()
    assert reply.startswith(b"HTTP/1.1 ")
    assert server.call("count").status_code == 200
    server.process.send_signal(signal.SIGTERM)
    _, err = server.end()
    assert "Traceback" not in err


@contextlib.contextmanager
def with_its_own_server(*options: object) -> Iterator[tuple[Server, Future[str]]]:
    """A program that listens by itself, and a request there that it answers when it is told to end."""
    address = f"127.0.0.1:{free_port()}"
    with (running(*options, "--listen", address, built("signals"), "serve", address) as server,
          ThreadPoolExecutor(1) as threads, httpx.Client(timeout=PATIENCE) as client,
          client.stream("GET", f"http://{address}/") as response):  # it has begun
        yield server, threads.submit(lambda: response.read().decode())


def test_a_program_that_is_told_to_end_answers_what_its_own_server_has_begun() -> None:
    with with_its_own_server() as (server, answer):
        server.process.send_signal(signal.SIGTERM)
        assert answer.result(PATIENCE) == "done\n"
        assert server.process.wait(PATIENCE) == 0
        assert server.process.stdout.read().splitlines() == ["ready", "shutdown <nil> http: Server closed"]  # type: ignore[union-attr]


def test_a_program_that_is_replaced_answers_what_its_own_server_has_begun() -> None:
    with with_its_own_server("--allow-restart") as (server, answer):
        name = server.client.get("/api/apps").json()["apps"][0]["name"]
        assert server.client.post(f"/api/apps/{name}/restart").status_code == 200
        assert answer.result(PATIENCE) == "done\n"


def test_a_program_that_does_not_end_is_ended_when_its_time_is_over() -> None:
    with running("--drain", "0.1", built("signals"), "notify") as server:
        server.process.send_signal(signal.SIGHUP)  # which it handles, and goes on
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE) == 0
