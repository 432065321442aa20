"""One instance, and what comes after it: what calls look at, and wait for, while a supervisor replaces one by the next."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from gothreads.runtime.app import App
from gothreads.runtime.state import State

log = logging.getLogger("gothreads")

_Tell = Callable[[], object]


class Successor:
    """What comes after an instance is there, or will never be: told once. From any thread, also in a signal handler."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # Guarded by _lock.
        self._told = False
        self._waiting: dict[object, _Tell] = {}

    def when(self, tell: _Tell) -> Callable[[], object]:
        """`tell` is called once, when it is known; now, if it is. What is returned calls that off."""
        key = object()
        with self._lock:
            told = self._told
            if not told:
                self._waiting[key] = tell
        if told:
            tell()
        return lambda: self._waiting.pop(key, None)

    def tell(self) -> None:
        with self._lock:
            self._told = True
            waiting, self._waiting = list(self._waiting.values()), {}
        for tell in waiting:
            try:
                tell()
            except BaseException:  # what somebody wants to be done at a call's end may raise SystemExit: the others wait all the same
                log.exception("telling who waits for an instance")


class SupervisedInstance:
    """`app`: None when the first did not start. `retired`: it is to be replaced, though it runs. `begun`: when it was put in place."""

    def __init__(self, app: App | None, begun: float = 0.0) -> None:
        self.app, self.begun = app, begun
        self.retired = False
        self.after = Successor()

    @property
    def up(self) -> App | None:
        """The app, if it takes calls."""
        app = self.app
        return app if app is not None and not self.retired and app.state is State.RUNNING else None


# What the thread that replaces them is told.

@dataclass(frozen=True)
class Ended:
    """An app has ended."""

    app: App


@dataclass(frozen=True)
class Saved:
    """What the module has answered to `save`, or why not."""

    app: App
    future: Future[bytes | None]


@dataclass(frozen=True)
class Replace:
    """restart() was called. `close` are options of App.close. `until` is when the caller gives up."""

    done: Future[None]
    until: float | None
    close: dict[str, Any]
