"""The apps of this process that remote calls use: each is opened by the first call, and serves those after it.

Invariant: an app is closed here only when it is in no call, or has ended. A place counts its users while `_lock` is
held, before they get its app, and leaves `_places` only while it has none; what is closed has left before.

    a call   finds no place, makes one: users 1 │ opens the app ······· calls ······· │ users 0
    another          waits for the place's lock ·························│ calls ···· │ users 0
    a third, of another module, at its end: too many have no users; takes out the one that was used least recently, and
             closes its app
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Protocol

from gothreads.errors import AppClosed
from gothreads.runtime.interface import RunningModule
from gothreads.runtime.state import State

#: So many apps stay open in a process, beyond those that are in calls. Those that were used least recently are closed.
MOST_IDLE = 8
_OVER = (State.ENDING, State.EXITED, State.FAILED, State.CLOSED)

_lock = threading.Lock()
_places: OrderedDict[str, _Place] = OrderedDict()
_exits = False


class Opener(Protocol):
    """What opens an app. Those of the same key open the same."""

    @property
    def key(self) -> str: ...

    def open(self, *, procs: int | None = None) -> Any: ...


class _Place:
    """Where an app is, or will be. users: guarded by the module's lock."""

    def __init__(self) -> None:
        self.users = 0
        self._app: Any = None
        self._opening = threading.Lock()  # guards _app

    def app(self, remote: Opener, procs: int | None) -> RunningModule:
        """The app; another one, with a new state, if that has ended."""
        with self._opening:
            if self._app is not None and self._app.state in _OVER:
                self.close()
            if self._app is None:
                self._app = remote.open(procs=procs)
            app: RunningModule = self._app
            return app

    def close(self) -> None:
        app, self._app = self._app, None
        if app is not None:
            app.close()


@contextlib.contextmanager
def using(remote: Opener, procs: int | None = None) -> Iterator[RunningModule]:
    """Context: the app of this process for what the handle stands for. Raises what opening it raises.

    procs: for its opening, unless the handle has that option.
    """
    with _lock:
        if _exits:
            raise AppClosed("Python exits, so no module is opened any more")
        place = _places.setdefault(remote.key, _Place())
        _places.move_to_end(remote.key)
        place.users += 1
    try:
        yield place.app(remote, procs)
    finally:
        with _lock:
            place.users -= 1
            idle = [key for key, other in _places.items() if not other.users]
            surplus = [_places.pop(key) for key in idle[:max(0, len(idle) - MOST_IDLE)]]
        for other in surplus:
            other.close()


def forget(remote: Opener) -> None:
    """Close the app of this process, unless it is in use."""
    with _lock:
        place = _places.get(remote.key)
        if place is None or place.users:
            return
        del _places[remote.key]
    place.close()


def _close_all() -> None:
    global _exits
    with _lock:
        _exits = True
        places = list(_places.values())
        _places.clear()
    for place in places:
        place.close()


atexit.register(_close_all)  # before gothreads warns of apps that were left open (runtime/process.py)
