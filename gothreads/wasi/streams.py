"""The module's standard input and output: inherited descriptors, file objects, bytes, or a logger.

All threads of the module may use them at the same time. Each stream has one lock, so that the bytes of one Write in Go
stay together. A waiting read holds only the input's lock, and ends when the app stops.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gothreads.engine import ffi
from gothreads.errors import AppClosed
from gothreads.sync.stop_event import Away, StopEvent
from gothreads.sync.waiting import wait_in_slices
from gothreads.wasi import panics
from gothreads.wasi.calls.proc import ExitRequested
from gothreads.wasi.log_lines import LOGGERS, Logger, LogLines

#: How much of standard error is kept for error messages, in bytes.
TAIL = 64 << 10
#: How much of the beginning of a panic is kept, if long stacks follow it, in bytes.
_HEAD = 4 << 10
#: What stands for the stacks that are left out.
_LEFT_OUT = b"(more goroutines: to see all stacks, set GOTRACEBACK=all in the module's environment)\n"
#: The most bytes that one read returns, whatever the module asks for.
_MOST_AT_ONCE = 1 << 20


class Readable(Protocol):
    def read(self, size: int, /) -> Any: ...


class Writable(Protocol):
    def write(self, data: Any, /) -> Any: ...


class OutputExceeded(Exception):
    """The module has reached its output limit, which ends it."""


class Allowance:
    """The number of bytes that may still be written. `limit` None: unlimited. May be used from any thread."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._left = limit or 0  # guarded by _lock

    def take(self, size: int) -> int:
        """Take `size` bytes, or as many as are left, and return how many."""
        if self._limit is None:
            return size
        with self._lock:
            granted = min(size, self._left)
            self._left -= granted
            return granted

    def exceeded(self) -> OutputExceeded:
        return OutputExceeded(f"it has written more than {self._limit:,} bytes, all that it may "
                              "(--limit output=SIZE, in Python Limits(output=...))")


class Tail:
    """Keeps the end of an unbounded text. One thread may write at a time; any thread may read."""

    def __init__(self) -> None:
        # Held while the text changes or is read: a bytearray must not change while another thread copies it.
        # Re-entrant, since a signal handler may read it in the middle of a write.
        self._changing = threading.RLock()
        self._kept = b""  # the beginning of a panic in the dropped text
        self._last = bytearray()
        self._stacks = panics.StacksOfAll()

    def add(self, data: bytes) -> None:
        with self._changing:
            self._last += data
            if len(self._last) >= 2 * TAIL:
                self._kept = self._beginning() or self._kept
                del self._last[:-TAIL]

    def _beginning(self) -> bytes:
        """The beginning of a panic that starts before the last TAIL bytes; empty if there is none."""
        dropped = len(self._last) - TAIL
        begin = panics.begins(self._last) if dropped > 0 else None
        return b"" if begin is None or begin >= dropped else bytes(self._last[begin:min(begin + _HEAD, dropped)])

    def is_before_stacks_of_memory(self, last: bytes) -> bool:
        """Whether the stacks follow that Go writes when memory has run out. `last` was added last."""
        return panics.is_before_stacks_of_memory(self._last, last)

    def is_after_stack_of_goroutine(self, last: bytes) -> bool:
        return panics.is_after_stack_of_goroutine(self._last, last)

    def has_enough_stacks(self, coming: bytes) -> bool:
        """Whether Go's runtime is ending the program, and has written enough stacks. `coming` will be added next."""
        return self._stacks.are_enough(self._last, coming)

    @property
    def text(self) -> str:
        with self._changing:
            kept, last = self._beginning() or self._kept, bytes(self._last[-TAIL:])
        return (kept + b"\n...\n" + last if kept else last).decode(errors="replace")


class Target:
    """Where an app's output goes: `file` is an object with `write`, a logger, or None to inherit the descriptor.

    Its lock keeps the bytes of one write together, whichever instance of the module writes. `away` counts the threads
    that are in a call of `file`, or wait for one. `instead_of_stacks`: a line in place of the stacks that Go writes
    when memory has run out, but for that of the goroutine that wanted some; None: all stacks. `all_stacks`: however
    many goroutines there are when Go's runtime ends the program; otherwise the first of them.
    """

    def __init__(self, descriptor: int, file: Writable | Logger | None, allowance: Allowance, away: Away,
                 instead_of_stacks: str | None = None, *, all_stacks: bool = False) -> None:
        self.descriptor, self.file, self.allowance, self.away = descriptor, file, allowance, away
        self.instead_of_stacks, self.all_stacks = instead_of_stacks, all_stacks
        self.lock = threading.Lock()
        self.may_wait = file is None and _may_wait(descriptor)


#: The levels of what is logged, by descriptor. Go's own log package writes to standard error, whatever it reports.
_LEVELS = {1: logging.INFO, 2: logging.WARNING}


class Output:
    """Standard output or error of the instances with one memory; `stop` ends them.

    `watch`, if set, is called with what was written.
    """

    watch: Callable[[bytes], object] | None = None

    def __init__(self, target: Target, stop: StopEvent) -> None:
        self._target, self._stop = target, stop
        # Guarded by the target's lock. Lines and characters of instances with other memories do not mix with these.
        self._file: Writable | None = (LogLines(target.file, _LEVELS[target.descriptor])
                                       if isinstance(target.file, LOGGERS) else target.file)
        self._tail = Tail()
        self._in_stacks = self._leaves_out = False  # those of a program without memory; and all but the first
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if _is_text(self._file) else None

    @property
    def inherited(self) -> bool:
        """Whether it is this process's own descriptor."""
        return self._file is None

    @property
    def is_terminal(self) -> bool:
        """Whether the file object reports that it is a terminal."""
        return _is_terminal(self._file)

    def write(self, parts: Sequence[bytes | memoryview]) -> int:
        """Write all parts, and return the number of bytes.

        OSError if the target raises it, AppClosed if the app ends first, OutputExceeded if the limit is reached,
        ExitRequested if Go's runtime ends the program and has written enough stacks.
        """
        target = self._target
        if self._file is None:
            written = self._write(target, parts)
        else:
            target.away.append(None)
            try:
                written = self._write(target, parts)
            finally:
                target.away.pop()
        if self.watch is not None:  # not under the lock: it may log, and the log may be slow
            self.watch(written)
        return len(written)

    def _write(self, target: Target, parts: Sequence[bytes | memoryview]) -> bytes:
        with target.lock:
            wanted = b"".join(parts)  # under the lock, so that the module cannot cause many such copies at once
            data = wanted[:target.allowance.take(len(wanted))]
            is_end = not target.all_stacks and self._tail.has_enough_stacks(data)
            if is_end:
                data = _LEFT_OUT
            self._tail.add(data)
            if not self._leaves_out:
                self._emit(target, data)
                if target.instead_of_stacks is not None:
                    if self._in_stacks and self._tail.is_after_stack_of_goroutine(data):
                        self._leaves_out = True
                        self._emit(target, f"{target.instead_of_stacks}\n".encode())
                    self._in_stacks = self._in_stacks or self._tail.is_before_stacks_of_memory(data)
            if is_end:  # as Go's runtime would, when it has written the others
                raise ExitRequested(2)
            if len(data) < len(wanted):
                raise target.allowance.exceeded()
            return data

    def _emit(self, target: Target, data: bytes) -> None:
        if self._file is None:
            view = memoryview(data)
            while view:
                if target.may_wait:
                    self._stop.wait({target.descriptor: select.POLLOUT})
                view = view[os.write(target.descriptor, view[:select.PIPE_BUF] if target.may_wait else view):]
        else:
            with _the_programs(f"{'stdout' if target.descriptor == 1 else 'stderr'}.write"):
                self._file.write(data if self._decoder is None else self._decoder.decode(data))

    @property
    def tail(self) -> str:
        """The end of the output, preceded by the beginning of a panic if the stacks after it are too long to keep."""
        return self._tail.text

    def flush(self) -> None:
        """Flush the file object. Its errors are suppressed: at the module's end no caller is left to get them."""
        with contextlib.suppress(OSError, ValueError, AttributeError), self._target.lock:
            if self._file is not None:
                self._file.flush()  # type: ignore[attr-defined]

    def end_line(self) -> None:
        """Log a last line that has no end. For an instance that ends before the app."""
        with self._target.lock:
            if isinstance(self._file, LogLines):
                self._file.flush()


class Source:
    """Where an app's input comes from: `source` is bytes, an object with `read`, or None to inherit the descriptor.

    Its lock serialises reads. `away` counts the threads that are in a call of the object, or wait for one.
    """

    def __init__(self, source: Readable | bytes | None, away: Away) -> None:
        self._source = io.BytesIO(source) if isinstance(source, bytes) else source
        self._away = away
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._begun = False
        self._rest = b""       # bytes that the source returned beyond the requested size
        self._descriptor = -1  # the descriptor to wait for; -1 if there is only the source's own read

    @property
    def inherited(self) -> bool:
        """Whether it is this process's own descriptor."""
        return self._source is None

    @property
    def is_terminal(self) -> bool:
        """Whether the file object reports that it is a terminal."""
        return _is_terminal(self._source)

    def read(self, size: int, stop: StopEvent) -> bytes:
        """Read at most `size` bytes; empty at the end of the input. AppClosed if `stop` is set first."""
        if self._source is None:
            return self._read(size, stop)
        self._away.append(None)
        try:
            return self._read(size, stop)
        finally:
            self._away.pop()

    def _read(self, size: int, stop: StopEvent) -> bytes:
        size = min(size, _MOST_AT_ONCE)
        def check_stop() -> None:
            if stop.is_set:
                raise AppClosed("stopped")  # the first cause is recorded elsewhere
        # Its holder may be in another instance, and wait for long.
        wait_in_slices(lambda seconds: self._lock.acquire(timeout=seconds), between=check_stop)
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
                with contextlib.suppress(BlockingIOError):  # another process read it first
                    return os.read(self._descriptor, size)
        finally:
            self._lock.release()

    def _begin(self) -> None:
        """Find the descriptor to wait for, so that waits end with the app, and take the bytes that Python buffered."""
        self._begun = True
        if self._source is None:
            self._descriptor = sys.__stdin__.fileno() if sys.__stdin__ is not None else 0
        elif isinstance(self._source, io.FileIO):
            self._descriptor = self._source.fileno()
        elif isinstance(self._source, io.BufferedReader) and isinstance(self._source.raw, io.FileIO):
            descriptor = self._source.fileno()
            blocking = os.get_blocking(descriptor)
            os.set_blocking(descriptor, False)  # so that peek returns the buffer without waiting for more
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
    """Standard input of the instances with one memory; `stop` ends them."""

    def __init__(self, source: Source, stop: StopEvent) -> None:
        self._source, self._stop = source, stop

    @property
    def inherited(self) -> bool:
        """Whether it is this process's own descriptor."""
        return self._source.inherited

    @property
    def is_terminal(self) -> bool:
        """Whether the file object reports that it is a terminal."""
        return self._source.is_terminal

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; empty at the end of the input. AppClosed if the app or the instance ends first."""
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
    except OSError:  # closed: a write will report it
        return False


@contextlib.contextmanager
def _the_programs(name: str) -> Iterator[None]:
    """Context for a call of a file object that the program passed in.

    OSError, and ValueError as EBADF, become errors of the module's call; any other exception is treated like that of a
    host function.
    """
    try:
        yield
    except OSError:
        raise
    except ValueError as error:  # raised by closed file objects
        raise OSError(errno.EBADF, "closed") from error
    except BaseException as error:
        raise ffi.Raised(name, error) from error


def _is_terminal(file: object) -> bool:
    try:
        return bool(file.isatty())  # type: ignore[attr-defined]
    except Exception:  # without isatty, or closed
        return False


def _is_text(target: object) -> bool:
    return isinstance(target, io.TextIOBase) or (target is not None
                                                 and isinstance(getattr(target, "encoding", None), str))
