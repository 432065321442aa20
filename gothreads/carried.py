"""What is carried from one instance of a module to the next: the state that its handler `save` gave last, for its handler `load`; and
which handlers there were, for which the next is waited for.

Used by the one thread that makes instances, but for `answered`, to which callers add.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future

from gothreads.app import App
from gothreads.errors import GothreadsError, HandlerError

log = logging.getLogger("gothreads")

#: How long a fresh instance is waited for to register handlers, in seconds: `load`, and those that the one before it had.
_LOAD_SECONDS, _READY_SECONDS = 5.0, 1.0


class Carried:
    """`name` is the module's.

    A state that did not load is suspect: the next instance is not given it. If that starts, the state is to blame, and dropped. If it does
    not, the state is not: it is tried again.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._state: bytes | None = None
        self._since = 0.0
        self._loading = self._suspect = False
        self.answered: set[str] = set()

    @property
    def size(self) -> int | None:
        """Of the state, in bytes; None when there is none."""
        state = self._state
        return None if state is None else len(state)

    @property
    def seconds(self) -> float | None:
        """Since the module gave it."""
        return None if self._state is None else time.monotonic() - self._since

    def keep(self, state: bytes | None) -> None:
        """What `ask` has got."""
        if state is not None:
            self._state, self._since, self._suspect = state, time.monotonic(), False

    def hand_over(self, app: App) -> None:
        """Make a fresh instance like the one before: wait for its handlers, which main may register, and give it the state. Any error: it has failed."""
        state = None if self._suspect else self._state
        self._wait_for(app, set(self.answered), _READY_SECONDS)
        if state is None:
            return
        self._loading = True
        if not self._wait_for(app, {"load"}, _LOAD_SECONDS):
            raise HandlerError(f"{self._name}: the module has saved state, but has no handler `load` {_LOAD_SECONDS:g} s after it has started")
        app.submit_request("load", state).result()
        self._loading = False

    def start_failed(self) -> None:
        self._suspect, self._loading = self._loading, False

    def start_worked(self) -> None:
        if self._suspect:
            log.warning("%s: the state (%d bytes) is dropped: the module did not start with it, and does without", self._name, self.size)
            self._state, self._suspect = None, False

    def _wait_for(self, app: App, names: set[str], seconds: float) -> bool:
        """Whether the module has handlers of these names, in time. Those that it has not are not waited for again."""
        if not names:
            return True
        deadline, pause = time.monotonic() + seconds, 0.001
        while True:
            try:
                missing = names - set(app._submit(app._handlers).result(max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                missing = names
            if not missing:
                return True
            if time.monotonic() >= deadline or app.model != "threaded":  # in the other models, nothing goes on by itself
                self.answered -= missing
                return False
            time.sleep(pause)  # nothing tells when a handler is registered
            pause = min(pause * 1.5, 0.05)


def ask(app: App) -> Future[bytes | None]:
    """What the module's `save` gives; None when it has not both `save` and `load`, or is many instances with a state each."""
    def save() -> bytes | None:
        carries = app.model != "pool" and app.loaded.has_handlers and {"save", "load"} <= set(app._handlers())
        return app._request("save", b"") if carries else None
    future: Future[bytes | None]
    try:
        future = app._submit(save)
    except GothreadsError as error:
        future = Future()
        future.set_exception(error)
    return future
