"""What the log tells users of a module that Go's errors cannot: which option would help. Each hint is given once.

All instances of an app share the hints, and so do those that a supervisor opens one after the other.
"""

from __future__ import annotations

import contextlib
import logging
import threading

log = logging.getLogger("gothreads")

#: How many hints are given. A module could look up any number of missing paths.
_MOST = 8


class Hints:
    """May be used from any thread. `name`: the module's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._given: set[str] = set()  # guarded by _lock

    def take(self, subject: str) -> bool:
        """Whether to give a hint on this subject now: it was not given yet, and not many others were."""
        with self._lock:
            if subject in self._given or len(self._given) == _MOST:
                return False
            self._given.add(subject)
            return True

    def give(self, text: str) -> None:
        """Log a hint that was taken."""
        with contextlib.suppress(Exception):  # a filter's: the module's call goes on
            log.warning("%s: %s", self._name, text)
