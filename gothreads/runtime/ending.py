"""The end of a running module: its first cause, the threads that leave, and what is freed.

The first cause of an end wins: every call in flight, waiting or new gets it. Ending runs in the background, on a thread
of its own (the sweep), so it may begin anywhere: in a call, in a host function, in close(), in a signal handler.
`_left` is set once no thread is in the module's code any more; only then is anything freed.

Setting the cause and starting the sweep are two steps, and an exception (Ctrl-C) may come between them. So any thread
that later finds a cause without a sweep starts the sweep: in close, in wait, or when it ends the app again.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from gothreads import text
from gothreads.bridge.handlers import Handlers
from gothreads.bridge.messages import Messages
from gothreads.engine import ffi, interrupt, stack
from gothreads.engine.call_threads import CallThreads
from gothreads.errors import AppClosed, GothreadsError, GuestError, GuestExit, again
from gothreads.runtime import process
from gothreads.runtime.exit_reasons import ExitReasons
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Options
from gothreads.runtime.own_handlers import own_handlers
from gothreads.runtime.state import State
from gothreads.runtime.wasi_environment import WasiEnvironment
from gothreads.sync.deadlines import Deadlines
from gothreads.sync.stop_event import Away, StopEvent
from gothreads.wasi.descriptor_table import FileAllowance
from gothreads.wasi.streams import Allowance, Input, Output, Source, Streams, Target

log = logging.getLogger("gothreads")

#: How long the end waits for threads in Python functions that the module called, in seconds. These cannot be ended.
PATIENCE = 0.1


class Ending(ABC):
    """Ends a module. All methods may be called from any thread. How a module starts is in runtime/lifecycle.py."""

    # Each model sets these: its name; what a module must be built for to run in it (wasm/metadata.py); whether
    # `Options.instances` instances, which share nothing, take the calls.
    model: str
    build_model: str
    has_many_instances: bool

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
        self._in_python = Away()
        self._deadlines = Deadlines()
        allowance = Allowance(options.limits.output)
        all_stacks = options.wasi.env.get("GOTRACEBACK", "") not in ("", "none", "single")
        self._targets = (Target(1, options.stdout, allowance, self._in_python),
                         Target(2, options.stderr, allowance, self._in_python, options.instead_of_stacks,
                                all_stacks=all_stacks))
        self._source = Source(options.stdin, self._in_python)
        self._files = FileAllowance(options.limits.files, options.instances if self.has_many_instances else 1)
        self._environments: list[WasiEnvironment] = []  # one per memory
        with contextlib.ExitStack() as owned:
            self._stop = StopEvent()
            owned.callback(self._stop.close)
            self._streams = self._new_streams(self._stop)
            self._reasons = ExitReasons.of(loaded, options, self._streams.stderr)
            handlers = Handlers({**options.handlers, **own_handlers(loaded, options.imports, owned.callback)},
                                CallThreads(options.callers, options.limits.stack), options.loop)
            self._messages = Messages(self._stop, handlers, options.event_queue)
            owned.callback(self._messages.close)
            # What the model creates. Freed in reverse order: when all threads have left, or if creating it fails.
            self._owned = owned.pop_all()

    # Implemented by App and the models.

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
    def _abandon_calls(self) -> None:
        """Fail the calls that run on the app's threads, with the app's cause.

        Such a thread may be in a Python function for a long time, and its caller must not wait for that.
        """

    @abstractmethod
    def _close_call_threads(self) -> None:
        """End the threads that run submitted calls. No thread is in the module any more."""

    # The state, and its end.

    def _new_streams(self, stop: StopEvent) -> Streams:
        """The streams of one memory; `stop` is set when that memory ends."""
        out, error = self._targets
        return Streams(Input(self._source, stop), Output(out, stop), Output(error, stop))

    def _tails(self) -> tuple[str, str]:
        """The last that was written to stdout and stderr."""
        return self._streams.stdout.tail, self._streams.stderr.tail

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

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, as soon as there is a cause (now, if there is one already).

        It may run on any thread, also in a signal handler, so it must not block.
        """
        with self._lock:
            if self._cause is None:
                self._when_ended.append(callback)
                return
        callback()

    def _trapped(self, trapped: ffi.Trapped) -> None:
        """A thread did not return from the module's code: if it is the first, that ends the app."""
        if self._cause is None:
            self._end(self._reasons.of_trap(trapped.trap))

    def _host_function_failed(self, error: BaseException) -> str:
        """End the module because a host function raised, if only to exit. Returns the trap's message."""
        if (raised := self._kept(error)) is not None:
            self._interrupted(raised)
        elif self._cause is None:
            self._end(self._reasons.of_host_function(error))
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
            self._end(self._reasons.of_signal(error))

    def _error(self) -> GothreadsError:
        """The first cause, as a new exception for this caller."""
        cause = self._cause
        assert cause is not None
        return again(cause)

    def _error_afterwards(self) -> GothreadsError:
        """The same for a call that was made after the end; a failure says that it is not this call's own."""
        error = self._error()
        if isinstance(error, GuestError):
            error.came_after = error.code != 0
        return error

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
                    self._in_python.app_ended = True
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
        for environment in list(self._environments):
            environment.stop()
        self._deadlines.close()
        with self._lock:
            callbacks, self._when_ended = self._when_ended, []
        for callback in callbacks:
            callback()
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
        with stack.in_module:  # so that close() in a callback at a call's end does not wait for this thread
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
            failed = isinstance(self._cause, GuestError) and self._cause.code != 0
            for environment in list(self._environments):
                self._at_the_end(partial(environment.path_hints.end, failed=failed))
                self._at_the_end(environment.table.close_all)  # as the system closes a process's when it ends
            for step in (self._close_call_threads, self._streams.stdout.flush, self._streams.stderr.flush):
                self._at_the_end(step)
            with self._lock:
                self._state = self._final(self._cause)
            self._left.set()
            self._free_if_wanted()

    def _at_the_end(self, step: Callable[[], object]) -> None:
        """Run a step of the end, which may run the program's own code. Whatever it raises is logged.

        The next steps run nevertheless: nothing else would wake the threads that wait.
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

    @property
    def _left_open(self) -> bool:
        return not (self._close_wanted or self._freed)

    def _forked(self) -> None:
        """Called in the child of a fork, where the threads do not exist."""
        self._lock = threading.RLock()
        self._open_to_calls(is_open=False)
        self._cause = process.forked(self.loaded.name)
        self._in_python.app_ended = True
        self._state = State.CLOSED
        self._freed = True
        self._sweeping, self._poking = threading.Lock(), threading.Lock()
        for event in ("_ready", "_left", "_done", "_settled"):
            setattr(self, event, threading.Event())
            getattr(self, event).set()
