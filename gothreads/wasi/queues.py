"""Queues from Python into the module, which Go reads through descriptors: events, and the replies to its calls.

What is put is a frame of bytes; Go reads a stream of frames, as many at a time as its buffer takes, and waits for more in its
poller, like for a socket. So a queue works the same in stock Go and on threads, and costs Go nothing while nothing comes.

A frame belongs to the reader that has begun it: the instances of a pool read the same events, each of them whole ones.

Invariant: a reader that was told EAGAIN found nothing, under the lock, and is untold then; whoever puts the next thing finds it so,
and tells it. On threads that is Go's poller (poller.py); stock Go waits with poll(2), for an eventfd that is readable
exactly while something is left.

A signal handler of Python's may put while its thread is in the middle of a put or a read. Hence the lock that a thread may take
twice; and what is guarded by it is right before each call in here, since that is where Python runs signal handlers. Should one raise
in the middle, the next put makes good for it: who was not told is still untold.

A reader is among `readers` from before the module's table has it until the table has let go of it, and as long as it is there,
its eventfd is open: a weak reference would be one to an object whose end has begun, and whose number may be another's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from gothreads.shared_memory import buffer
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptors import NONBLOCK, Descriptor, Span

#: How long a signal may go unseen in a wait, in seconds.
_SLICE = 0.2
_NOTHING = memoryview(b"")
_length = struct.Struct("<I")
#: How many bytes a frame has besides the payload.
FRAME = _length.size


def framed(payload: bytes) -> bytes:
    """An event as Go reads it: its length, its bytes."""
    return _length.pack(len(payload)) + payload


class Queue:
    """At most `capacity` frames that were not yet begun to be read, and `room` bytes in them, or one frame. May be used from any thread."""

    def __init__(self, capacity: int, room: int) -> None:
        self._capacity, self._room = capacity, room
        self.lock = threading.RLock()  # taken itself, not through the condition: Ctrl-C could come between its taking and its giving back
        self._changed = threading.Condition(self.lock)
        # Guarded by lock.
        self.frames: deque[bytes] = deque()
        self.readers: set[QueueReader] = set()
        self._size = 0  # of the frames, in bytes
        self._waiting = 0
        self._waiters: list[Callable[[], None]] = []
        self._closed = False

    @property
    def wanted(self) -> bool:
        """Whether the module has asked for it."""
        with self.lock:
            return bool(self.readers)

    @property
    def size(self) -> int:
        """Of the frames that were not yet begun to be read, in bytes."""
        return self._size

    def __len__(self) -> int:
        return len(self.frames)

    def put(self, frame: bytes) -> bool:
        """Add a frame; False when there is no room, or the app has ended. Does not wait."""
        size = len(frame)
        with self.lock:
            if self._closed or self._is_full(size):
                return False
            self.frames.append(frame)
            self._size += size
            untold = [reader for reader in self.readers if not reader.told and not reader.tell_eventfd()]
        for reader in untold:
            reader.tell_poller()
        return True

    def pop(self, room: int) -> list[bytes]:
        """Take as many frames as fill so many bytes. Holding `lock`."""
        taken = []
        while room > 0 and self.frames:
            frame = self.frames.popleft()
            size = len(frame)
            self._size -= size
            room -= size
            taken.append(frame)
        if taken:
            self._say_room()
        return taken

    def when_room(self, size: int, tell: Callable[[], None]) -> None:
        """Call it once there may be room for so many bytes, or the app has ended; at once if so. From any thread, and it must return at once."""
        with self.lock:
            if not self._closed and self._is_full(size):
                self._waiters.append(tell)
                return
        tell()

    def no_matter(self, tell: Callable[[], None]) -> None:
        """Whoever asked when_room does not want to know any more."""
        with self.lock, contextlib.suppress(ValueError):  # it has been told
            self._waiters.remove(tell)

    def close(self) -> None:
        """The app ends: whoever waits for room is told so."""
        with self.lock:
            self._closed = True
            self._say_room()

    def _say_room(self) -> None:
        if self._waiting:
            self._changed.notify_all()
        waiters, self._waiters = self._waiters, []
        for tell in waiters:
            tell()

    def _is_full(self, size: int) -> bool:
        return len(self.frames) >= self._capacity or (bool(self.frames) and self._size + size > self._room)

    def wait_for_room(self, size: int, timeout: float | None) -> bool:
        """Wait until there is room for so many bytes, which another may take before. False after so many seconds, or when the app has ended."""
        # In slices: Python can miss a signal that comes just before a wait without end begins.
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            self._waiting += 1
            try:
                while self._is_full(size) and not self._closed:
                    left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
                    if left <= 0:
                        return False
                    self._changed.wait(left)
            finally:
                self._waiting -= 1
            return not self._closed


class QueueReader(Descriptor):
    """What one instance reads a queue with."""

    polled = True

    def __init__(self, queue: Queue, stop: StopEvent) -> None:
        self._queue = queue
        # Guarded by the queue's lock.
        self._rest = _NOTHING  # of the frame that was begun
        self._poller: Callable[[QueueReader], None] | None = None
        self.told = False  # that something is there
        super().__init__(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), stop, flags=NONBLOCK, writable=False)

    def added(self) -> None:
        with self._queue.lock:
            self._queue.readers.add(self)
            if self._queue.frames:
                self.tell_eventfd()

    def removed(self) -> None:
        with self._queue.lock:
            self._queue.readers.discard(self)

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        """As many bytes as there are and the first span takes; EAGAIN when there are none."""
        if offset is not None:
            raise OSError(errno.ESPIPE, "a queue")
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
                self._nothing_left()
                if size and not any(parts):
                    raise BlockingIOError(errno.EAGAIN, "nothing there")
        done = 0
        for part in filter(None, parts):
            buffer(address + done, len(part))[:] = part
            done += len(part)
        return done

    def tell(self, poller: Callable[[QueueReader], None]) -> None:
        """Tell a poller, from now on, and at once if something is there: instead of the eventfd."""
        with self._queue.lock:
            self._poller = poller
            self.told = False
            something = bool(self._queue.frames or self._rest)
        if something:
            self.tell_poller()

    def tell_eventfd(self) -> bool:
        """That something is there; False when it is its poller that is told. Holding the lock."""
        if self._poller is not None:
            return False
        os.eventfd_write(self.fd, 1)
        self.told = True
        return True

    def tell_poller(self) -> None:
        """That something is there. Without the lock, since what it does takes others."""
        assert self._poller is not None
        try:
            self.told = True  # before: what is read meanwhile makes it untrue again
            self._poller(self)
        except BaseException:
            self.told = False
            raise

    def _nothing_left(self) -> None:
        self.told = False
        if self._poller is None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.fd)
            if self._queue.frames:  # put in the middle of this, by a signal handler
                self.tell_eventfd()
