"""One thread at a time is in the module: the lock that calls queue for, and the count of who is in or about to be."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gothreads.host import ffi

#: How long who waits for a turn may not notice that the module has ended, in seconds.
_SLICE = 0.1


class Turns:
    """`ended` says whether the module has: who comes after that is turned away. `trapped` is told when a thread that is in did not come back.

    A thread that is in may take another turn at once: a Python function that the module calls may call the module's exports.

    Invariant: a thread counts before it asks `ended`. So, once that is true and nobody counts, nobody is in, or will be.
    """

    def __init__(self, ended: Callable[[], bool], trapped: Callable[[], None]) -> None:
        self._ended, self._trapped = ended, trapped
        self._turn = threading.RLock()
        self._owner = 0  # written by whoever holds _turn
        self._depth = 0  # guarded by _turn
        self._lock = threading.Lock()
        self._in = 0  # guarded by _lock

    @property
    def taken(self) -> int:
        """Threads that are in, or wait to be."""
        with self._lock:
            return self._in

    @property
    def mine(self) -> bool:
        """Whether the calling thread is in already: then it is in a Python function that the module has called."""
        return self._owner == threading.get_ident()

    def acquire(self, *, wait: bool = True) -> bool:
        """False when somebody is in and one does not wait. ffi.Trapped after the end."""
        with self._lock:
            self._in += 1
        # In slices: when the module has ended, who is in may be in a Python function that does not return.
        while not (self._turn.acquire(timeout=_SLICE) if wait else self._turn.acquire(blocking=False)):
            if wait and not self._ended():
                continue
            with self._lock:
                self._in -= 1
            if wait:
                raise ffi.Trapped(ffi.Trap("the app has ended"))
            return False
        self._owner = threading.get_ident()
        self._depth += 1
        if self._ended():
            self.release()
            raise ffi.Trapped(ffi.Trap("the app has ended"))
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
        self._turn.release()
        with self._lock:
            self._in -= 1

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, ffi.Trapped):
            self._trapped()
        self.release()
