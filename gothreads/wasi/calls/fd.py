"""fd_…: reading, writing and attributes of open descriptors."""

from __future__ import annotations

import errno
import os
import struct

from gothreads.wasi.calls.attributes import check_writable, filestat, new_times
from gothreads.wasi.descriptors import Descriptor, FileType
from gothreads.wasi.listings import Listings, read_folder
from gothreads.wasi.process import Process
from gothreads.wasi.standard_streams import StandardStream
from gothreads.wasi.virtual_root import Above

#: WASI's rights.
RIGHT_READ, RIGHT_WRITE = 1 << 1, 1 << 6
_ALL_RIGHTS = (1 << 30) - 1

_fdstat = struct.Struct("<BxHxxxxQQ")
_prestat = struct.Struct("<BxxxI")
_dirent = struct.Struct("<QQIBxxx")


class FdCalls:
    """Functions on descriptors."""

    def __init__(self, process: Process) -> None:
        self._process, self._table = process, process.table
        self._listings = Listings()

    # Reading and writing.

    def fd_read(self, fd: int, vectors: int, count: int, done: int) -> None:
        self._put(done, self._table.get(fd).read(self._process.spans(vectors, count)))

    def fd_pread(self, fd: int, vectors: int, count: int, offset: int, done: int) -> None:
        self._put(done, self._table.get(fd).read(self._process.spans(vectors, count), _offset(offset)))

    def fd_write(self, fd: int, vectors: int, count: int, done: int) -> None:
        self._put(done, self._table.get(fd).write(self._process.spans(vectors, count)))

    def fd_pwrite(self, fd: int, vectors: int, count: int, offset: int, done: int) -> None:
        self._put(done, self._table.get(fd).write(self._process.spans(vectors, count), _offset(offset)))

    def fd_seek(self, fd: int, offset: int, whence: int, result: int) -> None:
        if whence > 2:
            raise OSError(errno.EINVAL, "unknown whence")
        descriptor = self._table.get(fd)
        self._process.memory.write_u64(result, os.lseek(_file(descriptor).fd, _signed(offset), whence))

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

    # Attributes.

    def fd_fdstat_get(self, fd: int, result: int) -> None:
        descriptor = self._table.get(fd)
        denied = (0 if descriptor.readable else RIGHT_READ) | (0 if descriptor.writable else RIGHT_WRITE)
        stat = _fdstat.pack(descriptor.type, descriptor.flags, _ALL_RIGHTS & ~denied, _ALL_RIGHTS)
        self._process.memory.write(result, stat)

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> None:
        descriptor = self._table.get(fd)
        descriptor.set_flags(flags)
        self._table.changed(fd, descriptor)

    def fd_fdstat_set_rights(self, fd: int, _base: int, _inheriting: int) -> None:
        self._table.get(fd)

    def fd_filestat_get(self, fd: int, result: int) -> None:
        self._process.memory.write(result, filestat(self._table.get(fd).stat()))

    def fd_filestat_set_size(self, fd: int, size: int) -> None:
        descriptor = self._table.get(fd)
        if not _file(descriptor, errno.EINVAL).writable:
            raise OSError(errno.EINVAL, "not open for writing")
        os.ftruncate(descriptor.fd, _offset(size))

    def fd_filestat_set_times(self, fd: int, accessed: int, modified: int, flags: int) -> None:
        descriptor = self._table.get(fd)
        check_writable(descriptor)
        host = _file(descriptor, errno.EINVAL).fd
        os.utime(host, ns=new_times(os.fstat(host), accessed, modified, flags))

    def fd_prestat_get(self, fd: int, result: int) -> None:
        path = _preopened_path(self._table.get(fd))
        self._process.memory.write(result, _prestat.pack(0, len(path)))

    def fd_prestat_dir_name(self, fd: int, address: int, length: int) -> None:
        path = _preopened_path(self._table.get(fd))
        if length < len(path):
            raise OSError(errno.ENAMETOOLONG, "longer than the buffer")
        self._process.memory.write(address, path)

    # Folders.

    def fd_readdir(self, fd: int, buffer: int, size: int, cookie: int, done: int) -> None:
        """Write the entries from number `cookie` on, as many as fit; the last one may be truncated."""
        descriptor = self._table.get(fd)
        with descriptor.lock:
            if descriptor.type is not FileType.DIRECTORY:
                raise OSError(errno.ENOTDIR, "not a folder")
            listing = descriptor.listing
            if cookie == 0 or not listing:
                listing = descriptor.entries() if isinstance(descriptor, Above) else read_folder(descriptor.fd)
                self._listings.keep(descriptor, listing)
            chunks, room = [], size
            for index in range(cookie, len(listing)):
                name, inode, kind = listing[index]
                chunk = _dirent.pack(index + 1, inode, len(name), kind) + name
                chunks.append(chunk[:room])
                room -= len(chunks[-1])
                if not room:
                    break
            self._process.memory.write(buffer, b"".join(chunks))
            self._put(done, size - room)

    def _put(self, address: int, value: int) -> None:
        self._process.memory.write_u32(address, value)


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


def _preopened_path(descriptor: Descriptor) -> bytes:
    """The path of a folder that the module was given. ENOTDIR: Go tries the next descriptor (EBADF ends its search)."""
    if descriptor.preopen is None:
        raise OSError(errno.ENOTDIR, "not a preopened folder")
    return descriptor.preopen


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _offset(value: int) -> int:
    if value >> 63:
        raise OSError(errno.EINVAL, "negative offset")
    return value
