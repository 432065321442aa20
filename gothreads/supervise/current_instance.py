"""The current instance and its replacement: what calls read and wait for, and the commands of the replacing thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from gothreads.runtime.app import App
from gothreads.runtime.state import State

log = logging.getLogger("gothreads")

_Tell = Callable[[], object]


class Successor:
    """Notifies waiters, once, that the next instance is up or will never be. From any thread or signal handler."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # Guarded by _lock.
        self._told = False
        self._waiting: dict[object, _Tell] = {}

    def when(self, tell: _Tell) -> Callable[[], object]:
        """Call `tell` once: when the outcome is known, or now if it already is. Returns a function to cancel that."""
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
            # A callback that runs at a call's end may raise SystemExit: the others must still be notified.
            except BaseException:
                log.exception("telling who waits for an instance")


class SupervisedInstance:
    """An instance under supervision.

    `app`: None if the first did not start. `retired`: it is to be replaced, though it still runs. `begun`: when it was
    put in place.
    """

    def __init__(self, app: App | None, begun: float = 0.0) -> None:
        self.app, self.begun = app, begun
        self.retired = False
        self.after = Successor()

    @property
    def up(self) -> App | None:
        """The app, if it takes calls."""
        app = self.app
        return app if app is not None and not self.retired and app.state is State.RUNNING else None


# Commands for the thread that replaces instances.

@dataclass(frozen=True)
class Ended:
    """An app has ended."""

    app: App


@dataclass(frozen=True)
class Saved:
    """The module's reply to `save`, or the error."""

    app: App
    future: Future[bytes | None]


@dataclass(frozen=True)
class Replace:
    """restart() was called. `until`: when the caller gives up. `drain`: for App.close."""

    done: Future[None]
    until: float | None
    drain: float | None
