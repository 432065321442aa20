"""The lifecycle of a running module, from start to end, whatever its model.

    open_module ─▶ STARTING ─▶ RUNNING ─▶ [DRAINING] ─▶ ENDING ─▶ EXITED | FAILED | CLOSED

The first cause of an end wins: every call in flight, waiting or new gets it. Ending runs in the background, on a thread
of its own (the sweep), so it may begin anywhere: in a call, in a host function, in close(), in a signal handler.
`_left` is set once no thread is in the module's code any more; only then is anything freed.

Setting the cause and starting the sweep are two steps, and an exception (Ctrl-C) may come between them. So any thread
that later finds a cause without a sweep starts the sweep: in close, in wait, or when it ends the app again.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import logging
import os
import posixpath
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Protocol, Self

from gothreads import text
from gothreads.bridge.handlers import Handlers
from gothreads.bridge.messages import Messages
from gothreads.engine import ffi, interrupt, stack
from gothreads.engine.call_threads import CallThreads
from gothreads.errors import AppClosed, AppForked, GothreadsError, GuestError, GuestExit, MisuseError, again
from gothreads.runtime import exit_reasons
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Options
from gothreads.runtime.state import State
from gothreads.runtime.wasi_environment import WasiEnvironment
from gothreads.sync.deadlines import Deadlines
from gothreads.sync.stop_event import Away, StopEvent
from gothreads.text import cut, shown
from gothreads.wasi.descriptors import FileAllowance
from gothreads.wasi.streams import Allowance, Input, Output, Source, Streams, Target
from gothreads.wasi.virtual_root import mount_option

log = logging.getLogger("gothreads")

#: How long a signal may go unnoticed in a wait, in seconds.
_SLICE = 0.2
#: The longest that close() waits for threads to leave the module, in seconds.
CLOSE_SECONDS = 5.0
#: How long the end waits for threads in Python functions that the module called, in seconds. These cannot be ended.
PATIENCE = 0.1


class _Process:
    """Process-wide state that fork changes. wasmtime's own threads, which WASI needs, do not survive a fork."""

    used = False    # an app has run in this process
    forked = False  # an app has run in a parent process


def check_not_forked() -> None:
    """Raise AppForked in a child of a process that has run an app."""
    if _Process.forked:
        raise AppForked("the parent process has run an app, and wasmtime does not survive a fork: start this process otherwise "
                        "(multiprocessing: the 'spawn' start method)")


def check_drain(drain: object) -> None:
    """Raise MisuseError if `drain` is not a valid argument of close."""
    if drain is not None and (isinstance(drain, bool) or not isinstance(drain, int | float) or not drain >= 0):
        raise MisuseError(f"drain must be a number of seconds, not below 0, not {cut(drain)}")


class Closable(Protocol):
    """Something that is closed when the process ends."""

    def close(self) -> None: ...
    def _forked(self) -> None: ...


_apps: weakref.WeakSet[Lifecycle] = weakref.WeakSet()
#: Supervisors, which reopen apps that end: closed before the apps.
keepers: weakref.WeakSet[Closable] = weakref.WeakSet()


class Lifecycle(ABC):
    """Starts and ends a module. All methods may be called from any thread."""

    model: str

    def __init__(self, loaded: LoadedModule, options: Options) -> None:
        self.loaded, self.options = loaded, options
        self._begun = time.monotonic()
        self._lock = threading.RLock()  # a signal handler may call close() in the middle of close()
        # Guarded by _lock. _cause and _state are also read without it: _cause is set once, _state only moves forward.
        self._cause: GothreadsError | None = None
        self._state = State.STARTING
        self._close_wanted = self._freed = self._launching = self._stopping = False
        self._when_ended: list[Callable[[], object]] = []
        self._sweeping = threading.Lock()  # taken by the sweep, never released
        self._poking = threading.Lock()  # held around each _poke: nothing is freed meanwhile
        self._ready = threading.Event()  # initialised, or ended
        self._left = threading.Event()   # no thread is in the module's code
        self._done = threading.Event()   # and everything is freed
        self._settled = threading.Event()  # everything is freed, or waits only for Python functions
        self._in_python: Away = deque()
        self._deadlines = Deadlines()
        allowance = Allowance(options.limits.output)
        self._targets = Target(1, options.stdout, allowance, self._in_python), Target(2, options.stderr, allowance, self._in_python)
        self._source = Source(options.stdin, self._in_python)
        self._files = FileAllowance(options.limits.files, options.instances if self.model == "pool" else 1)
        self._worlds: list[WasiEnvironment] = []  # one per memory
        with contextlib.ExitStack() as owned:
            self._stop = StopEvent()
            owned.callback(self._stop.close)
            self._streams = self._new_streams(self._stop)
            handlers = Handlers(options.handlers, CallThreads(options.callers, options.limits.stack), options.loop)
            self._messages = Messages(self._stop, handlers, options.event_queue)
            owned.callback(self._messages.close)
            # What the model creates. Freed in reverse order: when all threads have left, or if creating it fails.
            self._owned = owned.pop_all()

    # Implemented by App and the models.

    @abstractmethod
    def _start(self) -> None:
        """Start the module. `_initialized` is called when its packages are initialised."""

    def _open_to_calls(self, *, is_open: bool) -> None:  # noqa: B027  (models without such calls have nothing to do)
        """Whether calls on the fast path, which check nothing else, may begin. May be called from anywhere."""

    @abstractmethod
    def _stop_running(self) -> None:
        """Make all threads leave the module's code. May be called twice, from any thread; returns at once."""

    @abstractmethod
    def _run_handlers(self) -> bool:
        """As `_poke`; nothing is freed while this runs."""

    @abstractmethod
    def _sweep_once(self) -> int:
        """Prod the threads that are still in the module to leave; returns how many there are."""

    @abstractmethod
    def _started(self) -> None:
        """Called when packages are initialised, before `start` returns."""

    @abstractmethod
    def _before_close(self) -> None:
        """Called when close() is about to end a running module."""

    @abstractmethod
    def _in_flight(self) -> int:
        """How many calls are in the module or wait for their turn; 0 once nothing of them is left."""

    @abstractmethod
    def _abandon_calls(self) -> None:
        """Give the app's cause to all who wait for a call on another thread.

        That thread may be in a Python function for a long time.
        """

    @abstractmethod
    def _close_workers(self) -> None:
        """End the threads that run submitted calls. No thread is in the module any more."""

    def start(self) -> Self:
        """Start the module. Returns when packages are initialised and its hook `start` has returned, or it has ended.

        Called once, by `gothreads.open`.
        """
        _Process.used = True
        _apps.add(self)
        try:
            interrupt.watch()
            if (seconds := self.options.limits.seconds) is not None:  # first: _launch may initialise all packages
                self._deadlines.after(seconds, lambda: self._end(exit_reasons.of_time(self.loaded.name, seconds, self._streams.stderr.tail)))
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

    def when_ended(self, tell: Callable[[], object]) -> None:
        """Call `tell` once, as soon as there is a cause (now, if there is one already).

        It may run on any thread, also in a signal handler, so it must not block.
        """
        with self._lock:
            if self._cause is None:
                self._when_ended.append(tell)
                return
        tell()

    def _new_streams(self, stop: StopEvent) -> Streams:
        """The streams of one memory; `stop` is set when that memory ends."""
        out, error = self._targets
        return Streams(Input(self._source, stop), Output(out, stop), Output(error, stop))

    @property
    def state(self) -> State:
        return self._state

    @property
    def exit(self) -> int | None:
        """The exit code if the module has ended by itself, else None."""
        return self._cause.code if isinstance(self._cause, GuestError) else None

    @property
    def error(self) -> GothreadsError | None:
        """Why the app ended; None while it runs."""
        return None if self._cause is None else self._error()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the module has ended by itself or is closed. Returns the exit code (0 if it was closed).

        TimeoutError after `timeout` seconds. If a trap, a limit or a host function ended the module, raises that error.
        """
        # In slices: Python can miss a signal that comes just before an unbounded wait begins.
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._left.wait(_SLICE if deadline is None else max(0.0, min(_SLICE, deadline - time.monotonic()))):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the module still runs after {timeout:g} s")
            self._see_to_the_sweep(may_wait=True)
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
        check_drain(drain)
        called = self._is_called()
        interrupts = not called and _interrupts_us()
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
            log.warning("%s: not all threads have left yet; those in Python functions that the module called end when these return", self.loaded.name)

    def _is_inside(self) -> bool:
        """Whether the caller, which ends the app, must not wait on this thread until the app has ended."""
        return self._is_called() or _interrupts_us()

    def _is_called(self) -> bool:
        return stack.inside.depth > 0 or self._messages.handlers.on_own_loop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gothreads.App {self.loaded.name} {self.model} {self._state.value}>"

    def _initialized(self) -> None:
        """Called when the module's packages are initialised."""
        with self._lock:
            if self._state is State.STARTING:
                self._state = State.RUNNING
                self._open_to_calls(is_open=True)
        self._ready.set()

    def _trapped(self, trapped: ffi.Trapped) -> None:
        """A thread did not return from the module's code: if it is the first, that ends the app."""
        if self._cause is None:
            self._end(exit_reasons.of_trap(self.loaded.name, trapped.trap, self._streams.stderr.tail, self.options.limits.stack))

    def _host_function_failed(self, error: BaseException) -> str:
        """End the module because a host function raised, if only to exit. Returns the trap's message."""
        if (raised := self._kept(error)) is not None:
            self._interrupted(raised)
        elif self._cause is None:
            self._end(exit_reasons.of_host_function(self.loaded.name, error, self._streams.stderr.tail))
        return text.words(error.error if isinstance(error, ffi.Raised) else error)

    @staticmethod
    def _kept(error: BaseException) -> BaseException | None:
        """Keep and return an exception that a signal handler raised in a Python function that the module called.

        The caller of the module gets it. None if the exception is not from a signal handler.
        """
        error = error.error if isinstance(error, ffi.Raised) else error
        if not interrupt.from_handler(error):
            return None
        interrupt.keep(error)
        return error

    def _poke(self) -> bool:
        # Not under _lock: this may wait for a lock that the main thread holds, such as the memory's, while a signal
        # handler on that thread is in close(), which waits for _lock.
        with self._poking:
            return self._freed or self._run_handlers()

    def _interrupted(self, error: BaseException | None) -> None:
        if self._cause is None:
            self._end(exit_reasons.of_signal(self.loaded.name, error))

    def _error(self) -> GothreadsError:
        """The first cause, as a new exception for this caller."""
        cause = self._cause
        assert cause is not None
        return again(cause)

    def _end(self, cause: GothreadsError, *, here: bool = True) -> None:
        """Begin to end the app for that cause, unless it is ending already. From anywhere; returns at once.

        With `here`, the module runs no more code when this returns (but for a few instructions). Without, this takes no
        lock that this thread may have been interrupted in.
        """
        first = False
        try:
            with self._lock:
                if first := self._cause is None:
                    # Before there is a cause: a thread that sees one may sweep, and would free what is being
                    # stopped here, or may put back a caller that has trapped.
                    self._stopping = here
                    self._open_to_calls(is_open=False)
                    self._cause = cause
                    self._state = State.ENDING
            if first and here:
                self._stop_all()
        finally:  # Ctrl-C may come between any two steps
            if first:
                self._stopping = False
        self._see_to_the_sweep()

    def _stop_all(self) -> None:
        """May be called twice."""
        self._ready.set()
        self._stop_running()
        self._stop.set()
        for world in list(self._worlds):
            world.stop()
        self._deadlines.close()
        with self._lock:
            told, self._when_ended = self._when_ended, []
        for tell in told:
            tell()
        self._at_the_end(self._messages.end)  # runs callbacks of cancelled calls

    def _see_to_the_sweep(self, *, may_wait: bool = False) -> None:
        """If the app is to end, make sure that a sweep runs from now on.

        With `may_wait`, it runs on this thread if no other can be started.
        """
        if self._cause is None or self._sweeping.locked() or self._freed:
            return
        try:
            _thread.start_new_thread(self._sweep, ())  # not threading's: its lock may be held by interrupted code
        except RuntimeError:  # the interpreter is shutting down, or the system is out of threads
            if may_wait and not stack.inside.depth:
                self._sweep()

    def _sweep(self) -> None:
        """Stop the module, and prod until all threads have left. Polls: a thread may park just after it was checked."""
        if not self._sweeping.acquire(blocking=False):
            return
        stack.inside.depth += 1  # so that close() in a callback at a call's end does not wait for this thread
        self._at_the_end(self._stop_all)
        pause, begun, abandoned, stuck = 0.0005, time.monotonic(), False, 0
        while True:
            launching = self._launching or self._stopping  # before counting threads: see _launch
            if not (left := self._sweep_once()) and not launching:
                break
            if time.monotonic() - begun > PATIENCE:
                if not abandoned:
                    self._at_the_end(self._abandon_calls)
                    abandoned = True
                stuck = stuck + 1 if left <= len(self._in_python) and not launching else 0
                if stuck == 2:  # twice: a thread seen there once may be on its way out
                    self._settled.set()
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        self._at_the_end(self._hint)
        for world in list(self._worlds):
            self._at_the_end(world.table.close_all)  # as the system closes a process's when it ends
        for step in (self._close_workers, self._streams.stdout.flush, self._streams.stderr.flush):
            self._at_the_end(step)
        with self._lock:
            self._state = self._final(self._cause)
        self._left.set()
        self._free_if_wanted()
        stack.inside.depth -= 1

    def _hint(self) -> None:
        """If the module has ended with an error about a path that is under no mount, log how to mount it."""
        cause = self._cause
        if not isinstance(cause, GuestExit) or cause.code == 0:
            return
        words = cause.stderr.lower()
        if "no such file or directory" not in words and "read-only file system" not in words:
            return
        for world in list(self._worlds):
            for path in reversed(world.missed):
                name = posixpath.basename(path.rstrip("/")).lower()
                if f" {name}:" in words or f"/{name}:" in words:
                    log.warning("%s: the module was given nothing at %s: mount what it needs (%s; in Python mounts=; docs/files-and-sockets.md)",
                                self.loaded.name, shown(path), shown(mount_option(path)))
                    return

    def _at_the_end(self, step: Callable[[], object]) -> None:
        """Run a step of the end, which may run the program's own code. Whatever it raises is logged.

        The next steps run all the same: nothing else would wake those who wait.
        """
        try:
            step()
        except BaseException:
            log.exception("%s: at its end", self.loaded.name)

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
        with self._poking:  # wait for a poke under way; later ones see _freed
            pass
        try:
            self._owned.close()
        finally:
            self._done.set()
            self._settled.set()

    def _forked(self) -> None:
        """Called in the child of a fork, where the threads do not exist."""
        self._lock = threading.RLock()
        self._open_to_calls(is_open=False)
        self._cause = AppForked(f"{self.loaded.name}: the app was opened before os.fork, and belongs to the parent process")
        self._state = State.CLOSED
        self._freed = True
        self._sweeping, self._poking = threading.Lock(), threading.Lock()
        for event in ("_ready", "_left", "_done", "_settled"):
            setattr(self, event, threading.Event())
            getattr(self, event).set()


def _interrupts_us() -> bool:
    """Whether this runs in a signal handler that has interrupted gothreads' own code.

    That code may hold locks, or wait for what close() would wait for. Python runs signal handlers on the main thread,
    on top of the interrupted frames. The frames from close() up to here do not count as own code, nor does what calls
    close() in the ordinary way (`_ORDINARY`).
    """
    if not interrupt.on_main_thread():
        return False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code in (Lifecycle._is_inside.__code__, Lifecycle.close.__code__):
        called, frame = frame.f_code, frame.f_back
        if called is Lifecycle.close.__code__:
            break
    while frame is not None:
        if _is_own_code(frame):
            return True
        frame = frame.f_back
    return False


def _is_own_code(frame: FrameType) -> bool:
    """Whether a frame runs gothreads' own code.

    Modules and packages that use apps as programs do are marked PROGRAM_CODE, and do not count.
    """
    name = str(frame.f_globals.get("__name__", ""))
    if frame.f_code in _ORDINARY or not name.startswith(_PACKAGE):
        return False
    while name:
        if getattr(sys.modules.get(name), "PROGRAM_CODE", False):
            return False
        name = name.rpartition(".")[0]
    return True


def close_all() -> None:
    """Close all apps that are open."""
    for app in (*keepers, *_apps):
        with contextlib.suppress(Exception):  # the others must still be closed
            app.close()


_PACKAGE = __name__.partition(".")[0] + "."
_ORDINARY = frozenset({Lifecycle.start.__code__, Lifecycle.__exit__.__code__, close_all.__code__, interrupt.Held.__call__.__code__})


def _after_fork() -> None:
    _Process.forked = _Process.used
    for app in (*keepers, *_apps):
        app._forked()


# Daemon threads that are still in WebAssembly when the interpreter shuts down may crash it.
atexit.register(close_all)
os.register_at_fork(after_in_child=_after_fork)
