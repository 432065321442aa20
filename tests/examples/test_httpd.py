"""A guest on real sockets: examples/httpd is served to Python's http.client.

What tells that a request is in flight is the server's own count of them, so that no test waits for time to pass.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import gothreads
from tests.support.command_line import process
from tests.support.modules import built, ended
from tests.support.sockets_program import free_port
from tests.support.waiting import PATIENCE, together, under_load, wait_until

ENDLESS = "/stream?chunks=1000000&ms=20"  # hours


@pytest.fixture(scope="session")
def httpd() -> Path:
    return built("httpd")


def opened(httpd: Path, address: str = "", **options: Any) -> gothreads.App:
    """The server, at a free port of this machine or at the address."""
    address = address or f"127.0.0.1:{free_port()}"
    return gothreads.open(httpd, args=["-addr", address], listen=[address], **options)


@pytest.fixture
def server(httpd: Path) -> Iterator[gothreads.App]:
    with open(os.devnull, "wb") as null, opened(httpd, procs=2, stderr=null) as app:
        yield app


@pytest.fixture
def address(server: gothreads.App) -> str:
    (address,) = server.listening
    return address


class Client(HTTPConnection):
    """One connection, which must last: where the server closes it, the next request fails."""

    auto_open = 0

    def __init__(self, address: str) -> None:
        super().__init__(address, timeout=60)
        self.connect()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send_request(self, method: str, path: str, body: bytes = b"", length: int | None = None) -> None:
        """A request; with a `length` more than the body's, the server waits for the rest."""
        head = (f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: "
                f"{len(body) if length is None else length}\r\n\r\n")
        self.sock.sendall(head.encode() + body)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        self.request(method, path, body)
        answer = self.getresponse()
        return answer.status, answer.read()

    def get(self, path: str) -> str:
        status, body = self.ask("GET", path)
        assert status == 200, body
        return body.decode()

    def stats(self) -> dict[str, Any]:
        return dict(json.loads(self.get("/stats")))

    def in_flight(self) -> int:
        """How many requests besides this one."""
        return int(self.stats()["in_flight"]) - 1


def read_head(sock: socket.socket) -> bytes:
    """Up to the empty line, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, head
        head += byte
    return head


def test_connections_beyond_the_limit_on_files_wait_until_others_are_closed(httpd: Path) -> None:
    with open(os.devnull, "wb") as null, opened(httpd, stderr=null, limits=gothreads.Limits(files=20)) as app:
        (address,) = app.listening
        clients = [Client(address) for _ in range(30)]
        for client in clients:
            client.request("GET", "/json?name=you")
        for client in clients:  # in the order in which they connected
            assert client.getresponse().status == 200
            client.close()


def refused(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was in the queue of a listener that was closed
        return False
    return False


# Serving.

@pytest.mark.parametrize(("method", "path", "sent", "status", "body"), [
    ("GET", "/", None, 200, b"Hello from Go.\n"),
    ("GET", "/primes", None, 200, b"2262 primes below 20000\n"),
    ("GET", "/primes?below=-1", None, 400, b'below must be a number from 0 to 1000000, not "-1"\n'),
    ("GET", "/json?name=%C3%89va", None, 200, '{"name":"Éva","greeting":"Hello, Éva.","letters":3}\n'.encode()),
    ("POST", "/echo", bytes(range(256)), 200, bytes(range(256))),
    ("POST", "/echo", b"", 200, b""),
    ("GET", "/stream?chunks=3&ms=0", None, 200, b"chunk 1 of 3\nchunk 2 of 3\nchunk 3 of 3\n"),
    ("GET", "/sleep?ms=1", None, 200, b"slept for 1 ms\n"),
    ("HEAD", "/", None, 200, b""),
    ("GET", "/nowhere", None, 404, b"404 page not found\n"),
    ("GET", "/echo", None, 405, b"Method Not Allowed\n"),
])
def test_routes(address: str, *, method: str, path: str, sent: bytes | None, status: int, body: bytes) -> None:
    with Client(address) as client:
        for _ in range(2):
            assert client.ask(method, path, sent) == (status, body)


def test_the_program_sees_threads_and_wasip1(address: str) -> None:
    with Client(address) as client:
        stats = client.stats()
    assert (stats["platform"], stats["procs"], stats["in_flight"]) == ("wasip1/wasm", 2, 1)


def test_a_large_body_comes_back_whole(address: str) -> None:
    body = os.urandom(1 << 20) * 10
    with Client(address) as client:
        assert client.ask("POST", "/echo", body) == (200, body)
        assert client.get("/") == "Hello from Go.\n"


def test_fifty_clients_that_keep_their_connections_get_their_own_answers(address: str) -> None:
    def use(n: int) -> None:
        with Client(address) as client:
            for turn in range(10):
                name = f"client-{n}-{turn}"
                assert json.loads(client.get(f"/json?name={name}")) == {"name": name, "greeting": f"Hello, {name}.",
                                                                        "letters": len(name)}
                body = f"{name} ".encode() * (turn * 500)
                assert client.ask("POST", "/echo", body) == (200, body)
    together(*(partial(use, n) for n in range(50)))
    with Client(address) as client:
        assert client.stats()["served"] == 50 * 20


def test_requests_that_are_sent_at_once_are_answered_in_order(address: str) -> None:
    with Client(address) as client:
        client.sock.sendall(b"".join(b"GET /json?name=n%d HTTP/1.1\r\nHost: test\r\n\r\n" % n for n in range(20)))
        with client.sock.makefile("rb") as answers:
            for n in range(20):
                length = None
                while (line := answers.readline().strip()):
                    name, _, value = line.partition(b": ")
                    length = int(value) if name == b"Content-Length" else length
                assert length is not None
                assert json.loads(answers.read(length))["name"] == f"n{n}"


def test_a_stream_arrives_chunk_by_chunk(address: str) -> None:
    with Client(address) as client:
        client.request("GET", "/stream?chunks=2&ms=3600000")  # the second is an hour away
        answer = client.getresponse()
        assert answer.getheader("Transfer-Encoding") == "chunked"
        assert answer.readline() == b"chunk 1 of 2\n"
    with Client(address) as client:
        client.request("GET", ENDLESS)
        answer = client.getresponse()
        assert [answer.readline() for _ in range(5)] == [b"chunk %d of 1000000\n" % n for n in range(1, 6)]


def test_slow_requests_do_not_hold_up_others(address: str) -> None:
    with contextlib.ExitStack() as open_clients, Client(address) as quick:
        for _ in range(20):  # many more than procs
            open_clients.enter_context(Client(address)).send_request("GET", "/sleep?ms=3600000")
        wait_until(lambda: quick.in_flight() == 20)
        for n in range(50):
            assert json.loads(quick.get(f"/json?name={n}"))["name"] == str(n)
        assert quick.in_flight() == 20
        open_clients.close()
        wait_until(lambda: quick.in_flight() == 0)  # Go notices that they have gone


# Clients that go.

def leave(client: Client) -> None:
    """Close, as a browser does."""
    client.close()


def reset(client: Client) -> None:
    """Close with a reset, as a client that crashes."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def nothing(_client: Client) -> None:
    """It has only connected."""


def half_a_head(client: Client) -> None:
    client.sock.sendall(b"POST /echo HTTP/1.1\r\nHost: te")


def half_a_body(client: Client) -> None:
    client.send_request("POST", "/echo", b"some", length=1000)


def waiting(client: Client) -> None:
    client.send_request("GET", "/sleep?ms=3600000")


def reading(client: Client) -> None:
    """It goes in the middle of an answer, part of which it has not read."""
    client.send_request("GET", ENDLESS)
    assert b"200 OK" in read_head(client.sock)


@pytest.mark.long
@pytest.mark.parametrize("go", [leave, reset])
@pytest.mark.parametrize("begin", [nothing, half_a_head, half_a_body, waiting, reading])
def test_a_client_that_goes_in_the_middle_harms_nobody(address: str, begin: Callable[[Client], None],
                                                       go: Callable[[Client], None]) -> None:
    with Client(address) as other:
        before = other.stats()["goroutines"]
        for _ in range(5):
            client = Client(address)
            begin(client)
            assert other.get("/") == "Hello from Go.\n"
            go(client)
            assert other.ask("POST", "/echo", b"still here") == (200, b"still here")
        wait_until(lambda: other.in_flight() == 0 and other.stats()["goroutines"] <= before)
    with Client(address) as new:
        assert new.get("/") == "Hello from Go.\n"


def test_clients_that_go_at_any_moment_harm_nobody(address: str) -> None:
    done = threading.Event()

    def come_and_go(n: int) -> None:
        for turn in range(30):
            client = Client(address)
            (waiting, reading, half_a_body, half_a_head)[(n + turn) % 4](client)
            (leave, reset)[turn % 2](client)

    def come_and_go_all() -> None:
        try:
            together(*(partial(come_and_go, n) for n in range(8)))
        finally:
            done.set()

    def stay() -> None:
        with Client(address) as client:
            while not done.is_set():
                assert client.ask("POST", "/echo", b"x" * 10_000) == (200, b"x" * 10_000)
    together(come_and_go_all, stay, stay)
    with Client(address) as client:
        wait_until(lambda: client.in_flight() == 0)


# The end.

def test_a_graceful_shutdown_answers_what_is_in_flight_and_takes_no_more(server: gothreads.App, address: str) -> None:
    with Client(address) as client, Client(address) as slow:
        slow.send_request("POST", "/echo", b"first half, ", length=23)
        wait_until(lambda: client.in_flight() == 1)
        assert client.ask("POST", "/quit") == (200, b"quitting\n")
        wait_until(lambda: refused(address))
        with pytest.raises(TimeoutError):
            server.wait(0.1)
        slow.sock.sendall(b"second half")
        assert b"200 OK" in read_head(slow.sock)
        assert slow.sock.recv(100, socket.MSG_WAITALL) == b"first half, second half"  # and the connection ends
        assert server.wait(PATIENCE) == 0
    assert (server.exit, server.state) == (0, gothreads.State.EXITED)


def test_close_ends_the_connections_and_frees_the_port(httpd: Path) -> None:
    app = opened(httpd)
    (address,) = app.listening
    with app, Client(address) as idle, Client(address) as busy:
        assert idle.get("/") == "Hello from Go.\n"
        busy.send_request("GET", "/sleep?ms=3600000")
        wait_until(lambda: idle.in_flight() == 1)
        begin = time.monotonic()
        app.close()
        assert time.monotonic() - begin < under_load(5)
        for client in (idle, busy):
            with contextlib.suppress(ConnectionResetError):
                assert client.sock.recv(1) == b""
    assert refused(address)
    with opened(httpd, address) as again:
        assert again.listening == [address]
        with Client(address) as client:
            assert client.get("/") == "Hello from Go.\n"


def test_an_address_that_is_taken_is_refused_before_anything_runs(httpd: Path, address: str) -> None:
    with pytest.raises(gothreads.GothreadsError, match=re.escape(address)):
        opened(httpd, address)


def test_without_a_listener_the_program_says_so_and_ends(httpd: Path) -> None:
    code, _, err = ended(httpd)
    assert code == 1
    assert err == ("httpd: listen tcp 127.0.0.1:8080: bind "
                   "(to allow it: --listen 127.0.0.1:8080): not allowed by the host\n")


# The same over the command line.

@contextlib.contextmanager
def command(httpd: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`gothreads run --listen`, and its address."""
    own = f"127.0.0.1:{free_port()}"
    with process("run", "--listen", own, httpd, "-addr", own) as running:
        try:
            assert running.stderr is not None
            said = ""
            while not all(f"{who}: listening on {own}\n" in said for who in ("gothreads", "httpd")):
                line = running.stderr.readline().decode()
                assert line, said
                said += line
            yield running, own
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_program_answer_what_is_in_flight(httpd: Path, number: signal.Signals) -> None:
    with command(httpd) as (running, address), Client(address) as client, Client(address) as slow:
        slow.send_request("POST", "/echo", b"first half, ", length=23)
        wait_until(lambda: client.in_flight() == 1)
        running.send_signal(number)
        wait_until(lambda: refused(address))
        assert running.poll() is None
        slow.sock.sendall(b"second half")
        assert b"200 OK" in read_head(slow.sock)
        assert slow.sock.recv(100, socket.MSG_WAITALL) == b"first half, second half"
        assert running.wait(PATIENCE) == 0


@pytest.mark.parametrize(("first", "number", "code"), [
    (signal.SIGINT, signal.SIGINT, 130),
    (signal.SIGTERM, signal.SIGTERM, 143),
    (None, signal.SIGHUP, -signal.SIGHUP),  # killed by it, as natively
])
def test_a_signal_that_the_program_does_not_wait_for_ends_it_at_once(
        httpd: Path, first: signal.Signals | None, number: signal.Signals, code: int) -> None:
    with command(httpd) as (running, address), Client(address) as client, Client(address) as busy:
        assert client.get("/") == "Hello from Go.\n"
        busy.send_request("GET", ENDLESS)
        wait_until(lambda: client.in_flight() == 1)
        if first is not None:  # it shuts down, and waits for the endless answer
            running.send_signal(first)
            wait_until(lambda: refused(address))
        begin = time.monotonic()
        running.send_signal(number)
        assert running.wait(PATIENCE) == code
        assert time.monotonic() - begin < under_load(2)
        assert running.stderr is not None
        assert re.sub(rb"gothreads: compil[^\n]*\n", b"", running.stderr.read()) == b""
        assert refused(address)


def test_a_command_that_is_asked_to_quit_exits_with_0(httpd: Path) -> None:
    with command(httpd) as (running, address), Client(address) as client:
        assert client.ask("POST", "/echo", b"x" * 100_000) == (200, b"x" * 100_000)
        assert client.ask("POST", "/quit") == (200, b"quitting\n")
        assert running.wait(PATIENCE) == 0
