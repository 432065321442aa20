"""The module's descriptor table, which all its threads share, as in a process.

Invariant: a host descriptor is closed once nothing refers to its `Descriptor` any more: neither the table nor a thread
that is in a call on it. So a thread that is about to read never reads from a file that another thread has just opened
under the same number, in this table or in the host's. (Python's reference counts suffice for this.)
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import heapq
import os
import resource
import select
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any

from gothreads.shared_memory import buffer
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.streams import Input, Output
from gothreads.wasm import layout


class FileType(IntEnum):
    """WASI's filetype."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


#: Parts of an app's allowance: the standard streams, which all instances share; and the number reserved for each
#: instance, which is at most half of its share.
_STREAMS, _OWN = 3, 8

#: WASI's fdflags.
APPEND, DSYNC, NONBLOCK, RSYNC, SYNC = 1, 2, 4, 8, 16
ALL_FLAGS = 31

_FILE_TYPES = {stat.S_IFBLK: FileType.BLOCK_DEVICE, stat.S_IFCHR: FileType.CHARACTER_DEVICE, stat.S_IFDIR: FileType.DIRECTORY,
               stat.S_IFREG: FileType.REGULAR_FILE, stat.S_IFSOCK: FileType.SOCKET_STREAM, stat.S_IFLNK: FileType.SYMBOLIC_LINK}


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

    def __init__(self, fd: int, stop: StopEvent, *, flags: int = 0, readable: bool = True, writable: bool = True, read_only: bool = False,
                 preopen: bytes | None = None) -> None:
        self.type = file_type(os.fstat(fd).st_mode)
        self.flags, self.readable, self.writable, self.read_only, self.preopen = flags, readable, writable, read_only, preopen
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
        return self._retried(select.POLLIN, lambda: os.readv(self.fd, buffers) if offset is None else os.preadv(self.fd, buffers, offset))

    def write(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if not self.writable:
            raise OSError(errno.EBADF, "not open for writing")
        buffers = [buffer(*span) for span in spans]
        with _no_sigpipe() if self.type is FileType.UNKNOWN else contextlib.nullcontext():
            return self._retried(select.POLLOUT, lambda: os.writev(self.fd, buffers) if offset is None else os.pwritev(self.fd, buffers, offset))

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


# Non-blocking socket calls that keep the GIL: they take less time than releasing and reacquiring it.
_recv = ctypes.PyDLL(None, use_errno=True).recv
_send = ctypes.PyDLL(None, use_errno=True).send
_recv.restype = _send.restype = ctypes.c_ssize_t
_recv.argtypes = _send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_AT_ONCE = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


class Cleanup:
    """Calls a function when nothing refers to it any more: what descriptors of the same file share."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run

    def __del__(self) -> None:
        self._run()


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
        connection.setblocking(False)  # noqa: FBT003  (its only form)
        super().__init__(connection.fileno(), stop, flags=NONBLOCK)

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        return self._at_once(_recv, select.POLLIN, spans, offset)

    def write(self, spans: Sequence[Span], offset: int | None = None) -> int:
        return self._at_once(_send, select.POLLOUT, spans, offset)

    def _at_once(self, call: Callable[[int, int, int, int], int], events: int, spans: Sequence[Span], offset: int | None) -> int:
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

    def accept(self) -> SocketDescriptor:
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


class StandardStream(Descriptor):
    """Descriptor 0, 1 or 2."""

    counted = False

    def __init__(self, stream: Input | Output, fd: int | None) -> None:
        """`fd` is the host descriptor of an inherited stream, else None.

        A file object counts as a terminal if its isatty() says so, and as a pipe otherwise.
        """
        self._stream, self.inherited = stream, fd
        self._mode = stat.S_IFCHR if fd is None and stream.is_terminal else stat.S_IFIFO
        try:
            self.type = file_type(self.stat().st_mode)
        except OSError:  # closed by the process that started this one
            self.type = FileType.CHARACTER_DEVICE
        self.fd, self.flags, self.preopen, self.read_only = -1, 0, None, False
        self.readable, self.writable = isinstance(stream, Input), isinstance(stream, Output)
        self.listing, self.lock = [], threading.Lock()

    @property
    def may_wait(self) -> bool:
        return False

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if offset is not None:
            raise OSError(errno.ESPIPE, "a stream")
        if not isinstance(self._stream, Input):
            raise OSError(errno.EBADF, "not open for reading")
        data = rest = self._stream.read(sum(size for _, size in spans)) if spans else b""
        for address, size in spans:
            ctypes.memmove(address, rest[:size], min(size, len(rest)))
            rest = rest[size:]
        return len(data)

    def write(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if offset is not None:
            raise OSError(errno.ESPIPE, "a stream")
        if not isinstance(self._stream, Output):
            raise OSError(errno.EBADF, "not open for writing")
        return self._stream.write([buffer(*span) for span in spans])

    def stat(self) -> os.stat_result:
        if self.inherited is not None:
            return os.fstat(self.inherited)
        return os.stat_result((self._mode, 0, 0, 1, 0, 0, 0, *[0] * 9))  # all 16 fields, or the *_ns times are None


def _most_descriptors() -> int:
    """The largest number of descriptors for an app: most of this process's limit.

    It stays below FIRST_SOCKET, so that the numbers of files never reach those of sockets.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = layout.FIRST_SOCKET if soft == resource.RLIM_INFINITY else soft
    return min(own - max(32, own // 8), layout.FIRST_SOCKET - 1)


class Refused(OSError):
    """EMFILE: the app has reached its limit of `most` descriptors."""

    def __init__(self, most: int) -> None:
        super().__init__(errno.EMFILE, "too many descriptors")
        self.most = most


class FileAllowance:
    """Limits the total number of descriptors of an app's instances. May be used from any thread.

    `own` descriptors are reserved for each instance, so that it can start whatever the others use. The rest is given
    out on demand. Invariant: each descriptor that a table has beyond its first `own` was taken here, and is given back
    when it leaves the table.
    """

    def __init__(self, most: int | None, instances: int = 1) -> None:
        """`most`: the limit; None for most of this process's own limit, which also bounds any other value."""
        self._most = _most_descriptors() if most is None else min(most, _most_descriptors())
        self.own = min(_OWN, (self._most - _STREAMS) // (2 * instances))
        self._lock = threading.Lock()
        self._used = _STREAMS + self.own * instances  # guarded by _lock

    @property
    def most(self) -> int:
        return self._most

    def take(self) -> None:
        """Take one. Refused if the limit is reached."""
        with self._lock:
            if self._used >= self._most:
                raise Refused(self._most)
            self._used += 1

    def give(self) -> None:
        with self._lock:
            self._used -= 1


class _Numbers:
    """Hands out the lowest free number, starting at `first`."""

    def __init__(self, first: int) -> None:
        self._free: list[int] = []
        self._next = first

    def take(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def give(self, number: int) -> None:
        heapq.heappush(self._free, number)


class DescriptorTable:
    """Maps numbers to descriptors. May be used from any thread."""

    def __init__(self, stop: StopEvent, allowance: FileAllowance | None = None) -> None:
        self.stop, self._allowance = stop, allowance or FileAllowance(None)
        self._lock = threading.Lock()
        # Guarded by _lock; _open is read without it.
        self._open: dict[int, Descriptor] = {}
        self._count = 0  # of the descriptors with `counted`
        self._numbers, self._sockets = _Numbers(0), _Numbers(layout.FIRST_SOCKET)
        # Called with a number and its descriptor, holding _lock: when that has been added, is about to be removed (before
        # anybody else can have the number), or serves reads and writes in another way from now on.
        self.on_add: Callable[[int, Descriptor], None] = lambda _number, _descriptor: None
        self.on_remove: Callable[[int, Descriptor], None] = lambda _number, _descriptor: None
        self.on_change: Callable[[int, Descriptor], None] = lambda _number, _descriptor: None

    @property
    def most(self) -> int:
        """The largest number of descriptors that it may have."""
        return self._allowance.most

    def add(self, descriptor: Descriptor, *, handed: bool = False) -> int:
        """Add a descriptor and return its number: the lowest that is free, as in POSIX.

        Sockets and other polled descriptors have their own range of numbers, except those that are `handed` over.
        EMFILE if there are too many.
        """
        with self._lock:
            if descriptor.counted:
                if self._count >= self._allowance.own:
                    self._allowance.take()
                self._count += 1
            descriptor.added()
            number = (self._sockets if descriptor.polled and not handed else self._numbers).take()
            self._open[number] = descriptor
            self.on_add(number, descriptor)
            return number

    def changed(self, number: int, descriptor: Descriptor) -> None:
        """Call after the descriptor's flags or kind have changed."""
        with self._lock:
            if self._open.get(number) is descriptor:
                self.on_change(number, descriptor)

    def get(self, number: int) -> Descriptor:
        """The descriptor, which stays open as long as the caller refers to it. EBADF if the number is not open."""
        try:
            return self._open[number]
        except KeyError:
            raise OSError(errno.EBADF, "not open") from None

    def is_open(self, number: int, descriptor: Descriptor) -> bool:
        """Whether the descriptor still has that number."""
        with self._lock:
            return self._open.get(number) is descriptor

    def remove(self, number: int) -> None:
        """Remove a descriptor. EBADF if the number is not open."""
        with self._lock:
            descriptor = self._open.pop(number, None)
            if descriptor is None:
                raise OSError(errno.EBADF, "not open")
            self.on_remove(number, descriptor)
            self._give(number)
        self._let_go(descriptor)

    def move(self, source: int, target: int) -> None:
        """Renumber `source` to `target`, replacing that one, as dup2 and close do. EBADF if either is not open."""
        with self._lock:
            if source not in self._open or target not in self._open:
                raise OSError(errno.EBADF, "not open")
            if source == target:
                return
            before, self._open[target] = self._open[target], self._open.pop(source)
            self.on_remove(target, before)
            self.on_change(source, before)
            self._give(source)
            self.on_change(target, self._open[target])
        self._let_go(before)

    def close_all(self) -> None:
        """Remove all descriptors. No thread may be using any."""
        with self._lock:
            left, self._open = self._open, {}
            for number, descriptor in left.items():
                self.on_remove(number, descriptor)
        for descriptor in left.values():
            self._let_go(descriptor)

    def _let_go(self, descriptor: Descriptor) -> None:
        if descriptor.counted:
            with self._lock:
                self._count -= 1
                if self._count >= self._allowance.own:
                    self._allowance.give()
        descriptor.removed()

    def _give(self, number: int) -> None:
        (self._sockets if number >= layout.FIRST_SOCKET else self._numbers).give(number)
