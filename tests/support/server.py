"""Runs `gothreads serve` as a process, with a client."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx

from tests.support.command_line import GOTHREADS
from tests.support.forked import Forked
from tests.support.waiting import PATIENCE


class Server:
    """A server process that has begun to listen. `client` keeps connections alive, as browsers do.

    begun: what it has said by then. descriptors: how many it may have open. terminal: the path of the one that it is started in.
    """

    def __init__(self, *argv: object, descriptors: int | None = None, terminal: str | None = None) -> None:
        arguments = ["serve", "--port", "0", *map(str, argv)]
        self.process: Forked | subprocess.Popen[str]
        if descriptors is None and terminal is None:
            self.process = Forked(*arguments)
        else:
            before = "" if descriptors is None else f"ulimit -n {descriptors} && "
            stdin = "" if terminal is None else f" < {terminal}"  # the first that a new session opens is its own
            self.process = subprocess.Popen(
                ["sh", "-c", f'{before}exec "$0" "$@"{stdin}', *GOTHREADS, *arguments], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=terminal is not None)
        stderr = self.process.stderr
        assert stderr is not None
        said = ""
        while (found := re.search(r"serving \S+ on (https?://127\.0\.0\.1:\d+) \(Ctrl-C to stop\)", said)) is None:
            line = stderr.readline()
            assert line, said
            said += line
        self.begun = said  # what it said before it served
        self.client = httpx.Client(base_url=found[1], timeout=PATIENCE, limits=httpx.Limits(max_connections=100))
        self._threads = ThreadPoolExecutor(40)

    def call(self, export: str, *args: Any) -> httpx.Response:
        return self.client.post(f"/api/call/{export}", json={"args": args})

    def begin(self, export: str, *args: Any) -> Future[httpx.Response]:
        """Start a call on a separate connection. The server has begun it when this returns.

        The connection is accepted before the call is sent, and another call is answered after it was sent: by then the
        server's single event loop has seen the first one.
        """
        connection = socket.create_connection((self.client.base_url.host, self.client.base_url.port or 80))
        replies = connection.makefile("rb")
        connection.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while replies.readline() not in (b"\r\n", b""):
            pass
        content = json.dumps({"args": args}).encode()
        head = (f"POST /api/call/{export} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\nConnection: "
                f"close\r\n\r\n")
        connection.sendall(head.encode() + content)
        assert self.call("count").status_code == 200

        def answer() -> httpx.Response:
            with connection, replies:
                top, _, body = replies.read().partition(b"\r\n\r\n")
            return httpx.Response(int(top.split()[1]), content=body)
        return self._threads.submit(answer)

    def end(self, seconds: float = 15) -> tuple[int, str]:
        """Wait for the process to end; return its exit code and its standard error."""
        out, err = self.process.communicate(timeout=seconds)
        assert out == ""
        return self.process.wait(), err


@contextlib.contextmanager
def running(*argv: object, descriptors: int | None = None, terminal: str | None = None) -> Iterator[Server]:
    started = Server(*argv, descriptors=descriptors, terminal=terminal)
    try:
        yield started
    finally:
        started.process.kill()
        started.client.close()
        started._threads.shutdown()
        started.process.communicate()
