"""Hostile clients, and hostile pages in a browser: which requests are rejected, and what headers browsers get."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import gothreads
from gothreads.errors import MisuseError
from gothreads.serve import connection, guard, server
from gothreads.serve.guard import Hosts
from gothreads.serve.web import web_app
from tests.support.command_line import GOTHREADS
from tests.support.hostile_files import liar, reply, string
from tests.support.server import running
from tests.support.waiting import PATIENCE, wait_until
from tests.support.web import ask, call, talk
from tests.support.web_socket import LOCAL, serving, until_closed


@pytest.fixture(scope="module")
def shared(calls: Path) -> Iterator[gothreads.App]:
    """One app for the tests that do not end it."""
    with gothreads.open(calls, stderr=io.BytesIO()) as opened:
        yield opened


# Names.

EVERYWHERE = Hosts.of("0.0.0.0", "0.0.0.0", ["App.Example.org"])
NAMED = Hosts.of("intranet", "10.0.0.7")
V6 = Hosts.of("::", "::")


@pytest.mark.parametrize(("hosts", "asked"), [
    (LOCAL, "localhost"), (LOCAL, "localhost:8080"), (LOCAL, "LocalHost."), (LOCAL, "127.0.0.1:1"), (LOCAL, "[::1]"),
    (LOCAL, "[::1]:80"),
    (EVERYWHERE, "app.example.org:443"), (EVERYWHERE, "192.168.1.7:80"), (EVERYWHERE, "[fe80::1]:80"),
    (EVERYWHERE, socket.gethostname()),
    (NAMED, "intranet"), (NAMED, "10.0.0.7:80"), (NAMED, "localhost"), (V6, "[2001:db8::1]"), (V6, "10.0.0.7"),
])
def test_a_server_answers_to_its_names(shared: gothreads.App, hosts: Hosts, asked: str) -> None:
    assert status(shared, hosts, [("Host", asked)]) == 200


@pytest.mark.parametrize(("hosts", "asked"), [
    (LOCAL, "attacker.example"), (LOCAL, "attacker.example:8080"), (LOCAL, "localhost.attacker.example"),
    (LOCAL, "127.0.0.1.attacker.example"), (LOCAL, ""),
    (LOCAL, ":8080"), (LOCAL, "10.0.0.7"), (LOCAL, "attacker.example@localhost"),
    (LOCAL, "localhost, attacker.example"), (LOCAL, "[::1"),
    (LOCAL, "[localhost]x"),
    (EVERYWHERE, "attacker.example"), (EVERYWHERE, "1.2.3.4.attacker.example"),
    (EVERYWHERE, "[10.0.0.7].attacker.example"), (NAMED, "attacker.example"),
    (NAMED, "10.0.0.8"),
])
def test_a_name_that_leads_here_but_is_not_its_own_is_refused(shared: gothreads.App, hosts: Hosts, asked: str) -> None:
    """What a browser sends after DNS rebinding: the page's and the request's names are the same."""
    assert status(shared, hosts, [("Host", asked)]) == 421
    assert status(shared, hosts, [("Host", asked), ("Origin", f"http://{asked}")], "POST", "/api/call/count") == 421


def test_without_a_name_or_with_two_a_request_is_refused(shared: gothreads.App) -> None:
    assert status(shared, LOCAL, []) == status(shared, LOCAL,
                                               [("Host", "localhost"), ("Host", "attacker.example")]) == 421


def status(app: gothreads.App, hosts: Hosts, headers: list[tuple[str, str]], method: str = "GET",
           path: str = "/healthz") -> int:
    """The application's status code for a request with exactly these headers."""
    sent: list[Any] = []

    async def conversation(_: object) -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
                 "root_path": "", "scheme": "http",
                 "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]}
        await web_app(app, hosts)(scope, receive, send)
    talk(app, conversation)
    return int(sent[0]["status"])


def test_the_refusal_says_what_to_do(shared: gothreads.App) -> None:
    refused = ask(shared, "GET", "/", headers={"Host": "attacker.example"})
    assert refused.json() == {"error": "unknown host name 'attacker.example'; this server has the names 127.0.0.1, "
                                       "::1, localhost. To add one: gothreads serve --allow-host NAME"}


@pytest.mark.parametrize("name", ["", "*", "a b", "http://a", "a:80", "a/b", "a\nb"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(MisuseError, match="--allow-host"):
        Hosts.of("127.0.0.1", "127.0.0.1", [name])


def test_a_real_server_is_asked_by_its_names_only(calls: Path) -> None:
    with running("--allow-host", "app.example.org", calls) as started:
        names = {"localhost": 200, "app.example.org": 200, "attacker.example": 421, "1.2.3.4": 421}
        assert {name: started.client.get("/healthz", headers={"Host": name}).status_code for name in names} == names
        assert started.call("count").json() == {"result": 1}


def test_where_others_may_connect_it_is_said_by_what_names_and_an_address_is_enough(calls: Path) -> None:
    command = [*GOTHREADS, "serve", "--host", "0.0.0.0", "--port", "0", "--allow-host", "app.example.org", str(calls)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = ""
            while "authentication" not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            assert re.search(r"there is no authentication \(--api-keys adds it\)\. Accepted host names: "
                             r".*app\.example\.org, .*any address of this machine\n", said)
            found = re.search(r"serving \S+ on http://0\.0\.0\.0:(\d+)", said)
            assert found is not None
            names = {"127.0.0.2": 200, "app.example.org": 200, "attacker.example": 421}
            url = f"http://127.0.0.1:{found[1]}/healthz"
            assert {name: httpx.get(url, headers={"Host": name}, timeout=PATIENCE).status_code
                    for name in names} == names
        finally:
            process.terminate()


# Pages of other sites.

CROSS = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}


@pytest.mark.parametrize(("method", "headers", "code"), [
    ("POST", {}, 200),
    ("POST", {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
    ("POST", {"Sec-Fetch-Site": "none"}, 200),
    ("POST", {"Origin": "null"}, 403),
    ("POST", {"Origin": ""}, 403),
    ("POST", {"Origin": "http://localhost.attacker.example"}, 403),
    ("POST", {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, 403),
    ("POST", {"Sec-Fetch-Site": "same-site"}, 403),
    ("POST", CROSS, 403),
    ("POST", CROSS | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403),
    ("GET", CROSS | {"Sec-Fetch-Dest": "image"}, 403),
    ("GET", CROSS | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
    ("GET", CROSS | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
    ("GET", {"Origin": "https://attacker.example"}, 200),  # a browser does not let the page read the response
])
def test_pages_of_other_sites_do_not_get_to_the_module(shared: gothreads.App, method: str, headers: dict[str, str],
                                                       code: int) -> None:
    before = shared.statistics().calls
    answer = ask(shared, method, "/api/call/count" if method == "POST" else "/", headers=headers)
    assert answer.status_code == code
    assert "access-control-allow-origin" not in answer.headers
    if code == 403:
        assert shared.statistics().calls == before


# Response headers for browsers.

def test_no_answer_is_a_page_but_the_page_and_nobody_else_may_show_it(app: gothreads.App,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    page = ask(app, "GET", "/")
    answers = [page, ask(app, "GET", "/nowhere"), ask(app, "GET", "/healthz", headers={"Host": "attacker.example"}),
               call(app, "add", 1, 2),
               ask(app, "POST", "/api/request/echo", content=b"<script>alert(1)</script>"),
               ask(app, "POST", "/api/request/fail", content=b"<b>")]
    for answer in answers:
        assert (answer.headers["x-content-type-options"], answer.headers["x-frame-options"]) == ("nosniff", "DENY")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer is page or answer.headers["content-type"] in ("application/json", "application/octet-stream")
    allowed = page.headers["content-security-policy"]
    assert "unsafe" not in allowed
    for text in re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", page.text, re.DOTALL):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in allowed
    assert not re.search(r"<[^>]* (?:on\w+|style)=", page.text), "the policy does not let it"


MARKUP = "<script>alert(1)</script>"
TRICK = "\"'><img/src=x/onerror=alert(2)>"


def test_names_from_the_module_are_text_on_the_page(tmp_path: Path) -> None:
    names = f"{MARKUP}\n{TRICK}\n{{{{7*7}}}}\n</textarea>{MARKUP}"
    signature = {"name": TRICK, "go": f"func f({MARKUP}) int32", "function": "f", "package": "main",
                 "doc": f"{MARKUP}\n\n{TRICK}\n", "params": [],
                 "result": "int32", "position": MARKUP}
    more = f'(data (i32.const 8192) {string(names)}) (func (export {string(TRICK)}) (result i32) (i32.const 1))'
    asks = f"(drop (call $events (i32.const 8192) (i32.const {len(MARKUP)}) (i32.const 512)))"
    module = liar(tmp_path, "single", {"exports": [signature]},
                  imports='(import "gothreads" "msg_events" (func $events (param i32 i32 i32) (result i32)))',
                  more=more, main=asks, handlers=reply(0, 8192, len(names)))
    with gothreads.open(module) as app:
        page = ask(app, "GET", "/").text
        assert app.handlers() == names.split("\n")
        assert (list(app.exports), app.events) == ([TRICK], [MARKUP])
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 6
    assert "{{7*7}}" in page
    assert page.count("</textarea>") == page.count("<textarea")


# Error texts.

def test_errors_tell_neither_paths_nor_what_the_module_wrote(calls: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    with gothreads.open(calls, stderr=io.BytesIO()) as app:
        call(app, "panics")
        assert "goroutine" in str(app.error)  # the end of its stderr
        for answer in (ask(app, "GET", "/healthz"), call(app, "add", 1, 2), ask(app, "POST", "/api/request/echo")):
            assert "panic: assignment to entry in nil map" in answer.json()["error"]
            assert "goroutine" not in answer.text
            assert "main.go" not in answer.text

    def fails(*_: object) -> None:
        raise FileNotFoundError(2, "No such file", str(tmp_path / "secret"))
    module = liar(tmp_path, "single", imports='(import "env" "fails" (func $fails))',
                  more='(func (export "go") (call $fails))')
    with gothreads.open(module, host={"env": {"fails": fails}}) as app:
        answer = call(app, "go")
        assert (answer.status_code, answer.json()) == (503,
                                                       {"error": "the module has ended: a Python function that it "
                                                                 "called raised an exception"})
        assert "secret" not in ask(app, "GET", "/healthz").text


def test_a_bug_is_told_without_a_traceback(shared: gothreads.App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gothreads.serve.calls.result_json", lambda _: 1 / 0)
    sent: list[Any] = []

    async def conversation(_: object) -> None:
        transport = httpx.ASGITransport(web_app(shared), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            sent.append(await client.post("/api/call/add", json={"args": [1, 2]}))
    talk(shared, conversation)
    assert (sent[0].status_code, sent[0].json()) == (500, {"error": "internal server error"})
    assert sent[0].headers["x-content-type-options"] == "nosniff"


# Slow or greedy clients.

@pytest.mark.long
@pytest.mark.parametrize("begun", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_does_not_come_is_not_waited_for(shared: gothreads.App, monkeypatch: pytest.MonkeyPatch,
                                                     begun: bytes) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    with serving(shared) as address, socket.create_connection(address) as slow:
        slow.sendall(begun)
        assert until_closed(slow) == b""
        for _ in range(2):  # nor is a second one waited for, on a used connection
            with socket.create_connection(address) as used:
                used.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + begun)
                assert until_closed(used).startswith(b"HTTP/1.1 200")


def test_a_call_that_takes_longer_than_a_head_may_is_not_cut_off(shared: gothreads.App,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    with serving(shared) as (host, port):
        assert httpx.post(f"http://{host}:{port}/api/call/sleep", json={"args": [600]}, timeout=30).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(shared: gothreads.App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    with serving(shared) as address, socket.create_connection(address) as slow:
        slow.sendall(b"POST /api/request/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx")
        said = until_closed(slow)
        assert said.startswith(b"HTTP/1.1 408")
        assert said.endswith(b'{"error":"the body arrives too slowly"}')


@pytest.mark.long
def test_bodies_are_limited_together_and_a_large_one_by_itself_goes(shared: gothreads.App,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_HELD", 1000)
    monkeypatch.setattr(guard, "SMALL", 0)
    with serving(shared) as address, socket.create_connection(address) as first:
        first.sendall(b"POST /api/request/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                      b"1000\r\n\r\n" + b"x" * 900)
        url = f"http://127.0.0.1:{address[1]}/api/request/echo"
        wait_until(lambda: httpx.post(url, content=b"y" * 200).status_code == 503)
        assert httpx.post(url, content=b"y" * 200).headers["retry-after"] == "1"
        first.sendall(b"x" * 100)
        assert b"x" * 1000 in until_closed(first)
        assert httpx.post(url, content=b"y" * 1000).content == b"y" * 1000


def test_no_more_clients_are_served_than_the_limit(shared: gothreads.App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 5)
    with serving(shared) as address, contextlib.ExitStack() as idle:
        for _ in range(5):
            idle.enter_context(socket.create_connection(address))
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{address[1]}/healthz").status_code == 503)


def test_a_head_that_is_too_large_is_refused(shared: gothreads.App) -> None:
    with serving(shared) as address, socket.create_connection(address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * (1 << 20))
        assert until_closed(client).startswith(b"HTTP/1.1 400")
