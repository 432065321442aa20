"""Drives the module `sockets`, with Python sockets as its peers."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import gothreads
from tests.support.modules import built
from tests.support.waiting import wait_until

LOOPBACKS = ["127.0.0.1", "[::1]"] if socket.has_ipv6 and Path("/proc/net/if_inet6").exists() else ["127.0.0.1"]


class GoError(Exception):
    """An error from Go: its text, and the names of the errors that errors.Is finds in it."""


class Go:
    """The module."""

    def __init__(self, app: gothreads.App) -> None:
        self.app = app

    def __call__(self, op: str, *args: object) -> Any:
        return self._answered(self.app.request("do", json.dumps({"Op": op, "Args": args})))

    def begin(self, op: str, *args: object) -> Future[bytes]:
        return self.app.submit_request("do", json.dumps({"Op": op, "Args": args}))

    def result(self, begun: Future[bytes], seconds: float = 10) -> Any:
        return self._answered(begun.result(seconds))

    @staticmethod
    def _answered(reply: bytes) -> Any:
        said = json.loads(reply)
        if said["Error"]:
            raise GoError(f"{said['Error']} {said['Is']}")
        return said["Value"]

    def fails(self, what: str, op: str, *args: object, within: float = 2) -> None:
        """Assert that a call fails with an error that has `what` in its text, or in the names that errors.Is finds."""
        with pytest.raises(GoError, match=what):
            self.result(self.begin(op, *args), within)

    def listen(self, network: str = "tcp", address: str = "127.0.0.1:0") -> tuple[int, str]:
        """Start a listener; return its number and its address."""
        listener = self("listen", network, address)
        return listener, self("addr", listener).split()[2]

    def pair(self) -> tuple[int, socket.socket]:
        """Connect Python to Go; return Go's end and Python's."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            dialled = self("dial", "tcp", address_of(server))
            return dialled, server.accept()[0]


@functools.cache
def module() -> Path:
    return built("sockets")


def address_of(own: socket.socket) -> str:
    return "{}:{}".format(*own.getsockname()[:2])


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def connected(address: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX if "/" in address else socket.AF_INET6 if "[" in address else socket.AF_INET)
    made.settimeout(20)
    host, _, port = address.rpartition(":")
    try:
        made.connect(address if "/" in address else (host.strip("[]"), int(port)))
    except BaseException:
        made.close()
        raise
    return made


def received(own: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := own.recv(size - len(data))):
        data += part
    return data


def reset(own: socket.socket) -> None:
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    own.close()


def blocked(count: int, go: Go) -> None:
    """Wait until `count` calls are blocked in Go."""
    wait_until(lambda: (found := go.app.statistics().go) is not None and len(found.blocked_calls) == count)


@contextlib.contextmanager
def opened(*allow_net: str, **options: Any) -> Iterator[Go]:
    with gothreads.open(module(), allow_net=allow_net, procs=2, stderr=io.BytesIO(), **options) as app:
        yield Go(app)


@contextlib.contextmanager
def nobody_answers() -> Iterator[str]:
    """The address of a listener with a full backlog: connecting to it blocks."""
    with contextlib.ExitStack() as sockets:
        server = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield address_of(server)
