"""WebSockets, with another implementation as the client: `gothreads serve` as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gothreads.serve import body_reader
from gothreads.serve.web_socket_connection import MOST_MESSAGE, PING_SECONDS
from gothreads.serve.web_sockets import MOST_SENT, WebSockets
from tests.support.keys import Keys
from tests.support.modules import built
from tests.support.server import Server, running
from tests.support.waiting import PATIENCE, wait_until
from tests.support.web_socket import CLOSE_SECONDS


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(built("chat")) as started:
        yield started


@contextlib.contextmanager
def opened_at(server: Server, path: str, **options: Any) -> Iterator[ClientConnection]:
    url = str(server.client.base_url.join(path)).replace("http", "ws", 1)
    with connect(url, open_timeout=PATIENCE, ping_interval=None, compression=None, **options) as client:
        yield client


def refusal(server: Server, path: str, **options: Any) -> tuple[int, str]:
    """The status and the error of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused, opened_at(server, path, **options):
        pass
    response = refused.value.response
    return response.status_code, json.loads(response.body)["error"]


def rest(client: ClientConnection) -> tuple[list[Any], int, str]:
    """All messages until the end, its code and its reason."""
    messages: list[Any] = []
    try:
        while True:
            message = client.recv(PATIENCE)
            messages.append(json.loads(message) if isinstance(message, str) else message)
    except ConnectionClosed:
        return messages, client.close_code or 0, client.close_reason or ""


def counted(server: Server, export: str) -> int:
    found: int = server.call(export).json()["result"]
    return found


def test_messages_go_both_ways_at_the_same_time(server: Server) -> None:
    with opened_at(server, "/api/call/shout?greeting=hello") as client:
        assert client.recv(PATIENCE) == '"hello"'
        for word in ("one", "two"):
            client.send(word)
            assert client.recv(PATIENCE) == f'"{word.upper()}"'
        client.send(b"thr")  # bytes are as they are, and have no end of a line
        client.send(b"ee\nfour\n")
        assert (client.recv(PATIENCE), client.recv(PATIENCE)) == ('"THREE"', '"FOUR"')
        client.send("")
        assert rest(client) == (["one,two,three,four"], 1000, "")


def test_many_at_a_time_get_their_own_answers(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(opened_at(server, f"/api/call/shout?greeting=n{number}")) for number in range(50)]
        for client in clients:
            client.send("a")
        for number, client in enumerate(clients):
            client.send("")
            assert rest(client) == ([f"n{number}", "A", "a"], 1000, "")


@pytest.mark.parametrize(("path", "message", "answer"), [
    ("/api/call/add", '{"args": [2, 3]}', '{"result":5}'),
    ("/api/call/total", "", '{"result":0}'),
    ("/api/request/upper", b"text", b"TEXT"),
    ("/api/request/upper", "text", b"TEXT"),
    ("/api/request/upper", "", b""),
])
def test_a_call_without_a_stream_is_one_message_each_way(server: Server, path: str, message: str | bytes,
                                                         answer: str | bytes) -> None:
    with opened_at(server, path) as client:
        client.send(message)
        assert client.recv(PATIENCE) == answer
        assert rest(client) == ([], 1000, "")


def test_the_items_of_an_iterator_are_messages(server: Server) -> None:
    with opened_at(server, "/api/call/count") as client:
        client.send('{"args": [5000]}')
        assert rest(client) == ([*range(5000)], 1000, "")


def test_an_error_has_a_message_and_a_code(server: Server) -> None:
    with opened_at(server, "/api/call/add") as client:
        client.send('{"args": [1]}')
        (body,), code, reason = rest(client)
    assert (code, body["error"]) == (4422, reason)
    assert "add" in reason
    with opened_at(server, "/api/call/shout?greeting=x") as client:
        client.send("fail")
        assert rest(client) == (["x", {"error": "as asked"}], 1011, "")


@pytest.mark.parametrize(("path", "status", "error"), [
    ("/api/call/nothing", 404, "has no export 'nothing'"),
    ("/api/call/shout", 422, "has no value for 'greeting'"),
    ("/healthz", 405, "/healthz does not allow POST"),
    ("/nothing", 404, "there is no /nothing"),
])
def test_what_is_wrong_before_the_first_message_has_its_http_status(server: Server, path: str, status: int,
                                                                    error: str) -> None:
    found, text = refusal(server, path)
    assert found == status
    assert error in text


@pytest.mark.parametrize("headers", [
    {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "document"}])
def test_pages_of_other_sites_cannot_open_one(server: Server, headers: dict[str, str]) -> None:
    status, error = refusal(server, "/api/call/count", additional_headers=headers)
    assert (status, "not allowed" in error) == (403, True)


def test_pages_of_this_server_and_of_allowed_sites_can(server: Server) -> None:
    own = str(server.client.base_url).rstrip("/").replace("127.0.0.1", "localhost")
    host = own.partition("://")[2]
    with running("--allow-origin", "https://app.example", built("chat")) as other:
        for at, headers in ((other, {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}),
                            (server, {"Origin": f"http://127.0.0.1:{host.rpartition(':')[2]}",
                                      "Sec-Fetch-Site": "same-origin"})):
            with opened_at(at, "/api/call/count", additional_headers=headers) as client:
                client.send('{"args": [1]}')
                assert rest(client) == ([0], 1000, "")


def test_another_host_name_is_refused(server: Server) -> None:
    with socket.create_connection((server.client.base_url.host, server.client.base_url.port or 0)) as raw:
        raw.sendall(b"GET /api/call/count HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 421 ")


def test_rights_and_limits_are_those_of_post(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.txt")
    headers = keys.new("counter", "call/count", "call/shout")
    with running("--api-keys", keys.path, "--max-client-calls", "1", built("chat")) as server:
        assert refusal(server, "/api/call/count")[0] == 401
        assert refusal(server, "/api/request/upper", additional_headers=headers)[0] == 403
        with opened_at(server, "/api/call/shout?greeting=x", additional_headers=headers) as client:
            assert client.recv(PATIENCE) == '"x"'
            assert refusal(server, "/api/call/count", additional_headers=headers)[0] == 429
        wait_until(lambda: server.client.post("/api/call/count", json={"args": [0]}, headers=headers).status_code == 200)


def test_a_message_that_is_too_large_ends_it(server: Server) -> None:
    with opened_at(server, "/api/call/total") as client:
        client.send(b"x" * MOST_MESSAGE)
        client.send(b"x" * (MOST_MESSAGE + 1))
        assert rest(client)[1] == 1009


def test_a_message_that_nobody_expects_ends_it(server: Server) -> None:
    with opened_at(server, "/api/call/count") as client:
        client.send('{"args": [1000000000]}')
        assert client.recv(PATIENCE) == "0"
        client.send("more")
        assert rest(client)[1:] == (1008, "the call has its arguments: it takes no more messages")
    wait_until(lambda: counted(server, "running") == 0)


@pytest.mark.parametrize("path", ["/api/call/deaf?size=10&pause=true", "/api/call/deaf?size=10&pause=false",
                                  "/api/call/shout?greeting=x", "/api/call/slow"])
@pytest.mark.parametrize("how", ["close", "break"])
def test_a_client_that_leaves_ends_the_iterator(server: Server, path: str, how: str) -> None:
    with opened_at(server, path, close_timeout=CLOSE_SECONDS) as client:
        client.recv(PATIENCE)
        wait_until(lambda: counted(server, "running") == 1)
        if how == "break":
            client.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: counted(server, "running") == 0)


def test_a_client_that_reads_nothing_holds_go_up(server: Server) -> None:
    before = counted(server, "read")
    with opened_at(server, "/api/call/deaf?size=10000&pause=false", max_queue=1, close_timeout=CLOSE_SECONDS) as client:
        def settled() -> bool:
            first = counted(server, "read")
            time.sleep(0.5)
            return first > before and counted(server, "read") == first
        wait_until(settled)
        assert client.recv(PATIENCE)
    wait_until(lambda: counted(server, "running") == 0)


def test_go_that_reads_slowly_holds_the_client_up(server: Server) -> None:
    """The client cannot send more than fits into the buffers of both kernels, a piece here, and one message of Go's."""
    with opened_at(server, "/api/call/slow") as client:
        client.recv(PATIENCE)
        client.socket.settimeout(2)
        # The end of the connection is told at once, instead of after what the kernel still has to send.
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sent = 0
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            while sent < 20_000_000:
                client.send(b"x" * 10_000)
                sent += 10_000
        assert sent < 20_000_000
    ended = time.monotonic()
    wait_until(lambda: counted(server, "running") == 0)
    assert time.monotonic() - ended < PING_SECONDS / 2  # so it was looked for; it is not that a ping has failed


def test_at_sigterm_a_conversation_may_end() -> None:
    with running("--drain", "60", built("chat")) as server, opened_at(server, "/api/call/shout?greeting=x") as client:
        assert client.recv(PATIENCE) == '"x"'
        server.process.send_signal(signal.SIGTERM)
        assert server.process.stderr is not None
        while "shutting down" not in server.process.stderr.readline():
            pass
        client.send("a")
        client.send("")
        assert rest(client) == (["A", "a"], 1000, "")
        assert server.process.wait(PATIENCE) == 0


def test_after_the_drain_it_ends_with_an_error() -> None:
    with running("--drain", "0.5", built("chat")) as server, opened_at(server, "/api/call/shout?greeting=x") as client:
        assert client.recv(PATIENCE) == '"x"'
        server.process.send_signal(signal.SIGTERM)
        messages, code, _ = rest(client)
        assert (list(messages[0]), code) == (["error"], 1011)
        assert server.process.wait(PATIENCE) == 0


def test_a_client_of_post_that_leaves_ends_an_iterator_that_reads_nothing(server: Server) -> None:
    """The end of the connection is noticed where nobody waits for the body."""
    with socket.create_connection((server.client.base_url.host, server.client.base_url.port or 0)) as raw:
        raw.sendall(b"POST /api/call/deaf?size=10&pause=true HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx")
        wait_until(lambda: counted(server, "running") == 1)
    wait_until(lambda: counted(server, "running") == 0)


HANDSHAKE = (b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%b\r\n")


def raw(server: Server, path: str, more: bytes = b"", host: bytes = b"localhost") -> socket.socket:
    """A connection on which a handshake was sent."""
    client = socket.create_connection((server.client.base_url.host, server.client.base_url.port or 80), PATIENCE)
    client.sendall(HANDSHAKE % (path.encode(), host, more))
    return client


@pytest.mark.parametrize(("host", "more"), [(b"\xe9", b""), (b"xn--9999999999", b""),
                                            (b"localhost", b"Sec-WebSocket-Protocol: \xe9\r\n")])
def test_a_header_that_is_no_text_is_a_400_and_the_connection_ends(host: bytes, more: bytes, server: Server) -> None:
    with raw(server, "/api/call/count", more, host) as client:
        answer = b"".join(iter(lambda: client.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_who_sends_before_the_handshake_is_answered_is_cut(server: Server) -> None:
    with raw(server, "/api/call/mute") as client:
        wait_until(lambda: counted(server, "running") == 1)
        client.sendall(b"early")
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
    wait_until(lambda: counted(server, "running") == 0)


class Exchanged:
    """What a client gets of an application's response, by WebSocket. The application is an ASGI application."""

    def __init__(self, status: int, kind: bytes, body: bytes) -> None:
        self.messages: list[Any] = []

        async def application(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": body})

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            self.messages.append(message)
        asyncio.run(WebSockets(application)({"type": "websocket", "headers": []}, receive, send))

    @property
    def code(self) -> int:
        code: int = self.messages[-1]["code"]
        return code


def test_a_reply_that_only_looks_like_json_is_bytes() -> None:
    exchanged = Exchanged(200, b"application/json", b"[\xff]")
    assert exchanged.messages[-2] == {"type": "websocket.send", "bytes": b"[\xff]"}
    assert exchanged.code == 1000


def test_a_large_result_is_for_POST() -> None:
    exchanged = Exchanged(200, b"application/octet-stream", bytes(MOST_SENT + 1))
    assert [message["type"] for message in exchanged.messages] == ["websocket.accept", "websocket.close"]
    assert exchanged.code == 1009
    assert len(Exchanged(200, b"application/octet-stream", bytes(MOST_SENT)).messages) == 3


def test_an_event_that_is_taken_ends_well() -> None:
    assert Exchanged(202, b"application/json", b'{"queued":true}').code == 1000


def test_who_waits_for_a_message_before_the_first_item_waits_on_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(body_reader, "_LOOK_SECONDS", 0.05)

    async def talk() -> bytes:
        messages: asyncio.Queue[Any] = asyncio.Queue()
        with body_reader.BodyReader({"type": "http", body_reader.STREAMED: lambda: None}, messages.get) as reader:
            reading = asyncio.create_task(reader._read(100))
            await asyncio.sleep(0.1)
            reader.wait_for_ever()
            await asyncio.sleep(0.5)
            messages.put_nowait({"type": "http.request", "body": b"late", "more_body": True})
            return await reading
    assert asyncio.run(talk()) == b"late"


def test_a_flood_of_pings_to_a_client_that_reads_nothing_is_not_answered_from_memory(server: Server) -> None:
    memory = psutil.Process(server.process.pid).memory_info
    with opened_at(server, "/api/call/deaf?size=10&pause=true") as client:
        client.recv(PATIENCE)
        before, ping = memory().rss, b"\x89\xfd" + bytes(4) + b"x" * 125
        raw, until = client.socket, time.monotonic() + 5
        raw.settimeout(1)
        with contextlib.suppress(OSError):
            while time.monotonic() < until:
                raw.sendall(ping * 500)
        assert memory().rss < before + (64 << 20)
        raw.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: counted(server, "running") == 0)


@pytest.mark.long
def test_a_browser_talks_to_its_own_server_and_to_no_other(server: Server) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("Chromium is not installed: sudo apt install chromium")
    talk = """url => new Promise(done => {
        const got = [], socket = new WebSocket(url.replace("http", "ws") + "/api/call/shout?greeting=hello");
        socket.onmessage = event => { got.push(event.data); if (got.length == 1) { socket.send("a"); socket.send(""); } };
        socket.onclose = event => done([got, event.code]);
    })"""
    with running(built("chat")) as other, playwright.sync_playwright() as runs:
        browser = runs.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        own, others = (str(at.client.base_url).rstrip("/") for at in (server, other))
        page.goto(own)
        assert page.evaluate(talk, own) == [['"hello"', '"A"', '"a"'], 1000]
        page.goto(f"{own}/healthz")  # no policy of the page's own stops it here
        page.route("**/*", lambda route: route.fulfill(body="<title>evil</title>", content_type="text/html"))
        page.goto("http://evil.example/")
        assert page.evaluate(talk, others) == [[], 1006]
        browser.close()
