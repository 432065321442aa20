"""Descriptors of sockets."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptors import NONBLOCK, Descriptor, Span

# Non-blocking socket calls that keep the GIL: they take less time than releasing and reacquiring it.
_recv = ctypes.PyDLL(None, use_errno=True).recv
_send = ctypes.PyDLL(None, use_errno=True).send
_recv.restype = _send.restype = ctypes.c_ssize_t
_recv.argtypes = _send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_AT_ONCE = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


class Cleanup:
    """Calls functions when nothing refers to it any more: what descriptors of the same file share."""

    def __init__(self, *runs: Callable[[], object]) -> None:
        self._runs = [*runs]

    def add(self, run: Callable[[], object]) -> None:
        self._runs.append(run)

    def __del__(self) -> None:
        for run in self._runs:
            run()


class SocketDescriptor(Descriptor):
    """A listening or stream socket. `local` and `peer`: a Unix socket's paths, as the caller gave them."""

    polled = True

    @property
    def direct(self) -> bool:
        """Whether reads and writes are calls of recv and send that never wait, so that C may serve them."""
        return bool(self.flags & NONBLOCK)

    def __init__(self, connection: socket.socket, stop: StopEvent, *, local: str = "", peer: str = "") -> None:
        self.socket, self.local, self.peer = connection, local, peer
        self.peer_name: Any = None  # of an accepted connection, stored because the peer may disconnect
        self.cleanup: Cleanup | None = None  # runs after the socket is closed
        self.on_use: Callable[[], object] | None = None  # called when the program takes up this listener
        connection.setblocking(False)  # noqa: FBT003  (its only form)
        super().__init__(connection.fileno(), stop, flags=NONBLOCK)

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        return self._at_once(_recv, select.POLLIN, spans, offset)

    def write(self, spans: Sequence[Span], offset: int | None = None) -> int:
        return self._at_once(_send, select.POLLOUT, spans, offset)

    def _at_once(self, call: Callable[[int, int, int, int], int], events: int, spans: Sequence[Span],
                 offset: int | None) -> int:
        """Transfer the first span only, as WASI permits: Go passes only one."""
        if offset is not None:
            raise OSError(errno.ESPIPE, "a socket")
        address, size = spans[0] if spans else (0, 0)
        while True:
            done = call(self.fd, address, size, _AT_ONCE)
            if done >= 0:
                return done
            number = ctypes.get_errno()
            if number != errno.EINTR and (number != errno.EAGAIN or self.flags & NONBLOCK):
                raise OSError(number, "")
            if number == errno.EAGAIN:
                self._stop.wait({self.fd: events})

    def taken_up(self) -> None:
        """Called when the program begins to use a listener that it was handed."""
        on_use, self.on_use = self.on_use, None
        if on_use is not None:
            on_use()

    def option(self, level: int, option: int) -> int:
        return self.socket.getsockopt(level, option)

    def set_option(self, level: int, option: int, value: bytes) -> None:
        self.socket.setsockopt(level, option, value)

    def accept(self) -> SocketDescriptor:
        self.taken_up()
        while True:
            try:
                made, name = self.socket.accept()
                accepted = SocketDescriptor(prepared(made), self._stop, local=self.local)
                accepted.peer_name = name
                return accepted
            except BlockingIOError:
                if self.flags & NONBLOCK:
                    raise
                self._stop.wait({self.fd: select.POLLIN})

    def __del__(self) -> None:
        self.socket.close()


def socket_of(descriptor: Descriptor) -> SocketDescriptor:
    """Return the descriptor if it is a socket; else raise ENOTSOCK."""
    if not isinstance(descriptor, SocketDescriptor):
        raise OSError(errno.ENOTSOCK, "not a socket")
    return descriptor


def prepared(connection: socket.socket) -> socket.socket:
    """Set TCP options as Go's net package does: small writes are sent at once, and dead peers are detected."""
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection
