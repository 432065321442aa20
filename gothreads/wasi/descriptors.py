"""The module's descriptor table: one for all its threads, as a process has.

Invariant: a descriptor of the host's is closed when nothing refers to its `Descriptor` any more: not the table, and no thread
that is in a call on it. So a thread that is about to read never reads what another has just opened under the same number, in
this table or in the host's. (Python counts references; nobody else need to.)
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


#: Of all that an app may have: the standard streams, whatever instance uses them; and what each instance has for itself, or half of its share.
_STREAMS, _OWN = 3, 8

#: WASI's fdflags.
APPEND, DSYNC, NONBLOCK, RSYNC, SYNC = 1, 2, 4, 8, 16
ALL_FLAGS = 31

_FILE_TYPES = {stat.S_IFBLK: FileType.BLOCK_DEVICE, stat.S_IFCHR: FileType.CHARACTER_DEVICE, stat.S_IFDIR: FileType.DIRECTORY,
               stat.S_IFREG: FileType.REGULAR_FILE, stat.S_IFSOCK: FileType.SOCKET_STREAM, stat.S_IFLNK: FileType.SYMBOLIC_LINK}


def file_type(mode: int) -> FileType:
    """WASI's word for st_mode; UNKNOWN for a FIFO, which WASI has no word for."""
    return _FILE_TYPES.get(stat.S_IFMT(mode), FileType.UNKNOWN)


#: Bytes of the module's memory: where they are in this process, and how many.
Span = tuple[int, int]


class Descriptor:
    """A descriptor of the host's, which it owns: a file, a folder, a FIFO, a terminal. All methods raise OSError.

    On the host's side whatever may wait is non-blocking; a read that has to wait does so in `Stop.wait`, which ends with the app.
    """

    #: Whether it never waits but says EAGAIN, and Go polls it: a socket, or what is like one. It has a number among theirs.
    polled = False
    #: Whether it is one of those that Limits(files=) is about.
    counted = True

    def __init__(self, fd: int, stop: StopEvent, *, flags: int = 0, readable: bool = True, writable: bool = True, read_only: bool = False,
                 preopen: bytes | None = None) -> None:
        self.type = file_type(os.fstat(fd).st_mode)
        self.flags, self.readable, self.writable, self.read_only, self.preopen = flags, readable, writable, read_only, preopen
        self._stop = stop
        self.listing: list[tuple[bytes, int, FileType]] = []  # of a folder, as it was when its reading began; empty: not known
        self.lock = threading.Lock()  # for the listing
        self.fd = fd  # last: from here on it is this object's to close

    def added(self) -> None:
        """A table is about to have it. Holding the table's lock."""

    def removed(self) -> None:
        """The table has it no more. Threads that are in calls on it may use it yet."""

    @property
    def may_wait(self) -> bool:
        """Whether NONBLOCK means something."""
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
        """APPEND and NONBLOCK. ENOTSUP for NONBLOCK where nothing waits: Go then does not try to poll it."""
        if flags & ~ALL_FLAGS:
            raise OSError(errno.EINVAL, "flags")
        if flags & NONBLOCK and not self.may_wait:
            raise OSError(errno.ENOTSUP, "it never waits")
        if self.fd >= 0 and (flags ^ self.flags) & APPEND:  # a stream's keeps its flags: others of the host's have it too
            own = fcntl.fcntl(self.fd, fcntl.F_GETFL)
            fcntl.fcntl(self.fd, fcntl.F_SETFL, own | os.O_APPEND if flags & APPEND else own & ~os.O_APPEND)
        self.flags = flags

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:  # not when it could not be made
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
    """A write to a pipe that nobody reads is an error of the module's, also in a program that SIGPIPE ends. (Python ignores it, unless told otherwise.)"""
    if signal.getsignal(signal.SIGPIPE) is not signal.SIG_DFL:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})  # it comes to the thread that writes
    try:
        yield
    except BrokenPipeError:
        if signal.SIGPIPE not in before:
            signal.sigtimedwait({signal.SIGPIPE}, 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# A socket's own calls, non-blocking: they take less time than giving up the interpreter's lock and getting it back, so they keep it.
_recv = ctypes.PyDLL(None, use_errno=True).recv
_send = ctypes.PyDLL(None, use_errno=True).send
_recv.restype = _send.restype = ctypes.c_ssize_t
_recv.argtypes = _send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_AT_ONCE = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


class SocketDescriptor(Descriptor):
    """A socket: a listener, or a stream. `local` and `peer`: the names of a Unix socket's ends, as those who asked for it gave them."""

    polled = True

    def __init__(self, connection: socket.socket, stop: StopEvent, *, local: str = "", peer: str = "") -> None:
        self.socket, self.local, self.peer = connection, local, peer
        self.peer_name: Any = None  # of one that was accepted: it may have gone since
        self.closed: Callable[[], None] = lambda: None  # called when it has been closed
        connection.setblocking(False)
        super().__init__(connection.fileno(), stop, flags=NONBLOCK)

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        return self._at_once(_recv, select.POLLIN, spans, offset)

    def write(self, spans: Sequence[Span], offset: int | None = None) -> int:
        return self._at_once(_send, select.POLLOUT, spans, offset)

    def _at_once(self, call: Callable[[int, int, int, int], int], events: int, spans: Sequence[Span], offset: int | None) -> int:
        """The first span only, as is allowed: Go gives one."""
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
        self.closed()


def socket_of(descriptor: Descriptor) -> SocketDescriptor:
    """The descriptor, when it is a socket; else ENOTSOCK."""
    if not isinstance(descriptor, SocketDescriptor):
        raise OSError(errno.ENOTSOCK, "not a socket")
    return descriptor


def prepared(connection: socket.socket) -> socket.socket:
    """As Go's net package has its TCP connections: small writes are sent at once, and a dead peer is noticed."""
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection


class StandardStream(Descriptor):
    """Descriptor 0, 1 or 2."""

    counted = False

    def __init__(self, stream: Input | Output, fd: int | None) -> None:
        """`fd` is the host's, when it is inherited. A file object is a terminal when it says so, and a pipe otherwise."""
        self._stream, self.inherited = stream, fd
        self._mode = stat.S_IFCHR if fd is None and stream.is_terminal else stat.S_IFIFO
        try:
            self.type = file_type(self.stat().st_mode)
        except OSError:  # closed by whoever has started this process
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
        return os.stat_result((self._mode, 0, 0, 1, 0, 0, 0, *[0] * 9))  # with times in nanoseconds, which are None otherwise


def _most_descriptors() -> int:
    """How many an app may have: most of what this process may, and never so many that files' numbers get to those of sockets."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = layout.FIRST_SOCKET if soft == resource.RLIM_INFINITY else soft
    return min(own - max(32, own // 8), layout.FIRST_SOCKET - 1)


class Refused(OSError):
    """EMFILE: an app has as many descriptors as it may."""

    def __init__(self, most: int) -> None:
        super().__init__(errno.EMFILE, "too many descriptors")
        self.most = most


class FileAllowance:
    """How many descriptors an app's instances may have, together. May be used from any thread.

    Each instance has `own` of them for itself: with these it can begin, whatever the others have. The rest goes to who comes first.
    Invariant: of what a table has, all beyond the first `own` was taken here, and is given back when it is taken out of the table.
    """

    def __init__(self, most: int | None, instances: int = 1) -> None:
        """None: most of what this process may have."""
        self._most = _most_descriptors() if most is None else min(most, _most_descriptors())
        self.own = min(_OWN, (self._most - _STREAMS) // (2 * instances))
        self._lock = threading.Lock()
        self._used = _STREAMS + self.own * instances  # guarded by _lock

    def take(self) -> None:
        """Refused: there are as many as there may be."""
        with self._lock:
            if self._used >= self._most:
                raise Refused(self._most)
            self._used += 1

    def give(self) -> None:
        with self._lock:
            self._used -= 1


class _Numbers:
    """Hands out the lowest number from `first` on that is free."""

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
    """Numbers to descriptors. May be used from any thread."""

    def __init__(self, stop: StopEvent, allowance: FileAllowance | None = None) -> None:
        self.stop, self._allowance = stop, allowance or FileAllowance(None)
        self._lock = threading.Lock()
        # Guarded by _lock; _open is read without it.
        self._open: dict[int, Descriptor] = {}
        self._count = 0  # of those that are counted
        self._numbers, self._sockets = _Numbers(0), _Numbers(layout.FIRST_SOCKET)
        #: Told of a descriptor that was taken out, in the thread that did it.
        self.on_remove: Callable[[Descriptor], None] = lambda _descriptor: None

    def add(self, descriptor: Descriptor, *, handed: bool = False) -> int:
        """The lowest number that is free, as POSIX has it; for sockets, other than those that are handed over, among theirs.

        EMFILE: there are too many.
        """
        with self._lock:
            if descriptor.counted:
                if self._count >= self._allowance.own:
                    self._allowance.take()
                self._count += 1
            descriptor.added()
            number = (self._sockets if descriptor.polled and not handed else self._numbers).take()
            self._open[number] = descriptor
            return number

    def get(self, number: int) -> Descriptor:
        """Stays open as long as the caller refers to it. EBADF."""
        try:
            return self._open[number]
        except KeyError:
            raise OSError(errno.EBADF, "not open") from None

    def is_open(self, number: int, descriptor: Descriptor) -> bool:
        """Whether it still has that number."""
        with self._lock:
            return self._open.get(number) is descriptor

    def remove(self, number: int) -> None:
        """EBADF when it is not open."""
        with self._lock:
            descriptor = self._open.pop(number, None)
            if descriptor is None:
                raise OSError(errno.EBADF, "not open")
            self._give(number)
        self._let_go(descriptor)

    def move(self, source: int, target: int) -> None:
        """As dup2 and close."""
        with self._lock:
            if source not in self._open or target not in self._open:
                raise OSError(errno.EBADF, "not open")
            if source == target:
                return
            before, self._open[target] = self._open[target], self._open.pop(source)
            self._give(source)
        self._let_go(before)

    def close_all(self) -> None:
        """No thread may use any."""
        with self._lock:
            left, self._open = self._open, {}
        for descriptor in left.values():
            self._let_go(descriptor)

    def _let_go(self, descriptor: Descriptor) -> None:
        if descriptor.counted:
            with self._lock:
                self._count -= 1
                if self._count >= self._allowance.own:
                    self._allowance.give()
        self.on_remove(descriptor)
        descriptor.removed()

    def _give(self, number: int) -> None:
        (self._sockets if number >= layout.FIRST_SOCKET else self._numbers).give(number)
