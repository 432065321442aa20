"""One thread of the host's waits for all of a module's sockets: Go's network poller (netpoll_gothreads.go) for threads.

Edge-triggered, as Go's own on Linux: an idle connection costs nothing, on either side. What happens goes into a ring in the
module's memory, and the M that waits for it, if any, is woken; Go then polls without calling the host.

The ring: one producer (this thread), and Go's Ms, under a lock of Go's, as its consumers. Invariant: an event is in the ring
before `tail` counts it, and `tail` counts it before `wake` is set and notified. So an M that clears `wake` and then looks
at `tail` loses nothing.
"""

from __future__ import annotations

import errno
import logging
import select
import struct
import threading
import time
from dataclasses import dataclass

from gothreads.errors import MemoryAccessError
from gothreads.host.descriptors import Descriptor, Table
from gothreads.shared_memory import SharedMemory

log = logging.getLogger("gothreads")

#: Of a ring, in Go: the addresses of head, tail, wake and the events, and how many events it holds.
_RING = struct.Struct("<IIIII")
_EVENT = struct.Struct("<III")
_READ, _WRITE = 1, 2
#: While Go does not take events out of a full ring: how often to look again, in seconds.
_FULL_SECONDS = 0.001
_MOST_EVENTS = 256
#: How many of Go's pollDescs one descriptor may have. Go has one, or two where a file becomes a connection.
_MOST_TOLD = 16
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


@dataclass
class _Watched:
    """One descriptor, which is not closed before it is forgotten here; and Go's pollDescs, address -> the number that makes it this descriptor's."""

    descriptor: Descriptor
    told: dict[int, int]


class Poller:
    """The thread starts with the first descriptor. Methods raise OSError, and may be called from any thread."""

    def __init__(self, memory: SharedMemory, table: Table) -> None:
        self._memory, self._table = memory, table
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._watched: dict[int, _Watched] = {}
        self._epoll: select.epoll | None = None
        self._thread: threading.Thread | None = None
        self._ring = (0, 0, 0, 0, 0)
        self._tail = 0
        table.on_remove = self._forget

    def start(self, ring: int) -> None:
        """Go says where its ring is."""
        self._ring = _RING.unpack(self._memory.read(ring, _RING.size))
        if not self._ring[-1]:
            raise OSError(errno.EINVAL, "a ring without room")

    def open(self, number: int, poll_desc: int, sequence: int) -> None:
        """Tell Go when a descriptor can be read or written again. ENOTSUP: this one always can."""
        descriptor = self._table.get(number)
        if not descriptor.may_wait:
            raise OSError(errno.ENOTSUP, "it never waits")
        with self._lock:
            epoll = self._started()
            watched = self._watched.get(descriptor.fd)
            if watched is None:
                epoll.register(descriptor.fd, _EVENTS)
                watched = self._watched[descriptor.fd] = _Watched(descriptor, {})
            else:
                epoll.modify(descriptor.fd, _EVENTS)  # what is ready is said again, for the one that is new
            if poll_desc not in watched.told and len(watched.told) >= _MOST_TOLD:
                raise OSError(errno.ENOSPC, "polled too often")
            watched.told[poll_desc] = sequence
            if not self._table.is_open(number, descriptor):  # it was taken out meanwhile, and _forget has been here before us
                self._unwatch(descriptor.fd)
                raise OSError(errno.EBADF, "not open")

    def close(self) -> None:
        """The app has stopped: end the thread. The memory must still be there."""
        with self._lock:
            thread, epoll = self._thread, self._epoll
        if thread is not None and epoll is not None:
            thread.join()
            epoll.close()

    def _forget(self, descriptor: Descriptor) -> None:
        with self._lock:
            watched = self._watched.get(descriptor.fd)
            if watched is not None and watched.descriptor is descriptor:
                self._unwatch(descriptor.fd)

    def _unwatch(self, fd: int) -> None:
        del self._watched[fd]
        assert self._epoll is not None
        self._epoll.unregister(fd)

    def _started(self) -> select.epoll:
        if self._epoll is None:
            epoll = select.epoll()
            try:
                epoll.register(self._table.stop.descriptor, select.EPOLLIN)
                thread = threading.Thread(target=self._run, args=(epoll,), name="gothreads-poller", daemon=True)
                thread.start()
            except BaseException as error:
                epoll.close()
                raise OSError(errno.EAGAIN, "no thread is left") from error
            self._epoll, self._thread = epoll, thread
        return self._epoll

    def _run(self, epoll: select.epoll) -> None:
        try:
            while not self._table.stop.is_set:
                self._tell(self._events(epoll.poll(maxevents=_MOST_EVENTS)))
        except MemoryAccessError:
            log.error("the module's ring of events is not in its memory: its sockets will wait for ever")

    def _events(self, ready: list[tuple[int, int]]) -> list[bytes]:
        with self._lock:
            return [_EVENT.pack(poll_desc, sequence, _mode(mask))
                    for fd, mask in ready if fd in self._watched for poll_desc, sequence in self._watched[fd].told.items()]

    def _tell(self, events: list[bytes]) -> None:
        """Put events behind the last, as there is room, and wake who waits."""
        head, tail, wake, first, size = self._ring
        while events:
            room = size - (self._tail - self._memory.load_u32(head) & 0xFFFFFFFF)
            if room <= 0:
                if self._table.stop.is_set:
                    return
                time.sleep(_FULL_SECONDS)
                continue
            place = self._tail % size
            now, events = events[:min(room, size - place)], events[min(room, size - place):]
            # Each takes the memory's lock, so that they are seen in this order on any machine.
            self._memory.write(first + place * _EVENT.size, b"".join(now))
            self._tail = (self._tail + len(now)) & 0xFFFFFFFF
            self._memory.store_u32(tail, self._tail)
            self._memory.store_u32(wake, 1)
            self._memory.notify(wake, 1)


def _mode(mask: int) -> int:
    """As Go's netpoll_epoll.go: what hung up, or has failed, can be read and written, and says so then."""
    mode = 0
    if mask & (select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
        mode |= _READ
    if mask & (select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR):
        mode |= _WRITE
    return mode
