"""The module's descriptor table, which all its threads share, as in a process, and the limit on its size."""

from __future__ import annotations

import contextlib
import errno
import heapq
import resource
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptors import Descriptor
from gothreads.wasi.hints import Hints
from gothreads.wasm import layout

#: Parts of an app's allowance: the standard streams, which all instances share; and the number reserved for each
#: instance, which is at most half of its share.
_STREAMS, _RESERVED = 3, 8


def _most_descriptors() -> int:
    """The largest number of descriptors for an app: most of this process's limit.

    It stays below FIRST_SOCKET, so that the numbers of files never reach those of sockets.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = layout.FIRST_SOCKET if soft == resource.RLIM_INFINITY else soft
    return min(limit - max(32, limit // 8), layout.FIRST_SOCKET - 1)


class Refused(OSError):
    """EMFILE: the app has reached its limit of `most` descriptors."""

    def __init__(self, most: int) -> None:
        super().__init__(errno.EMFILE, "too many descriptors")
        self.most = most


class FileAllowance:
    """Limits the total number of descriptors of an app's instances. May be used from any thread.

    Each instance has `reserved` descriptors, so that it can start whatever the others use. The rest is taken on demand.
    Invariant: each descriptor that a table has beyond its first `reserved` was taken here, and is given back when it
    leaves the table.
    """

    def __init__(self, most: int | None, instances: int = 1) -> None:
        """`most`: the limit; None for most of this process's own limit, which also bounds any other value."""
        of_process = _most_descriptors()
        self._most, self._is_given = min(most or of_process, of_process), most is not None and most <= of_process
        self.reserved = min(_RESERVED, (self._most - _STREAMS) // (2 * instances))
        self._lock = threading.Lock()
        self._used = _STREAMS + self.reserved * instances  # guarded by _lock

    @property
    def most(self) -> int:
        return self._most

    @property
    def of_one_table(self) -> int:
        """The limit on the descriptors of a table that has the allowance to itself."""
        return self._most - _STREAMS

    def take(self) -> None:
        """Take one. Refused if the limit is reached."""
        with self._lock:
            if self._used >= self._most:
                raise Refused(self._most)
            self._used += 1

    def give(self) -> None:
        with self._lock:
            self._used -= 1

    def tell(self, hints: Hints) -> None:
        """Log that the limit was reached, and how to raise it."""
        if hints.take("files"):
            if self._is_given:
                hints.give(f"the limit on files, {self._most:,}, is reached. Raise it (--limit files=N, in Python "
                           "Limits(files=...)), unless the program leaks them")
            else:
                hints.give(f"it has {self._most:,} files and sockets open, most of what this process may have. Raise "
                           "the limit of the process (ulimit -n), unless the program leaks them")


class _FreeNumbers:
    """The lowest free number, starting at `first`."""

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


class Numbers:
    """Hands out numbers and counts descriptors, for a table that Python has to itself. The table's lock guards it."""

    def __init__(self, allowance: FileAllowance) -> None:
        self._allowance, self._counted = allowance, 0
        self._files, self._sockets = _FreeNumbers(0), _FreeNumbers(layout.FIRST_SOCKET)

    def take(self, *, is_socket: bool) -> int:
        """The lowest number that is free, as in POSIX. Sockets have their own range."""
        return (self._sockets if is_socket else self._files).take()

    def give(self, number: int) -> None:
        (self._sockets if number >= layout.FIRST_SOCKET else self._files).give(number)

    def count(self) -> None:
        """Count a descriptor. Refused if there are too many."""
        if self._counted >= self._allowance.reserved:
            self._allowance.take()
        self._counted += 1

    def uncount(self) -> None:
        self._counted -= 1
        if self._counted >= self._allowance.reserved:
            self._allowance.give()


class Opened(ABC):
    """Numbers, and the descriptors that C has opened with them (csrc/io.h). May be used from any thread."""

    @abstractmethod
    def take(self, *, is_socket: bool) -> int: ...

    @abstractmethod
    def give(self, number: int) -> None: ...

    @abstractmethod
    def count(self) -> None: ...

    @abstractmethod
    def uncount(self) -> None: ...

    @abstractmethod
    def claim(self, number: int) -> Descriptor | None:
        """The descriptor that C had until now. None if C has none with that number."""

    @abstractmethod
    def close_all(self) -> None:
        """Close what C has. No thread may be using any."""


class DescriptorTable:
    """Maps numbers to descriptors. May be used from any thread."""

    def __init__(self, stop: StopEvent, allowance: FileAllowance | None = None) -> None:
        self.stop, self._allowance = stop, allowance or FileAllowance(None)
        self._lock = threading.Lock()
        # Guarded by _lock; _open is read without it.
        self._open: dict[int, Descriptor] = {}
        self._numbers: Numbers | Opened = Numbers(self._allowance)
        self._opened: Opened | None = None
        self.removals = 0  # how many numbers have lost their descriptor
        # Called with a number and its descriptor, holding _lock: when that has been added, is about to be removed
        # (before anybody else can have the number), or serves reads and writes in another way from now on.
        self.on_add: Callable[[int, Descriptor], None] = lambda _number, _descriptor: None
        self.on_remove: Callable[[int, Descriptor], None] = lambda _number, _descriptor: None
        self.on_change: Callable[[int, Descriptor], None] = lambda _number, _descriptor: None
        # Called when the limit has been reached, without _lock.
        self.on_refused: Callable[[], None] = lambda: None
        # Called with a number whose descriptor has another number from now on.
        self.on_move: Callable[[int], None] = lambda _number: None

    @property
    def most(self) -> int:
        """The largest number of descriptors that it may have."""
        return self._allowance.most

    @property
    def most_counted(self) -> int:
        """The same without the standard streams, if no other table has a part of the allowance."""
        return self._allowance.of_one_table

    def share(self, opened: Opened) -> None:
        """Let C open descriptors, too. Call it once, before the module runs; the allowance is this table's alone."""
        with self._lock:
            self._numbers = self._opened = opened
            for number, descriptor in self._open.items():
                if descriptor.counted:
                    opened.count()
                self.on_add(number, descriptor)

    def open_numbers(self) -> list[int]:
        """The numbers of its descriptors, except of those that C has opened."""
        with self._lock:
            return list(self._open)

    def add(self, descriptor: Descriptor, *, preopened: bool = False) -> int:
        """Add a descriptor and return its number: the lowest that is free, as in POSIX.

        Sockets and other polled descriptors have their own range of numbers, except those that the module starts with
        (`preopened`).
        EMFILE if there are too many.
        """
        with self._told(), self._lock:
            if descriptor.counted:
                self._numbers.count()
            descriptor.added()
            number = self._numbers.take(is_socket=descriptor.polled and not preopened)
            self._open[number] = descriptor
            self.on_add(number, descriptor)
            return number

    def check_room(self) -> None:
        """EMFILE if there are too many already. For a call that would take something from elsewhere and then lose it.

        Another thread may take the last one before `add`.
        """
        with self._told(), self._lock:
            self._numbers.count()
            self._numbers.uncount()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Refused:
            self.on_refused()
            raise

    def changed(self, number: int, descriptor: Descriptor) -> None:
        """Call after the descriptor's flags or kind have changed."""
        with self._lock:
            if self._open.get(number) is descriptor:
                self.on_change(number, descriptor)

    def get(self, number: int) -> Descriptor:
        """The descriptor, which stays open as long as the caller refers to it. EBADF if the number is not open."""
        found = self._open.get(number)
        if found is None:
            with self._lock:
                found = self._find(number)
        if found is None:
            raise OSError(errno.EBADF, "not open")
        return found

    def is_open(self, number: int, descriptor: Descriptor) -> bool:
        """Whether the descriptor still has that number."""
        with self._lock:
            return self._open.get(number) is descriptor

    def remove(self, number: int) -> None:
        """Remove a descriptor. EBADF if the number is not open."""
        with self._lock:
            descriptor = self._find(number)
            if descriptor is None:
                raise OSError(errno.EBADF, "not open")
            del self._open[number]
            self.removals += 1
            self.on_remove(number, descriptor)
            self._numbers.give(number)
        self._release(descriptor)

    def move(self, source: int, target: int) -> None:
        """Renumber `source` to `target`, replacing that one, as dup2 and close do. EBADF if either is not open."""
        with self._lock:
            if self._find(source) is None or self._find(target) is None:
                raise OSError(errno.EBADF, "not open")
            if source == target:
                return
            before, self._open[target] = self._open[target], self._open.pop(source)
            self.removals += 1
            self.on_remove(target, before)
            self.on_move(source)
            self._numbers.give(source)
            self.on_change(target, self._open[target])
        self._release(before)

    def close_all(self) -> None:
        """Remove all descriptors. No thread may be using any."""
        with self._lock:
            left, self._open = self._open, {}
            for number, descriptor in left.items():
                self.on_remove(number, descriptor)
            if self._opened is not None:
                self._opened.close_all()
        for descriptor in left.values():
            self._release(descriptor)

    def _find(self, number: int) -> Descriptor | None:
        """The descriptor, also one that C had until now. The caller holds the lock."""
        found = self._open.get(number)
        if found is None and self._opened is not None and (found := self._opened.claim(number)) is not None:
            self._open[number] = found  # C counts it, and serves it as before
        return found

    def _release(self, descriptor: Descriptor) -> None:
        if descriptor.counted:
            with self._lock:
                self._numbers.uncount()
        descriptor.removed()
