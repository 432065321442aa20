"""The host's side of Go's network poller for threads (netpoll_gothreads.go): one thread polls all of its sockets.

It is edge-triggered, like Go's own on Linux: an idle connection costs nothing, on either side. Events are written into
a ring in the module's memory, and the M that waits for them, if any, is woken; Go then polls without calling the host.

The host's own queues (wasi/queues.py) need no waiting: whoever puts the first frame into a queue notifies Go.

The ring has one producer at a time; its consumers are Go's Ms, serialised by a lock in Go. Invariant: an event is in
the ring before `tail` counts it, and `tail` counts it before `wake` is set and notified. So an M that clears `wake`
and then reads `tail` misses nothing.

No thread waits for the current producer: it leaves its events to the producer, which checks for more after it has
released the ring. So a signal handler may report events while the thread it interrupted is the producer.
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
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.descriptors import Descriptor
from gothreads.wasi.queues import QueueReader

log = logging.getLogger("gothreads")

#: Go's description of its ring: the addresses of head, tail, wake and the events, and its capacity in events.
_RING = struct.Struct("<IIIII")
_EVENT = struct.Struct("<III")
_READ, _WRITE = 1, 2
#: How often to check a full ring for room, in seconds.
_FULL_SECONDS = 0.001
_MOST_EVENTS = 256
#: How many of Go's pollDescs one descriptor may have. Go uses one, or two where a file becomes a connection.
_MOST_POLL_DESCS = 16
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


@dataclass
class _Watched:
    """A descriptor, which stays open while it is registered here, and the Go pollDescs to notify.

    `poll_descs` maps a pollDesc's address to the sequence number that ties it to this descriptor. It is replaced, never
    modified, because threads that report events read it without the lock.
    """

    descriptor: Descriptor
    poll_descs: dict[int, int]


class Poller:
    """Reports events of descriptors to Go. Methods raise OSError, and may be called from any thread.

    The poller's thread starts with the first descriptor.
    """

    def __init__(self, memory: SharedMemory, table: DescriptorTable) -> None:
        self._memory, self._table = memory, table
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._watched: dict[int, _Watched] = {}
        self._epoll: select.epoll | None = None
        self._thread: threading.Thread | None = None
        self._ring = (0, 0, 0, 0, 0)
        # Unreported (descriptor, epoll mask) pairs, without duplicates: bounded even if a module ignores its ring.
        self._pending: dict[tuple[int, int], None] = {}
        self._producing = threading.Lock()  # held by the producer; only acquired without blocking
        self._tail = 0  # guarded by _producing
        table.on_remove = self._on_remove

    def poll_start(self, ring: int) -> None:
        """Set the ring; `ring` is the address of Go's description of it."""
        self._ring = _RING.unpack(self._memory.read(ring, _RING.size))
        if self._ring[-1] < _MOST_POLL_DESCS:
            raise OSError(errno.EINVAL, "the ring is too small")

    def poll_open(self, number: int, poll_desc: int, sequence: int) -> None:
        """Notify a pollDesc of Go's whenever the descriptor becomes readable or writable.

        ENOTSUP if it always is, ENOSPC if it has too many pollDescs, EBADF if it is not open.
        """
        descriptor = self._table.get(number)
        if not descriptor.may_wait:
            raise OSError(errno.ENOTSUP, "always ready")
        with self._lock:
            watched = self._watched.get(descriptor.fd)
            if isinstance(descriptor, QueueReader):
                watched = watched or self._watched.setdefault(descriptor.fd, _Watched(descriptor, {}))
            elif watched is None:
                self._started().register(descriptor.fd, _EVENTS)
                watched = self._watched[descriptor.fd] = _Watched(descriptor, {})
            else:
                self._started().modify(descriptor.fd, _EVENTS)  # reports current readiness again, for the new pollDesc
            if poll_desc not in watched.poll_descs and len(watched.poll_descs) >= _MOST_POLL_DESCS:
                raise OSError(errno.ENOSPC, "too many pollDescs")
            watched.poll_descs = {**watched.poll_descs, poll_desc: sequence}
            if not self._table.is_open(number, descriptor):  # removed meanwhile, and _on_remove has already run
                self._unwatch(descriptor)
                raise OSError(errno.EBADF, "not open")
        if isinstance(descriptor, QueueReader):
            descriptor.attach_poller(self._queue_ready)

    def close(self) -> None:
        """End the thread, after the app has stopped and while its memory still exists."""
        with self._lock:
            thread, epoll = self._thread, self._epoll
        if thread is not None and epoll is not None:
            thread.join()
            epoll.close()

    def _on_remove(self, descriptor: Descriptor) -> None:
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
        with contextlib.suppress(MemoryAccessError, AppClosed):  # there is no module left to notify
            self._report([(queue.fd, select.EPOLLIN)], wait=False)

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
                self._report(epoll.poll(maxevents=_MOST_EVENTS), wait=True)
        except MemoryAccessError:
            log.error("the module's ring of events is not in its memory: its sockets will wait for ever")

    def _events(self, fd: int, mask: int) -> list[bytes]:
        watched = self._watched.get(fd)
        poll_descs = {} if watched is None else watched.poll_descs
        return [_EVENT.pack(poll_desc, sequence, _mode(mask)) for poll_desc, sequence in poll_descs.items()]

    def _report(self, ready: list[tuple[int, int]], *, wait: bool) -> None:
        """Append events to the ring and wake the M that waits for them, or leave that to the current producer.

        If the ring is full: wait for room if `wait`, else leave that to a new thread, as Go may never read the ring.
        """
        self._pending.update(dict.fromkeys(ready))
        while self._pending and self._producing.acquire(blocking=False):
            try:
                full = not self._put(wait=wait)
            finally:
                self._producing.release()
            if full:
                with contextlib.suppress(RuntimeError):  # no thread is left: the next call reports these events too
                    threading.Thread(target=self._report_late, name="gothreads-poller-late", daemon=True).start()
                return

    def _report_late(self) -> None:
        with contextlib.suppress(MemoryAccessError, AppClosed):
            self._report([], wait=True)

    def _put(self, *, wait: bool) -> bool:
        """Write the unreported events to the ring, holding _producing. False if the ring is full and `wait` is false."""
        head, tail, wake, first, size = self._ring
        while self._pending:
            room = size - (self._tail - self._memory.load_u32(head) & 0xFFFFFFFF)
            if room < _MOST_POLL_DESCS:
                if self._table.stop.is_set:
                    self._pending.clear()
                    return True
                if not wait:
                    return False
                time.sleep(_FULL_SECONDS)
                continue
            now: list[bytes] = []
            taken: list[tuple[int, int]] = []
            try:
                while self._pending and len(now) + _MOST_POLL_DESCS <= room:
                    taken.append(self._pending.popitem()[0])  # first, so that an event that recurs meanwhile is kept
                    now += self._events(*taken[-1])
                place = self._tail % size
                # Each of these takes the memory's lock, so they become visible in this order on any machine.
                self._memory.write(first + place * _EVENT.size, b"".join(now[:size - place]))
                self._memory.write(first, b"".join(now[size - place:]))
                self._tail = (self._tail + len(now)) & 0xFFFFFFFF
                self._memory.store_u32(tail, self._tail)
                self._memory.store_u32(wake, 1)
                self._memory.notify(wake, 1)
            except BaseException:  # Ctrl-C in a thread that reports events: the next producer reports these too
                self._pending.update(dict.fromkeys(taken))
                raise
        return True


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
