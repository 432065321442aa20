"""The module's standard input and output: inherited descriptors, file objects, or bytes.

Every thread of the module may use them at the same time. One lock a stream: what one Write of Go's writes stays
together. A read that waits holds only the input's own lock, and ends when the app stops.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
import threading
from typing import Any, Protocol

#: How much of standard error is kept for error messages, in bytes.
TAIL = 64 << 10


class Readable(Protocol):
    def read(self, size: int, /) -> Any: ...


class Writable(Protocol):
    def write(self, data: Any, /) -> Any: ...


class Output:
    """Standard output or error. `target` is None to inherit the descriptor, or an object with `write`."""

    def __init__(self, descriptor: int, target: Writable | None) -> None:
        self._descriptor, self._target = descriptor, target
        self._lock = threading.Lock()
        self._tail = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if _is_text(target) else None

    def write(self, data: bytes) -> None:
        """Write all of it. OSError as the target raises it."""
        with self._lock:
            self._tail += data[-TAIL:]
            del self._tail[:-TAIL]
            if self._target is None:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._descriptor, view):]
            elif self._decoder is not None:
                self._target.write(self._decoder.decode(data))
            else:
                self._target.write(data)

    @property
    def tail(self) -> str:
        """What was written last."""
        return bytes(self._tail).decode(errors="replace")

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError), self._lock:
            if self._target is not None:
                self._target.flush()  # type: ignore[attr-defined]


class Input:
    """Standard input. `source` is None to inherit the descriptor, bytes, or an object with `read`."""

    def __init__(self, source: Readable | bytes | None) -> None:
        self._source = io.BytesIO(source) if isinstance(source, bytes) else source
        self._lock = threading.Lock()
        self._rest = b""  # what the source gave beyond what was asked for; guarded by _lock
        self._stopped = self._stop = -1  # a pipe, made by the first read that may wait
        self._stopping = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end, or when the app stops."""
        with self._lock:
            if self._source is not None:
                data = self._rest or self._read_source(size)
                data, self._rest = data[:size], data[size:]
                return data
            # The pipe is there before the flag is looked at, and stop sets the flag before it looks for the pipe: one sees the other.
            if self._stop < 0:
                self._stopped, self._stop = os.pipe()
            if self._stopping:
                return b""
            descriptor = sys.__stdin__.fileno() if sys.__stdin__ is not None else 0
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.register(self._stopped, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            return b"" if self._stopped in ready else os.read(descriptor, size)

    def _read_source(self, size: int) -> bytes:
        assert self._source is not None
        data = self._source.read1(size) if isinstance(self._source, io.BufferedReader) else self._source.read(size)
        return data.encode() if isinstance(data, str) else bytes(data or b"")

    def stop(self) -> None:
        """Wake a read that waits."""
        self._stopping = True
        if self._stop >= 0:
            os.write(self._stop, b"x")

    def close(self) -> None:
        """Free the descriptors. No read may be under way."""
        for descriptor in (self._stopped, self._stop):
            if descriptor >= 0:
                os.close(descriptor)
        self._stopped = self._stop = -1


def _is_text(target: object) -> bool:
    return isinstance(target, io.TextIOBase) or (target is not None and isinstance(getattr(target, "encoding", None), str))


# WASI's numbers (wasi_snapshot_preview1, type errno).
_ERRNO = {errno.EAGAIN: 6, errno.EBADF: 8, errno.EFBIG: 22, errno.EINTR: 27, errno.EINVAL: 28, errno.EIO: 29, errno.ENOSPC: 51, errno.EPIPE: 64}
EIO, EBADF, EINVAL = 29, 8, 28


def wasi_errno(error: BaseException) -> int:
    """WASI's number for what a file object raised."""
    return _ERRNO.get(error.errno or 0, EIO) if isinstance(error, OSError) else EBADF if isinstance(error, ValueError) else EIO
