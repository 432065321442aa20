"""HTTP of any kind against `gothreads serve` (its own process, with tests/modules/calls), and against its ASGI
application.

    python -m stress.fuzz_http [--seconds 60] [--count N] [--seed N] [--only NAME]

    raw     bytes on a socket: requests with any method, path, headers and body, whole, damaged, cut off, pipelined,
            in pieces
    json    bodies of JSON of any kind, for every export, through the ASGI application

A complete request gets a response, and a request that the server cannot read gets a 4xx; never a 500, a hang, or a
connection that is dropped without a response. After each case, /healthz returns 200 and the module runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any

import httpx

from gothreads.serve.web import web_app
from stress import random_values
from stress.fuzzing import Finding, Part, main
from tests.support.modules import built, opened

#: How long a response may take, in seconds.
ANSWER_SECONDS = 20.0
#: Without exports that end the module or never return.
_EXPORTS = ("add", "int32s", "uint32s", "int64s", "uint64s", "float32s", "float64s", "bools", "uintptrs", "length",
            "compare",
            "same", "count", "procs", "nope")
_HANDLERS = ("echo", "upper", "fail", "keep", "kept", "nope")


@dataclass(frozen=True)
class HttpRequest:
    """Bytes for a connection, in pieces. `whole`: they are one or more well-formed requests, of which the last asks to
    close.
    """

    pieces: tuple[bytes, ...]
    whole: bool


class Raw(Part[HttpRequest]):
    name = "raw"

    def __enter__(self) -> Raw:
        command = [sys.executable, "-m", "gothreads", "serve", "--port", "0", str(built("calls"))]
        self._log = tempfile.NamedTemporaryFile("r", errors="replace")
        with open(self._log.name, "wb") as errors:
            self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        output = ""
        while (match := re.search(r"http://127\.0\.0\.1:(\d+) ", output)) is None:
            if self._server.poll() is not None:
                raise RuntimeError(f"the server does not start: {output}")
            time.sleep(0.02)
            output += self._log.read()
        self.port = int(match[1])
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.terminate()
        self._server.wait(30)
        self._log.close()

    def make(self, choose: random.Random) -> HttpRequest:
        requests = [_request(choose) for _ in range(choose.choice((0, 0, 0, 0, 1, 4)))] + [_request(choose, close=True)]
        content = b"".join(requests)
        whole = True
        match choose.randrange(10):
            case 0:
                content, whole = content[:choose.randrange(len(content) + 1)], False
            case 1 | 2:
                damaged = bytearray(content)
                for _ in range(choose.choice((1, 2, 8))):
                    at = choose.randrange(min(len(damaged), choose.choice((20, 200, len(damaged)))))
                    replacement = choose.choice((choose.randbytes(1), b"\r\n", b"\0", b" ", b":", b"\xff", b""))
                    damaged[at:at + choose.randrange(2)] = replacement
                content, whole = bytes(damaged), False
            case 3:
                content, whole = choose.randbytes(choose.choice((1, 20, 3_000))), False
        cuts = sorted(choose.randrange(len(content) + 1) for _ in range(choose.choice((0, 0, 0, 1, 3))))
        pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
        return HttpRequest(tuple(filter(None, pieces)), whole)

    def attempt(self, case: HttpRequest) -> str:
        reply = self.exchange(case.pieces, whole=case.whole)
        statuses = [int(status) for status in re.findall(rb"(?:\A|\n|\}|\]|[^\r])HTTP/1\.[01] (\d{3})", reply)]
        if bad := [status for status in statuses if status >= 500]:
            raise Finding(f"status {bad}: {reply[:2_000]!r}")
        if reply and not reply.startswith(b"HTTP/1."):
            raise Finding(f"no HTTP: {reply[:500]!r}")
        if not reply and case.whole:
            raise Finding("the connection was closed without a response")
        health = self.exchange((b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",))
        if not health.startswith(b"HTTP/1.1 200"):
            raise Finding(f"/healthz: {health[:2_000]!r}")
        if self._server.poll() is not None:
            raise Finding(f"the server has ended with {self._server.returncode}")
        if "Traceback" in (output := self._log.read()):
            raise Finding(f"the server writes: {output}")
        return f"{statuses[0]}" if statuses else "closed"

    def exchange(self, pieces: tuple[bytes, ...], *, whole: bool = True) -> bytes:
        """Everything received until the server closes. If the server may still wait for the rest of the request, the
        connection is shut down for writing, and then no response is due.
        """
        with socket.create_connection(("127.0.0.1", self.port), ANSWER_SECONDS) as connection:
            reply = b""
            try:
                with contextlib.suppress(BrokenPipeError,
                                         ConnectionResetError):  # it has responded before reading everything
                    for piece in pieces:
                        connection.sendall(piece)
                if not whole and not select.select([connection], [], [], 0.1)[0]:
                    connection.shutdown(socket.SHUT_WR)
                while more := connection.recv(1 << 20):
                    reply += more
                    if not whole:
                        with contextlib.suppress(OSError):
                            connection.shutdown(socket.SHUT_WR)
            except ConnectionResetError:
                pass
            except TimeoutError:
                raise Finding(f"no end after {ANSWER_SECONDS:g} s; so far: {reply[:1_000]!r}") from None
        return reply


def _request(choose: random.Random, *, close: bool = False) -> bytes:
    """What a client may send, with correct lengths."""
    method = choose.choice(("GET", "POST", "POST", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE",
                            "CONNECT", "get",
                            "QUERY", "X" * 40))
    path = _path(choose)
    if choose.random() < 0.4:  # a route that exists
        routes = [f"/api/call/{name}" for name in _EXPORTS] + [f"/api/request/{name}" for name in _HANDLERS]
        method, path = "POST", choose.choice(routes).encode()
    body = _body(choose) if method in ("POST", "PUT", "PATCH", "QUERY") else b""
    headers = [f"Host: {choose.choice(('localhost', '127.0.0.1', '127.0.0.1:1', 'module', '[::1]'))}".encode()]
    for _ in range(choose.choice((0, 0, 1, 2, 30))):
        headers.append(choose.choice((
            b"Origin: http://evil.example", b"Origin: null", b"Content-Type: application/json", b"Content-Type: \xff",
            b"Accept: */*",
            b"Cookie: " + b"a=b; " * 200,
            b"X-" + b"y" * 300 + b": 1", b"X-Empty:", b"X-Latin: \xe9\xff",
            b"Upgrade: websocket\r\nConnection: Upgrade",
            b"Upgrade: h2c", b"Range: bytes=0-1", b"If-None-Match: *", b"Forwarded: for=1", b"X-Forwarded-Host: evil",
            b"Accept-Encoding: gzip, br", b"Content-Encoding: gzip", b"TE: trailers",
            b"Authorization: Basic " + b"A" * 500,
            b"User-Agent: "
            + random_values.text(choose, longest=50).encode(errors="replace").translate(None, b"\r\n\0\x07\x1b\x7f"))))
    if close:
        headers.append(b"Connection: close")
    framing = choose.randrange(5)
    if body and framing == 0:
        headers.append(b"Transfer-Encoding: chunked")
        size = 1_000 if len(body) > 1_000 else choose.choice((1, 10, 1_000))
        pieces = [body[at:at + size] for at in range(0, len(body), size)]
        body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"
    else:
        headers.append(b"Content-Length: " + str(len(body)).encode())
    choose.shuffle(headers)
    version = b"HTTP/1." + choose.choice((b"1", b"1", b"1", b"0"))
    return f"{method} ".encode() + path + b" " + version + b"\r\n" + b"\r\n".join(headers) + b"\r\n\r\n" + body


def _path(choose: random.Random) -> bytes:
    text = random_values.text(choose, longest=200).encode(errors="replace")
    quoted = urllib.parse.quote(text, safe=choose.choice(("", "/", "/:@!$&'()*+,;=~")))
    name = choose.choice((choose.choice(_EXPORTS), choose.choice(_HANDLERS), quoted, "%00", "%ff%fe", "..%2f..",
                          "../../etc/passwd",
                          "a/b/c", "%", "%zz", ""))
    place = choose.choice(("/", "/healthz", "/api/exports", *["/api/call/"] * 3, *["/api/request/"] * 2, "/api/signal/",
                           "/api/",
                           "//", ""))
    if place.endswith("/") and place not in ("/", "//"):
        place += name
    query = choose.choice(("", "", "", "?a=b", "?%ff", "?" + "x" * 500))
    return choose.choice(("", "", "", "", "http://localhost",
                          "//evil.example")).encode() + (place or "/" + quoted).encode() + query.encode()


def _body(choose: random.Random) -> bytes:
    match choose.randrange(8):
        case 0:
            return b""
        case 1:
            return choose.randbytes(choose.choice((1, 100, 100_000)))
        case 2:
            return b'{"args": ' + random_values.json_text(choose) + b"}"
        case 3:
            return random_values.json_text(choose)
        case 4 if choose.random() < 0.05:
            return b"x" * choose.choice((64 << 20, (64 << 20) + 1))
        case _:
            return json.dumps({"args": [random_values.json_value(choose) for _ in range(choose.randrange(4))]}).encode()


class Json(Part[tuple[str, bytes]]):
    """Without the server: tests gothreads' own code only."""

    name = "json"

    def __enter__(self) -> Json:
        with contextlib.ExitStack() as opening:
            null = opening.enter_context(open("/dev/null", "wb"))
            self.app = opening.enter_context(opened("calls", stderr=null))
            self._runner = opening.enter_context(asyncio.Runner())
            self._client = httpx.AsyncClient(transport=httpx.ASGITransport(web_app(self.app)),
                                             base_url="http://localhost")
            opening.callback(lambda: self._runner.run(self._client.aclose()))
            self._opened = opening.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._opened.close()

    def make(self, choose: random.Random) -> tuple[str, bytes]:
        call = choose.random() < 0.8
        path = f"/api/call/{choose.choice(_EXPORTS)}" if call else f"/api/request/{choose.choice(_HANDLERS)}"
        return path, _body(choose)

    def attempt(self, case: tuple[str, bytes]) -> str:
        path, body = case
        reply = self._runner.run(self._client.post(path, content=body))
        if reply.status_code not in (200, 400, 404, 413, 422):
            raise Finding(f"status {reply.status_code}: {reply.text[:2_000]}")
        if "/call/" in path or reply.status_code != 200:
            answer = reply.json()
            keys = set(answer) - {"known"}
            if keys not in ({"result"}, {"error"}) or ("error" in answer and not isinstance(answer["error"], str)):
                raise Finding(f"a response of another form: {reply.text[:2_000]}")
        if self.app.state.value != "running":
            raise Finding(f"the module no longer runs: {self.app.error}")
        return str(reply.status_code)


PARTS: list[Part[Any]] = [Raw(), Json()]


if __name__ == "__main__":
    sys.exit(main("stress.fuzz_http", PARTS, __doc__))
