"""Handlers that stream (guest.HandleStream), over HTTP and by WebSocket: `gothreads serve` as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import gothreads
from gothreads.serve.body_reader import BodyReader
from gothreads.serve.byte_streams import PIECES
from gothreads.serve.guard import LARGEST_BODY
from gothreads.serve.handler_names import TOLD_SECONDS
from gothreads.serve.web_sockets import Exchange
from tests.support.keys import Keys
from tests.support.modules import built, opened
from tests.support.server import Server, running
from tests.support.waiting import PATIENCE, wait_until
from tests.support.web import ask, talk
from tests.support.web_socket import CLOSE_SECONDS

#: More than what kernels, server and Go may hold of a body or an answer.
LARGE = 48 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(built("pipes")) as started:
        yield started


def counted(server: Server, export: str) -> int:
    found: int = server.call(export).json()["result"]
    return found


@contextlib.contextmanager
def raw(server: Server, handler: str, body: bytes = b"", length: int | None = None,
        version: bytes = b"1.1") -> Iterator[socket.socket]:
    """A connection on which a request was sent, with the beginning of its body."""
    at = server.client.base_url
    with socket.create_connection((at.host, at.port or 80), PATIENCE) as client:
        size = len(body) if length is None else length
        client.sendall(b"POST /api/request/%b HTTP/%b\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
                       % (handler.encode(), version, size, body))
        yield client


def settled(value: Callable[[], int]) -> int:
    """The value, when it has stopped changing."""
    last, times = -1, 0
    while times < 5:
        threading.Event().wait(0.1)
        last, times = (now := value()), (times + 1 if now == last else 0)
    return last


def test_an_answer_has_its_type_and_comes_as_it_is_written(server: Server) -> None:
    with raw(server, "events", b"one\n", length=8) as client:
        came = b""
        while not came.endswith(b"data: one\n\n\r\n"):  # before the body is complete
            came += client.recv(10_000)
        client.sendall(b"two\n")
        while not came.endswith(b"0\r\n\r\n"):
            came += client.recv(10_000)
    head, _, body = came.partition(b"\r\n\r\n")
    headers = head.decode().lower()
    assert headers.startswith("http/1.1 200 ok\r\n")
    assert all(each in headers for each in ("content-type: text/event-stream\r\n", "transfer-encoding: chunked",
                                            "cache-control: no-store", "x-accel-buffering: no"))
    assert re.findall(rb"data: (\w+)", body) == [b"0", b"one", b"two"]


def test_the_head_is_sent_before_there_is_anything_else(server: Server) -> None:
    with raw(server, "wait") as client:
        came = b""
        while not came.endswith(b"\r\n\r\n"):
            came += client.recv(10_000)
        assert came.startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: counted(server, "running") == 0)


def test_handlers_of_both_kinds_are_called_in_the_same_way(server: Server) -> None:
    for _ in range(2):  # the first call finds out
        assert server.client.post("/api/request/plain", content=b"ab").content == b"AB"
        assert server.client.post("/api/request/upper", content=b"ab").content == b"AB"
        assert server.client.post("/api/request/nothing", content=b"ab").status_code == 404
    reply = server.client.post("/api/request/copy", content=b"x" * 100_000)
    assert (reply.headers["Content-Type"], reply.content) == ("application/octet-stream", b"x" * 100_000)
    assert server.client.post("/api/request/copy").content == b""


def test_a_body_larger_than_what_is_allowed_elsewhere_takes_no_memory(server: Server) -> None:
    memory, size = psutil.Process(server.process.pid).memory_info, LARGEST_BODY + (1 << 20)

    def body() -> Iterator[bytes]:
        for _ in range(size >> 16):
            yield bytes(1 << 16)
    with raw(server, "plain", length=size) as client:
        assert client.recv(10_000).startswith(b"HTTP/1.1 413 ")
    before = memory().rss
    reply = server.client.post("/api/request/hash", content=body())
    assert reply.text.split()[0] == str(size)
    assert memory().rss - before < 32 << 20


def test_a_client_that_reads_nothing_holds_go_up(server: Server) -> None:
    with raw(server, "flood"):
        assert settled(lambda: counted(server, "sent")) < LARGE
        assert counted(server, "running") == 1
    wait_until(lambda: counted(server, "running") == 0)


def test_go_that_reads_slowly_holds_the_client_up(server: Server) -> None:
    with raw(server, "slow", length=LARGE) as client:
        client.settimeout(2)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < LARGE:
                sent += client.send(bytes(1 << 16))
        assert sent < LARGE


@pytest.mark.parametrize("handler", ["wait", "mute", "flood", "read"])
def test_a_client_that_leaves_ends_the_handler(server: Server, handler: str) -> None:
    before = counted(server, "left")
    with raw(server, handler, b"x", length=10):
        wait_until(lambda: counted(server, "running") == 1)
    wait_until(lambda: counted(server, "running") == 0)
    assert handler == "read" or counted(server, "left") == before + 1  # reading may fail before the context ends


@pytest.mark.parametrize("handler", ["wait", "mute"])  # whose client has something unread, or nothing
def test_a_client_that_leaves_in_the_middle_of_a_body_that_nobody_reads_ends_the_handler(server: Server,
                                                                                        handler: str) -> None:
    before = counted(server, "left")
    with raw(server, handler, bytes(100_000), length=200_000):  # more than the server reads ahead: 64 KiB and a piece
        wait_until(lambda: counted(server, "running") == 1)
    wait_until(lambda: counted(server, "left") == before + 1)
    assert counted(server, "running") == 0


def test_an_error_before_the_first_piece_has_a_status(server: Server) -> None:
    reply = server.client.post("/api/request/fail%20early", content=b"not sent")
    assert (reply.status_code, reply.json()) == (422, {"error": "as asked"})


def test_an_error_in_the_middle_breaks_the_answer_off() -> None:
    with running(built("pipes")) as server:
        with raw(server, "fail%20late", b"abc") as client:
            came = b"".join(iter(lambda: client.recv(10_000), b""))
        assert came.partition(b"\r\n\r\n")[2] == b"3\r\nabc\r\n"  # all that was written, and no end
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            server.client.post("/api/request/fail%20late", content=b"abc")
        assert server.client.post("/api/request/upper", content=b"ab").content == b"AB"
        counted = re.findall(r'answers_broken_off_total\{.*name="fail late",outcome="error"\} (.*)',
                             server.client.get("/metrics").text)
        assert counted == ["2.0"]
        server.process.send_signal(signal.SIGTERM)
        code, said = server.end(PATIENCE)
    assert code == 0
    assert said.count("the answer of the handler 'fail late' breaks off: as asked") == 1  # again only after a minute
    assert "Traceback" not in said
    assert "without completing" not in said


def test_an_error_in_the_middle_resets_the_connection_of_a_client_that_knows_no_chunks(server: Server) -> None:
    with raw(server, "fail%20late", b"abc", version=b"1.0") as client, pytest.raises(ConnectionResetError):
        b"".join(iter(lambda: client.recv(10_000), b""))
    with raw(server, "upper", b"abc", version=b"1.0") as client:
        assert b"".join(iter(lambda: client.recv(10_000), b"")).endswith(b"\r\n\r\nABC")


def test_no_script_of_a_page_that_a_handler_writes_runs(server: Server) -> None:
    headers = server.client.post("/api/request/type", content=b"text/html").headers
    assert headers["Content-Type"] == "text/html"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_body_that_stops_in_the_middle_is_an_error_of_the_handler(server: Server) -> None:
    with raw(server, "hash", b"x", length=10) as client:
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert b"200 OK" not in client.recv(10_000)


def test_the_time_limit_is_for_the_first_piece() -> None:
    with running("--timeout", "0.5", built("pipes")) as server:
        def told(export: str) -> int | None:  # on a loaded machine any call may be too late, before it has begun or after
            found: int | None = server.call(export).json().get("result")
            return found

        def has_begun() -> bool:
            assert server.client.post("/api/request/mute").status_code == 504
            return bool(told("left"))
        wait_until(has_begun)
        wait_until(lambda: told("running") == 0)
        with contextlib.ExitStack() as stack:
            while not (client := stack.enter_context(raw(server, "wait"))).recv(10_000).startswith(b"HTTP/1.1 200 "):
                pass
            client.settimeout(1)
            with pytest.raises(TimeoutError):  # twice the limit later, there is no end
                b"".join(iter(lambda: client.recv(10_000), b""))  # the head comes in one piece or two
            wait_until(lambda: told("running") == 1)
        wait_until(lambda: told("running") == 0)


def test_a_place_among_the_calls_is_held_until_the_first_piece() -> None:
    with running("--max-calls", "1", "--max-waiting", "0", built("pipes")) as server:
        with raw(server, "wait") as client:
            assert client.recv(10_000).startswith(b"HTTP/1.1 200 ")
            assert counted(server, "running") == 1
            with raw(server, "mute"):
                wait_until(lambda: re.search(r"gothreads_calls_in_flight\{.*\} 1.0", server.client.get("/metrics").text))
                assert server.call("running").status_code == 503
                assert server.client.post("/api/request/upper").status_code == 503
        wait_until(lambda: server.call("left").json().get("result") == 2)


def test_answers_and_web_sockets_that_are_idle_hold_no_caller() -> None:
    with running("--callers", "2", built("pipes")) as server, contextlib.ExitStack() as stack:
        for _ in range(20):
            assert stack.enter_context(raw(server, "wait")).recv(10_000).startswith(b"HTTP/1.1 200 ")
            stack.enter_context(raw(server, "mute"))
            stack.enter_context(opened_at(server, "wait"))
        wait_until(lambda: counted(server, "running") == 60)
        assert server.client.post("/api/request/plain", content=b"ab").content == b"AB"
        wait_until(lambda: re.search(r"gothreads_waits_for_streams\{.*\} 60.0", server.client.get("/metrics").text))
        stack.close()
        wait_until(lambda: counted(server, "running") == 0)
        wait_until(lambda: re.search(r"gothreads_waits_for_streams\{.*\} 0.0", server.client.get("/metrics").text))


@pytest.mark.parametrize("supervised", [False, True])
def test_whether_a_handler_streams_is_asked_within_the_limits_of_a_call(supervised: bool) -> None:
    with (gothreads.supervise if supervised else gothreads.open)(built("pipes"), callers=1) as app:
        stuck = app.submit_request("stuck")
        wait_until(lambda: app.statistics().calls_in_progress == 1)

        async def conversation(client: httpx.AsyncClient) -> None:
            reply = await client.post("/api/request/copy")
            assert (reply.status_code, "the request to copy" in reply.text) == (504, True)
        talk(app, conversation, timeout=0.1)
        stuck.cancel()


def test_a_client_may_leave_while_the_module_is_asked_whether_a_handler_streams() -> None:
    with running("--callers", "1", "--max-calls", "2", built("pipes")) as server:
        def in_flight(count: int) -> object:
            return re.search(rf"gothreads_calls_in_flight\{{.*\}} {count}\.0", server.client.get("/metrics").text)
        with raw(server, "stuck"):
            wait_until(lambda: in_flight(1))
            threading.Event().wait(TOLD_SECONDS)  # what the first call was told holds no longer for other names
            with raw(server, "nothing", length=10):
                wait_until(lambda: in_flight(2))
            wait_until(lambda: in_flight(1))


def test_the_module_is_not_asked_for_each_name_that_a_client_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with opened("pipes") as app:
        submit = app._submit_kinds

        def counting(name: str, **options: Any) -> Any:
            asked.append(name)
            return submit(name, **options)
        monkeypatch.setattr(app, "_submit_kinds", counting)
        monkeypatch.setattr("gothreads.serve.handler_names.TOLD_SECONDS", PATIENCE)

        async def conversation(client: httpx.AsyncClient) -> None:
            for name in ("nothing", "nowhere", "fail%20early", "plain", "copy"):
                await client.post(f"/api/request/{name}")
        talk(app, conversation)
        assert asked == ["nothing"]


def test_rights_and_metrics_are_those_of_handlers(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.txt")
    headers = keys.new("one", "request/upper", "metrics")
    with running("--api-keys", keys.path, built("pipes")) as server:
        def post(handler: str) -> int:
            return server.client.post(f"/api/request/{handler}", content=b"abc", headers=headers).status_code
        assert (post("upper"), post("copy")) == (200, 403)
        metrics = server.client.get("/metrics", headers=headers).text
    counts = dict(re.findall(r'gothreads_(\w+_total)\{app="[^"]+",kind="handler",name="upper"[^}]*\} (\S+)', metrics))
    assert counts == {"calls_total": "1.0", "received_bytes_total": "3.0", "sent_bytes_total": "3.0"}


# By WebSocket.


@contextlib.contextmanager
def opened_at(server: Server, handler: str, **options: Any) -> Iterator[ClientConnection]:
    url = str(server.client.base_url.join(f"/api/request/{handler}")).replace("http", "ws", 1)
    with connect(url, open_timeout=PATIENCE, ping_interval=None, compression=None, **options) as client:
        yield client


def rest(client: ClientConnection) -> tuple[list[Any], int]:
    messages: list[Any] = []
    try:
        while True:
            messages.append(client.recv(PATIENCE))
    except ConnectionClosed:
        return messages, client.close_code or 0


def test_what_is_flushed_is_a_message(server: Server) -> None:
    with opened_at(server, "upper") as client:
        for text in ("one", "two", "drei\N{EURO SIGN}"):
            client.send(text)
            assert client.recv(PATIENCE) == text.upper() + "\n"  # a text message is a line for Go
        client.send(b"bytes")
        assert client.recv(PATIENCE) == "BYTES"
        client.send("")
        assert rest(client) == ([], 1000)
    with opened_at(server, "copy") as client:
        client.send(b"ab")
        client.send(b"")
        assert rest(client) == ([b"ab"], 1000)  # of no type that is text


def test_a_character_is_not_cut_between_the_messages_of_a_large_flush(server: Server) -> None:
    line = "\N{EURO SIGN}" * 20_000
    with opened_at(server, "events") as client:
        client.send(line)
        client.send("")
        messages, code = rest(client)
    assert (code, {type(each) for each in messages}) == (1000, {str})
    assert len(messages) > 2  # those of 32 KiB
    assert "".join(messages).endswith(f"data: {line}\n\n")


@pytest.mark.parametrize("ends", [b"", b"c"])
def test_what_is_no_text_is_sent_as_bytes_whatever_its_type(ends: bytes) -> None:
    async def run() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            if message["type"] == "websocket.send":
                sent.append(message.get("text", message.get("bytes")))
        exchange = Exchange({"type": "websocket", "headers": []}, asyncio.Queue().get, send)
        exchange.scope[PIECES]()
        await exchange.send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for piece in (b"a\xe2\x82", b"\xac", b"b\xe2", ends):
            await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
        await exchange.send({"type": "http.response.body", "body": b""})
        return sent
    assert asyncio.run(run()) == ["a", "\N{EURO SIGN}", "b", b"\xe2" + ends]


def test_a_plain_handler_still_takes_one_message(server: Server) -> None:
    for _ in range(2):
        with opened_at(server, "plain") as client:
            client.send("text")
            assert rest(client) == ([b"TEXT"], 1000)


def test_an_error_in_the_middle_is_the_last_message(server: Server) -> None:
    with opened_at(server, "fail%20late") as client:
        client.send(b"abc")
        client.send(b"")
        messages, code = rest(client)
    assert messages[0] == b"abc"
    assert (json.loads(messages[1]), code) == ({"error": "as asked"}, 1011)
    with opened_at(server, "fail%20early") as client:
        client.send(b"")
        messages, code = rest(client)
    assert (json.loads(messages[0]), code) == ({"error": "as asked"}, 4422)


@pytest.mark.parametrize("handler", ["wait", "flood"])
def test_a_client_that_ends_the_web_socket_ends_the_handler(server: Server, handler: str) -> None:
    before = counted(server, "left")
    with opened_at(server, handler, max_queue=1, close_timeout=CLOSE_SECONDS):
        wait_until(lambda: counted(server, "running") == 1)
    wait_until(lambda: counted(server, "left") == before + 1)


@pytest.mark.long
def test_a_page_shows_what_comes_and_stops_it(server: Server) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("Chromium is not installed: sudo apt install chromium")
    before = counted(server, "left")
    with playwright.sync_playwright() as runs:
        browser = runs.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(str(server.client.base_url))
        events, wait = (page.locator(f'form[data-path="/api/request/{name}"]') for name in ("events", "wait"))
        events.locator("textarea").fill("one\ntwo")
        events.get_by_role("button", name="Send").click()
        playwright.expect(events.locator("pre")).to_contain_text("data: two", timeout=PATIENCE * 1000)
        wait.get_by_role("button", name="Send").click()
        wait.get_by_role("button", name="Stop").click()
        playwright.expect(wait.locator("output")).to_contain_text("topped", timeout=PATIENCE * 1000)
        browser.close()
    wait_until(lambda: counted(server, "running") == 0)
    assert counted(server, "left") in (before, before + 1)  # it may not have begun


@pytest.mark.parametrize("first", [b"", b"a"])
def test_under_other_servers_the_end_of_a_web_socket_is_read_ahead_of_go(first: bytes) -> None:
    """Their scopes say nothing of the connection."""
    async def run() -> str:
        comes: asyncio.Queue[Any] = asyncio.Queue()

        async def send(_message: Any) -> None:
            pass
        exchange = Exchange({"type": "websocket", "headers": []}, comes.get, send)
        with BodyReader(exchange.scope, exchange.receive) as body:
            left = asyncio.ensure_future(body.receive())
            if first:
                comes.put_nowait({"type": "websocket.receive", "bytes": first})
                while not comes.empty():  # until it is read ahead
                    await asyncio.sleep(0)
                assert await body.read(10) == first
            comes.put_nowait({"type": "websocket.disconnect"})
            return str((await left)["type"])
    assert asyncio.run(asyncio.wait_for(run(), PATIENCE)) == "http.disconnect"


# What the server says of them.


def test_they_are_described() -> None:
    with opened("pipes") as app:
        page = ask(app, "GET", "/").text
        assert '<form data-path="/api/request/copy" data-items>' in page  # with a button that stops it
        assert '<form data-path="/api/request/plain">' in page
        told = ask(app, "GET", "/api/exports").json()
        assert {"copy", "plain"} <= {*told["handlers"]}
        assert "copy" in told["streaming"]
        assert "plain" not in told["streaming"]
        paths = ask(app, "GET", "/openapi.json").json()["paths"]
    copy, plain = (paths[f"/api/request/{name}"]["post"] for name in ("copy", "plain"))
    assert copy["responses"]["200"]["content"] == {"*/*": {}}
    assert "of any length" in copy["requestBody"]["description"]
    assert plain["responses"]["200"]["content"].keys() == {"application/octet-stream", "application/json"}
