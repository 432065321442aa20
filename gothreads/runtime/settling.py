"""Waits for handlers that main is about to register.

`open` returns when packages are initialised; main goes on from there. So a name that the module does not know may be
one that it does not know yet: the caller waits here, and asks again. It waits until a handler of that name exists, or
until the module rests: every goroutine that it runs by itself waits, so only another call or event can make it register
one. If the module does not come to rest, the wait ends some seconds after its start. Requests for known names never
come here.

Invariant: the answer "unknown" is final if `settled` was true before the module was asked.

    caller  C1 asks: unknown                                  C2 reads `settled`: true
    main                      M1 registers   M2 waits
    looker                                         L1 sees that main waits, and sets `settled`

C1 comes before M1, so at C2 its answer is out of date. That is why a caller reads `settled` first, and then asks.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable

from gothreads.runtime.cancellation import CallGivenUp, Cancellation

#: How long to wait for a module after its start, in seconds.
SETTLE_SECONDS = 5.0
#: The longest that a look may take; the first and the longest pause between two looks. In seconds.
_LOOK_SECONDS, _FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 0.001, 0.02
#: How long an answer of `is_busy` is good, in seconds.
_LOOK_AGAIN_SECONDS = 1.0


class Settling:
    """Tracks one module. May be used from any thread.

    `look(timeout)` returns the handlers that exist, and whether the module rests. It raises TimeoutError if Go does not
    answer, and GothreadsError if the app has ended.
    """

    def __init__(self, look: Callable[[float], tuple[Iterable[str], bool]]) -> None:
        self._look = look
        #: Handlers to wait for even if the module rests.
        self.expected: frozenset[str] = frozenset()
        self._until = float("inf")
        self._looking = threading.Lock()  # one look serves all that wait
        # Written while holding _looking.
        self._names: frozenset[str] = frozenset()
        self._rests = False  # whether it has rested once: stays true
        self._looked = 0.0

    def begin(self) -> None:
        """Called when packages are initialised."""
        self._until = time.monotonic() + SETTLE_SECONDS

    def is_busy(self) -> bool:
        """Whether the module has not come to rest since its start. Looks, but not within a second of the last look.

        Raises what `look` raises, but not TimeoutError.
        """
        def is_stale() -> bool:
            return not self._rests and time.monotonic() - self._looked >= _LOOK_AGAIN_SECONDS
        # At most as long as another thread's look. A signal handler may have interrupted this thread's own.
        if is_stale() and self._looking.acquire(timeout=_LOOK_SECONDS):
            if is_stale():
                self._look_once()
            else:
                self._looking.release()
        return not self._rests

    def settled(self, name: str | None = None) -> bool:
        """Whether there is no point in waiting for a handler of that name (None: any) that does not exist now."""
        if time.monotonic() >= self._until:
            return True
        return self._rests and (self.expected <= self._names if name is None else name not in self.expected)

    def wait(self, name: str | None, token: Cancellation | None) -> None:
        """Return when such a handler exists, or the module has settled.

        Raises what `look` raises, and CallGivenUp if the token is given up.
        """
        pause = _FIRST_PAUSE
        while not self.settled(name) and name not in self._names:
            if token is not None and token.given_up:
                raise CallGivenUp
            if time.monotonic() - self._looked >= pause and self._looking.acquire(blocking=False):
                self._look_once()
                continue
            time.sleep(pause)  # polling: nothing signals that a handler is registered
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _look_once(self) -> None:
        """Look, and release _looking, which this thread holds."""
        try:
            with contextlib.suppress(TimeoutError):
                names, rests = self._look(_LOOK_SECONDS)
                self._names, self._rests = frozenset(names), self._rests or rests
            self._looked = time.monotonic()
        finally:
            self._looking.release()
