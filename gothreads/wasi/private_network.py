"""Sockets that only the module itself reaches: what it listens on at port 0 of its own machine, if no rule allows that.

Connections are socket pairs, which the connecting side puts into the listener's backlog. Datagrams go through a socket
pair for each private socket, with the sender's address before them. Ports are numbers in a table of the module.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from gothreads.wasi.socket_address import SOCKADDR_SIZE, Address
from gothreads.wasi.socket_descriptor import Cleanup

Connection = TypeVar("Connection")
T = TypeVar("T")

#: The most connections that wait to be accepted.
_BACKLOG = 4096
_MOST_DATAGRAM = 65536
#: Private ports, as Linux chooses them.
FIRST_PORT, LAST_PORT = 32768, 60999


class Inbox:
    """Datagrams for a private socket: a pair of sockets, of which the reading one is the socket's descriptor."""

    def __init__(self) -> None:
        self.reading, self.writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.writing.setblocking(False)  # noqa: FBT003  (its only form)

    @staticmethod
    def take(reading: socket.socket, flags: int) -> tuple[bytes, Address]:
        """A datagram and its sender. `reading`: the reading end, or a duplicate."""
        data = reading.recv(SOCKADDR_SIZE + _MOST_DATAGRAM, flags)
        return data[SOCKADDR_SIZE:], Address.unpack(data[:SOCKADDR_SIZE])

    def put(self, sender: Address, payload: bytes) -> None:
        """Deliver a datagram, or lose it if there is no room, as UDP may."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.writing.send(sender.pack() + payload)


class Backlog(Generic[Connection]):
    """Connections to a private listener that it has yet to accept.

    Its descriptor is an eventfd (EFD_SEMAPHORE) that counts them: a connection is in the deque before it is counted.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: deque[Connection] = deque()

    def put(self, connection: Connection) -> None:
        if len(self._waiting) >= _BACKLOG:
            raise OSError(errno.ECONNREFUSED, "the listener accepts no connections")
        self._waiting.append(connection)
        os.eventfd_write(self.descriptor, 1)

    def take(self) -> Connection:
        """BlockingIOError if there is none."""
        os.eventfd_read(self.descriptor)
        return self._waiting.popleft()

    def __del__(self) -> None:
        os.close(self.descriptor)


class PrivatePorts(Generic[Connection]):
    """The module's private ports, of streams and of datagrams. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock; _backlogs and _inboxes are read without it.
        self._backlogs: dict[int, Backlog[Connection]] = {}
        self._inboxes: dict[int, Inbox] = {}
        self._next = itertools.cycle(range(FIRST_PORT, LAST_PORT + 1))
        #: Called after a port has been opened.
        self.on_open: Callable[[], None] = lambda: None

    def listen(self, backlog: Backlog[Connection]) -> tuple[int, Cleanup]:
        """A free port for connections, and what frees it."""
        return self._open(self._backlogs, backlog)

    def receive(self, inbox: Inbox) -> tuple[int, Cleanup]:
        """A free port for datagrams, and what frees it."""
        return self._open(self._inboxes, inbox)

    def backlog(self, port: int) -> Backlog[Connection] | None:
        return self._backlogs.get(port)

    def inbox(self, port: int) -> Inbox | None:
        return self._inboxes.get(port)

    def _open(self, taken: dict[int, T], what: T) -> tuple[int, Cleanup]:
        with self._lock:
            port = next((port for port in itertools.islice(self._next, LAST_PORT - FIRST_PORT + 1)
                         if port not in taken), None)
            if port is None:
                raise OSError(errno.EADDRINUSE, "no private port is left")
            taken[port] = what
        self.on_open()
        return port, Cleanup(functools.partial(self._free, taken, port))

    def _free(self, taken: dict[int, Any], port: int) -> None:
        with self._lock:
            taken.pop(port, None)


