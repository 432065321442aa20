"""Queues from Python into the module, which Go reads through descriptors: events, and the replies to its calls.

Python puts frames of bytes; Go reads a stream of frames, as many at a time as its buffer holds, and waits for more in
its poller, as for a socket. So a queue works the same in stock Go and on threads, and an idle queue costs Go nothing.

A frame belongs to the reader that has begun it: the instances of a pool read the same queue, and each gets whole
frames.

Invariant: a reader that got EAGAIN found nothing while it held the lock, and has `notified` cleared; the next put sees
that and notifies it. On threads, Go's poller is notified (wasi/poller.py); stock Go waits with poll(2) on an eventfd,
which is readable exactly while something is left.

A Python signal handler may put while the thread it interrupted is in the middle of a put or a read. So the lock is
re-entrant, and the data that it guards is consistent before each call made here, since Python runs signal handlers at
calls. If a handler raises in the middle, the next put makes up for it: readers that were not notified still have
`notified` cleared.

A reader is in `readers` from before it is added to the module's table until after it is removed, and its eventfd is
open as long as it is there. A weak reference could refer to an object that is being finalised, and whose descriptor
number has been reused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence

from gothreads.shared_memory import buffer
from gothreads.sync.stop_event import StopEvent
from gothreads.sync.waiting import wait_in_slices
from gothreads.wasi.descriptors import NONBLOCK, Descriptor, Span

_NOTHING = memoryview(b"")
_length = struct.Struct("<I")
#: Bytes of a frame besides its payload.
FRAME = _length.size


def framed(payload: bytes) -> bytes:
    """A payload as a frame for Go: its length, then its bytes."""
    return _length.pack(len(payload)) + payload


class Queue:
    """A bounded queue of frames. May be used from any thread.

    It holds at most `capacity` unread frames with at most `room` bytes in total, or one larger frame.
    """

    def __init__(self, capacity: int, room: int) -> None:
        self._capacity, self._room = capacity, room
        self.was_read = False  # whether it has ever had a reader
        self.warned = False  # whether the log says that it has none
        # Acquired directly, not through the condition: Ctrl-C could come between the condition's acquire and release.
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        # Guarded by lock.
        self.frames: deque[bytes] = deque()
        self.readers: set[QueueReader] = set()
        self._size = 0  # of the frames, in bytes
        self._waiting = 0
        self._waiters: list[Callable[[], None]] = []
        self._closed = False

    @property
    def has_readers(self) -> bool:
        """Whether the module reads the queue."""
        with self.lock:
            return bool(self.readers)

    @property
    def size(self) -> int:
        """Bytes in the unread frames."""
        return self._size

    def __len__(self) -> int:
        return len(self.frames)

    def put(self, frame: bytes) -> bool:
        """Add a frame. False if there is no room or the app has ended. Does not block."""
        size = len(frame)
        with self.lock:
            if self._closed or self._is_full(size):
                return False
            self.frames.append(frame)
            self._size += size
            unnotified = [reader for reader in self.readers if not reader.notified and not reader.notify_eventfd()]
        for reader in unnotified:
            reader.notify_poller()
        return True

    def pop(self, room: int) -> list[bytes]:
        """Remove frames until they fill `room` bytes or none are left. The caller holds `lock`."""
        taken = []
        while room > 0 and self.frames:
            frame = self.frames.popleft()
            size = len(frame)
            self._size -= size
            room -= size
            taken.append(frame)
        if taken:
            self._notify_room()
        return taken

    def when_room(self, size: int, notify: Callable[[], None]) -> None:
        """Call `notify` once, when there may be room for `size` bytes or the app has ended; immediately if so already.

        `notify` may be called from any thread, and must return without blocking.
        """
        with self.lock:
            if not self._closed and self._is_full(size):
                self._waiters.append(notify)
                return
        notify()

    def cancel_when_room(self, notify: Callable[[], None]) -> None:
        """Cancel a when_room."""
        with self.lock, contextlib.suppress(ValueError):  # already called
            self._waiters.remove(notify)

    def close(self) -> None:
        """The app is ending: wake everyone who waits for room."""
        with self.lock:
            self._closed = True
            self._notify_room()

    def _notify_room(self) -> None:
        if self._waiting:
            self._changed.notify_all()
        waiters, self._waiters = self._waiters, []
        for notify in waiters:
            notify()

    def _is_full(self, size: int) -> bool:
        return len(self.frames) >= self._capacity or (bool(self.frames) and self._size + size > self._room)

    def wait_for_room(self, size: int, timeout: float | None) -> bool:
        """Wait until there is room for `size` bytes, which another thread may take first.

        False after `timeout` seconds, or if the app has ended.
        """
        def may_go_on() -> bool:
            return self._closed or not self._is_full(size)
        with self.lock:
            self._waiting += 1
            try:
                return wait_in_slices(lambda seconds: self._changed.wait_for(may_go_on, seconds),
                                      timeout) and not self._closed
            finally:
                self._waiting -= 1


class QueueReader(Descriptor):
    """The descriptor through which one instance reads a queue."""

    polled = True

    def __init__(self, queue: Queue, stop: StopEvent) -> None:
        self._queue = queue
        # Guarded by the queue's lock.
        self._rest = _NOTHING  # unread bytes of the frames taken from the queue
        self._poller: Callable[[QueueReader], None] | None = None
        self.notified = False  # whether it was notified that there is data
        super().__init__(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), stop, flags=NONBLOCK, writable=False)

    def added(self) -> None:
        with self._queue.lock:
            self._queue.readers.add(self)
            self._queue.was_read = True
            if self._queue.frames:
                self.notify_eventfd()

    def removed(self) -> None:
        with self._queue.lock:
            self._queue.readers.discard(self)

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        """Read the available bytes into the first span, as many as fit. EAGAIN if there are none."""
        if offset is not None:
            raise OSError(errno.ESPIPE, "not seekable")
        address, size = spans[0] if spans else (0, 0)
        with self._queue.lock:
            parts, self._rest = [self._rest[:size]], self._rest[size:]
            frames = self._queue.pop(size - len(parts[0]))
            if frames:
                data = memoryview(frames[0] if len(frames) == 1 else b"".join(frames))
                room = size - len(parts[0])
                parts.append(data[:room])
                self._rest = data[room:] or _NOTHING
            if not self._rest and not self._queue.frames:
                self._clear_notified()
                if size and not any(parts):
                    raise BlockingIOError(errno.EAGAIN, "no frames")
        done = 0
        for part in filter(None, parts):
            buffer(address + done, len(part))[:] = part
            done += len(part)
        return done

    def attach_poller(self, poller: Callable[[QueueReader], None]) -> None:
        """Notify a poller, instead of the eventfd, from now on; and at once if there is data."""
        with self._queue.lock:
            self._poller = poller
            self.notified = False
            something = bool(self._queue.frames or self._rest)
        if something:
            self.notify_poller()

    def notify_eventfd(self) -> bool:
        """Signal through the eventfd that there is data; False if it has a poller. The caller holds the lock."""
        if self._poller is not None:
            return False
        os.eventfd_write(self.fd, 1)
        self.notified = True
        return True

    def notify_poller(self) -> None:
        """Notify the poller that there is data. Called without the lock, since the poller takes other locks."""
        assert self._poller is not None
        try:
            self.notified = True  # set before notifying: a read meanwhile may clear it again
            self._poller(self)
        except BaseException:
            self.notified = False
            raise

    def _clear_notified(self) -> None:
        self.notified = False
        if self._poller is None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.fd)
            if self._queue.frames:  # a signal handler has put one meanwhile
                self.notify_eventfd()
