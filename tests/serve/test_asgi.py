"""`gothreads.asgi`: in servers of all kinds, mounted in other applications, and what it does when it is used wrongly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.sync.client import connect

import gothreads
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until

#: What a user writes. `notes` gets a line when a worker has opened its module, and when it has closed it.
PROGRAM = '''
import contextlib, os
from typing import Annotated
from fastapi import Depends, FastAPI
import gothreads

def note(text):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{text} {os.getpid()}\\n")

go = gothreads.asgi(os.environ["MODULE"], timeout=60, allow_hosts=["example.org"])

@contextlib.asynccontextmanager
async def lifespan(web):
    async with go.lifespan():
        app = go.app()
        note("opened")
        yield
    note(f"{app.state.value}")

web = FastAPI(lifespan=lifespan)
web.mount("/go", go)

@web.get("/add")
async def add(a: int, b: int, app: Annotated[gothreads.App, Depends(go.app)]) -> int:
    return await app.call_async("add", a, b)
'''
SERVERS = {
    "uvicorn": ["uvicorn", "--port", "{port}"],
    "uvicorn --workers": ["uvicorn", "--port", "{port}", "--workers", "2"],
    "granian": ["granian", "--interface", "asgi", "--port", "{port}"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:{port}"],
}


class Served:
    """A server process, with a client and what the program has noted."""

    def __init__(self, folder: Path, module: Path, server: str, target: str, *more: str) -> None:
        (folder / "program.py").write_text(PROGRAM)
        self._notes = folder / "notes"
        self._notes.touch()
        self._log = folder / "log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [text.format(port=port) for text in SERVERS[server]]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command, *more, target], cwd=folder, stdin=subprocess.DEVNULL,
            stdout=self._log.open("w"), stderr=subprocess.STDOUT,
            env={**os.environ, "MODULE": str(module), "NOTES": str(self._notes), "PYTHONSAFEPATH": "",
                 "PYTHONPATH": os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))})
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)

    def answers(self, path: str) -> bool:
        assert self.process.poll() is None, "the server has ended"
        try:
            return self.client.get(path).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def log(self) -> str:
        return self._log.read_text()

    def noted(self, what: str) -> list[str]:
        return [line for line in self._notes.read_text().splitlines() if line.startswith(what)]


@contextlib.contextmanager
def served(folder: Path, module: Path, server: str, target: str, *more: str) -> Iterator[Served]:
    running = Served(folder, module, server, target, *more)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.process.pid, signal.SIGTERM)  # its workers are its own to end
        try:
            running.process.wait(PATIENCE)
        finally:
            running.process.kill()
            running.client.close()
            print(running.log)


@pytest.mark.long
@pytest.mark.parametrize("server", SERVERS)
def test_a_server_opens_the_module_serves_it_under_a_path_and_closes_it(
    tmp_path: Path, calls: Path, server: str
) -> None:
    workers = 2 if "workers" in server else 1
    with served(tmp_path, calls, server, "program:web") as running:
        wait_until(lambda: running.answers("/go/readyz"))
        assert running.client.get("/add?a=2&b=3").json() == 5
        assert running.client.post("/go/api/call/add", json={"args": [2, 3]}).json() == {"result": 5}
        assert running.client.post("/go/api/request/upper", content=b"abc").content == b"ABC"
        assert running.client.get("/go/livez").json() == {"ok": True}
        page = running.client.get("/go/")
        assert 'href="api/exports"' in page.text
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")
        assert running.client.get("/go/", headers={"Host": "evil.example"}).status_code == 421
        assert running.client.get("/go/", headers={"Host": "example.org"}).status_code == 200
        unknown = running.client.get("/go/nothing").json()["error"]
        assert unknown.startswith("there is no /go/nothing; there are: /go/, /go/healthz, ")
        wait_until(lambda: len(running.noted("opened")) == workers)
    wait_until(lambda: len(running.noted("closed")) == workers)
    assert {line.split()[1] for line in running.noted("closed")} == {line.split()[1]
                                                                      for line in running.noted("opened")}
    assert len({line.split()[1] for line in running.noted("opened")}) == workers


@pytest.mark.long
@pytest.mark.parametrize("server", [server for server in SERVERS if "workers" not in server])
def test_a_server_runs_it_without_another_application(tmp_path: Path, calls: Path, server: str) -> None:
    with served(tmp_path, calls, server, "program:go") as running:
        wait_until(lambda: running.answers("/readyz"))
        assert running.client.post("/api/call/add", json={"args": [2, 3]}).json() == {"result": 5}
        assert running.client.post("/api/call/nope").status_code == 404
        assert running.client.get("/").status_code == 200


@pytest.mark.long
@pytest.mark.parametrize("server", [server for server in SERVERS if "workers" not in server])
def test_a_handler_streams_in_every_server(tmp_path: Path, server: str) -> None:
    with served(tmp_path, built("pipes"), server, "program:go") as running:
        wait_until(lambda: running.answers("/readyz"))
        client = running.client

        def count(export: str) -> int:
            found: int = client.post(f"/api/call/{export}").json()["result"]
            return found
        body = (bytes(1 << 16) for _ in range(100))
        assert client.post("/api/request/hash", content=body).text.split()[0] == str(100 << 16)
        with client.stream("POST", "/api/request/wait"):
            wait_until(lambda: count("running") == 1)
        wait_until(lambda: count("left") == 1)
        url = str(client.base_url.join("/api/request/wait")).replace("http", "ws", 1)
        with connect(url, open_timeout=PATIENCE, ping_interval=None):
            wait_until(lambda: count("running") == 1)
        wait_until(lambda: count("left") == 2)
        failed = client.post("/api/request/fail%20early", content=b"a")
        assert (failed.status_code, failed.json()) == (422, {"error": "as asked"})
        with pytest.raises(httpx.RemoteProtocolError):  # so that nobody takes the answer for complete
            client.post("/api/request/fail%20late", content=b"abc")
        assert count("running") == 0


def _cut(client: socket.socket) -> None:
    """End a connection as a client does that is killed."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _shut(client: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended
        client.shutdown(socket.SHUT_RDWR)


@pytest.mark.long
@pytest.mark.parametrize("server", [server for server in SERVERS if "workers" not in server])
def test_what_clients_do_leaves_no_call_behind_and_no_traceback_in_the_log(tmp_path: Path, server: str) -> None:
    """They leave in the middle of bodies and answers, and of WebSockets, in every way."""
    with served(tmp_path, built("pipes"), server, "program:go") as running:
        wait_until(lambda: running.answers("/readyz"))
        client, port = running.client, running.client.base_url.port

        def post(path: str, headers: str, body: bytes, least: int) -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode() + body)
            if least:
                assert connection.recv(least).startswith(b"HTTP/1.1 200"[:least])
            return connection

        def rests() -> bool:
            in_flight = re.search(r"gothreads_calls_in_flight\{.*\} (\S+)", client.get("/metrics").text)
            running = client.post("/api/call/running").json()["result"]
            return (running, in_flight and in_flight[1]) == (0, "0.0")
        for end in (socket.socket.close, _cut):
            open_ones = [post(path, headers, body, least) for path, headers, body, least in (
                ("/api/request/plain", "Content-Length: 1000", b"x", 0),
                ("/api/request/read", "Content-Length: 1000", b"x", 0),
                ("/api/request/events", "Transfer-Encoding: chunked", b"4\r\nabc\n\r\n", 20),
                ("/api/request/wait", "Content-Length: 0", b"", 20),
                ("/api/request/mute", "Content-Length: 0", b"", 0),
                ("/api/request/flood", "Content-Length: 0", b"", 20),
                ("/api/request/flood", "Content-Length: 0", b"", 0),
                ("/api/call/running", "Content-Length: 20", b"{", 0)) for _ in range(10)]
            for connection in open_ones:
                end(connection)
            wait_until(rests)
        url = str(client.base_url).replace("http", "ws", 1)
        for is_killed in (False, True):
            with contextlib.ExitStack() as web_sockets:
                for name in ("wait", "mute", "read", "events", "upper", "plain") * 5:
                    web_socket = web_sockets.enter_context(connect(
                        f"{url}/api/request/{name}", open_timeout=PATIENCE, ping_interval=None, close_timeout=1))
                    if name in ("read", "upper", "plain"):  # what Go does not read hides the end from other servers
                        web_socket.send(b"abc")
                    if is_killed:
                        web_sockets.callback(_shut, web_socket.socket)  # its thread is reading
            wait_until(rests)
        assert client.post("/api/request/plain", content=b"ab").content == b"AB"
        assert "Traceback" not in running.log


@pytest.mark.long
def test_a_body_that_is_too_large_is_refused_by_every_server(tmp_path: Path) -> None:
    for server in ("uvicorn", "hypercorn", "granian"):
        (folder := tmp_path / server).mkdir()
        with served(folder, built("pipes"), server, "program:go") as running:
            wait_until(lambda: running.answers("/readyz"))
            port = running.client.base_url.port
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                connection.sendall(b"POST /api/request/plain HTTP/1.1\r\nHost: localhost\r\n"
                                   b"Content-Length: 100000000\r\n\r\nx")
                answer = b"".join(iter(lambda: connection.recv(1000), b""))
            assert answer.startswith(b"HTTP/1.1 413")
            assert "Traceback" not in running.log


@pytest.mark.long
def test_a_server_that_reloads_opens_the_module_again(tmp_path: Path, calls: Path) -> None:
    with served(tmp_path, calls, "uvicorn", "program:web", "--reload") as running:
        wait_until(lambda: running.answers("/go/readyz"))
        wait_until(lambda: len(running.noted("opened")) == 1)
        program = tmp_path / "program.py"
        program.write_text(program.read_text() + "# changed\n")
        wait_until(lambda: len(running.noted("opened")) == 2)
        assert len(running.noted("closed")) == 1
        wait_until(lambda: running.answers("/go/readyz"))
        assert running.client.post("/go/api/call/add", json={"args": [2, 3]}).json() == {"result": 5}
    wait_until(lambda: len(running.noted("closed")) == 2)


@pytest.mark.long
def test_a_root_path_of_the_server_is_a_prefix_of_what_errors_name(tmp_path: Path, calls: Path) -> None:
    with served(tmp_path, calls, "uvicorn", "program:go", "--root-path", "/behind/a/proxy") as running:
        wait_until(lambda: running.answers("/readyz"))
        assert running.client.post("/api/call/add", json={"args": [2, 3]}).json() == {"result": 5}
        assert "/behind/a/proxy/healthz" in running.client.get("/nothing").json()["error"]




def test_a_dependency_gives_the_app(calls: Path) -> None:
    go = gothreads.asgi(calls)
    web = FastAPI(lifespan=go.lifespan)

    @web.get("/add")
    async def add(a: int, b: int, app: Any = Depends(go.app)) -> int:
        result: int = await app.call_async("add", a, b)
        return result

    async def run() -> None:
        async with (web.router.lifespan_context(web),
                    httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://localhost") as client):
            assert (await client.get("/add?a=2&b=3")).json() == 5
    asyncio.run(run())


def test_it_can_be_mounted_in_starlette_and_opened_again(calls: Path) -> None:
    go = gothreads.asgi(lambda: gothreads.supervise(calls))
    web = Starlette(routes=[Mount("/a/b", go)], lifespan=go.lifespan)

    async def run() -> None:
        async with (web.router.lifespan_context(web),
                    httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://localhost") as client):
            assert isinstance(go.app(), gothreads.Supervised)
            assert (await client.post("/a/b/api/call/add", json={"args": [2, 3]})).json() == {"result": 5}
            assert (await client.post("/a/b/api/call/upper")).json()["error"].endswith(
                "There is a handler of that name: /a/b/api/request/upper")
            with pytest.raises(gothreads.MisuseError, match="has begun already"):
                async with go.lifespan():
                    pass
    for _ in range(2):
        asyncio.run(run())


@pytest.mark.parametrize(("allowed", "host", "status"), [
    ([], "localhost:80", 200), ([], "10.1.2.3", 200), ([], "[::1]:80", 200), ([], socket.gethostname(), 200),
    ([], "app.example.org", 421), (["App.example.org"], "app.example.org:80", 200),
    (["app.example.org"], "evil.example", 421), (["*"], "evil.example", 200)])
def test_names_must_be_allowed_and_addresses_are(calls: Path, allowed: list[str], host: str, status: int) -> None:
    go = gothreads.asgi(calls, allow_hosts=allowed)

    async def run() -> None:
        async with (go.lifespan(),
                    httpx.AsyncClient(transport=httpx.ASGITransport(go), base_url="http://localhost") as client):
            reply = await client.get("/livez", headers={"Host": host})
            assert reply.status_code == status
            if status == 421:
                assert reply.json()["error"].endswith("To add one: gothreads.asgi(..., allow_hosts=[NAME])")
    asyncio.run(run())


def test_a_module_that_ends_is_not_live(calls: Path) -> None:
    go = gothreads.asgi(calls)

    async def run() -> None:
        async with (go.lifespan(),
                    httpx.AsyncClient(transport=httpx.ASGITransport(go), base_url="http://localhost") as client):
            assert (await client.get("/livez")).status_code == 200
            assert (await client.post("/api/call/exits", json={"args": [3]})).status_code == 503
            await asyncio.to_thread(go.app().wait)
            assert (await client.get("/livez")).status_code == 503
            assert (await client.get("/readyz")).status_code == 503
    asyncio.run(run())


def test_calls_may_finish_when_the_server_stops(calls: Path) -> None:
    go = gothreads.asgi(calls)

    async def run() -> None:
        async with go.lifespan():
            app = go.app()
            call = asyncio.ensure_future(app.call_async("sleep", 50))
            await asyncio.to_thread(wait_until, lambda: app.statistics().calls_in_progress == 1)
        assert await call is None
        assert app.state is gothreads.State.CLOSED
    asyncio.run(run())


def test_before_the_lifespan_requests_get_503_and_the_log_says_what_is_missing(
    calls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go = gothreads.asgi(calls)
    web = Starlette(routes=[Mount("/go", go)])  # without the lifespan

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://localhost") as client:
            reply = await client.get("/go/readyz")
            assert (reply.status_code, reply.json()) == (503, {"error": "the module is not open: the server is starting "
                                                                        "or stopping"})
    asyncio.run(run())
    assert "FastAPI(lifespan=go.lifespan)" in caplog.text
    with pytest.raises(gothreads.MisuseError, match=r"FastAPI\(lifespan=go\.lifespan\)"):
        go.app()


def lifespan_messages(go: gothreads.AsgiApp) -> list[dict[str, Any]]:
    """What the application tells a server that starts and stops it."""
    said: list[dict[str, Any]] = []

    async def run() -> None:
        to_tell = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

        async def receive() -> Any:
            return next(to_tell)

        async def send(message: Any) -> None:
            said.append(message)
        with contextlib.suppress(gothreads.GothreadsError):
            await go({"type": "lifespan"}, receive, send)
    asyncio.run(run())
    return said


def test_a_server_is_told_when_the_module_cannot_be_opened(tmp_path: Path) -> None:
    said = lifespan_messages(gothreads.asgi(tmp_path / "nothing.wasm"))
    assert said == [{"type": "lifespan.startup.failed", "message": f"there is no file {tmp_path}/nothing.wasm"}]
    said = lifespan_messages(gothreads.asgi(lambda: None))  # type: ignore[arg-type, return-value]
    assert said == [{"type": "lifespan.startup.failed",
                     "message": "asgi() was given a function that returned None, not an app"}]


def test_a_server_is_told_when_it_has_started_and_stopped(calls: Path) -> None:
    assert [message["type"] for message in lifespan_messages(gothreads.asgi(calls))] == [
        "lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize(("options", "why"), [
    ({"timeot": 1}, "asgi() has no option 'timeot'. Did you mean timeout?"),
    ({"timeout": 0}, "timeout"),
    ({"on_timeout": "x"}, "on_timeout must be"),
    ({"json_limit": "4M"}, "json_limit must be an int, not '4M'"),
    ({"drain": -1}, "drain"),
    ({"procs": 0}, "procs must be between 1 and 1024, not 0"),
    ({"allow_hosts": "example.org"}, "allow_hosts must be a list of names, not 'example.org'"),
    ({"allow_hosts": ["example.org:80"]}, "allow_hosts example.org:80: expected a name, without a port"),
])
def test_wrong_options_are_refused_before_anything_is_opened(options: dict[str, Any], why: str) -> None:
    with pytest.raises(gothreads.MisuseError) as error:
        gothreads.asgi("nothing.wasm", **options)
    assert why in str(error.value)


def test_options_of_open_belong_into_a_function_that_opens() -> None:
    with pytest.raises(gothreads.MisuseError, match=r"options of open are for what that calls: procs$"):
        gothreads.asgi(lambda: gothreads.open("nothing.wasm"), procs=2)


def test_it_needs_neither_a_server_nor_the_command_line(calls: Path) -> None:
    program = ("import sys, asyncio, gothreads\n"
               "assert not {'starlette', 'gothreads.serve'} & set(sys.modules)\n"
               "from gothreads import *\n"
               "assert 'starlette' not in sys.modules\n"
               "go = gothreads.asgi(sys.argv[1])\n"
               "async def run():\n"
               "    async with go.lifespan():\n"
               "        print(await go.app().call_async('add', 2, 3))\n"
               "asyncio.run(run())\n"
               "print([name for name in sys.modules if name.startswith(('uvicorn', 'h11', 'gothreads.cli'))])")
    done = subprocess.run([sys.executable, "-c", program, str(calls)], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n[]\n", "")
