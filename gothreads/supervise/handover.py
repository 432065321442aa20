"""Hands the state of an app over to another one that has been opened beside it, such as a newer build of its program.

A Supervisor closes an instance before it opens the next one. Here both run, and if anything fails, the old app is as it
was.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import CancelledError, Future

from gothreads.errors import GothreadsError
from gothreads.runtime.app import App
from gothreads.runtime.state import State
from gothreads.supervise.app import Supervised
from gothreads.supervise.state_transfer import StateTransfer, ask

#: How often to look whether the module still calls the host, in seconds.
_LOOK_SECONDS = 0.02


def current(app: App | Supervised) -> App | None:
    """The instance that takes calls now; None while a supervised one is down."""
    return app.app if isinstance(app, Supervised) else app


def settle(old: App | Supervised, seconds: float) -> None:
    """Wait until a module that has just been started has registered its handlers, for at most so long.

    hand_over would wait for that, too. This may come before it, while `old` still takes calls.
    """
    running = current(old)
    if running is not None:
        with contextlib.suppress(GothreadsError, TimeoutError, CancelledError):
            _handlers(running).result(seconds)


def hand_over(old: App | Supervised, new: App | Supervised, seconds: float) -> None:
    """Give `new`, which no call has reached yet, what the handler `save` of `old` replies; and let it expect the same
    handlers.

    An app that has ended cannot be asked: then it is what a supervised one has saved last, or nothing.

    Raises what `save` or `load` raises; TimeoutError if they take longer than `seconds` together; why `new` has ended.
    """
    until = time.monotonic() + seconds
    carried = old._carried.copy() if isinstance(old, Supervised) else StateTransfer(old.loaded.name)
    source = current(old)
    if source is not None:
        try:
            carried.answered.update(_handlers(source).result(until - time.monotonic()))
            carried.keep(ask(source).result(until - time.monotonic()))
        except (GothreadsError, TimeoutError, CancelledError):
            if source.state is State.RUNNING:
                raise
    target = current(new)
    if target is None or target.state is not State.RUNNING:
        raise new.error or GothreadsError(f"{new.loaded.name}: the new instance has ended")
    carried.hand_over(target, until - time.monotonic())
    if isinstance(new, Supervised):
        new._carried = carried  # its keeper uses either this one or the one before


def end_program(app: App | Supervised, seconds: float) -> None:
    """If the program handles SIGTERM, let it end as it does then, for at most so long."""
    running = current(app)
    if running is not None and running.send_signal("TERM", default=False):
        with contextlib.suppress(GothreadsError, TimeoutError):
            running.wait(seconds)


def finish_events(app: App | Supervised, seconds: float) -> None:
    """Wait until the module is done with its events, for at most so long.

    Go takes some ahead, so that is when it has received all, every goroutine waits, and none of them waits for a reply
    of the host's.
    """
    until = time.monotonic() + seconds
    running = current(app)
    with contextlib.suppress(GothreadsError, TimeoutError):
        while running is not None and running.events and (left := until - time.monotonic()) > 0:
            # A goroutine that waits for a reply counts as waiting, too. So there must be none before it is looked
            # whether all wait, and none must have begun by then.
            begun, replied = running._messages.begun, not running._messages.outstanding
            running.wait_idle(left)
            if replied and running._messages.begun == begun:
                return
            time.sleep(_LOOK_SECONDS)  # polling: nothing signals a reply


def _handlers(app: App) -> Future[list[str]]:
    """The handlers that there are. (In a pool, each instance registers its own.)"""
    return app._submit(lambda: [] if app.has_many_instances else app._listed(lambda work: work()))
