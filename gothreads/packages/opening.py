"""Opens the module of a package: on a thread, once for all calls that wait, and again after it has ended.

An Opening is one try. It is over when it has failed, or when its app has ended; then the next one takes its place. A
call begins the opening that is not over, unless that was begun, and waits for it. So each call causes one try at most.

Invariant: one thread at a time opens the module, and nobody waits for an opening that no thread was started for. There
is no lock, since a signal handler, or Ctrl-C, may come between any two steps:

1. Two calls find an opening that was not begun. Both start a thread, and wait. The first thread claims the opening, the
   other one ends. If Ctrl-C comes before the claim, the next call starts a thread again, too.
2. Two calls find an opening that is over. Both append the next one to its list, and both take the first in that list.
   A slow one may put back an opening that is over by then: calls go on from there to the one that is not.
3. The next opening is begun only after the one before is over, so their threads do not open at the same time.
4. Python exits while a thread opens the module. The thread shows the app, then looks whether Python exits, then starts
   the app; the exit says so, then looks for the app, and closes it. So one of them closes it: after the exit no module
   runs, in which a daemon thread could crash the interpreter.
5. A fork, while a thread opens the module: it does not exist in the child, which begins anew. If the thread had begun
   to make the app, that fails with AppForked, as it does after the opening.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future

from gothreads.errors import AppClosed, CallersBusy, GothreadsError, GuestError, again
from gothreads.launch import started
from gothreads.runtime.app import App
from gothreads.runtime.process import check_not_forked
from gothreads.sync.deadlines import Deadlines
from gothreads.text import printable

#: Closes apps as a program does (runtime/own_code.py).
PROGRAM_CODE = True

log = logging.getLogger("gothreads")


class Opening(Future[App]):
    """One try to open the module. before: the try before this one, whose app has ended."""

    def __init__(self, openings: Openings, before: Opening | None = None) -> None:
        super().__init__()
        self._openings, self._before = openings, before
        self._claim = threading.Lock()  # taken by the thread that opens the module, and never released
        self._next: list[Opening] = []  # the first counts
        #: The app, before it is started.
        self.made: App | None = None
        #: The app, since it has started.
        self.app: App | None = None

    @property
    def is_over(self) -> bool:
        return self.done() and (self.app is None or self.app.error is not None)

    def next(self) -> Opening:
        """The opening after this one, which is over."""
        if not self._next:
            self._next.append(Opening(self._openings, self))
        return self._next[0]

    def following(self) -> Opening | None:
        """The same, if there is one yet."""
        return self._next[0] if self._next else None

    def begin(self) -> None:
        """Start a thread that opens the module, unless there is one. CallersBusy: the system has no thread left."""
        if self._claim.locked():
            return
        try:
            threading.Thread(target=self._run, name="gothreads-open", daemon=True).start()
        except RuntimeError:
            raise CallersBusy(f"{self._openings.name}: the system has no thread left to open the module") from None

    def error(self) -> BaseException | None:
        """Why the module was not opened, for one of those who wait; None if it was."""
        error = self.exception()
        return again(error) if isinstance(error, GothreadsError) else error

    def when_done(self, tell: Callable[[], object]) -> None:
        """Call a function when this is done. What it raises is logged."""
        def told(_: object) -> None:
            try:
                tell()
            except BaseException:  # a callback at the end of a call may raise SystemExit: others wait, too
                log.exception("a callback at the end of a call raised")
        self.add_done_callback(told)

    def _run(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        try:
            self._free_before()
            self.made = self._openings.make()
            if self._openings.at_exit:
                self.made.close()
            self.app = started(self.made)
        except BaseException as error:  # for those who wait
            self.set_exception(error)
        else:
            self.set_result(self.app)

    def _free_before(self) -> None:
        before, self._before = self._before, None
        if before is None or before.app is None:
            return
        cause = before.app.error
        log.warning("%s. It is opened again, with a new state", printable(cause.headline)
                    if isinstance(cause, GuestError) else cause)
        before.app.close()


class Openings:
    """The app of a package, and how it is opened. make: creates an app, which is not started."""

    def __init__(self, name: str, make: Callable[[], App]) -> None:
        self.name, self.make = name, make
        #: Whether Python exits.
        self.at_exit = False
        #: For those who wait.
        self.deadlines = Deadlines()
        self._current = Opening(self)
        atexit.register(self._close)  # before gothreads warns of apps that were left open
        os.register_at_fork(after_in_child=self._forked)

    @property
    def up(self) -> App | None:
        """The app, if it is open."""
        app = self._current.app
        return app if app is not None and app.error is None else None

    def begun(self) -> Opening:
        """The opening that is not over. It was begun."""
        opening = self._current
        while opening.is_over:
            opening = opening.next()
        self._current = opening
        if not opening.done():
            check_not_forked()
            if self.at_exit:
                raise AppClosed(f"{self.name}: Python exits, so the module is not opened any more")
            opening.begin()
        return opening

    def _close(self) -> None:
        self.at_exit = True
        opening: Opening | None = self._current
        while opening is not None:
            if opening.made is not None:
                opening.made.close()
            opening = opening.following()

    def _forked(self) -> None:
        """In the child of a fork. The parent's app is kept, since wasmtime could not free it here."""
        self._parents, self._current, self.deadlines = self._current, Opening(self), Deadlines()
