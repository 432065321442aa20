"""Carries over to the next instance: the last reply of the `save` handler, for `load`; and which handlers there were.

Requests wait until the next instance has registered these handlers too (runtime/settling.py).

Used only by the thread that creates instances, except `answered`, to which callers add.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import CancelledError, Future

from gothreads.errors import AppClosed, GothreadsError, GuestError, HandlerError, UnknownExport
from gothreads.runtime.app import App

log = logging.getLogger("gothreads")


class StateTransfer:
    """`name`: the module's name.

    A state that failed to load is suspect: the next instance does not receive it. If that instance starts, the state
    was to blame and is dropped. If it does not, the state was not to blame, and is tried again.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._state: bytes | None = None
        self._since = 0.0
        self._loading = self._suspect = False
        self.answered: set[str] = set()

    def copy(self) -> StateTransfer:
        """The same state, for another app."""
        made = StateTransfer(self._name)
        made._state, made._since, made.answered = self._state, self._since, set(self.answered)
        return made

    @property
    def size(self) -> int | None:
        """Size of the state in bytes; None if there is none."""
        state = self._state
        return None if state is None else len(state)

    @property
    def seconds(self) -> float | None:
        """Age of the state in seconds; None if there is none."""
        return None if self._state is None else time.monotonic() - self._since

    def keep(self, state: bytes | None) -> None:
        """Store the result of `ask`; None keeps the previous state."""
        if state is not None:
            self._state, self._since, self._suspect = state, time.monotonic(), False

    def keep_reply(self, reply: Future[bytes | None]) -> None:
        """Store the result of `ask`, which is complete. On an error the previous state stays."""
        try:
            self.keep(reply.result())
        except (GothreadsError, CancelledError) as error:
            if not isinstance(error, GuestError | AppClosed):  # the module's end is reported elsewhere
                log.warning("%s: its state is not saved: %s", self._name, error)

    def hand_over(self, app: App, timeout: float | None = None) -> None:
        """Prepare a new instance: expect the same handlers, and give it the state.

        Any exception means that the instance has failed: TimeoutError if that takes longer than `timeout` seconds.
        """
        state = None if self._suspect else self._state
        app._expect(self.answered if state is None else {"load", *self.answered})
        if state is None:
            return
        self._loading = True
        try:
            app.submit_request("load", state).result(timeout)
        except UnknownExport:
            raise HandlerError(f"{self._name}: the module has saved state, but no handler `load` now") from None
        self._loading = False

    def start_failed(self) -> None:
        self._suspect, self._loading = self._loading, False

    def start_worked(self) -> None:
        if self._suspect:
            log.warning("%s: the state (%d bytes) is dropped: the module did not start with it, and does without",
                        self._name, self.size)
            self._state, self._suspect = None, False


def ask(app: App) -> Future[bytes | None]:
    """The reply of `save`; None if the module lacks `save` or `load`, or is a pool: its instances have a state each."""
    def save() -> bytes | None:
        carries = (not app.has_many_instances and app.loaded.has_handlers
                   and {"save", "load"} <= set(app._listed(lambda work: work(), "load")))
        return app._request("save", b"") if carries else None
    future: Future[bytes | None]
    try:
        future = app._submit(save)
    except GothreadsError as error:
        future = Future()
        future.set_exception(error)
    return future
