"""path_…: files and folders by name, looked up beneath an open folder (wasi/openat.py)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from gothreads.wasi.calls.attributes import check_writable, filestat, new_times
from gothreads.wasi.calls.fd import RIGHT_READ, RIGHT_WRITE
from gothreads.wasi.descriptors import (
    ALL_FLAGS,
    APPEND,
    DSYNC,
    NONBLOCK,
    RSYNC,
    SYNC,
    Descriptor,
    FileType,
)
from gothreads.wasi.fifos import FifoOpens
from gothreads.wasi.openat import PLACE, followed, open_beneath, parent, stat_beneath
from gothreads.wasi.process import Process
from gothreads.wasi.standard_streams import StandardStream
from gothreads.wasi.virtual_root import Above

_FOLLOW = 1  # WASI's lookupflags
_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = 1, 2, 4, 8  # WASI's oflags
_OPEN_FLAGS = {_CREATE: os.O_CREAT, _DIRECTORY: os.O_DIRECTORY, _EXCLUSIVE: os.O_EXCL, _TRUNCATE: os.O_TRUNC}
_FD_FLAGS = {APPEND: os.O_APPEND, DSYNC: os.O_DSYNC, SYNC | RSYNC: os.O_SYNC}


class PathCalls:
    """Functions on paths."""

    def __init__(self, process: Process) -> None:
        self._process, self._table = process, process.table
        self._fifos = FifoOpens(process.table.stop)

    def end(self) -> None:
        """The app is ending: wake the threads that are blocked in an open."""
        self._fifos.end()

    def close(self) -> None:
        """Free everything. No thread may be in a call."""
        self._fifos.close()

    def path_open(self, fd: int, lookup: int, path: int, length: int, oflags: int, rights: int, _inheriting: int,
                  fdflags: int, result: int) -> None:
        folder, name = self._at(fd, path, length, creates=bool(oflags & _CREATE))
        reads, writes = bool(rights & RIGHT_READ), bool(rights & RIGHT_WRITE)
        flags = (os.O_RDWR if reads else os.O_WRONLY) if writes else os.O_RDONLY
        flags |= os.O_NONBLOCK | os.O_NOCTTY | (0 if lookup & _FOLLOW else os.O_NOFOLLOW)
        for bit, flag in _OPEN_FLAGS.items():
            flags |= flag if oflags & bit else 0
        for bit, flag in _FD_FLAGS.items():
            flags |= flag if fdflags & bit else 0
        if writes or oflags & (_CREATE | _TRUNCATE):
            if isinstance(folder, Above):
                raise OSError(errno.EISDIR, "a folder")
            check_writable(folder)
        opened = (folder if isinstance(folder, Above)
                  else self._open(folder, name, flags, fdflags, readable=reads or not writes, writable=writes))
        self._process.add_descriptor(opened, result)

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
        with (self._changing(fd, path, length) as (folder, name),
              self._changing(to_fd, to_path, to_length, creates=True) as (to_folder, to_name)):
            os.rename(name, to_name, src_dir_fd=folder, dst_dir_fd=to_folder)

    def path_link(self, fd: int, lookup: int, path: int, length: int, to_fd: int, to_path: int, to_length: int) -> None:
        source, name = self._at(fd, path, length)
        check_writable(source)  # through the new link, the file could be changed elsewhere
        _refuse_slash(source.fd, name, errno.EPERM)
        if lookup & _FOLLOW:
            name = followed(source.fd, name)
        with (parent(source.fd, name) as (folder, last),
              self._changing(to_fd, to_path, to_length, special=errno.EEXIST, creates=True) as (to_folder, to_last)):
            os.link(last, to_last, src_dir_fd=folder, dst_dir_fd=to_folder, follow_symlinks=False)

    def path_symlink(self, target: int, target_length: int, fd: int, path: int, length: int) -> None:
        text = self._process.name(target, target_length)
        if b"\0" in text:
            raise OSError(errno.EINVAL, "NUL in a path")
        if text.startswith(b"/"):
            raise OSError(errno.EPERM, "for other programs, an absolute link leads outside of the folder")
        with self._changing(fd, path, length, special=errno.EEXIST, creates=True) as (folder, name):
            os.symlink(text, name, dir_fd=folder)

    def path_readlink(self, fd: int, path: int, length: int, buffer: int, size: int, done: int) -> None:
        above, link = self._at(fd, path, length)
        if isinstance(above, Above):
            raise OSError(errno.EINVAL, "a folder")
        _refuse_slash(above.fd, link, errno.EINVAL)
        with parent(above.fd, link) as (folder, name):
            target = os.readlink(name, dir_fd=folder)
        self._process.memory.write(buffer, target[:size])
        self._process.memory.write_u32(done, min(size, len(target)))

    def path_filestat_get(self, fd: int, lookup: int, path: int, length: int, result: int) -> None:
        folder, name = self._at(fd, path, length)
        attributes = (folder.stat() if isinstance(folder, Above)
                      else stat_beneath(folder.fd, name, follow=bool(lookup & _FOLLOW)))
        self._process.memory.write(result, filestat(attributes))

    def path_filestat_set_times(self, fd: int, lookup: int, path: int, length: int, accessed: int, modified: int,
                                flags: int) -> None:
        descriptor, name = self._at(fd, path, length)
        check_writable(descriptor)
        folder = descriptor.fd
        # utime on a name with a trailing slash would follow a link.
        if name.endswith(b"/") or name.rpartition(b"/")[2] in (b".", b".."):
            opened = open_beneath(folder, name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.utime(opened, ns=new_times(os.fstat(opened), accessed, modified, flags))
            finally:
                os.close(opened)
            return
        with parent(folder, followed(folder, name) if lookup & _FOLLOW else name) as (above, last):
            current = os.stat(last, dir_fd=above, follow_symlinks=False)
            times = new_times(current, accessed, modified, flags)
            os.utime(last, ns=times, dir_fd=above, follow_symlinks=False)

    def _at(self, fd: int, path: int, length: int, *, creates: bool = False) -> tuple[Descriptor, bytes]:
        """The folder in which to look a name up, and the name; see Above.find.

        The folder stays open as long as the caller refers to it.
        """
        folder, name = _folder(self._table.get(fd)), self._process.name(path, length)
        return folder.find(name, creates=creates) if isinstance(folder, Above) else (folder, name)

    @contextlib.contextmanager
    def _changing(self, fd: int, path: int, length: int, *, special: int = errno.EINVAL,
                  creates: bool = False) -> Iterator[tuple[int, bytes]]:
        """The parent folder and last part of a name, for a call that changes the folder; EROFS if it is read-only.

        `creates`: the call creates the name. `special` is the error for "." and "..".
        """
        descriptor, name = self._at(fd, path, length, creates=creates)
        if creates and isinstance(descriptor, Above):
            raise OSError(errno.EEXIST, "it exists")
        check_writable(descriptor)
        with parent(descriptor.fd, name, special=special) as (folder, last):
            yield folder, last

    def _open(self, folder: Descriptor, name: bytes, flags: int, fdflags: int, *,
              readable: bool, writable: bool) -> Descriptor:
        at_once = fdflags & NONBLOCK or flags & (os.O_EXCL | os.O_DIRECTORY)
        fd = None if at_once else self._fifos.open(folder.fd, name, flags)
        if fd is None:
            fd = open_beneath(folder.fd, name, flags)
        try:
            return Descriptor(fd, self._table.stop, flags=fdflags & ALL_FLAGS, readable=readable, writable=writable,
                              read_only=folder.read_only)
        except BaseException:
            os.close(fd)
            raise


def _refuse_slash(folder: int, name: bytes, number: int) -> None:
    """Refuse a name with a trailing slash, for calls that would follow a link before the slash.

    Raises OSError(number) if the name is a folder, and the error of the lookup otherwise.
    """
    if name.endswith(b"/"):
        os.close(open_beneath(folder, name, PLACE | os.O_DIRECTORY))
        raise OSError(number, "a folder")


def _folder(descriptor: Descriptor) -> Descriptor:
    if descriptor.type is not FileType.DIRECTORY or isinstance(descriptor, StandardStream):
        raise OSError(errno.ENOTDIR, "not a folder")
    return descriptor
