"""The module's standard input and output: inherited descriptors, file objects, or bytes.

Every thread of the module may use them at the same time. One lock a stream: what one Write of Go's writes stays
together. A read that waits holds only the input's own lock, and ends when the app stops.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys
import threading
from dataclasses import dataclass
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

    @property
    def inherited(self) -> bool:
        """Whether it is this process's own."""
        return self._target is None

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
        # Guarded by _lock.
        self._begun = False
        self._rest = b""       # what the source gave beyond what was asked for
        self._descriptor = -1  # what can be waited for; -1: only the source's own read is there
        self._stopped = self._stop = -1  # a pipe, made by the first read that may wait
        self._stopping = False

    @property
    def inherited(self) -> bool:
        """Whether it is this process's own."""
        return self._source is None

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end, or when the app stops."""
        with self._lock:
            if not self._begun:
                self._begin()
            if not self._rest and self._descriptor < 0:
                self._rest = self._read_source(size)
            if self._rest or self._descriptor < 0:
                data, self._rest = self._rest[:size], self._rest[size:]
                return data
            # The pipe is there before the flag is looked at, and stop sets the flag before it looks for the pipe: one sees the other.
            if self._stop < 0:
                self._stopped, self._stop = os.pipe()
            if self._stopping:
                return b""
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            poll.register(self._stopped, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            return b"" if self._stopped in ready else os.read(self._descriptor, size)

    def _begin(self) -> None:
        """Find the descriptor to wait for, so that the app's end can end the wait; and take what Python has read ahead of it."""
        self._begun = True
        if self._source is None:
            self._descriptor = sys.__stdin__.fileno() if sys.__stdin__ is not None else 0
        elif isinstance(self._source, io.FileIO):
            self._descriptor = self._source.fileno()
        elif isinstance(self._source, io.BufferedReader) and isinstance(self._source.raw, io.FileIO):
            descriptor = self._source.fileno()
            blocking = os.get_blocking(descriptor)
            os.set_blocking(descriptor, False)  # for what is in the buffer, and no more
            try:
                ahead = self._source.peek()
                self._rest = self._source.read1(len(ahead)) if ahead else b""
            finally:
                os.set_blocking(descriptor, blocking)
            self._descriptor = descriptor

    def _read_source(self, size: int) -> bytes:
        assert self._source is not None
        data = self._source.read(size)
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


@dataclass
class Streams:
    """The module's standard streams."""

    stdin: Input
    stdout: Output
    stderr: Output


def _is_text(target: object) -> bool:
    return isinstance(target, io.TextIOBase) or (target is not None and isinstance(getattr(target, "encoding", None), str))
