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
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gothreads.engine import ffi
from gothreads.errors import AppClosed
from gothreads.sync.stop_event import Away, StopEvent
from gothreads.wasi import panics

#: How much of standard error is kept for error messages, in bytes.
TAIL = 64 << 10
#: And of what says why it ended, before the stacks of many goroutines.
_HEAD = 4 << 10
#: How long a reader that waits for its turn does not see its end, in seconds.
_SLICE = 0.1
#: How much one read gives at the most, in bytes, whatever the module asks for.
_MOST_AT_ONCE = 1 << 20


class Readable(Protocol):
    def read(self, size: int, /) -> Any: ...


class Writable(Protocol):
    def write(self, data: Any, /) -> Any: ...


class OutputExceeded(Exception):
    """A module has written all that it may. It is ended."""


class Allowance:
    """How many bytes may still be written; None: any number. May be used from any thread."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._left = limit or 0  # guarded by _lock

    def take(self, size: int) -> int:
        """How many of so many bytes may be written."""
        if self._limit is None:
            return size
        with self._lock:
            granted = min(size, self._left)
            self._left -= granted
            return granted

    def exceeded(self) -> OutputExceeded:
        return OutputExceeded(f"it has written more than {self._limit:,} bytes, all that it may (Limits(output=...))")


class Tail:
    """The last of a text that never ends. Written by one thread at a time, read by any."""

    def __init__(self) -> None:
        self._kept = b""  # a panic's beginning, of what was dropped
        self._last = bytearray()

    def add(self, data: bytes) -> None:
        self._last += data
        if len(self._last) >= 2 * TAIL:
            self._kept = self._beginning() or self._kept
            del self._last[:-TAIL]

    def _beginning(self) -> bytes:
        """Of a panic that lies before the last of it."""
        dropped = len(self._last) - TAIL
        begin = panics.begins(self._last) if dropped > 0 else None
        return b"" if begin is None or begin >= dropped else bytes(self._last[begin:min(begin + _HEAD, dropped)])

    @property
    def text(self) -> str:
        kept, last = self._beginning() or self._kept, bytes(self._last[-TAIL:])
        return (kept + b"\n...\n" + last if kept else last).decode(errors="replace")


class Target:
    """Where an app's output goes: `file` is None to inherit the descriptor, or an object with `write`. One lock, so that what is one write stays
    together, whichever instance of the module writes. `away` counts those that are in `file`, or wait for it.
    """

    def __init__(self, descriptor: int, file: Writable | None, allowance: Allowance, away: Away) -> None:
        self.descriptor, self.file, self.allowance, self.away = descriptor, file, allowance, away
        self.lock = threading.Lock()
        self.may_wait = file is None and _may_wait(descriptor)


class Output:
    """Standard output or error, of one memory. `stop` is its end."""

    def __init__(self, target: Target, stop: StopEvent) -> None:
        self._target, self._stop = target, stop
        # Guarded by the target's lock.
        self._tail = Tail()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if _is_text(target.file) else None

    @property
    def inherited(self) -> bool:
        """Whether it is this process's own."""
        return self._target.file is None

    @property
    def is_terminal(self) -> bool:
        """Whether the file object says so."""
        return _is_terminal(self._target.file)

    def write(self, parts: Sequence[bytes | memoryview]) -> int:
        """Write all of it; how much that was. OSError as the target raises it; AppClosed when the app ends first; OutputExceeded."""
        target = self._target
        if target.file is None:
            return self._write(target, parts)
        target.away.append(None)
        try:
            return self._write(target, parts)
        finally:
            target.away.pop()

    def _write(self, target: Target, parts: Sequence[bytes | memoryview]) -> int:
        with target.lock:
            wanted = b"".join(parts)  # here: the module could ask for many such copies at the same time
            data = wanted[:target.allowance.take(len(wanted))]
            self._tail.add(data)
            if target.file is None:
                view = memoryview(data)
                while view:
                    if target.may_wait:
                        self._stop.wait({target.descriptor: select.POLLOUT})
                    view = view[os.write(target.descriptor, view[:select.PIPE_BUF] if target.may_wait else view):]
            else:
                with _the_programs(f"{'stdout' if target.descriptor == 1 else 'stderr'}.write"):
                    target.file.write(data if self._decoder is None else self._decoder.decode(data))
            if len(data) < len(wanted):
                raise target.allowance.exceeded()
            return len(data)

    @property
    def tail(self) -> str:
        """What was written last; before that the beginning of a panic, where the stacks that follow it are longer."""
        return self._tail.text

    def flush(self) -> None:
        """What a file object raises, it raises at the module's end, when nobody is there to be told."""
        with contextlib.suppress(OSError, ValueError, AttributeError), self._target.lock:
            if self._target.file is not None:
                self._target.file.flush()  # type: ignore[attr-defined]


class Source:
    """Where an app's input comes from: `source` is None to inherit the descriptor, bytes, or an object with `read`. One lock: who reads, reads next.
    `away` counts those that are in the object, or wait for it.
    """

    def __init__(self, source: Readable | bytes | None, away: Away) -> None:
        self._source = io.BytesIO(source) if isinstance(source, bytes) else source
        self._away = away
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._begun = False
        self._rest = b""       # what the source gave beyond what was asked for
        self._descriptor = -1  # what can be waited for; -1: only the source's own read is there

    @property
    def inherited(self) -> bool:
        """Whether it is this process's own."""
        return self._source is None

    @property
    def is_terminal(self) -> bool:
        """Whether the file object says so."""
        return _is_terminal(self._source)

    def read(self, size: int, stop: StopEvent) -> bytes:
        """At most `size` bytes; none at the end. AppClosed when the reader's end comes first."""
        if self._source is None:
            return self._read(size, stop)
        self._away.append(None)
        try:
            return self._read(size, stop)
        finally:
            self._away.pop()

    def _read(self, size: int, stop: StopEvent) -> bytes:
        size = min(size, _MOST_AT_ONCE)
        while not self._lock.acquire(timeout=_SLICE):  # who has it may be of another instance, and wait for long
            if stop.is_set:
                raise AppClosed("stopped")  # the first cause is known
        try:
            if not self._begun:
                with _the_programs("stdin"):
                    self._begin()
            if not self._rest and self._descriptor < 0:
                self._rest = self._read_source(size)
            if self._rest or self._descriptor < 0:
                data, self._rest = self._rest[:size], self._rest[size:]
                return data
            while True:
                stop.wait({self._descriptor: select.POLLIN})
                with contextlib.suppress(BlockingIOError):  # another process was faster
                    return os.read(self._descriptor, size)
        finally:
            self._lock.release()

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
        with _the_programs("stdin.read"):
            data = self._source.read(size)
            return data.encode() if isinstance(data, str) else bytes(data or b"")


class Input:
    """Standard input, of one memory. `stop` is its end."""

    def __init__(self, source: Source, stop: StopEvent) -> None:
        self._source, self._stop = source, stop

    @property
    def inherited(self) -> bool:
        """Whether it is this process's own."""
        return self._source.inherited

    @property
    def is_terminal(self) -> bool:
        """Whether the file object says so."""
        return self._source.is_terminal

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end. AppClosed when the app, or this instance, ends first."""
        return self._source.read(size, self._stop)


@dataclass
class Streams:
    """The module's standard streams."""

    stdin: Input
    stdout: Output
    stderr: Output


def _may_wait(descriptor: int) -> bool:
    try:
        return not stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:  # closed: writing will say so
        return False


@contextlib.contextmanager
def _the_programs(name: str) -> Iterator[None]:
    """Around a call of a file object of the program's. Errors of files are errors in the module; whatever else it raises is a host function's."""
    try:
        yield
    except OSError:
        raise
    except ValueError as error:  # as a closed one says
        raise OSError(errno.EBADF, "closed") from error
    except BaseException as error:
        raise ffi.Raised(name, error) from error


def _is_terminal(file: object) -> bool:
    try:
        return bool(file.isatty())  # type: ignore[attr-defined]
    except Exception:  # not a whole file object, or closed
        return False


def _is_text(target: object) -> bool:
    return isinstance(target, io.TextIOBase) or (target is not None and isinstance(getattr(target, "encoding", None), str))
