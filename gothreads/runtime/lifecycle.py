"""The lifecycle of a running module, from start to end, whatever its model.

    open_module ─▶ STARTING ─▶ RUNNING ─▶ [DRAINING] ─▶ ENDING ─▶ EXITED | FAILED | CLOSED

The end itself is in runtime/ending.py.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import threading
import time
from abc import abstractmethod
from types import TracebackType
from typing import Self

from gothreads.engine import ffi, interrupt, stack
from gothreads.errors import AppClosed, GuestError, GuestExit
from gothreads.runtime import own_code, process
from gothreads.runtime.ending import Ending
from gothreads.runtime.state import State
from gothreads.sync.seconds import check_seconds
from gothreads.sync.waiting import wait_in_slices

log = logging.getLogger("gothreads")

#: The longest that close() waits for threads to leave the module, in seconds.
CLOSE_SECONDS = 5.0


class Lifecycle(Ending):
    """Starts and closes a module. All methods may be called from any thread."""

    # Implemented by App and the models.

    @abstractmethod
    def _start(self) -> None:
        """Start the module. `_initialized` is called when its packages are initialised."""

    @abstractmethod
    def _started(self) -> None:
        """Called when packages are initialised, before `start` returns."""

    @abstractmethod
    def _before_close(self) -> None:
        """Called when close() is about to end a running module."""

    @abstractmethod
    def _in_flight(self) -> int:
        """How many calls are in the module or wait for their turn; 0 once nothing of them is left."""

    # Start and close.

    @own_code.ordinary
    def start(self) -> Self:
        """Start the module. Returns when packages are initialised and its hook `start` has returned, or it has ended.

        Called once, by `gothreads.open`.
        """
        process.add(self)
        try:
            interrupt.watch()
            if (seconds := self.options.limits.seconds) is not None:  # first: _launch may initialise all packages
                self._deadlines.after(
                    seconds,
                    lambda: self._end(self._reasons.of_time(seconds)),
                )
            self._launch()
            self._ready.wait()
            with contextlib.suppress(GuestError):  # `open` checks how it ended
                self._started()
        except BaseException:
            self.close()
            raise
        return self

    def _launch(self) -> None:
        """Begin, unless close() came first. If close() comes meanwhile, nothing is freed before this has returned:

        1. under the lock, either this sees the cause, or `_launching` is set before there is one;
        2. the sweep, which begins after the cause is set, reads `_launching` before it counts the threads inside: so it
            sees what was begun.
        """
        try:
            with self._lock:
                if self._cause is not None:
                    raise self._error()
                self._launching = True
            self._start()
        except ffi.Trapped as trapped:  # the end came first
            self._trapped(trapped)
        finally:
            self._launching = False

    def _initialized(self) -> None:
        """Called when the module's packages are initialised."""
        with self._lock:
            if self._state is State.STARTING:
                self._state = State.RUNNING
                self._open_to_calls(is_open=True)
        self._ready.set()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the module has ended by itself or is closed. Returns the exit code (0 if it was closed).

        TimeoutError after `timeout` seconds. If a trap, a limit or a host function ended the module, raises that error.
        """
        check_seconds("timeout", timeout)
        if not wait_in_slices(self._left.wait, timeout, between=lambda: self._see_to_the_sweep(may_wait=True)):
            raise TimeoutError(f"the module still runs after {timeout:g} s")
        if isinstance(self._cause, GuestExit):
            return self._cause.code
        if isinstance(self._cause, GuestError):
            raise self._error()
        return 0

    def close(self, *, drain: float | None = None) -> None:
        """End the app and free everything. Calls in flight get AppClosed. May be called twice, and from anywhere.

        drain: first let calls in flight finish, for at most so many seconds. Meanwhile new calls get AppClosed, except
            those made by Python functions that the module has called. A second close() does not wait.

        Before a running module is ended, its hook `stop`, if it has one, gets a few seconds; a second close() does not
        wait for it. From inside one of the app's own calls, from a coroutine on the app's own loop, or from a signal
        handler that has interrupted one of these, close() returns at once and the rest happens in the background;
        without `drain`, the hook is then skipped.
        """
        check_seconds("drain", drain)
        called = self._is_called()
        interrupts = not called and own_code.is_interrupted()
        inside = called or interrupts
        with self._lock:
            first, self._close_wanted = not self._close_wanted, True
            running = self._state is State.RUNNING
            if first and running and drain:
                self._open_to_calls(is_open=False)
                self._state = State.DRAINING
        if first and running and drain:
            if inside or stack.nested.get():  # this is a call that the drain waits for, or a handler of one
                threading.Thread(target=self._drain, args=(drain,), name="gothreads-drain", daemon=True).start()
                return
            self._drain(drain)
        elif first and running and not inside:
            self._before_close()
        self._end(AppClosed(f"{self.loaded.name}: the app was closed"), here=not interrupts)
        if inside:
            if self._left.is_set():  # the sweep is over, and did not know of this close()
                with contextlib.suppress(RuntimeError):  # no thread can be started any more
                    _thread.start_new_thread(self._free_if_wanted, ())
            return
        self._wait_freed()

    def _drain(self, seconds: float) -> None:
        """Wait for the calls in flight, then end the app."""
        deadline = time.monotonic() + seconds
        pause = 0.0005
        while self._in_flight() and (left := deadline - time.monotonic()) > 0 and self._cause is None:
            self._left.wait(min(pause, left))  # polling: nothing signals that the last call is over
            pause = min(pause * 1.5, 0.02)
        if self._cause is None:
            self._before_close()
        self._end(AppClosed(f"{self.loaded.name}: the app was closed"))
        self._free_if_wanted()

    def _wait_freed(self) -> None:
        self._see_to_the_sweep(may_wait=True)
        self._free_if_wanted()
        self._settled.wait(CLOSE_SECONDS)
        if self._state is not State.ENDING:  # all have left after all: the sweep is about to free everything
            self._done.wait(CLOSE_SECONDS)
        if not self._done.is_set():
            log.warning("%s: not all threads have left yet; those in Python functions that the module called end when "
                        "these return", self.loaded.name)

    def _is_inside(self) -> bool:
        """Whether the caller, which ends the app, must not wait on this thread until the app has ended."""
        return self._is_called() or own_code.is_interrupted()

    def _is_called(self) -> bool:
        return stack.inside.depth > 0 or self._messages.handlers.on_own_loop

    def __enter__(self) -> Self:
        return self

    @own_code.ordinary
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gothreads.App {self.loaded.name} {self.model} {self._state.value}>"
