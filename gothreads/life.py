"""A running module's life and end, whatever its model.

    open_module ─▶ STARTING ─▶ RUNNING ─▶ ENDING ─▶ EXITED | FAILED | CLOSED

The first cause of an end wins: it is what every call in flight, waiting or new gets. Ending runs in the background, on a
thread of its own (the sweep), so it may begin anywhere: in a call, in a host function, in close(). `_left` is set when no
thread is in the module's code any more; only then is anything freed.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from gothreads import endings
from gothreads.errors import AppClosed, AppForked, GothreadsError, GuestError, GuestExit, again
from gothreads.handlers import Handlers
from gothreads.host import ffi, interrupt, stack
from gothreads.host.streams import Input, Output, Streams
from gothreads.host.waiting import Stop
from gothreads.host.world import World
from gothreads.loading import LoadedModule
from gothreads.messages import Messages
from gothreads.state import Options, State
from gothreads.workers import Workers

log = logging.getLogger("gothreads")

#: How long a signal may go unseen in a wait, in seconds.
_SLICE = 0.2
#: How long close() waits for threads that are in a Python function which does not return, in seconds.
CLOSE_SECONDS = 5.0


class _Process:
    """What fork changes. wasmtime's own threads, which WASI needs, do not survive one."""

    used = False    # an app has run in this process
    forked = False  # ... in a parent of it


def check_not_forked() -> None:
    """AppForked in a child of a process that has run an app."""
    if _Process.forked:
        raise AppForked("the parent process has run an app, and wasmtime does not survive a fork: start this process otherwise "
                        "(multiprocessing: the 'spawn' start method)")


class Closes(Protocol):
    """What ends with the process."""

    def close(self) -> None: ...
    def _forked(self) -> None: ...


_apps: weakref.WeakSet[Life] = weakref.WeakSet()
#: What opens apps again when they end: closed before the apps are.
keepers: weakref.WeakSet[Closes] = weakref.WeakSet()


class Life(ABC):
    """From start to end. All methods may be called from any thread."""

    model: str

    def __init__(self, loaded: LoadedModule, options: Options) -> None:
        self.loaded, self.options = loaded, options
        self._begun = time.monotonic()
        self._lock = threading.RLock()  # a signal handler may call close() in the middle of close()
        # Guarded by _lock; _cause and _state are also read without it: they change from None, and forward, once.
        self._cause: GothreadsError | None = None
        self._state = State.STARTING
        self._close_wanted = self._freed = self._launching = False
        self._when_ended: list[Callable[[], object]] = []
        self._ready = threading.Event()  # initialised, or ended
        self._left = threading.Event()   # no thread is in the module's code
        self._done = threading.Event()   # and everything is freed
        # What the model makes, to be freed in the opposite order: when all have left, or when making it fails half way.
        self._owned = contextlib.ExitStack()
        self._stop = Stop()
        self._owned.callback(self._stop.close)
        self._streams = self._new_streams(Input(options.stdin, self._stop))
        handlers = Handlers(options.handlers, Workers(options.callers, options.limits.stack), options.loop)
        self._messages = Messages(self._stop, handlers, options.event_queue)
        self._owned.callback(self._messages.close)
        self._worlds: list[World] = []  # one for each memory

    # What a model and its calls are.

    @abstractmethod
    def _start(self) -> None:
        """Start the module. `_initialized` is called when its packages are initialised."""

    @abstractmethod
    def _stop_running(self) -> None:
        """Make all threads leave the module's code; called once, from any thread; returns at once."""

    @abstractmethod
    def _sweep_once(self) -> bool:
        """Push those that are still in. True when all have left."""

    @abstractmethod
    def _started(self) -> None:
        """Packages are initialised: what comes before `start` returns."""

    @abstractmethod
    def _before_close(self) -> None:
        """close() is to end a module that runs."""

    @abstractmethod
    def _close_workers(self) -> None:
        """End the threads that calls are handed to. All have left."""

    def start(self) -> Self:
        """Start the module; returns when its packages are initialised and its hook `start` has returned, or it has ended.

        Called once, by `gothreads.open`.
        """
        _Process.used = True
        interrupt.watch()
        _apps.add(self)
        try:
            self._launch()
            self._ready.wait()
            with contextlib.suppress(GuestError):  # `open` looks at how it ended
                self._started()
        except BaseException:
            self.close()
            raise
        return self

    def _launch(self) -> None:
        """Begin, unless close() came first. When it comes meanwhile, nothing is freed before this has returned:

        1. under the lock, either this sees the cause, or `_launching` is set before there is one;
        2. the sweep, which begins after the cause, looks at `_launching` before it looks for who is in: what was begun is seen.
        """
        with self._lock:
            if self._cause is not None:
                raise self._error()
            self._launching = True
        try:
            self._start()
        except ffi.Trapped as trapped:  # the end came first
            self._trapped(trapped)
        finally:
            self._launching = False

    def when_ended(self, tell: Callable[[], object]) -> None:
        """`tell` is called once, as soon as there is a cause (now, if there is), on any thread, also in a signal handler: it must not wait."""
        with self._lock:
            if self._cause is None:
                self._when_ended.append(tell)
                return
        tell()

    def _new_streams(self, stdin: Input) -> Streams:
        return Streams(stdin, Output(1, self.options.stdout, self._stop), Output(2, self.options.stderr, self._stop))

    @property
    def state(self) -> State:
        return self._state

    @property
    def exit(self) -> int | None:
        """The exit code, when the module has ended by itself."""
        return self._cause.code if isinstance(self._cause, GuestError) else None

    @property
    def error(self) -> GothreadsError | None:
        """Why the app ended; None while it runs."""
        return None if self._cause is None else self._error()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the module has ended by itself or is closed; returns the exit code (0 when it was closed).

        TimeoutError after so many seconds; the error when it ended by a trap or because of a host function.
        """
        # In slices: Python can miss a signal that comes just before a wait without end begins.
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._left.wait(_SLICE if deadline is None else max(0.0, min(_SLICE, deadline - time.monotonic()))):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the module still runs after {timeout:g} s")
        if isinstance(self._cause, GuestExit):
            return self._cause.code
        if isinstance(self._cause, GuestError):
            raise self._error()
        return 0

    def close(self) -> None:
        """End the app, free everything. Calls in flight get AppClosed. May be called twice, and from anywhere.

        Before that, the module's hook `stop`, if it has one, gets a few seconds, for which a second close() does not wait. From inside one
        of the app's own calls, a coroutine on the app's own loop, or a signal handler that has interrupted one of these, it returns at
        once, without the hook, and the rest happens behind it.
        """
        inside = self._is_inside()
        with self._lock:
            first, self._close_wanted = not self._close_wanted, True
        if first and self._state is State.RUNNING and not inside:
            self._before_close()
        self._end(AppClosed(f"{self.loaded.name}: the app was closed"))
        if inside:
            return
        self._free_if_wanted()
        if not self._done.wait(CLOSE_SECONDS):
            log.warning("%s: not all threads have left yet; those in Python functions that the module called end when these return", self.loaded.name)

    def _is_inside(self) -> bool:
        """Whether what ends the app cannot wait on this thread until it has."""
        return stack.inside.depth > 0 or stack.inside.signalling > 0 or self._messages.handlers.on_own_loop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gothreads.App {self.loaded.name} {self.model} {self._state.value}>"

    def _initialized(self) -> None:
        """The module's packages are initialised."""
        with self._lock:
            if self._state is State.STARTING:
                self._state = State.RUNNING
        self._ready.set()

    def _trapped(self, trapped: ffi.Trapped) -> None:
        """A thread did not come back from the module's code: if this is the first, it is the end."""
        if self._cause is None:
            self._end(endings.of_trap(self.loaded.name, trapped.trap, self._streams.stderr.tail, self.options.limits.stack))

    def _host_function_failed(self, error: BaseException) -> str:
        """A host function raised, if only to exit: that ends the module. The trap's message."""
        if self._cause is None:
            self._end(endings.of_host_function(self.loaded.name, error, self._streams.stderr.tail))
        return endings.words(error)

    def _error(self) -> GothreadsError:
        """The first cause, as an exception of the caller's own."""
        cause = self._cause
        assert cause is not None
        return again(cause)

    def _end(self, cause: GothreadsError) -> None:
        with self._lock:
            if self._cause is not None:
                return
            self._cause, self._state = cause, State.ENDING
            told, self._when_ended = self._when_ended, []
        self._ready.set()
        self._stop_running()
        self._stop.set()
        for world in list(self._worlds):
            world.stop()
        self._messages.end()
        for tell in told:
            tell()
        try:
            threading.Thread(target=self._sweep, name="gothreads-sweep", daemon=True).start()
        except RuntimeError:  # Python is ending, or the system has no thread left
            if not stack.inside.depth:
                self._sweep()

    def _sweep(self) -> None:
        """Until all have left: push. Polling, since a thread may park just after it was looked at."""
        pause = 0.0005
        while self._launching | (not self._sweep_once()):  # in this order: see _launch
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        for world in list(self._worlds):
            world.table.close_all()  # as a process's are closed when it ends
        self._close_workers()
        self._streams.stdout.flush()
        self._streams.stderr.flush()
        with self._lock:
            self._state = self._final(self._cause)
        self._left.set()
        self._free_if_wanted()

    @staticmethod
    def _final(cause: GothreadsError | None) -> State:
        match cause:
            case GuestExit():
                return State.EXITED
            case AppClosed():
                return State.CLOSED
            case _:
                return State.FAILED

    def _free_if_wanted(self) -> None:
        with self._lock:
            if not self._close_wanted or not self._left.is_set() or self._freed:
                return
            self._freed = True
        self._owned.close()
        self._done.set()

    def _forked(self) -> None:
        """In the child of a fork: the threads are not here."""
        self._lock = threading.RLock()
        self._cause = AppForked(f"{self.loaded.name}: the app was opened before os.fork, and belongs to the parent process")
        self._state = State.CLOSED
        self._freed = True
        for event in ("_ready", "_left", "_done"):
            setattr(self, event, threading.Event())
            getattr(self, event).set()


def close_all() -> None:
    """All that are open."""
    for app in (*keepers, *_apps):
        with contextlib.suppress(Exception):  # the others must be closed all the same
            app.close()


def _after_fork() -> None:
    _Process.forked = _Process.used
    for app in (*keepers, *_apps):
        app._forked()


# Daemon threads that are still in WebAssembly when the interpreter goes away may crash it.
atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
