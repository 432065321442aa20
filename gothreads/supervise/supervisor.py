"""One instance of a module after the other: its start, its end, and the next. Calls: supervise/app.py.

    make ─▶ start ─▶ load ─▶ up ─▶ its end ─▶ close ─▶ pause ─▶ make …

One thread, the keeper, does all of that, one after the other. Invariants:

- Only the keeper puts another instance into `_instance`, and only one that has started and has loaded its state. An `Instance` keeps its
  app; what comes after it is told once.
- `_over` changes once, from None, before what comes after the last instance is told. So a caller that finds no instance up, looks at
  `_over`, and then waits for what comes after that instance, is told, whenever the end comes.
- Whatever the keeper is doing, close() need not wait for it: it says `_closing` and closes what there is. Under the lock, either the
  keeper sees `_closing` before it starts what it has made, or close() sees what it starts. Of what is started and of what is up, close()
  sees one: the next instance is put in place before `_opening` is emptied.

A call meets the end of its instance in one of these ways. It is never made twice: whether it had an effect, nobody knows.

1. It takes the app, and is in the module when that ends: it fails with the cause, as in any app.
2. It takes the app, which ends before the call has begun: the app refuses it with the cause. To the caller this is the same as 1.
3. It finds the app ended, before or after the keeper has noticed: it waits for the next instance, or fails, as it was chosen.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import Any

from gothreads.errors import AppClosed, AppForked, GothreadsError, GuestError, GuestExit, InternalError, MisuseError, again
from gothreads.launch import LoadedOptions, make, started
from gothreads.runtime.app import App
from gothreads.runtime.lifecycle import CLOSE_SECONDS, check_drain, keepers
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Options
from gothreads.runtime.state import State
from gothreads.supervise.current_instance import Ended, Replace, Saved, SupervisedInstance
from gothreads.supervise.restarts import Backoff, Restart, RestartWhen, Supervision
from gothreads.supervise.state_transfer import StateTransfer, ask
from gothreads.sync.deadlines import Deadlines
from gothreads.text import words

log = logging.getLogger("gothreads")


class Supervisor:
    """See above. All methods may be called from any thread."""

    def __init__(self, loaded: LoadedModule, options: LoadedOptions, when: RestartWhen, backoff: Backoff, most_restarts: int | None,
                 save_every: float | None, on_restart: Callable[[Restart], object] | None) -> None:
        self._loaded, self._settings, self._when, self._backoff = loaded, options, when, backoff
        self._most_restarts, self._save_every, self._on_restart = most_restarts, save_every, on_restart
        self.loaded = loaded.without_code()
        self.model = options.get("model") or loaded.model
        self.options: Options  # what each instance is opened with
        # SimpleQueue's put may be called in the middle of itself, by a signal handler.
        self._commands: queue.SimpleQueue[Ended | Saved | Replace | None] = queue.SimpleQueue()
        self._deadlines = Deadlines()
        self._lock = threading.RLock()  # a signal handler may call close() in the middle of close()
        # Guarded by _lock. The other words are written by the keeper alone (before it runs, by the constructor).
        self._closing = False
        self._opening: App | None = None
        self._over: GothreadsError | None = None
        self._ended = threading.Event()  # `_over` is known
        self._instance = SupervisedInstance(None)
        self._down: GothreadsError | None = None  # why there is no instance, once the keeper has noticed
        self._record = Supervision()
        self._row = 0                             # restarts without an instance between that ran for long
        self._down_since: float | None = None
        self._next_try: float | None = None
        self._carried = StateTransfer(loaded.name)
        self._asked: list[Replace] = []          # calls of restart() that the next instance answers
        self._keeper: threading.Thread | None = None
        first = self._open(first=True)
        keepers.add(self)
        self._keeper = threading.Thread(target=self._run, args=(first,), name="gothreads-keeper", daemon=True)
        try:
            self._keeper.start()
        except BaseException:
            if isinstance(first, App):
                first.close()
            raise

    # Looking.

    @property
    def app(self) -> App | None:
        """The instance that takes calls now, if there is one. It may end at any time; what is called through it is not supervised."""
        return self._instance.up

    @property
    def state(self) -> State:
        """RESTARTING while there is no instance, and one is to come."""
        if (over := self._over) is not None:
            return State.CLOSED if isinstance(over, AppClosed | AppForked) else State.EXITED if isinstance(over, GuestExit) else State.FAILED
        return State.RUNNING if self._instance.up else State.RESTARTING

    @property
    def exit(self) -> int | None:
        """The exit code of the last instance, when there is no other after it."""
        return self._over.code if isinstance(self._over, GuestError) else None

    @property
    def error(self) -> GothreadsError | None:
        """Why there is no instance, or no more; None while there is one."""
        return None if self._over is None and self._instance.up else self._why()

    def supervision(self) -> Supervision:
        """How it went so far."""
        now, down, next_try = time.monotonic(), self._down_since, self._next_try
        return replace(self._record, down_seconds=None if down is None else now - down,
                       next_try_seconds=None if next_try is None or self._over is not None else max(0.0, next_try - now),
                       saved=self._carried.size, saved_seconds=self._carried.seconds)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until there will be no other instance; returns the exit code of the last (0 when this was closed).

        TimeoutError after so many seconds; the error when it ended by a trap or because of a host function.
        """
        # In slices: Python can miss a signal that comes just before a wait without end begins.
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ended.wait(0.2 if deadline is None else max(0.0, min(0.2, deadline - time.monotonic()))):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{self.loaded.name} is still supervised after {timeout:g} s")
        if isinstance(self._over, GuestExit):
            return self._over.code
        if isinstance(self._over, AppClosed | AppForked):
            return 0
        raise self._why()

    def _why(self) -> GothreadsError:
        """Why there is no instance."""
        instance = self._instance
        if (cause := self._over or self._down) is not None:
            return again(cause)
        if not instance.retired and instance.app is not None and (error := instance.app.error) is not None:
            return error  # the keeper has not noticed
        return self._replaced()

    def _replaced(self) -> AppClosed:
        return AppClosed(f"{self.loaded.name}: the module was being replaced: restart() was called")

    # Commands.

    def restart(self, timeout: float | None = None, **close: Any) -> None:
        """Replace a healthy instance, and return when the fresh one takes calls. Calls that come meanwhile wait, or fail.

        If the module carries state, it is asked for it first; when it does not give it within `timeout` seconds (TimeoutError) or refuses
        (HandlerError), it stays. TimeoutError also when the fresh one takes longer; the cause when it does not start: then it is tried
        again as ever. Calls in flight fail with AppClosed. `close` are options of App.close. While the module is down: do not wait any longer.
        """
        if threading.current_thread() is self._keeper:
            raise MisuseError("restart() cannot be called by on_restart, which the next instance waits for")
        if unknown := close.keys() - {"drain"}:
            raise MisuseError(f"restart() has no option {', '.join(sorted(unknown))}; it has: timeout, and drain, as App.close")
        check_drain(close.get("drain"))
        asked = Replace(Future(), None if timeout is None else time.monotonic() + timeout, close)
        self._commands.put(asked)
        if self._over is not None:  # after putting it: either this sees the end, or the keeper, which sets _over first, sees what was put
            raise self._why()
        try:
            asked.done.result(timeout)
        except TimeoutError:
            raise TimeoutError(f"{self.loaded.name}: not replaced after {timeout:g} s") from None

    def close(self, **options: Any) -> None:
        """End the module, and its supervision; free everything. `options` are those of App.close. Calls in flight, and those that wait, get AppClosed.

        May be called twice, from anywhere, and at any time: while the module is down, or starts, without end. From inside one of
        the module's calls, from on_restart, or a signal handler that has interrupted one, it returns at once, and the rest happens behind it.
        """
        with self._lock:
            self._closing = True
            apps = {app for app in (self._opening, self._instance.app) if app is not None}
        inside = threading.current_thread() is self._keeper or any(app._is_inside() for app in apps)
        self._finish(AppClosed(f"{self.loaded.name}: the app was closed"))
        self._commands.put(None)
        for app in apps:
            app.close(**options)
        if not inside and self._keeper is not None:
            self._keeper.join(CLOSE_SECONDS)
            if self._keeper.is_alive():
                log.warning("%s: supervision has not ended yet: it waits for on_restart, or compiles", self.loaded.name)

    def _forked(self) -> None:
        """In the child of a fork: the keeper is not here."""
        self._lock, self._commands = threading.RLock(), queue.SimpleQueue()
        self._instance, self._keeper = SupervisedInstance(None), None
        self._over = AppForked(f"{self.loaded.name}: the app was opened before os.fork, and belongs to the parent process")
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
                    if time.monotonic() - self._instance.begun >= self._backoff.reset_after:
                        self._row = 0
                else:
                    cause = opened
                if self._closing or not self._begin_restart(cause):
                    break
                opened = self._open()
        except BaseException as error:  # nobody may wait for ever
            log.exception("%s: supervision has failed", self.loaded.name)
            self._finish(InternalError(f"{self.loaded.name}: supervision has failed: {words(error)}"))
        finally:
            self._finish(AppClosed(f"{self.loaded.name}: the app was closed"))
            if (app := self._instance.app) is not None:
                app.close()
            self._answer(self._why())

    def _watch(self, app: App) -> GothreadsError | None:
        """Until it has ended, of which this is the cause, and is freed; or until it is closed to be replaced."""
        app.when_ended(lambda: self._commands.put(Ended(app)))
        next_save = self._after_saving()
        while True:
            try:
                command = self._commands.get(timeout=None if next_save is None else max(0.0, next_save - time.monotonic()))
            except queue.Empty:
                next_save = None  # until it is done
                self._begin_save(app)
                continue
            match command:
                case Ended(ended) if ended is app:
                    app.close()
                    return app.error
                case Saved(saved, future) if saved is app:
                    self._keep(future)
                    next_save = self._after_saving()
                case Replace():
                    if self._retire(app, command):
                        app.close(**command.close)
                        return None
                case None:
                    return AppClosed("")

    def _begin_restart(self, cause: GothreadsError | None) -> bool:
        """Count the restart, tell of it, and wait. False: there is none. `cause` is None when it is planned."""
        pause = 0.0
        if cause is not None:
            clean = isinstance(cause, AppClosed) or (isinstance(cause, GuestExit) and cause.code == 0)
            if (clean and self._when == "on-failure") or (self._most_restarts is not None and self._row >= self._most_restarts):
                self._record = replace(self._record, last_cause=cause)
                self._finish(cause)
                return False
            pause = self._backoff.pause(self._row)
            self._row += 1
        kind = "restart()" if cause is None else type(cause.__cause__ if type(cause) is GothreadsError and cause.__cause__ else cause).__name__
        counts = self._record.by_cause
        self._record = replace(self._record, restarts=self._record.restarts + 1, by_cause={**counts, kind: counts.get(kind, 0) + 1},
                               last_cause=cause or self._record.last_cause)
        self._next_try = time.monotonic() + pause
        self._tell(Restart(self._record.restarts, cause, pause))
        return self._pause()

    def _went_down(self, cause: GothreadsError) -> None:
        self._down = cause
        self._down_since = self._down_since or time.monotonic()

    def _tell(self, restart: Restart) -> None:
        if self._on_restart is None:
            log.log(logging.INFO if restart.cause is None else logging.WARNING, "%s: %s", self.loaded.name, restart)
            return
        try:
            self._on_restart(restart)
        except BaseException:  # SystemExit would end the keeper, and tell nobody
            log.exception("%s: on_restart failed", self.loaded.name)

    def _pause(self) -> bool:
        """Wait until the next try, or restart(). False: closed."""
        while not self._closing:
            left = (self._next_try or 0.0) - time.monotonic()
            if left <= 0 or self._asked:
                return True
            with contextlib.suppress(queue.Empty):
                command = self._commands.get(timeout=left)
                if isinstance(command, Replace):
                    self._asked.append(command)
        return False

    def _open(self, *, first: bool = False) -> App | GothreadsError:
        """A fresh instance, which takes calls from now on; or why there is none."""
        self._next_try = time.monotonic()
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
        if len(listening := app.listening) == len(self._settings.get("listen", ())):
            self._settings["listen"] = listening  # a port that was to be any stays the same
        self._put(app, time.monotonic())
        self._answer(None)
        return app

    def _put(self, app: App, begun: float) -> None:
        """Give calls to an app."""
        before, self._instance = self._instance, SupervisedInstance(app, begun)
        self._down = self._down_since = self._next_try = None
        self._opening = None
        before.after.tell()

    def _take_commands(self) -> None:
        """What came before now: restart() is what the next instance does, and the rest is of the last one."""
        with contextlib.suppress(queue.Empty):
            while True:
                if isinstance(command := self._commands.get_nowait(), Replace):
                    self._asked.append(command)

    def _answer(self, error: GothreadsError | None) -> None:
        """What restart() waits for has come, or not."""
        if self._over is not None:
            self._take_commands()
        asked, self._asked = self._asked, []
        for one in asked:
            if error is None:
                one.done.set_result(None)
            else:
                one.done.set_exception(again(error))

    def _finish(self, cause: GothreadsError) -> None:
        """There is no other instance from now on, and this is why. The first cause counts."""
        with self._lock:
            if self._over is not None:
                return
            self._over = cause
        self._ended.set()
        self._deadlines.close()
        self._instance.after.tell()

    # State.

    def _after_saving(self) -> float | None:
        """When to ask for the state next."""
        return None if self._save_every is None else time.monotonic() + self._save_every

    def _begin_save(self, app: App) -> None:
        asked = ask(app)
        asked.add_done_callback(lambda future: self._commands.put(Saved(app, future)))

    def _keep(self, future: Future[bytes | None]) -> None:
        """The state that a module gave; else that of before stays."""
        try:
            self._carried.keep(future.result())
        except (GothreadsError, CancelledError) as error:
            if not isinstance(error, GuestError | AppClosed):  # its end is told otherwise
                log.warning("%s: its state is not saved: %s", self.loaded.name, error)

    def _retire(self, app: App, asked: Replace) -> bool:
        """Let no call in any more, and take the state. False: it does not give it, and stays; or it has ended by itself."""
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
