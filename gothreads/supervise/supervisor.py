"""The lifecycle of a supervised module: its start, its end, and the next instance. Calls are in supervise/calls.py.

    make ─▶ start ─▶ load ─▶ up ─▶ end ─▶ close ─▶ pause ─▶ make …

One thread, the keeper, does all of this in sequence. Invariants:

- Only the keeper replaces `_instance`, and only by an instance that has started and has loaded its state. A
  `SupervisedInstance` keeps its app; its waiters are notified once, by `after`.
- `_over` changes once, from None, before the waiters of the last instance are notified. So a caller that finds no
  instance up, then checks `_over`, and then waits for the successor is notified whenever the end comes.
- close() need not wait for the keeper, whatever it is doing: it sets `_closing` and closes the existing apps. Under the
  lock, either the keeper sees `_closing` before it starts the app it has made, or close() sees that app. An app that is
  starting or up is always visible to close(): the next instance is put in place before `_opening` is cleared.

A call meets the end of its instance in one of these ways. It is never repeated, because it may have had an effect.

1. It takes the app and is in the module when that ends: it fails with the cause, as in any app.
2. It takes the app, which ends before the call has begun: the app refuses it with the cause. To the caller this is the
   same as 1.
3. It finds the app ended, before or after the keeper has noticed: it waits for the next instance, or fails, as
   `while_down` says.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from concurrent.futures import Future

from gothreads.errors import (
    AppClosed,
    AppForked,
    GothreadsError,
    GuestError,
    GuestExit,
    InternalError,
    MisuseError,
    again,
)
from gothreads.launch import make, started
from gothreads.runtime import process
from gothreads.runtime.app import App
from gothreads.runtime.lifecycle import CLOSE_SECONDS
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import LoadedOptions, Options
from gothreads.runtime.state import State
from gothreads.supervise.current_instance import Ended, Replace, Saved, SupervisedInstance
from gothreads.supervise.history import History
from gothreads.supervise.options import RestartPolicy
from gothreads.supervise.restarts import Restart, Supervision
from gothreads.supervise.state_transfer import StateTransfer, ask
from gothreads.sync.deadlines import Deadlines
from gothreads.sync.seconds import check_seconds
from gothreads.sync.waiting import wait_in_slices
from gothreads.text import words
from gothreads.wasi.handed_listeners import Listeners
from gothreads.wasi.hints import Hints

log = logging.getLogger("gothreads")


class Supervisor:
    """Runs the keeper thread (see the module's docstring). All methods may be called from any thread."""

    def __init__(self, loaded: LoadedModule, options: LoadedOptions, policy: RestartPolicy) -> None:
        given = options.get("listeners")  # these stay open after the last instance, too
        #: Open from the first instance to the last: clients wait during a pause, instead of being refused.
        self._listeners, self._owns_listeners = given or Listeners(options.get("listen", ()), keep=True), given is None
        self._loaded, self._policy = loaded, policy
        self._settings = options | LoadedOptions(listeners=self._listeners, hints=Hints(loaded.name))
        self.loaded = loaded.without_code()
        self.model = options.get("model") or loaded.model
        self.options: Options  # what each instance is opened with
        # SimpleQueue.put is re-entrant: a signal handler may call it in the middle of itself.
        self._commands: queue.SimpleQueue[Ended | Saved | Replace | None] = queue.SimpleQueue()
        self._deadlines = Deadlines()
        self._lock = threading.RLock()  # a signal handler may call close() in the middle of close()
        # Guarded by _lock. The other fields are written only by the keeper (by the constructor before it runs).
        self._closing = False
        self._opening: App | None = None
        self._over: GothreadsError | None = None
        self._ended = threading.Event()  # set when `_over` is
        self._instance = SupervisedInstance(None)
        self._down: GothreadsError | None = None  # why there is no instance, set once the keeper has noticed
        self._history = History()
        self._carried = StateTransfer(loaded.name)
        self._asked: list[Replace] = []  # restart() calls that the next instance answers
        self._keeper: threading.Thread | None = None
        first = self._open(first=True)
        process.add_supervisor(self)
        self._keeper = threading.Thread(target=self._run, args=(first,), name="gothreads-keeper", daemon=True)
        try:
            self._keeper.start()
        except BaseException:
            if isinstance(first, App):
                first.close()
            self._close_listeners()
            raise

    # State.

    @property
    def app(self) -> App | None:
        """The current instance, if any. It may end at any time; calls made through it are not supervised."""
        return self._instance.up

    @property
    def state(self) -> State:
        """RESTARTING while there is no instance but another will follow."""
        if (over := self._over) is not None:
            return (State.CLOSED if isinstance(over, AppClosed | AppForked)
                    else State.EXITED if isinstance(over, GuestExit) else State.FAILED)
        return State.RUNNING if self._instance.up else State.RESTARTING

    @property
    def exit(self) -> int | None:
        """The exit code of the last instance, once no other will follow."""
        return self._over.code if isinstance(self._over, GuestError) else None

    @property
    def error(self) -> GothreadsError | None:
        """Why there is no instance at the moment, or for good; None while there is one."""
        return None if self._over is None and self._instance.up else self._why()

    def supervision(self) -> Supervision:
        """The history so far."""
        return self._history.snapshot(self._carried, over=self._over is not None)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until no further instance will follow; returns the last exit code (0 if this was closed).

        TimeoutError after `timeout` seconds; the cause if it ended by a trap or a host function.
        """
        check_seconds("timeout", timeout)
        if not wait_in_slices(self._ended.wait, timeout):
            raise TimeoutError(f"{self.loaded.name} is still supervised after {timeout:g} s")
        if isinstance(self._over, GuestExit):
            return self._over.code
        if isinstance(self._over, AppClosed | AppForked):
            return 0
        raise self._why()

    def _why(self) -> GothreadsError:
        """The error that says why there is no instance."""
        instance = self._instance
        if (cause := self._over or self._down) is not None:
            return again(cause)
        if not instance.retired and instance.app is not None and (error := instance.app.error) is not None:
            return error  # the keeper has not noticed yet
        return self._replaced()

    def _replaced(self) -> AppClosed:
        return AppClosed(f"{self.loaded.name}: the module was being replaced: restart() was called")

    # Commands.

    def restart(self, timeout: float | None = None, *, drain: float | None = None, **unknown: object) -> None:
        """Replace a healthy instance; returns when the new one takes calls. Calls made meanwhile wait or fail.

        A module that carries state is asked for it first. If it does not reply within `timeout` seconds (TimeoutError)
        or refuses (HandlerError), it is not replaced. TimeoutError also if the new instance takes longer. If that fails
        to start, this raises the cause, and restarts go on as usual. Calls in flight fail with AppClosed, unless they
        finish within `drain` seconds (see App.close). While the module is down, this cuts the pause short.
        """
        if threading.current_thread() is self._keeper:
            raise MisuseError("restart() cannot be called by on_restart, which the next instance waits for")
        if unknown:
            raise MisuseError(f"restart() has no option {', '.join(sorted(unknown))}. It has: timeout, drain")
        check_seconds("timeout", timeout)
        check_seconds("drain", drain)
        asked = Replace(Future(), None if timeout is None else time.monotonic() + timeout, drain)
        self._commands.put(asked)
        # After the put: either this sees _over, or the keeper, which sets _over first, sees the command.
        if self._over is not None:
            raise self._why()
        try:
            asked.done.result(timeout)
        except TimeoutError:
            raise TimeoutError(f"{self.loaded.name}: not replaced after {timeout:g} s") from None

    def close(self, *, drain: float | None = None) -> None:
        """End the module and its supervision; free everything. `drain`: as for App.close.

        Calls in flight and waiting calls get AppClosed. May be called repeatedly, from any thread, at any time: also
        while the module is down, or hangs in its start. From inside one of the module's calls, from on_restart, or from
        a signal handler that has interrupted one, it returns at once, and the rest happens in the background.
        """
        check_seconds("drain", drain)
        with self._lock:
            self._closing = True
            apps = {app for app in (self._opening, self._instance.app) if app is not None}
        inside = threading.current_thread() is self._keeper or any(app._is_inside() for app in apps)
        self._finish(AppClosed(f"{self.loaded.name}: the app was closed"))
        self._commands.put(None)
        for app in apps:
            app.close(drain=drain)
        if not inside and self._keeper is not None:
            self._keeper.join(CLOSE_SECONDS)
            if self._keeper.is_alive():
                log.warning("%s: supervision has not ended yet: it waits for on_restart, or compiles", self.loaded.name)

    @property
    def _left_open(self) -> bool:
        return not self._closing and not isinstance(self._over, AppForked)

    def _forked(self) -> None:
        """In the child of a fork: the keeper thread does not exist here."""
        self._lock, self._commands = threading.RLock(), queue.SimpleQueue()
        self._instance, self._keeper = SupervisedInstance(None), None
        self._over = process.forked(self.loaded.name)
        self._ended = threading.Event()
        self._ended.set()

    # The keeper.

    def _run(self, opened: App | GothreadsError) -> None:
        try:
            while not self._closing:
                cause: GothreadsError | None
                if isinstance(opened, App):
                    cause = self._watch(opened)
                    self._went_down(cause or self._replaced())
                    if time.monotonic() - self._instance.begun >= self._policy.backoff.reset_after:
                        self._history.in_a_row = 0
                else:
                    cause = opened
                if self._closing or not self._begin_restart(cause):
                    break
                opened = self._open()
        except BaseException as error:  # callers must not wait for ever
            log.exception("%s: supervision has failed", self.loaded.name)
            self._finish(InternalError(f"{self.loaded.name}: supervision has failed: {words(error)}"))
        finally:
            self._finish(AppClosed(f"{self.loaded.name}: the app was closed"))
            if (app := self._instance.app) is not None:
                app.close()
            self._close_listeners()
            self._answer(self._why())

    def _watch(self, app: App) -> GothreadsError | None:
        """Wait until the app has ended, free it, and return the cause; or None when it was closed to be replaced."""
        app.when_ended(lambda: self._commands.put(Ended(app)))
        next_save = self._after_saving()
        while True:
            try:
                left = None if next_save is None else max(0.0, next_save - time.monotonic())
                command = self._commands.get(timeout=left)
            except queue.Empty:
                next_save = None  # until this save is done
                self._begin_save(app)
                continue
            match command:
                case Ended(ended) if ended is app:
                    app.close()
                    return app.error
                case Saved(saved, future) if saved is app:
                    self._carried.keep_reply(future)
                    next_save = self._after_saving()
                case Replace():
                    if self._retire(app, command):
                        app.close(drain=command.drain)
                        return None
                case None:
                    return AppClosed("")

    def _begin_restart(self, cause: GothreadsError | None) -> bool:
        """Count the restart, report it, and pause. False: no restart. `cause` is None if it is planned."""
        pause = 0.0
        if cause is not None:
            clean = isinstance(cause, AppClosed) or (isinstance(cause, GuestExit) and cause.code == 0)
            in_a_row, most = self._history.in_a_row, self._policy.most_restarts
            if (clean and self._policy.restart == "on-failure") or (most is not None and in_a_row >= most):
                self._history.end(cause)
                self._close_listeners()
                self._finish(cause)
                return False
            pause = self._policy.backoff.pause(in_a_row)
            self._history.in_a_row = in_a_row + 1
        self._history.count(cause)
        self._history.next_try = time.monotonic() + pause
        self._tell(Restart(self._history.restarts, cause, pause))
        return self._pause()

    def _close_listeners(self) -> None:
        if self._owns_listeners:
            self._listeners.close()

    def _went_down(self, cause: GothreadsError) -> None:
        self._down = cause
        self._history.down()

    def _tell(self, restart: Restart) -> None:
        if self._policy.on_restart is None:
            name = self.loaded.name  # which the cause has, too
            log.log(logging.INFO if restart.cause is None else logging.WARNING, "%s: %s", name,
                    str(restart).replace(f" s: {name}: ", " s: ", 1))
            return
        try:
            self._policy.on_restart(restart)
        except BaseException:  # SystemExit would silently end the keeper
            log.exception("%s: on_restart failed", self.loaded.name)

    def _pause(self) -> bool:
        """Wait until the next try is due or restart() is called. False: closed."""
        while not self._closing:
            left = (self._history.next_try or 0.0) - time.monotonic()
            if left <= 0 or self._asked:
                return True
            with contextlib.suppress(queue.Empty):
                command = self._commands.get(timeout=left)
                if isinstance(command, Replace):
                    self._asked.append(command)
        return False

    def _open(self, *, first: bool = False) -> App | GothreadsError:
        """Open a new instance and let it take calls; returns it, or why there is none."""
        self._history.next_try = time.monotonic()
        if not first:
            self._take_commands()
        try:
            app = make(self._loaded, **self._settings)
            self.options = app.options
            with self._lock:
                self._opening, closing = app, self._closing
            if closing:
                app.close()
                return AppClosed(f"{self.loaded.name}: the app was closed")
            try:
                started(app)
                if app.state is State.RUNNING and not first:
                    self._carried.hand_over(app)
                    self._carried.start_worked()
            except BaseException:
                app.close()
                raise
        except Exception as error:
            if first and not isinstance(error, GuestError):
                raise
            if isinstance(error, GothreadsError):
                cause = error
            else:
                cause = GothreadsError(f"{self.loaded.name}: cannot be opened again: {words(error)}")
                cause.__cause__ = error
            self._carried.start_failed()
            self._opening = None
            self._went_down(cause)
            self._answer(cause)
            return cause
        self._put(app, time.monotonic())
        self._answer(None)
        return app

    def _put(self, app: App, begun: float) -> None:
        """Make an app the current instance."""
        before, self._instance = self._instance, SupervisedInstance(app, begun)
        self._down = None
        self._history.up()
        self._opening = None
        before.after.tell()

    def _take_commands(self) -> None:
        """Drain the queue: keep restart(), which the next instance answers; the rest concerns the last instance."""
        with contextlib.suppress(queue.Empty):
            while True:
                if isinstance(command := self._commands.get_nowait(), Replace):
                    self._asked.append(command)

    def _answer(self, error: GothreadsError | None) -> None:
        """Complete the pending restart() calls."""
        if self._over is not None:
            self._take_commands()
        asked, self._asked = self._asked, []
        for one in asked:
            if error is None:
                one.done.set_result(None)
            else:
                one.done.set_exception(again(error))

    def _finish(self, cause: GothreadsError) -> None:
        """Mark the end of supervision, with its cause. Only the first cause counts."""
        with self._lock:
            if self._over is not None:
                return
            self._over = cause
        self._ended.set()
        self._deadlines.close()
        self._instance.after.tell()

    def _after_saving(self) -> float | None:
        """The time of the next save."""
        every = self._policy.save_every
        return None if every is None else time.monotonic() + every

    def _begin_save(self, app: App) -> None:
        asked = ask(app)
        asked.add_done_callback(lambda future: self._commands.put(Saved(app, future)))

    def _retire(self, app: App, asked: Replace) -> bool:
        """Admit no more calls, and save the state. False: saving failed and it stays, or it has ended by itself."""
        self._instance.retired = True
        try:
            self._carried.keep(ask(app).result(None if asked.until is None else asked.until - time.monotonic()))
        except (GothreadsError, TimeoutError) as error:
            if app.state is State.RUNNING:
                asked.done.set_exception(error)
                self._put(app, self._instance.begun)
            else:
                self._asked.append(asked)
            return False
        self._asked.append(asked)
        return True
