"""One thread of the host's waits for all of a module's sockets: Go's network poller (netpoll_gothreads.go) for threads.

Edge-triggered, as Go's own on Linux: an idle connection costs nothing, on either side. What happens goes into a ring in the
module's memory, and the M that waits for it, if any, is woken; Go then polls without calling the host.

A queue of the host's own (queues.py) is not waited for: whoever puts the first thing into it tells Go.

The ring: one producer at a time, and Go's Ms, under a lock of Go's, as its consumers. Invariant: an event is in the ring
before `tail` counts it, and `tail` counts it before `wake` is set and notified. So an M that clears `wake` and then looks
at `tail` loses nothing.

Nobody waits for the producer of the moment: events are left to it, and it looks for them again after it has let go of the ring. So a
signal handler may tell while its own thread does.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import struct
import threading
import time
from dataclasses import dataclass

from gothreads.errors import AppClosed, MemoryAccessError
from gothreads.shared_memory import SharedMemory
from gothreads.wasi.descriptors import Descriptor, DescriptorTable
from gothreads.wasi.queues import QueueReader

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
    """One descriptor, which is not closed before it is forgotten here; and Go's pollDescs, address -> the number that makes it this descriptor's.

    `told` is never changed, but replaced: whoever tells does not take the lock.
    """

    descriptor: Descriptor
    told: dict[int, int]


class Poller:
    """The thread starts with the first descriptor. Methods raise OSError, and may be called from any thread."""

    def __init__(self, memory: SharedMemory, table: DescriptorTable) -> None:
        self._memory, self._table = memory, table
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._watched: dict[int, _Watched] = {}
        self._epoll: select.epoll | None = None
        self._thread: threading.Thread | None = None
        self._ring = (0, 0, 0, 0, 0)
        self._untold: dict[tuple[int, int], None] = {}  # descriptor and events, each once: a module that does not look at its ring cannot fill this
        self._telling = threading.Lock()  # never waited for
        self._tail = 0  # guarded by _telling
        table.on_remove = self._forget

    def start(self, ring: int) -> None:
        """Go says where its ring is."""
        self._ring = _RING.unpack(self._memory.read(ring, _RING.size))
        if self._ring[-1] < _MOST_TOLD:
            raise OSError(errno.EINVAL, "a ring without room")

    def open(self, number: int, poll_desc: int, sequence: int) -> None:
        """Tell Go when a descriptor can be read or written again. ENOTSUP: this one always can."""
        descriptor = self._table.get(number)
        if not descriptor.may_wait:
            raise OSError(errno.ENOTSUP, "it never waits")
        with self._lock:
            watched = self._watched.get(descriptor.fd)
            if isinstance(descriptor, QueueReader):
                watched = watched or self._watched.setdefault(descriptor.fd, _Watched(descriptor, {}))
            elif watched is None:
                self._started().register(descriptor.fd, _EVENTS)
                watched = self._watched[descriptor.fd] = _Watched(descriptor, {})
            else:
                self._started().modify(descriptor.fd, _EVENTS)  # what is ready is said again, for the one that is new
            if poll_desc not in watched.told and len(watched.told) >= _MOST_TOLD:
                raise OSError(errno.ENOSPC, "polled too often")
            watched.told = {**watched.told, poll_desc: sequence}
            if not self._table.is_open(number, descriptor):  # it was taken out meanwhile, and _forget has been here before us
                self._unwatch(descriptor)
                raise OSError(errno.EBADF, "not open")
        if isinstance(descriptor, QueueReader):
            descriptor.tell(self._queue_ready)

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
                self._unwatch(descriptor)

    def _unwatch(self, descriptor: Descriptor) -> None:
        del self._watched[descriptor.fd]
        if not isinstance(descriptor, QueueReader):
            assert self._epoll is not None
            self._epoll.unregister(descriptor.fd)

    def _queue_ready(self, queue: QueueReader) -> None:
        with contextlib.suppress(MemoryAccessError, AppClosed):  # nobody is left to tell
            self._tell([(queue.fd, select.EPOLLIN)], wait=False)

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
                self._tell(epoll.poll(maxevents=_MOST_EVENTS), wait=True)
        except MemoryAccessError:
            log.error("the module's ring of events is not in its memory: its sockets will wait for ever")

    def _events(self, fd: int, mask: int) -> list[bytes]:
        watched = self._watched.get(fd)
        return [_EVENT.pack(poll_desc, sequence, _mode(mask)) for poll_desc, sequence in watched.told.items()] if watched else []

    def _tell(self, ready: list[tuple[int, int]], *, wait: bool) -> None:
        """Put events behind the last and wake who waits for them. Whoever does so now does it for this one too.

        `wait` for room; else, when there is none, that is left to another thread: Go may never look.
        """
        self._untold.update(dict.fromkeys(ready))
        while self._untold and self._telling.acquire(blocking=False):
            try:
                full = not self._put(wait)
            finally:
                self._telling.release()
            if full:
                with contextlib.suppress(RuntimeError):  # the system has no thread left: the next to tell tells this too
                    threading.Thread(target=self._tell_late, name="gothreads-poller-late", daemon=True).start()
                return

    def _tell_late(self) -> None:
        with contextlib.suppress(MemoryAccessError, AppClosed):
            self._tell([], wait=True)

    def _put(self, wait: bool) -> bool:
        """False when the ring is full, and not to be waited for."""
        head, tail, wake, first, size = self._ring
        while self._untold:
            room = size - (self._tail - self._memory.load_u32(head) & 0xFFFFFFFF)
            if room < _MOST_TOLD:
                if self._table.stop.is_set:
                    self._untold.clear()
                    return True
                if not wait:
                    return False
                time.sleep(_FULL_SECONDS)
                continue
            now: list[bytes] = []
            taken: list[tuple[int, int]] = []
            try:
                while self._untold and len(now) + _MOST_TOLD <= room:
                    taken.append(self._untold.popitem()[0])  # first: one that comes again meanwhile is told again
                    now += self._events(*taken[-1])
                place = self._tail % size
                # Each takes the memory's lock, so that they are seen in this order on any machine.
                self._memory.write(first + place * _EVENT.size, b"".join(now[:size - place]))
                self._memory.write(first, b"".join(now[size - place:]))
                self._tail = (self._tail + len(now)) & 0xFFFFFFFF
                self._memory.store_u32(tail, self._tail)
                self._memory.store_u32(wake, 1)
                self._memory.notify(wake, 1)
            except BaseException:  # Ctrl-C, in a thread that signals: whoever tells next tells these too
                self._untold.update(dict.fromkeys(taken))
                raise
        return True


def _mode(mask: int) -> int:
    """As Go's netpoll_epoll.go: what hung up, or has failed, can be read and written, and says so then."""
    mode = 0
    if mask & (select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
        mode |= _READ
    if mask & (select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR):
        mode |= _WRITE
    return mode
