"""Waiting for the handlers that main registers.

`open` returns when packages are initialised; main goes on from there. So a name that the module does not know may be
one that it does not know yet: the caller waits here, and asks again. It waits until there is a handler of that name, or
until the module rests: every goroutine that it runs by itself waits, so only another call or event can make it register
one. A module that does not come to rest is waited for until some seconds after its start. Known names never come here.

Invariant: an answer "unknown" is final if `settled` was true before the module was asked.

    caller  C1 asks: unknown                                  C2 looks at `settled`: true
    main                      M1 registers   M2 waits
    looker                                         L1 sees that main waits, and sets `settled`

C1 comes before M1, so in C2 its answer is no longer true. That is why a caller looks at `settled` first, and then asks.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable

from gothreads.runtime.cancellation import CallGivenUp, Cancellation

#: How long after its start a module is waited for, in seconds.
SETTLE_SECONDS = 5.0
#: How long a look may take; how long it is to the next: at first, and at most. In seconds.
_LOOK_SECONDS, _FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 0.001, 0.02


class Settling:
    """Of one module. May be used from any thread.

    `look(timeout)` tells which handlers there are, and whether the module rests. It raises TimeoutError when Go does
    not answer, and GothreadsError when the app has ended.
    """

    def __init__(self, look: Callable[[float], tuple[Iterable[str], bool]]) -> None:
        self._look = look
        #: These are waited for even if the module rests.
        self.expected: frozenset[str] = frozenset()
        self._until = float("inf")
        self._looking = threading.Lock()  # one look does for all who wait
        # Written by who holds _looking.
        self._names: frozenset[str] = frozenset()
        self._rests = False  # has once: it stays true
        self._looked = 0.0

    def begin(self) -> None:
        """Packages are initialised."""
        self._until = time.monotonic() + SETTLE_SECONDS

    @property
    def gave_up(self) -> bool:
        """Whether the time is over, and the module was never seen to rest."""
        return not self._rests and time.monotonic() >= self._until

    def settled(self, name: str | None = None) -> bool:
        """Whether nobody need wait for a handler of that name (None: of any) that is not there now."""
        if time.monotonic() >= self._until:
            return True
        return self._rests and (self.expected <= self._names if name is None else name not in self.expected)

    def wait(self, name: str | None, ticket: Cancellation | None) -> None:
        """Return when there is such a handler, or it has settled. Raises as `look`, and CallGivenUp for the ticket."""
        pause = _FIRST_PAUSE
        while not self.settled(name) and name not in self._names:
            if ticket is not None and ticket.given_up:
                raise CallGivenUp
            if time.monotonic() - self._looked >= pause and self._looking.acquire(blocking=False):
                try:
                    with contextlib.suppress(TimeoutError):
                        names, rests = self._look(_LOOK_SECONDS)
                        self._names, self._rests = frozenset(names), self._rests or rests
                    self._looked = time.monotonic()
                finally:
                    self._looking.release()
                continue
            time.sleep(pause)  # nothing tells when a handler is registered
            pause = min(pause * 1.5, _LONGEST_PAUSE)
