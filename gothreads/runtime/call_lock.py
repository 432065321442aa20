"""Serialises calls into a module: the lock that calls queue for, and the count of threads in or about to enter."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gothreads.engine import ffi, interrupt
from gothreads.sync.waiting import wait_in_slices


class CallLock:
    """A re-entrant lock around a module.

    `ended` tells whether the module has ended: threads that come later, or wait, get ffi.Trapped. `trapped` is called
    when the thread that is in has trapped, before the next may enter, which then finds the end.

    The thread that is in may acquire the lock again: a Python function that the module calls may call the module's
    exports.

    Invariant: a thread is counted before it checks `ended`. So once that is true and the count is 0, no thread is in,
    or will be.
    """

    def __init__(self, ended: Callable[[], bool], trapped: Callable[[ffi.Trapped], None]) -> None:
        self._ended, self._trapped = ended, trapped
        self._entry = threading.RLock()
        self._owner = 0  # written while holding _entry
        self._depth = 0  # guarded by _entry
        self._lock = threading.RLock()  # re-entrant: a signal handler may read the count
        self._count = 0  # guarded by _lock

    @property
    def taken(self) -> int:
        """The number of threads that are in or wait."""
        with self._lock:
            return self._count

    @property
    def is_owned(self) -> bool:
        """Whether the calling thread is in already, that is, in a Python function that the module has called."""
        return self._owner == threading.get_ident()

    def acquire(self, *, wait: bool = True) -> bool:
        """False if another thread is in and `wait` is false. Raises ffi.Trapped after the end."""
        with self._lock:
            self._count += 1
        try:
            if not self._entry.acquire(blocking=False):
                if not wait:
                    self._leave()
                    return False
                wait_in_slices(lambda seconds: self._entry.acquire(timeout=seconds), between=self._check_wait)
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
        self._entry.release()
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._count -= 1

    def _check_wait(self) -> None:
        self._check()
        interrupt.raise_kept()

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
