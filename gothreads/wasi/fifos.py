"""Opens FIFOs, which block until the other end is opened, in a way that ends with the app."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import threading

from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.openat import PLACE, open_beneath

#: How often to check for a reader of a FIFO whose open must not block. Seconds.
_POLL_SECONDS = 0.01


class FifoOpens:
    """Opens of FIFOs under way, which no signal interrupts. May be used from any thread.

    When the app ends, it opens the other end itself, so that the blocked threads return.

    Invariant: `_open_blocking` registers the FIFO before it reads `_ended`, and `end` sets `_ended` before it reads the
    registered FIFOs. So whichever comes second sees the other; it opens both ends and keeps them open until `close`.
    """

    def __init__(self, stop: StopEvent) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._under_way: list[int] = []
        self._ended = False
        self._ends: list[int] = []

    def open(self, folder: int, name: bytes, flags: int) -> int | None:
        """Open a FIFO, which may block until the other end is opened; None if the name is not a FIFO.

        The type is checked before opening, because opening a FIFO wakes those who wait at its other end.
        """
        try:
            place = open_beneath(folder, name, PLACE | flags & os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            if not stat.S_ISFIFO(os.fstat(place).st_mode):
                return None
            return self._open_blocking(place, flags) if _may_open_both_ends(place) else self._open_foreign(place, flags)
        finally:
            os.close(place)

    def end(self) -> None:
        """The app is ending: wake the threads that are blocked in an open."""
        with self._lock:
            self._ended = True
            for place in self._under_way:
                self._open_both_ends(place)

    def close(self) -> None:
        """Close what `end` opened. No thread may be in a call."""
        for end in self._ends:
            os.close(end)

    def _open_blocking(self, place: int, flags: int) -> int:
        """Open the FIFO to which `place`, an O_PATH descriptor, refers, even if its name has changed.

        The caller keeps `place` open meanwhile.
        """
        with self._lock:
            self._under_way.append(place)
            if self._ended:
                self._open_both_ends(place)
        try:
            fd = os.open(f"/proc/self/fd/{place}", flags & (os.O_WRONLY | os.O_RDWR) | os.O_CLOEXEC)
            os.set_blocking(fd, False)
            return fd
        finally:
            with self._lock:
                self._under_way.remove(place)

    def _open_both_ends(self, place: int) -> None:
        with contextlib.suppress(OSError):
            self._ends.append(os.open(f"/proc/self/fd/{place}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))

    def _open_foreign(self, place: int, flags: int) -> int:
        """Open a FIFO of which this process may not open both ends, without blocking in open(2).

        To write: poll until there is a reader. To read: open at once, and wait for data.
        """
        while True:
            try:
                fd = os.open(f"/proc/self/fd/{place}", flags & os.O_ACCMODE | os.O_NONBLOCK | os.O_CLOEXEC)
                break
            except OSError as error:
                if error.errno != errno.ENXIO:  # ENXIO: no reader yet
                    raise
            self._stop.sleep(_POLL_SECONDS)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            try:
                self._stop.wait({fd: select.POLLIN})
            except BaseException:
                os.close(fd)
                raise
        return fd


def _may_open_both_ends(place: int) -> bool:
    return os.access(f"/proc/self/fd/{place}", os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)
