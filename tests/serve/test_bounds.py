"""Bounds on clients.

They limit what a client can make the server hold, how long it can keep the event loop or a connection, and what it can
write to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import math
import re
import resource
import select
import socket
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

import gothreads
from gothreads.serve import calls as endpoints
from gothreads.serve import connection, error_responses, feed, guard
from gothreads.serve.json_arguments import MOST_ARGUMENTS, aside, parse_arguments, result_json
from tests.support.command_line import GOTHREADS
from tests.support.server import Server, running
from tests.support.waiting import PATIENCE, wait_until
from tests.support.web import ask, talk
from tests.support.web_socket import serving, until_closed

MIB = 1 << 20


@pytest.fixture(scope="module")
def shared(calls: Path) -> Iterator[gothreads.App]:
    """One app for the tests that do not end it."""
    with gothreads.open(calls, stderr=io.BytesIO()) as opened:
        yield opened


def post(path: str, body: bytes, length: int | None = None) -> bytes:
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
            f"{len(body) if length is None else length}\r\n\r\n".encode() + body)


@contextlib.contextmanager
def connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A client with a small receive buffer."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(address)
        yield client


def ended(client: socket.socket) -> bool:
    """Whether the server has closed the connection; reads nothing."""
    poll = select.poll()
    poll.register(client, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


# Responses.

def test_answers_that_nobody_reads_are_limited_together_and_small_ones_go_on(
    shared: gothreads.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_HELD", 20 * MIB)
    with serving(shared) as address, contextlib.ExitStack() as clients:
        url = f"http://127.0.0.1:{address[1]}"

        def large() -> httpx.Response:
            return httpx.post(f"{url}/api/request/echo", content=b"x" * (8 * MIB), timeout=30)
        for _ in range(2):  # one after the other: two bodies and an answer at a time would be too much already
            client = clients.enter_context(connected(address))
            client.sendall(post("/api/request/echo", b"x" * (8 * MIB)))
            assert client.recv(12) == b"HTTP/1.1 200"
        refused = large()
        assert (refused.status_code, refused.headers["retry-after"],
                refused.headers["x-content-type-options"]) == (503, "1", "nosniff")
        assert "too large together" in refused.json()["error"]
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.post(f"{url}/api/request/echo", content=b"small").content == b"small"
        clients.close()
        wait_until(lambda: large().status_code == 200)
        assert large().content == b"x" * (8 * MIB)


def test_an_answer_for_which_there_is_no_room_is_503_and_one_by_itself_goes(
    shared: gothreads.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = guard.Held()
    monkeypatch.setattr(guard, "MOST_HELD", 1000)
    monkeypatch.setattr(guard, "SMALL", 10)
    with held.answer(5000) as first, held.answer(100) as second, held.answer(10) as small:
        assert (first, second, small) == (True, False, True)
    with held.answer(900) as first, held.answer(100) as second, held.answer(101) as third:
        assert (first, second, third) == (True, True, False)
    assert held._size == 0


@pytest.mark.parametrize("size", [0, 1, guard.PIECE, guard.PIECE + 1, 3 * guard.PIECE])
def test_an_answer_in_pieces_is_whole(shared: gothreads.App, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"y" * (size % 256)
    with serving(shared) as (host, port):
        reply = httpx.post(f"http://{host}:{port}/api/request/echo", content=body)
        assert (reply.status_code, reply.content, reply.headers["content-length"]) == (200, body, str(size))


def test_who_does_not_read_is_not_waited_for(shared: gothreads.App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(connection, "LEAST_RATE", MIB)
    with serving(shared) as address, connected(address) as large, connected(address) as many:
        large.sendall(post("/api/request/echo", b"x" * (16 * MIB)))
        wait_until(lambda: ended(large))
        many.settimeout(0.1)

        def flood() -> bool:
            """Keep sending requests on one connection."""
            with contextlib.suppress(TimeoutError, OSError):
                many.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
            return ended(many)
        wait_until(flood)


def test_who_watches_and_does_not_read_is_disconnected(shared: gothreads.App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "EVERY", 0.0)
    monkeypatch.setattr(feed, "_encoded", lambda _kind, _value: b"x" * (4 * MIB))
    with serving(shared) as address, connected(address) as client:
        name = httpx.get(f"http://127.0.0.1:{address[1]}/api/dashboard").json()["apps"][0]["name"]
        client.sendall(f"GET /api/apps/{name}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: ended(client))


def paced(address: tuple[str, int], size: int) -> int:
    """Read a response of `size` bytes, 64 KiB at a time, with pauses; returns how many bytes arrived."""
    total = 0
    with socket.create_connection(address, 30) as client, contextlib.suppress(ConnectionResetError):
        client.sendall(post("/api/request/echo", b"x" * size))
        while total < size and (part := client.recv(64 << 10)):
            total += len(part)
            time.sleep(0.01)
    return total


@pytest.mark.long
def test_who_reads_slowly_but_steadily_gets_all_and_who_is_slower_than_that_does_not(
    shared: gothreads.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.5)
    with serving(shared) as address:
        begin = time.monotonic()
        assert paced(address, 8 * MIB) >= 8 * MIB
        assert time.monotonic() - begin > 2 * connection.SEND_SECONDS
        monkeypatch.setattr(connection, "LEAST_RATE", 1 << 40)
        assert paced(address, 32 * MIB) < 32 * MIB


# Requests.

def test_a_body_that_trickles_in_behind_its_answer_is_not_waited_for(shared: gothreads.App,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    with serving(shared) as address, connected(address) as client:
        client.sendall(post("/nowhere", b"", 1_000_000))
        assert client.recv(100).startswith(b"HTTP/1.1 404")

        def dropped() -> bool:
            try:
                client.sendall(b"x")
            except OSError:
                return True
            return False
        wait_until(dropped)


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(shared: gothreads.App) -> None:
    with serving(shared) as address:
        for path, size in (("/api/request/echo", 1 << 40), ("/api/call/length", 5 * MIB),
                           ("/api/request/echo", 10**30)):
            with connected(address) as client:
                client.sendall(post(path, b"", size))
                assert client.recv(1000).startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


def test_a_head_that_is_too_large_is_refused_though_it_comes_at_once(shared: gothreads.App) -> None:
    with serving(shared) as address, connected(address) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + b"a: "
                       b"b\r\n" * 10_000 + b"\r\n")
        assert until_closed(client).startswith(b"HTTP/1.1 400")


def test_what_is_read_at_a_time_is_bounded(shared: gothreads.App, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    received = connection.Connection.data_received

    def noted(self: connection.Connection, data: bytes) -> None:
        sizes.append(len(data))
        received(self, data)
    monkeypatch.setattr(connection.Connection, "data_received", noted)
    chunks = b"1\r\nx\r\n" * 1_000 + (b"80\r\n" + b"x" * 128 + b"\r\n") * 1_000 + b"0\r\nTrailer: value\r\n\r\n"
    with serving(shared) as address, connected(address) as client:
        client.sendall(b"POST /api/request/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
                       b"chunked\r\nConnection: close\r\n\r\n" + chunks)
        assert until_closed(client).endswith(b"\r\n\r\n" + b"x" * 129_000)
    assert 0 < max(sizes) <= connection.RECEIVED


def test_many_tiny_chunks_are_refused(shared: gothreads.App) -> None:
    with serving(shared) as address, connected(address) as client:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(b"POST /api/request/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
                           b"chunked\r\n\r\n" + b"1\r\nx\r\n" * 1_001)
        assert until_closed(client).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("rest", [b"1" * 100_000, b"1;" + b"x" * 100_000, b"0\r\n" + b"Trailer: x\r\n" * 10_000])
def test_chunks_with_long_heads_or_trailers_are_refused(shared: gothreads.App, rest: bytes) -> None:
    with serving(shared) as address, connected(address) as client:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(b"POST /api/request/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
                           b"chunked\r\n\r\n" + rest)
        assert until_closed(client)[:12] in (b"HTTP/1.1 400", b"")
        assert httpx.get(f"http://127.0.0.1:{address[1]}/healthz").status_code == 200


# JSON.

def test_arguments_have_a_limit_of_their_own(shared: gothreads.App) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        fits, larger = (json.dumps({"args": ["x" * length]}).encode() for length in (900, 1000))
        assert (await client.post("/api/call/length", content=fits)).json() == {"result": 900}
        refused = await client.post("/api/call/length", content=larger)
        assert (refused.status_code, refused.json()) == (413, {"error": "the body is larger than 1,000 bytes"})
        assert (await client.post("/api/request/echo", content=larger)).content == larger
    talk(shared, conversation, largest_json=1000)


def test_the_limit_on_arguments_is_an_option(calls: Path) -> None:
    with running("--json-limit", "1K", calls) as server:
        assert (server.call("length", "x" * 2000).status_code,
                server.call("length", "x" * 900).json()) == (413, {"result": 900})
    done = subprocess.run([*GOTHREADS, "serve", "--json-limit", "many", str(calls)], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert (done.returncode, done.stderr.count("\n"), done.stderr[:35]) == (1, 1, "gothreads: --json-limit many: not a")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("argument", ["[]", "{}", "[0]", '{"":0}', "1", '"ab"'])
def test_arguments_that_no_export_has_are_not_taken_apart(argument: str, nested: bool) -> None:
    arguments = "[" + f"{argument}," * (4 * MIB // (len(argument) + 1)) + "0]"
    body = f'{{"args":{f"[{arguments}]" if nested else arguments}}}'.encode()
    tracemalloc.start()
    try:
        with pytest.raises(HTTPException) as refused:
            parse_arguments(body)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(body)
    finally:
        tracemalloc.stop()
    assert refused.value.status_code == 422


def test_as_many_arguments_as_a_function_may_have_are_read() -> None:
    assert parse_arguments(json.dumps({"args": [1] * MOST_ARGUMENTS}).encode()) == [1] * MOST_ARGUMENTS
    with pytest.raises(HTTPException, match="more than 1,000 arguments"):
        parse_arguments(json.dumps({"args": [1] * (MOST_ARGUMENTS + 1)}).encode())


_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)


@pytest.mark.long
@given(st.lists(_scalars | st.lists(_scalars) | st.dictionaries(st.text(), _scalars)),
       st.sampled_from([None, 1, "\t"]), st.booleans())
def test_arguments_are_what_json_says(args: list[Any], indent: int | str | None, ascii_only: bool) -> None:
    body = json.dumps({"args": args}, indent=indent, ensure_ascii=ascii_only)
    assert parse_arguments(f" {body}\r\n".encode(errors="surrogatepass")) == json.loads(body)["args"]


@pytest.mark.parametrize("body", [
    b'{"args": [1,]}', b'{"args": [1 2]}', b'{"args": [,1]}', b'{"args": [1]', b'{"args": [1]}}', b'{"args": [1]} x',
    b'{"args": [', b'{"args"', b'\xff',
    b'{"args": ["\xff"]}', b'{"args": [], "args": []}', b'{"args": [1]]}', b"null", b'{"args": [' + b"[" * 50_000,
    b'{"args": ["' + b"x" * 100_000])
def test_what_is_not_arguments_is_400(body: bytes) -> None:
    with pytest.raises(HTTPException) as refused:
        parse_arguments(body)
    assert refused.value.status_code == 400


_long = st.text(st.sampled_from("x\"\\\n\u00e9\U0001F600"), min_size=1).map(lambda text: text * (100_000 // len(text)))


@given(_scalars.filter(lambda value: value not in (math.inf, -math.inf)) | _long)
def test_a_result_is_what_json_says(value: Any) -> None:
    assert json.loads(result_json(value)) == {"result": value}


def test_large_arguments_and_results_are_made_of_json_on_other_threads(shared: gothreads.App,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    on: list[tuple[str, bool]] = []
    loops = threading.get_ident()

    def noted(name: str, work: Callable[[Any], Any]) -> None:
        def run(value: Any) -> Any:
            on.append((name, threading.get_ident() == loops))
            return work(value)
        monkeypatch.setattr(endpoints, name, run)
    noted("parse_arguments", parse_arguments)
    noted("result_json", result_json)
    assert ask(shared, "POST", "/api/call/length", json={"args": ["x" * 1000]}).json() == {"result": 1000}
    assert ask(shared, "POST", "/api/call/length", json={"args": ["x" * MIB]}).json() == {"result": MIB}
    assert asyncio.run(aside(endpoints.result_json, "x" * MIB)) == result_json("x" * MIB)  # type: ignore[attr-defined]
    assert on == [("parse_arguments", True), ("result_json", True), ("parse_arguments", False), ("result_json", True),
                  ("result_json", False)]


def test_an_error_of_any_length_is_told_in_short(shared: gothreads.App) -> None:
    reply = ask(shared, "POST", "/api/request/fail", content=b"\0" * (4 * MIB))
    assert (reply.status_code, len(reply.json()["error"]) < 2 * error_responses.MOST_TEXT) == (422, True)
    assert reply.json()["error"].endswith("… (4,194,308 characters)")


# Connections and descriptors.

def idle(server: Server, count: int) -> Iterator[socket.socket]:
    for _ in range(count):
        client = socket.create_connection((server.client.base_url.host, server.client.base_url.port or 80), 10)
        client.settimeout(10)
        yield client


def test_where_descriptors_are_few_more_clients_are_refused_and_the_log_says_it_once(calls: Path) -> None:
    with running(calls, descriptors=100) as server, contextlib.ExitStack() as opened:
        clients = [opened.enter_context(client) for client in idle(server, 150)]
        told = clients[-1].makefile("rb").read()
        assert told.startswith(b"HTTP/1.1 503 ")
        assert told.endswith(b'{"error":"too many clients are connected. Try again"}')
        opened.close()
        wait_until(lambda: server.client.get("/healthz").status_code == 200)
        server.process.terminate()
        _, said = server.end()
        assert said.endswith("gothreads: stopped by SIGTERM\n")
        assert (said.count("\n"), "clients are connected, which is the maximum: others get 503" in said) == (2, True)


def test_without_a_descriptor_for_a_client_the_log_says_so_once_and_later_clients_are_served(calls: Path) -> None:
    with running(calls) as server:
        used = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used, used + 1000))
        assert server.process.stderr is not None
        with next(idle(server, 1)) as client:
            said = server.process.stderr.readline()
            assert re.match(r"gothreads: cannot accept clients: this process has \d+ open file descriptors, its limit\. ", said)
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 1000, used + 1000))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert until_closed(client).startswith(b"HTTP/1.1 200")
        assert before[0] > used
        server.process.terminate()
        assert server.end() == (0, "gothreads: stopped by SIGTERM\n")


def test_clients_do_not_fill_the_log(calls: Path) -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with running(calls) as server:
        address = server.client.base_url.host, server.client.base_url.port or 80
        for _ in range(20):
            for sent in (upgrade, b"nonsense\r\n\r\n",
                         post("/api/call/sleep", b'{"args": [20]}') + b"nonsense\r\n\r\n"):
                with connected(address) as client:
                    client.sendall(sent)
                    client.recv(1000)
        with connected(address) as client:  # while the response is being sent
            client.sendall(post("/api/request/echo", b"x" * (4 * MIB)).replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert client.recv(10) == b"HTTP/1.1 2"
            client.sendall(b"nonsense\r\n\r\n")
            assert len(until_closed(client)) < 4 * MIB
        server.process.terminate()
        _, said = server.end()
        assert "Traceback" not in said
        assert said.count("\n") <= 4, said
