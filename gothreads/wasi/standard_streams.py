"""Descriptors 0, 1 and 2."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from collections.abc import Sequence

from gothreads.shared_memory import buffer
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.descriptors import Descriptor, FileType, Span, file_type
from gothreads.wasi.streams import Input, Output, Streams


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


def add_streams(table: DescriptorTable, streams: Streams) -> None:
    """Make the streams the first three descriptors of an empty table."""
    standard: tuple[Input | Output, ...] = (streams.stdin, streams.stdout, streams.stderr)
    for fd, stream in enumerate(standard):
        table.add(StandardStream(stream, fd if stream.inherited else None))
