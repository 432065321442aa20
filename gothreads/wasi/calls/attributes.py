"""File attributes in WASI's form, for the calls on descriptors and on paths."""

from __future__ import annotations

import errno
import os
import struct
import time

from gothreads.wasi.descriptors import Descriptor, file_type

_ACCESS_TIME, _ACCESS_NOW, _MODIFIED_TIME, _MODIFIED_NOW = 1, 2, 4, 8  # WASI's fstflags

_filestat = struct.Struct("<QQBxxxxxxxQQQQQ")


def filestat(attributes: os.stat_result) -> bytes:
    """WASI's filestat."""
    return _filestat.pack(attributes.st_dev & (1 << 64) - 1, attributes.st_ino, file_type(attributes.st_mode),
                          attributes.st_nlink, attributes.st_size, max(0, attributes.st_atime_ns),
                          max(0, attributes.st_mtime_ns), max(0, attributes.st_ctime_ns))


def new_times(current: os.stat_result, accessed: int, modified: int, flags: int) -> tuple[int, int]:
    """The times of access and modification to set, in nanoseconds, as WASI's fstflags ask for."""
    now = time.time_ns()
    return (now if flags & _ACCESS_NOW else accessed if flags & _ACCESS_TIME else current.st_atime_ns,
            now if flags & _MODIFIED_NOW else modified if flags & _MODIFIED_TIME else current.st_mtime_ns)


def check_writable(descriptor: Descriptor) -> None:
    """EROFS if it is in a read-only mount."""
    if descriptor.read_only:
        raise OSError(errno.EROFS, "mounted read-only")
