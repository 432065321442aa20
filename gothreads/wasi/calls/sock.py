"""sock_…: accepting connections, and transferring data over them. (guest.Listen and guest.Dial: wasi/sockets.py.)"""

from __future__ import annotations

import errno
import socket

from gothreads.wasi.descriptors import ALL_FLAGS, NONBLOCK
from gothreads.wasi.process import Process
from gothreads.wasi.socket_descriptor import socket_of

#: Indexed by WASI's sdflags, minus one.
_HOW = (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)


class SockCalls:
    """Functions on sockets."""

    def __init__(self, process: Process) -> None:
        self._process, self._table = process, process.table

    def sock_accept(self, fd: int, flags: int, result: int) -> None:
        listener = self._table.get(fd)
        if flags & ~ALL_FLAGS:
            raise OSError(errno.EINVAL, "unknown flags")
        self._table.check_room()  # a connection that finds none waits in the listener's queue, as natively
        accepted = socket_of(listener).accept()
        accepted.flags = flags | NONBLOCK
        self._process.add_descriptor(accepted, result)

    def sock_recv(self, fd: int, vectors: int, count: int, flags: int, done: int, out_flags: int) -> None:
        if flags:
            raise OSError(errno.ENOTSUP, "flags of sock_recv are not supported")
        descriptor = self._table.get(fd)
        size = socket_of(descriptor).read(self._process.spans(vectors, count))
        self._process.memory.write_u32(done, size)
        self._process.memory.write(out_flags, b"\0\0")

    def sock_send(self, fd: int, vectors: int, count: int, _flags: int, done: int) -> None:
        descriptor = self._table.get(fd)
        size = socket_of(descriptor).write(self._process.spans(vectors, count))
        self._process.memory.write_u32(done, size)

    def sock_shutdown(self, fd: int, how: int) -> None:
        if how not in (1, 2, 3):
            raise OSError(errno.EINVAL, "unknown direction")
        descriptor = self._table.get(fd)
        socket_of(descriptor).socket.shutdown(_HOW[how - 1])
