"""One thread at a time is in the module: the lock that calls queue for, and the count of who is in or about to be."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gothreads.engine import ffi, interrupt

#: How long a thread that waits may not see the end, in seconds, while the one that is in does not come back.
_SLICE = 0.1


class CallLock:
    """`ended` says whether the module has: who comes after that, or waits, is turned away. `trapped` is told when a thread that is in did
    not come back: before the next may be in, which then finds the end.

    A thread that is in may take another turn at once: a Python function that the module calls may call the module's exports.

    Invariant: a thread counts before it asks `ended`. So, once that is true and nobody counts, nobody is in, or will be.
    """

    def __init__(self, ended: Callable[[], bool], trapped: Callable[[ffi.Trapped], None]) -> None:
        self._ended, self._trapped = ended, trapped
        self._turn = threading.RLock()
        self._owner = 0  # written by whoever holds _turn
        self._depth = 0  # guarded by _turn
        self._lock = threading.RLock()  # a signal handler may look at it
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
        try:
            while not self._turn.acquire(timeout=_SLICE if wait else 0):
                if not wait:
                    self._leave()
                    return False
                self._check()
                interrupt.raise_kept()
        except BaseException:
            self._leave()
            raise
        self._owner = threading.get_ident()
        self._depth += 1
        try:
            self._check()
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
        self._turn.release()
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._in -= 1

    def _check(self) -> None:
        if self._ended():
            raise ffi.Trapped(ffi.Trap("the app has ended"))

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        try:
            if isinstance(error, ffi.Trapped):
                self._trapped(error)
        finally:
            self.release()
