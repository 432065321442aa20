"""One thread at a time is in the module: the lock that calls queue for, and the count of who is in or about to be."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gothreads.host import ffi


class Turns:
    """`ended` says whether the module has: who comes after that, or waits, is turned away. `trapped` is told when a thread that is in did
    not come back.

    A thread that is in may take another turn at once: a Python function that the module calls may call the module's exports.

    Invariant: a thread counts before it asks `ended`. So, once that is true and nobody counts, nobody is in, or will be.
    """

    def __init__(self, ended: Callable[[], bool], trapped: Callable[[], None]) -> None:
        self._ended, self._trapped = ended, trapped
        self._changed = threading.Condition()
        # Guarded by _changed.
        self._owner = 0
        self._depth = 0
        self._in = 0

    @property
    def taken(self) -> int:
        """Threads that are in, or wait to be."""
        with self._changed:
            return self._in

    @property
    def mine(self) -> bool:
        """Whether the calling thread is in already: then it is in a Python function that the module has called."""
        return self._owner == threading.get_ident()

    def acquire(self, *, wait: bool = True) -> bool:
        """False when somebody is in and one does not wait. ffi.Trapped after the end."""
        me = threading.get_ident()
        with self._changed:
            if self._owner not in (0, me) and not wait:
                return False
            self._in += 1
            try:
                while True:
                    if self._ended():
                        raise ffi.Trapped(ffi.Trap("the app has ended"))
                    if self._owner in (0, me):
                        break
                    self._changed.wait()
            except BaseException:
                self._in -= 1
                self._changed.notify()  # it may have been meant for this thread
                raise
            self._owner = me
            self._depth += 1
        return True

    def release(self) -> None:
        with self._changed:
            self._depth -= 1
            self._in -= 1
            if not self._depth:
                self._owner = 0
                self._changed.notify()

    def wake_all(self) -> None:
        """Let those who wait see that the module has ended."""
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, ffi.Trapped):
            self._trapped()
        self.release()
