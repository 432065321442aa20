"""WASI preview 1, except the calls that each store implements itself (clock, random, arguments, environment, yield).

One `WasiCalls` serves all instances of a module, and may be called from all their threads at once. Methods have WASI's
names and parameters (https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md): unsigned numbers and
addresses. They return nothing, or raise OSError, which is translated to WASI's error number.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import struct
import threading
import time
import weakref
from collections.abc import Iterator

from gothreads.shared_memory import BoundedMemory
from gothreads.wasi.descriptors import (
    ALL_FLAGS,
    APPEND,
    DSYNC,
    NONBLOCK,
    RSYNC,
    SYNC,
    Descriptor,
    DescriptorTable,
    FileType,
    Span,
    StandardStream,
    file_type,
    socket_of,
)
from gothreads.wasi.errnos import wasi_errno
from gothreads.wasi.idle import Idle
from gothreads.wasi.openat import PLACE, followed, open_beneath, parent, stat_beneath
from gothreads.wasi.streams import Input, Output, Streams
from gothreads.wasi.virtual_root import Above

#: The most bytes that one read or write transfers, whatever lengths the guest gives.
LARGEST_TRANSFER = 1 << 30
_MOST_VECTORS = 1024
_MOST_SUBSCRIPTIONS = 1 << 16
#: How many folder entries are kept in all of an app's listings, not counting the latest listing.
_MOST_LISTED = 1 << 19
#: How often to check for a reader of a FIFO whose open must not block. Seconds.
_ASK_SECONDS = 0.01

# WASI's flags and constants.
_FOLLOW = 1
_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = 1, 2, 4, 8
_RIGHT_READ, _RIGHT_WRITE = 1 << 1, 1 << 6
_ALL_RIGHTS = (1 << 30) - 1
_ACCESS_TIME, _ACCESS_NOW, _MODIFIED_TIME, _MODIFIED_NOW = 1, 2, 4, 8
_CLOCK, _CAN_READ, _CAN_WRITE = 0, 1, 2
_ABSOLUTE = 1
_MONOTONIC = 1
#: Indexed by WASI's clock number: real time, monotonic, CPU time of the process and of the thread. Nanoseconds.
_CLOCKS = (time.time_ns, time.monotonic_ns, time.process_time_ns, time.thread_time_ns)

_fdstat = struct.Struct("<BxHxxxxQQ")
_filestat = struct.Struct("<QQBxxxxxxxQQQQQ")
_dirent = struct.Struct("<QQIBxxx")
_subscription = struct.Struct("<QBxxxxxxxIxxxxQQHxxxxxx")
_event = struct.Struct("<QHBxxxxxQHxxxxxx")
_vector = struct.Struct("<II")
_u32 = struct.Struct("<I")


class ExitRequested(Exception):
    """The module called proc_exit."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code


class WasiCalls:
    """The calls over one descriptor table. `memory` is set before the module runs."""

    memory: BoundedMemory

    def __init__(self, table: DescriptorTable, streams: Streams) -> None:
        self._table = table
        standard: tuple[Input | Output, ...] = (streams.stdin, streams.stdout, streams.stderr)
        for fd, stream in enumerate(standard):
            table.add(StandardStream(stream, fd if stream.inherited else None))
        self._opening = _BlockingOpens()
        self._listings = _Listings()

    def stop(self) -> None:
        """The app is ending: wake the threads that are blocked in an open."""
        self._opening.stop()

    def close(self) -> None:
        self._opening.close()

    # Reading and writing.

    def fd_read(self, fd: int, vectors: int, count: int, done: int) -> None:
        self._put(done, self._table.get(fd).read(self._spans(vectors, count)))

    def fd_pread(self, fd: int, vectors: int, count: int, offset: int, done: int) -> None:
        self._put(done, self._table.get(fd).read(self._spans(vectors, count), _offset(offset)))

    def fd_write(self, fd: int, vectors: int, count: int, done: int) -> None:
        self._put(done, self._table.get(fd).write(self._spans(vectors, count)))

    def fd_pwrite(self, fd: int, vectors: int, count: int, offset: int, done: int) -> None:
        self._put(done, self._table.get(fd).write(self._spans(vectors, count), _offset(offset)))

    def fd_seek(self, fd: int, offset: int, whence: int, result: int) -> None:
        if whence > 2:
            raise OSError(errno.EINVAL, "whence")
        descriptor = self._table.get(fd)
        self.memory.write_u64(result, os.lseek(_file(descriptor).fd, _signed(offset), whence))

    def fd_tell(self, fd: int, result: int) -> None:
        self.fd_seek(fd, 0, os.SEEK_CUR, result)

    def fd_advise(self, fd: int, _offset: int, _length: int, _advice: int) -> None:
        self._table.get(fd)

    def fd_allocate(self, fd: int, offset: int, length: int) -> None:
        descriptor = self._table.get(fd)
        if not _file(descriptor).writable:
            raise OSError(errno.EBADF, "not open for writing")
        os.posix_fallocate(descriptor.fd, _offset(offset), _offset(length))

    def fd_sync(self, fd: int) -> None:
        descriptor = self._table.get(fd)
        os.fsync(_synced(descriptor))

    def fd_datasync(self, fd: int) -> None:
        descriptor = self._table.get(fd)
        os.fdatasync(_synced(descriptor))

    def fd_close(self, fd: int) -> None:
        self._table.remove(fd)

    def fd_renumber(self, fd: int, to: int) -> None:
        self._table.move(fd, to)

    # Attributes of descriptors.

    def fd_fdstat_get(self, fd: int, result: int) -> None:
        descriptor = self._table.get(fd)
        rights = _ALL_RIGHTS & ~(0 if descriptor.readable else _RIGHT_READ) & ~(0 if descriptor.writable else _RIGHT_WRITE)
        self.memory.write(result, _fdstat.pack(descriptor.type, descriptor.flags, rights, _ALL_RIGHTS))

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> None:
        descriptor = self._table.get(fd)
        descriptor.set_flags(flags)
        self._table.changed(fd, descriptor)

    def fd_fdstat_set_rights(self, fd: int, _base: int, _inheriting: int) -> None:
        self._table.get(fd)

    def fd_filestat_get(self, fd: int, result: int) -> None:
        self._put_stat(result, self._table.get(fd).stat())

    def fd_filestat_set_size(self, fd: int, size: int) -> None:
        descriptor = self._table.get(fd)
        if not _file(descriptor, errno.EINVAL).writable:
            raise OSError(errno.EINVAL, "not open for writing")
        os.ftruncate(descriptor.fd, _offset(size))

    def fd_filestat_set_times(self, fd: int, accessed: int, modified: int, flags: int) -> None:
        descriptor = self._table.get(fd)
        self._check_writable(descriptor)
        os.utime(_file(descriptor, errno.EINVAL).fd, ns=_times(os.fstat(descriptor.fd), accessed, modified, flags))

    def fd_prestat_get(self, fd: int, result: int) -> None:
        descriptor = self._table.get(fd)
        if descriptor.preopen is None:
            raise OSError(errno.ENOTDIR, "not handed over")  # Go then tries the next descriptor; EBADF ends its search
        self.memory.write(result, struct.pack("<BxxxI", 0, len(descriptor.preopen)))

    def fd_prestat_dir_name(self, fd: int, address: int, length: int) -> None:
        descriptor = self._table.get(fd)
        if descriptor.preopen is None:
            raise OSError(errno.ENOTDIR, "not handed over")
        if length < len(descriptor.preopen):
            raise OSError(errno.ENAMETOOLONG, "longer than the buffer")
        self.memory.write(address, descriptor.preopen)

    def fd_readdir(self, fd: int, buffer: int, size: int, cookie: int, done: int) -> None:
        """Write the entries from number `cookie` on, as many as fit; the last one may be truncated."""
        descriptor = self._table.get(fd)
        with descriptor.lock:
            if descriptor.type is not FileType.DIRECTORY:
                raise OSError(errno.ENOTDIR, "not a folder")
            listing = descriptor.listing
            if cookie == 0 or not listing:
                listing = descriptor.entries() if isinstance(descriptor, Above) else _list(descriptor.fd)
                self._listings.keep(descriptor, listing)
            chunks, room = [], size
            for place in range(cookie, len(listing)):
                name, inode, kind = listing[place]
                chunk = _dirent.pack(place + 1, inode, len(name), kind) + name
                chunks.append(chunk[:room])
                room -= len(chunks[-1])
                if not room:
                    break
            self.memory.write(buffer, b"".join(chunks))
            self._put(done, size - room)

    # Paths.

    def path_open(self, fd: int, lookup: int, path: int, length: int, oflags: int, rights: int, _inheriting: int, fdflags: int, result: int) -> None:
        folder, name = self._at(fd, path, length, creates=bool(oflags & _CREATE))
        reads, writes = bool(rights & _RIGHT_READ), bool(rights & _RIGHT_WRITE)
        flags = (os.O_RDWR if reads else os.O_WRONLY) if writes else os.O_RDONLY
        flags |= os.O_NONBLOCK | os.O_NOCTTY | (0 if lookup & _FOLLOW else os.O_NOFOLLOW)
        for bit, flag in ((_CREATE, os.O_CREAT), (_DIRECTORY, os.O_DIRECTORY), (_EXCLUSIVE, os.O_EXCL), (_TRUNCATE, os.O_TRUNC)):
            flags |= flag if oflags & bit else 0
        for bit, flag in ((APPEND, os.O_APPEND), (DSYNC, os.O_DSYNC), (SYNC | RSYNC, os.O_SYNC)):
            flags |= flag if fdflags & bit else 0
        if writes or oflags & (_CREATE | _TRUNCATE):
            if isinstance(folder, Above):
                raise OSError(errno.EISDIR, "a folder")
            self._check_writable(folder)
        opened = (folder if isinstance(folder, Above)
                  else self._open(folder, name, flags, fdflags, readable=reads or not writes, writable=writes))
        hand_out(self._table, self.memory, opened, result)

    def path_create_directory(self, fd: int, path: int, length: int) -> None:
        with self._changing(fd, path, length, special=errno.EEXIST, creates=True) as (folder, name):
            os.mkdir(name, dir_fd=folder)

    def path_remove_directory(self, fd: int, path: int, length: int) -> None:
        with self._changing(fd, path, length) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def path_unlink_file(self, fd: int, path: int, length: int) -> None:
        with self._changing(fd, path, length, special=errno.EISDIR) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def path_rename(self, fd: int, path: int, length: int, to_fd: int, to_path: int, to_length: int) -> None:
        with self._changing(fd, path, length) as (folder, name), self._changing(to_fd, to_path, to_length, creates=True) as (to_folder, to_name):
            os.rename(name, to_name, src_dir_fd=folder, dst_dir_fd=to_folder)

    def path_link(self, fd: int, lookup: int, path: int, length: int, to_fd: int, to_path: int, to_length: int) -> None:
        source, name = self._at(fd, path, length)
        self._check_writable(source)  # through the new link, the file could be changed elsewhere
        _refuse_slash(source.fd, name, errno.EPERM)
        if lookup & _FOLLOW:
            name = followed(source.fd, name)
        with parent(source.fd, name) as (folder, last), self._changing(to_fd, to_path, to_length, special=errno.EEXIST, creates=True) as (to_folder, to_last):
            os.link(last, to_last, src_dir_fd=folder, dst_dir_fd=to_folder, follow_symlinks=False)

    def path_symlink(self, target: int, target_length: int, fd: int, path: int, length: int) -> None:
        says = self._name(target, target_length)
        if b"\0" in says:
            raise OSError(errno.EINVAL, "a NUL in a name")
        if says.startswith(b"/"):
            raise OSError(errno.EPERM, "it would lead outside for others")
        with self._changing(fd, path, length, special=errno.EEXIST, creates=True) as (folder, name):
            os.symlink(says, name, dir_fd=folder)

    def path_readlink(self, fd: int, path: int, length: int, buffer: int, size: int, done: int) -> None:
        above, link = self._at(fd, path, length)
        if isinstance(above, Above):
            raise OSError(errno.EINVAL, "a folder")
        _refuse_slash(above.fd, link, errno.EINVAL)
        with parent(above.fd, link) as (folder, name):
            target = os.readlink(name, dir_fd=folder)
        self.memory.write(buffer, target[:size])
        self._put(done, min(size, len(target)))

    def path_filestat_get(self, fd: int, lookup: int, path: int, length: int, result: int) -> None:
        folder, name = self._at(fd, path, length)
        found = folder.stat() if isinstance(folder, Above) else stat_beneath(folder.fd, name, follow=bool(lookup & _FOLLOW))
        self._put_stat(result, found)

    def path_filestat_set_times(self, fd: int, lookup: int, path: int, length: int, accessed: int, modified: int, flags: int) -> None:
        descriptor, name = self._at(fd, path, length)
        self._check_writable(descriptor)
        folder = descriptor.fd
        # utime on a name with a trailing slash would follow a link.
        if name.endswith(b"/") or name.rpartition(b"/")[2] in (b".", b".."):
            opened = open_beneath(folder, name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.utime(opened, ns=_times(os.fstat(opened), accessed, modified, flags))
            finally:
                os.close(opened)
            return
        with parent(folder, followed(folder, name) if lookup & _FOLLOW else name) as (above, last):
            found = os.stat(last, dir_fd=above, follow_symlinks=False)
            os.utime(last, ns=_times(found, accessed, modified, flags), dir_fd=above, follow_symlinks=False)

    # Not part of WASI: Go's os.Pipe imports this from module `gothreads`.

    def pipe_open(self, result: int) -> None:
        """Create a pipe, and write the numbers of its read end and its write end to `result`."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        reader, writer = Descriptor(read, self._table.stop, writable=False), Descriptor(write, self._table.stop, readable=False)
        number = hand_out(self._table, self.memory, reader, result)
        try:
            hand_out(self._table, self.memory, writer, result + _u32.size)
        except BaseException:
            with contextlib.suppress(OSError):  # another thread may have closed it already
                self._table.remove(number)
            raise

    # Sockets.

    def sock_accept(self, fd: int, flags: int, result: int) -> None:
        listener = self._table.get(fd)
        if flags & ~ALL_FLAGS:
            raise OSError(errno.EINVAL, "flags")
        accepted = socket_of(listener).accept()
        accepted.flags = flags | NONBLOCK
        hand_out(self._table, self.memory, accepted, result)

    def sock_recv(self, fd: int, vectors: int, count: int, flags: int, done: int, out_flags: int) -> None:
        if flags:
            raise OSError(errno.ENOTSUP, "flags of sock_recv")
        descriptor = self._table.get(fd)
        self._put(done, socket_of(descriptor).read(self._spans(vectors, count)))
        self.memory.write(out_flags, b"\0\0")

    def sock_send(self, fd: int, vectors: int, count: int, _flags: int, done: int) -> None:
        descriptor = self._table.get(fd)
        self._put(done, socket_of(descriptor).write(self._spans(vectors, count)))

    def sock_shutdown(self, fd: int, how: int) -> None:
        if how not in (1, 2, 3):
            raise OSError(errno.EINVAL, "how")
        descriptor = self._table.get(fd)
        socket_of(descriptor).socket.shutdown((socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)[how - 1])

    # The process.

    def clock_time_get(self, clock: int, _precision: int, result: int) -> None:
        if clock >= len(_CLOCKS):
            raise OSError(errno.EINVAL, "which clock")
        self.memory.write_u64(result, _CLOCKS[clock]())

    def proc_exit(self, code: int) -> None:
        raise ExitRequested(code - (1 << 32) if code >> 31 else code)  # a signed number

    def proc_raise(self, _signal: int) -> None:
        raise OSError(errno.ENOSYS, "there are no signals")

    def poll_oneoff(self, subscriptions: int, events: int, count: int, done: int) -> None:
        """Wait until one of the subscribed timers has expired, or one of the subscribed descriptors is ready."""
        if not 0 < count <= _MOST_SUBSCRIPTIONS:
            raise OSError(errno.EINVAL, "how many subscriptions")
        clocks: list[tuple[float, int]] = []
        wanted: list[tuple[int, int, int]] = []  # userdata, kind, fd
        for userdata, kind, first, timeout, _precision, flags in _subscription.iter_unpack(self.memory.read(subscriptions, _subscription.size * count)):
            if kind == _CLOCK:
                if flags & _ABSOLUTE:
                    timeout = max(0, timeout - (time.monotonic_ns() if first == _MONOTONIC else time.time_ns()))
                clocks.append((timeout / 1e9, userdata))
            elif kind in (_CAN_READ, _CAN_WRITE):
                wanted.append((userdata, kind, first))
            else:
                raise OSError(errno.EINVAL, "what to wait for")
        seconds, over = min(clocks, default=(None, 0))
        found = self._poll(wanted, seconds) if wanted else None
        if found is None:
            assert seconds is not None
            self._table.stop.sleep(seconds)
        if not found:
            found = [_event.pack(over, 0, _CLOCK, 0, 0)]
        self.memory.write(events, b"".join(found))
        self._put(done, len(found))

    def _poll(self, wanted: list[tuple[int, int, int]], seconds: float | None) -> list[bytes]:
        """Wait, and return the events that occurred; an empty list on timeout. `wanted`: (userdata, kind, fd)."""
        found: list[bytes] = []
        hosts: dict[int, int] = {}
        waiting: list[tuple[int, int, int]] = []
        idle: list[tuple[int, Idle]] = []
        used: list[Descriptor] = []  # keeps them open during the wait
        for userdata, kind, number in wanted:
            try:
                descriptor = self._table.get(number)
            except OSError as error:
                found.append(_event.pack(userdata, wasi_errno(error), kind, 0, 0))
                continue
            if isinstance(descriptor, Idle):
                idle.append((userdata, descriptor))
                continue
            host = descriptor.inherited if isinstance(descriptor, StandardStream) and descriptor.inherited == 0 else descriptor.fd
            if host < 0 or not (descriptor.may_wait or host == 0):
                found.append(_event.pack(userdata, 0, kind, 1, 0))
                continue
            used.append(descriptor)
            hosts[host] = hosts.get(host, 0) | (select.POLLIN if kind == _CAN_READ else select.POLLOUT)
            waiting.append((userdata, kind, host))
        ready = dict(self._table.stop.wait(hosts, 0 if found or idle else seconds))
        for userdata, kind, host in waiting:
            event = ready.get(host, 0)
            if event & ((select.POLLIN if kind == _CAN_READ else select.POLLOUT) | select.POLLHUP | select.POLLERR | select.POLLNVAL):
                found.append(_event.pack(userdata, 0, kind, 1, 1 if event & select.POLLHUP else 0))
        if not found and seconds != 0:
            for userdata, one in idle:
                one.reach(seconds, hosts, used)
                found.append(_event.pack(userdata, 0, _CAN_READ, 1, 0))
        return found

    # Helpers.

    def _put(self, address: int, value: int) -> None:
        self.memory.write(address, _u32.pack(value))

    def _put_stat(self, address: int, found: os.stat_result) -> None:
        self.memory.write(address, _filestat.pack(found.st_dev & (1 << 64) - 1, found.st_ino, file_type(found.st_mode), found.st_nlink, found.st_size,
                                                  max(0, found.st_atime_ns), max(0, found.st_mtime_ns), max(0, found.st_ctime_ns)))

    def _spans(self, vectors: int, count: int) -> list[Span]:
        if count > _MOST_VECTORS:
            raise OSError(errno.EINVAL, "too many vectors")
        # Copied first: the module may change them at any time.
        pairs = [pair for pair in _vector.iter_unpack(self.memory.read(vectors, _vector.size * count)) if pair[1]]
        total = sum(size for _, size in pairs)
        if total > LARGEST_TRANSFER or (len(pairs) > 1 and total > self.memory.size):  # the vectors may overlap
            raise OSError(errno.EINVAL, "more than a gigabyte in one call")
        return [(self.memory.address(address, size), size) for address, size in pairs]

    def _name(self, address: int, length: int) -> bytes:
        if length > 1 << 16:
            raise OSError(errno.ENAMETOOLONG, "a name")
        return self.memory.read(address, length)

    def _at(self, fd: int, path: int, length: int, *, creates: bool = False) -> tuple[Descriptor, bytes]:
        """The folder in which to look a name up, and the name; see Above.find.

        The folder stays open as long as the caller refers to it.
        """
        folder, name = _folder(self._table.get(fd)), self._name(path, length)
        return folder.find(name, creates=creates) if isinstance(folder, Above) else (folder, name)

    @contextlib.contextmanager
    def _changing(self, fd: int, path: int, length: int, *, special: int = errno.EINVAL, creates: bool = False) -> Iterator[tuple[int, bytes]]:
        """The parent folder and last part of a name, for a call that changes the folder; EROFS if it is read-only.

        `creates`: the call creates the name. `special` is the error for "." and "..".
        """
        descriptor, name = self._at(fd, path, length, creates=creates)
        if creates and isinstance(descriptor, Above):
            raise OSError(errno.EEXIST, "it is there")
        self._check_writable(descriptor)
        with parent(descriptor.fd, name, special=special) as found:
            yield found

    @staticmethod
    def _check_writable(descriptor: Descriptor) -> None:
        if descriptor.read_only:
            raise OSError(errno.EROFS, "mounted read-only")

    def _open(self, folder: Descriptor, name: bytes, flags: int, fdflags: int, *,
              readable: bool, writable: bool) -> Descriptor:
        at_once = fdflags & NONBLOCK or flags & (os.O_EXCL | os.O_DIRECTORY)
        fd = -1 if at_once else self._open_fifo(folder.fd, name, flags)
        if fd < 0:
            fd = open_beneath(folder.fd, name, flags)
        try:
            return Descriptor(fd, self._table.stop, flags=fdflags & ALL_FLAGS, readable=readable, writable=writable,
                              read_only=folder.read_only)
        except BaseException:
            os.close(fd)
            raise

    def _open_fifo(self, folder: int, name: bytes, flags: int) -> int:
        """Open a FIFO, which may block until the other end is opened; -1 if the name is not a FIFO.

        The type is checked before opening, because opening a FIFO wakes those who wait at its other end.
        """
        if not hasattr(os, "O_PATH"):
            return -1
        try:
            place = open_beneath(folder, name, PLACE | flags & os.O_NOFOLLOW)
        except OSError:
            return -1
        try:
            if not stat.S_ISFIFO(os.fstat(place).st_mode):
                return -1
            return self._opening.open(place, flags) if self._opening.can_end(place) else self._open_foreign_fifo(place, flags)
        finally:
            os.close(place)

    def _open_foreign_fifo(self, place: int, flags: int) -> int:
        """Open a FIFO of which this process may not open both ends, without blocking in open(2).

        To write: poll until there is a reader. To read: open at once, and wait for data.
        """
        stop = self._table.stop
        while True:
            try:
                fd = os.open(f"/proc/self/fd/{place}", flags & os.O_ACCMODE | os.O_NONBLOCK | os.O_CLOEXEC)
                break
            except OSError as error:
                if error.errno != errno.ENXIO:  # ENXIO: no reader yet
                    raise
            stop.sleep(_ASK_SECONDS)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            try:
                stop.wait({fd: select.POLLIN})
            except BaseException:
                os.close(fd)
                raise
        return fd


class _Listings:
    """Limits the folder listings that descriptors keep while a module reads them.

    A listing is a snapshot taken when reading begins, stored in its descriptor. Many descriptors may be open on one
    large folder, so beyond _MOST_LISTED entries the oldest listings are dropped; a dropped one is read again when its
    reader continues. May be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Number of entries, oldest listing first; guarded by _lock.
        self._kept: weakref.WeakKeyDictionary[Descriptor, int] = weakref.WeakKeyDictionary()

    def keep(self, descriptor: Descriptor, listing: list[tuple[bytes, int, FileType]]) -> None:
        with self._lock:
            self._kept.pop(descriptor, None)
            total = sum(self._kept.values())
            for old in list(self._kept):
                if total + len(listing) <= _MOST_LISTED:
                    break
                total -= self._kept.pop(old)
                old.listing = []  # a thread that is reading it has its own reference
            self._kept[descriptor] = len(listing)
            descriptor.listing = listing


class _BlockingOpens:
    """Opens of FIFOs, which block until the other end is opened, and which no signal interrupts.

    When the app ends, it opens the other end itself, so that the blocked threads return.

    Invariant: `open` registers the FIFO before it reads `_ended`, and `stop` sets `_ended` before it reads the
    registered FIFOs. So whichever comes second sees the other; it opens both ends and keeps them open until `close`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: list[int] = []  # guarded by _lock
        self._ended = False
        self._ends: list[int] = []

    def open(self, place: int, flags: int) -> int:
        """Open the FIFO to which `place`, an O_PATH descriptor, refers, even if its name has changed.

        The caller keeps `place` open meanwhile.
        """
        with self._lock:
            self._under_way.append(place)
            if self._ended:
                self._take_both_ends(place)
        try:
            fd = os.open(f"/proc/self/fd/{place}", flags & (os.O_WRONLY | os.O_RDWR) | os.O_CLOEXEC)
            os.set_blocking(fd, False)
            return fd
        finally:
            with self._lock:
                self._under_way.remove(place)

    @staticmethod
    def can_end(place: int) -> bool:
        """Whether this process may open both ends."""
        return os.access(f"/proc/self/fd/{place}", os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)

    def stop(self) -> None:
        with self._lock:
            self._ended = True
            for place in self._under_way:
                self._take_both_ends(place)

    def close(self) -> None:
        for end in self._ends:
            os.close(end)

    def _take_both_ends(self, place: int) -> None:
        with contextlib.suppress(OSError):
            self._ends.append(os.open(f"/proc/self/fd/{place}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))


def hand_out(table: DescriptorTable, memory: BoundedMemory, descriptor: Descriptor, result: int) -> int:
    """Add a descriptor to the table, and write its number to the module's memory at `result`.

    The table owns it from here on: another thread may be in a call on it at once.
    """
    number = table.add(descriptor)
    try:
        memory.write_u32(result, number)
    except BaseException:
        with contextlib.suppress(OSError):  # another thread may have closed it already
            table.remove(number)
        raise
    return number


def _refuse_slash(folder: int, name: bytes, number: int) -> None:
    """Refuse a name with a trailing slash, for calls that would follow a link before the slash.

    Raises OSError(number) if the name is a folder, and the error of the lookup otherwise.
    """
    if name.endswith(b"/"):
        os.close(open_beneath(folder, name, PLACE | os.O_DIRECTORY))
        raise OSError(number, "a folder")


def _list(fd: int) -> list[tuple[bytes, int, FileType]]:
    own = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)  # opened again for a separate read position
    try:
        here = os.fstat(own).st_ino
        entries = [(b".", here, FileType.DIRECTORY), (b"..", here, FileType.DIRECTORY)]
        with os.scandir(own) as found:
            for entry in found:
                kind = (FileType.SYMBOLIC_LINK if entry.is_symlink() else FileType.DIRECTORY if entry.is_dir(follow_symlinks=False)
                        else FileType.REGULAR_FILE if entry.is_file(follow_symlinks=False) else FileType.UNKNOWN)
                entries.append((os.fsencode(entry.name), entry.inode(), kind))
        return entries
    finally:
        os.close(own)


def _file(descriptor: Descriptor, otherwise: int = errno.ESPIPE) -> Descriptor:
    """Return the descriptor if it is a file, a host folder or a FIFO; else raise OSError(otherwise)."""
    if isinstance(descriptor, StandardStream | Above) or descriptor.polled:
        raise OSError(otherwise, "not a file")
    return descriptor


def _synced(descriptor: Descriptor) -> int:
    """The host descriptor to sync, also of an inherited stream. EINVAL if there is none, as on a pipe or a terminal."""
    if isinstance(descriptor, StandardStream) and descriptor.inherited is not None:
        return descriptor.inherited
    return _file(descriptor, errno.EINVAL).fd


def _folder(descriptor: Descriptor) -> Descriptor:
    if descriptor.type is not FileType.DIRECTORY or isinstance(descriptor, StandardStream):
        raise OSError(errno.ENOTDIR, "not a folder")
    return descriptor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _offset(value: int) -> int:
    if value >> 63:
        raise OSError(errno.EINVAL, "a negative place")
    return value


def _times(found: os.stat_result, accessed: int, modified: int, flags: int) -> tuple[int, int]:
    now = time.time_ns()
    return (now if flags & _ACCESS_NOW else accessed if flags & _ACCESS_TIME else found.st_atime_ns,
            now if flags & _MODIFIED_NOW else modified if flags & _MODIFIED_TIME else found.st_mtime_ns)
