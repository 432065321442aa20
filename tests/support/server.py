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
from tests.support.waiting import PATIENCE


class Server:
    """A server process that has begun to listen. `client` keeps connections alive, as browsers do.

    descriptors: how many it may have open. terminal: the path of the one that it is started in.
    """

    def __init__(self, *argv: object, descriptors: int | None = None, terminal: str | None = None) -> None:
        command = [*GOTHREADS, "serve", "--port", "0", *map(str, argv)]
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {descriptors} && exec "$0" "$@"', *command]
        if terminal is not None:  # the first that a new session opens is its own
            command = ["sh", "-c", f'exec "$0" "$@" < {terminal}', *command]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, start_new_session=terminal is not None)
        assert self.process.stderr is not None
        said = ""
        while (found := re.search(r"serving \S+ on (https?://127\.0\.0\.1:\d+) \(Ctrl-C to stop\)", said)) is None:
            line = self.process.stderr.readline()
            assert line, said
            said += line
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
        return self.process.returncode, err


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
