"""A module's open files: each `Descriptor` owns a descriptor of the host.

Invariant: a host descriptor is closed once nothing refers to its `Descriptor` any more: neither the table nor a thread
that is in a call on it. So a thread that is about to read never reads from a file that another thread has just opened
under the same number, in this table or in the host's. (Python's reference counts suffice for this.)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum

from gothreads.shared_memory import buffer
from gothreads.sync.stop_event import StopEvent


class FileType(IntEnum):
    """WASI's filetype."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


#: WASI's fdflags.
APPEND, DSYNC, NONBLOCK, RSYNC, SYNC = 1, 2, 4, 8, 16
ALL_FLAGS = 31

_FILE_TYPES = {stat.S_IFBLK: FileType.BLOCK_DEVICE, stat.S_IFCHR: FileType.CHARACTER_DEVICE,
               stat.S_IFDIR: FileType.DIRECTORY,
               stat.S_IFREG: FileType.REGULAR_FILE, stat.S_IFSOCK: FileType.SOCKET_STREAM,
               stat.S_IFLNK: FileType.SYMBOLIC_LINK}


def file_type(mode: int) -> FileType:
    """WASI's file type for an st_mode; UNKNOWN for a FIFO, for which WASI has no type."""
    return _FILE_TYPES.get(stat.S_IFMT(mode), FileType.UNKNOWN)


#: A range of the module's memory: its address in this process, and its size in bytes.
Span = tuple[int, int]


class Descriptor:
    """A host descriptor, which it owns: a file, a folder, a FIFO, a terminal. All methods raise OSError.

    Host descriptors that may block are in non-blocking mode; a read that has to wait does so in `StopEvent.wait`, which
    ends with the app.
    """

    #: Whether calls fail with EAGAIN instead of waiting, and Go polls it: a socket or the like, numbered among sockets.
    polled = False
    #: Whether Limits(files=) counts it.
    counted = True

    def __init__(self, fd: int, stop: StopEvent, *, flags: int = 0, readable: bool = True, writable: bool = True,
                 read_only: bool = False,
                 preopen: bytes | None = None) -> None:
        self.type = file_type(os.fstat(fd).st_mode)
        self.flags, self.preopen = flags, preopen
        self.readable, self.writable, self.read_only = readable, writable, read_only
        self._stop = stop
        # Of a folder: its entries when reading began; empty if not known.
        self.listing: list[tuple[bytes, int, FileType]] = []
        self.lock = threading.Lock()  # guards listing
        self.fd = fd  # assigned last: from here on this object closes it

    def added(self) -> None:
        """Called before a table adds it, holding the table's lock."""

    def removed(self) -> None:
        """Called when a table has removed it. Threads that are in calls on it may still use it."""

    @property
    def may_wait(self) -> bool:
        """Whether calls may block, so that NONBLOCK has a meaning."""
        return self.type not in (FileType.REGULAR_FILE, FileType.DIRECTORY, FileType.BLOCK_DEVICE)

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if not self.readable:
            raise OSError(errno.EBADF, "not open for reading")
        buffers = [buffer(*span) for span in spans]
        return self._retried(select.POLLIN, lambda: os.readv(self.fd, buffers) if offset is None
                             else os.preadv(self.fd, buffers, offset))

    def write(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if not self.writable:
            raise OSError(errno.EBADF, "not open for writing")
        buffers = [buffer(*span) for span in spans]
        with _no_sigpipe() if self.type is FileType.UNKNOWN else contextlib.nullcontext():
            return self._retried(select.POLLOUT, lambda: os.writev(self.fd, buffers) if offset is None
                                 else os.pwritev(self.fd, buffers, offset))

    def stat(self) -> os.stat_result:
        return os.fstat(self.fd)

    def set_flags(self, flags: int) -> None:
        """Set APPEND and NONBLOCK. ENOTSUP for NONBLOCK if calls never block: Go then does not try to poll it."""
        if flags & ~ALL_FLAGS:
            raise OSError(errno.EINVAL, "flags")
        if flags & NONBLOCK and not self.may_wait:
            raise OSError(errno.ENOTSUP, "it never waits")
        if self.fd >= 0 and (flags ^ self.flags) & APPEND:  # not on standard streams, whose flags others share
            own = fcntl.fcntl(self.fd, fcntl.F_GETFL)
            fcntl.fcntl(self.fd, fcntl.F_SETFL, own | os.O_APPEND if flags & APPEND else own & ~os.O_APPEND)
        self.flags = flags

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:  # unset if __init__ failed
            with contextlib.suppress(OSError):
                os.close(self.fd)

    def _retried(self, events: int, call: Callable[[], int]) -> int:
        while True:
            try:
                return call()
            except BlockingIOError:
                if self.flags & NONBLOCK:
                    raise
                self._stop.wait({self.fd: events})


@contextlib.contextmanager
def _no_sigpipe() -> Iterator[None]:
    """Make a write to a pipe without readers an error in the module, even in a program with SIGPIPE's default action.

    (Python ignores SIGPIPE unless the program changes that.)
    """
    if signal.getsignal(signal.SIGPIPE) is not signal.SIG_DFL:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})  # it is sent to the writing thread
    try:
        yield
    except BrokenPipeError:
        if signal.SIGPIPE not in before:
            signal.sigtimedwait({signal.SIGPIPE}, 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
