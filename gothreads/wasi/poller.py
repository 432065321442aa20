"""The host's side of Go's network poller for threads (build/goroot/runtime/netpoll_gothreads.go).

It is Linux's epoll, edge-triggered, as in Go's own poller: an M that has nothing to do waits in `poll_wait`, with its
timers' time limit; an idle connection costs nothing. With the C extension, waiting does not involve Python
(csrc/poller.c, wasi/native_io.py); here is the same without it.

The host's own events need no descriptor: `notify` adds them and wakes a waiting M. These are the queues of
wasi/queues.py, and signals (wasi/signals.py).

Invariant: an event is pending before a waiting M is woken, and `poll_wait` looks at what is pending after it has
waited. So no event is left until the next one. A signal handler may notify while the thread that it interrupted is
anywhere in here: the operations on `_pending` are single steps.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct

from gothreads.engine import ffi
from gothreads.errors import AppClosed
from gothreads.shared_memory import SharedMemory
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.descriptors import Descriptor
from gothreads.wasi.peers import Peers
from gothreads.wasi.queues import QueueReader

#: An event as Go reads it: the address of a pollDesc, its sequence number, and what it is ready for.
_EVENT = struct.Struct("<III")
_READ, _WRITE, _SIGNAL = 1, 2, 4
_MOST_EVENTS = 128
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Poller:
    """Reports events of descriptors to Go, in Python. Methods may be called from any thread, and raise OSError."""

    def __init__(self, memory: SharedMemory, table: DescriptorTable) -> None:
        self._memory, self._table, self.peers = memory, table, Peers()
        self._pending: dict[tuple[int, int, int], None] = {}
        # a host descriptor -> the pollDesc to tell, and its sequence number
        self._watched: dict[int, tuple[int, int]] = {}
        self._epoll, self._wake = select.epoll(), os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        for descriptor in (self._wake, table.stop.descriptor):
            self._epoll.register(descriptor, select.EPOLLIN)
        table.on_remove = self._forget

    def define(self, functions: ffi.HostFunctions) -> None:
        """Replace the host functions that can be served without Python. Call it after they have been defined."""

    def poll_open(self, number: int, poll_desc: int, sequence: int) -> None:
        """Notify a pollDesc of Go's whenever the descriptor becomes readable or writable.

        ENOTSUP if it always is, EBADF if it is not open.
        """
        descriptor = self._table.get(number)
        if not descriptor.may_wait:
            raise OSError(errno.ENOTSUP, "it never waits")
        if isinstance(descriptor, QueueReader):
            descriptor.attach_poller(lambda _queue: self.notify(poll_desc, sequence, _READ))
        else:
            self._watch(descriptor.fd, poll_desc, sequence)

    def poll_wait(self, nanoseconds: int, events: int, most: int) -> int:
        """Write events to the module's memory; returns how many. Wait if there are none: for ever if negative.

        `nanoseconds` is a signed number, passed as an unsigned one.
        """
        timeout = None if nanoseconds >> 63 else nanoseconds / 1e9
        made = []
        for descriptor, mask in self._epoll.poll(0 if self._pending else timeout, min(most, _MOST_EVENTS)):
            if descriptor == self._wake:
                if nanoseconds:  # else it is left to the poll_wait that it is to wake
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
            elif (watched := self._watched.get(descriptor)) is not None:
                made.append(_EVENT.pack(*watched, _mode(mask)))
        if self._table.stop.is_set:
            raise AppClosed("stopped")
        while self._pending and len(made) < most:
            with contextlib.suppress(KeyError):  # another thread was faster
                made.append(_EVENT.pack(*self._pending.popitem()[0]))
        self._memory.write(events, b"".join(made))
        return len(made)

    def poll_break(self) -> None:
        """Let a poll_wait that waits return."""
        os.eventfd_write(self._wake, 1)

    def notify(self, poll_desc: int, sequence: int, mode: int) -> None:
        """Report an event. Never waits; a signal handler may call it."""
        self._pending[poll_desc, sequence, mode] = None
        with contextlib.suppress(OSError):  # closed: there is no module left to notify
            self.poll_break()

    def signal(self, number: int) -> None:
        """Report a signal to Go's os/signal. Never waits; a signal handler may call it."""
        self.notify(0, number, _SIGNAL)

    def close(self) -> None:
        """Close the poller. No thread may be in it."""
        self._epoll.close()
        os.close(self._wake)

    def _watch(self, descriptor: int, poll_desc: int, sequence: int) -> None:
        # first: epoll reports at once, and only once, what is ready now
        self._watched[descriptor] = poll_desc, sequence
        try:
            self._epoll.register(descriptor, _EVENTS)
        except FileExistsError:
            self._epoll.modify(descriptor, _EVENTS)

    def _forget(self, _number: int, descriptor: Descriptor) -> None:
        """The table removes a descriptor."""
        if self._watched.pop(descriptor.fd, None) is not None:
            with contextlib.suppress(OSError):  # the socket's file was replaced (wasi/network.py)
                self._epoll.unregister(descriptor.fd)


def _mode(mask: int) -> int:
    """Go's mode bits for an epoll mask, as in netpoll_epoll.go.

    A hang-up or an error counts as readable and writable: reading and writing then return the error.
    """
    mode = 0
    if mask & (select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
        mode |= _READ
    if mask & (select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR):
        mode |= _WRITE
    return mode
