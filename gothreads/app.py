"""One running module, whatever its execution model: its life, its calls, its end.

    open_module ─▶ STARTING ─▶ RUNNING ─▶ ENDING ─▶ EXITED | FAILED | CLOSED

The first cause of an end wins: it is what every call in flight, waiting or new gets. Ending runs in the background, on a
thread of its own (the sweep), so it may begin anywhere: in a call, in a host function, in close(). `_left` is set when no
thread is in the module's code any more; only then is anything freed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from gothreads.errors import AppClosed, AppForked, GothreadsError, GuestError, GuestExit, GuestPanic, GuestTrap, HostFunctionError, MisuseError
from gothreads.exports import Export, Exports, Function
from gothreads.host import ffi, interrupt, signals, stack
from gothreads.host.streams import Input, Output, Streams
from gothreads.host.waiting import Stop
from gothreads.host.wasi_calls import ExitRequested
from gothreads.host.world import World
from gothreads.inspector import Goroutine
from gothreads.loading import LoadedModule
from gothreads.slot import Memory
from gothreads.state import AppStatistics, Options, State
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


_apps: weakref.WeakSet[App] = weakref.WeakSet()


class App(ABC):
    """A running module. Use `gothreads.open`. All methods may be called from any thread unless they say otherwise."""

    model: str

    def __init__(self, loaded: LoadedModule, options: Options) -> None:
        self.loaded, self.options = loaded, options
        stop = Stop()
        self._streams = Streams(Input(options.stdin, stop), Output(1, options.stdout, stop), Output(2, options.stderr, stop))
        self._workers = Workers(options.callers, options.limits.stack)
        self._begun = time.monotonic()
        self._lock = threading.RLock()  # a signal handler may call close() in the middle of close()
        # Guarded by _lock; _cause and _state are also read without it: they change from None, and forward, once.
        self._cause: GothreadsError | None = None
        self._state = State.STARTING
        self._final = State.CLOSED
        self._close_wanted = self._freed = False
        self._ready = threading.Event()  # initialised, or ended
        self._left = threading.Event()   # no thread is in the module's code
        self._done = threading.Event()   # and everything is freed
        self.compile_seconds: float | None = None
        # What the model makes, to be freed in the opposite order: when all have left, or when making it fails half way.
        self._owned = contextlib.ExitStack()
        self._world = World(stop, self._streams, options.wasi, options.listen, options.allow_net)
        self._owned.callback(self._world.close)
        try:
            self._make()
        except BaseException:
            self._owned.close()
            raise
        self.loaded = loaded.without_code()
        #: The functions that the module exports: `app.exports.add(2, 3)`.
        self.exports = Exports({e.name: Function(e, self._call_export) for e in loaded.exports})

    # What a model is.

    @abstractmethod
    def _make(self) -> None:
        """Make everything that is needed to start, each with its end in `_owned`. Called once, by the constructor."""

    @abstractmethod
    def _start(self) -> None:
        """Start the module. `_initialized` is called when its packages are initialised."""

    @abstractmethod
    def _call(self, export: Export, converted: list[tuple[str, Any]]) -> Any:
        """Call an export on this thread. Raises ffi.Trapped."""

    @abstractmethod
    def _request(self, handler: str, payload: bytes) -> bytes:
        """Call a handler on this thread. Raises ffi.Trapped."""

    @abstractmethod
    def _handlers(self) -> list[str]:
        """The names of the handlers. Raises ffi.Trapped."""

    @abstractmethod
    def _goroutines(self, timeout: float | None) -> list[Goroutine]:
        """All goroutines."""

    @abstractmethod
    def _stop_running(self) -> None:
        """Make all threads leave the module's code; called once, from any thread; returns at once."""

    @abstractmethod
    def _sweep_once(self) -> bool:
        """Push those that are still in. True when all have left."""

    @abstractmethod
    def statistics(self) -> AppStatistics:
        """What the app is doing, now. Go's part is None when Go does not answer within a second; usually it takes a fraction of a millisecond."""

    @property
    @abstractmethod
    def memory(self) -> Memory:
        """The module's memory."""

    def start(self) -> Self:
        """Start the module; returns when its packages are initialised, or it has ended. Called once, by `gothreads.open`."""
        _Process.used = True
        interrupt.watch()
        _apps.add(self)
        try:
            self._start()
            self._ready.wait()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def listening(self) -> list[str]:
        """The addresses of the listeners that the module was handed, in order, with the ports that they got."""
        return list(self._world.listening)

    # Calls.

    def submit(self, export: str, *args: Any) -> Future[Any]:
        """Call an export on a thread of the app's; the result is the future's. Arguments are checked now."""
        target = self.exports[export]
        converted = target._export.convert(args)
        return self._submit(lambda: self._call(target._export, converted))

    def map(self, export: str, *iterables: Iterable[Any]) -> Iterator[Any]:
        """Like the built-in map, with the calls running at the same time. Results come in order."""
        futures = [self.submit(export, *args) for args in zip(*iterables, strict=False)]

        def results() -> Iterator[Any]:
            try:
                for future in futures:
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()
        return results()

    async def call_async(self, export: str, *args: Any) -> Any:
        """Call an export without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(export, *args))

    def request(self, handler: str, payload: bytes | bytearray | memoryview | str = b"") -> bytes:
        """Call a handler that the module has registered by name: bytes in, bytes out.

        HandlerError when it returns an error, UnknownExport when there is no handler of that name.
        """
        data = _payload(payload)
        return bytes(self._here_or_on_a_worker(lambda: self._request(handler, data)))

    def submit_request(self, handler: str, payload: bytes | bytearray | memoryview | str = b"") -> Future[bytes]:
        """Like request, on a thread of the app's."""
        data = _payload(payload)
        return self._submit(lambda: self._request(handler, data))

    async def request_async(self, handler: str, payload: bytes | bytearray | memoryview | str = b"") -> bytes:
        """Like request, without blocking the event loop."""
        return await asyncio.wrap_future(self.submit_request(handler, payload))

    def handlers(self) -> list[str]:
        """The names of the handlers that are registered now."""
        if self.loaded.metadata is None:
            return []
        return list(self._here_or_on_a_worker(self._handlers))

    async def handlers_async(self) -> list[str]:
        """Like handlers, without blocking the event loop."""
        if self.loaded.metadata is None:
            return []
        return list(await asyncio.wrap_future(self._submit(self._handlers)))

    def _call_export(self, export: Export, converted: list[tuple[str, Any]]) -> Any:
        return self._here_or_on_a_worker(lambda: self._call(export, converted))

    def _here_or_on_a_worker(self, call: Callable[[], Any]) -> Any:
        # A thread with a small stack, or one that already is in WebAssembly, has no room for as much as Go may use.
        if not stack.fits(self.options.limits.stack):
            return self._submit(call).result()
        return self._guarded(call)

    def _submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Run a call on a worker; after the end, raises its cause."""
        return self._submit_to(self._workers, call)

    def _submit_to(self, workers: Workers, call: Callable[[], Any]) -> Future[Any]:
        if self._cause is not None:
            raise self._error()
        try:
            return workers.submit(lambda: self._guarded(call))
        except AppClosed:
            raise self._error() from None

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Run a call; turn its trap into the app's end, and every end into its first cause."""
        if self._state is not State.RUNNING:
            self._wait_until_running()
        signals.check()
        if not interrupt.on_main_thread():
            return self._inside(call)
        with interrupt.Postponed(lambda: self._end(AppClosed(f"{self.loaded.name}: the app was ended by Ctrl-C"), State.CLOSED)):
            return self._inside(call)

    def _inside(self, call: Callable[[], Any]) -> Any:
        stack.inside.depth += 1
        try:
            return call()
        except ffi.Trapped as trapped:
            self._trapped(trapped)
            error = self._error()
            raise error from error.__cause__
        except GothreadsError:
            if self._cause is None:
                raise
            error = self._error()
            raise error from error.__cause__
        finally:
            stack.inside.depth -= 1

    def _wait_until_running(self) -> None:
        self._ready.wait()
        if self._cause is not None:
            raise self._error()

    def goroutines(self, timeout: float | None = None) -> list[Goroutine]:
        """All goroutines of the module with their stacks, as Go prints them; also when every caller is blocked.

        TimeoutError when Go does not answer within so many seconds: a loop that cannot be preempted holds all of its processors.
        """
        return self._goroutines(timeout)

    # Life and end.

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

        From inside one of the app's own calls it returns at once, and the rest happens behind it.
        """
        with self._lock:
            self._close_wanted = True
        self._end(AppClosed(f"{self.loaded.name}: the app was closed"), State.CLOSED)
        if stack.inside.depth:
            return
        self._free_if_wanted()
        if not self._done.wait(CLOSE_SECONDS):
            log.warning("%s: not all threads have left yet; those in Python functions that the module called end when these return", self.loaded.name)

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
        trap = trapped.trap
        if self._cause is None:
            if trap.exit_code is not None:
                self._exited(trap.exit_code)
            elif "unreachable" in trap.message and _panic(self._streams.stderr.tail):
                self._exited(2)  # in a library, Go's panics end with abort instead of exit
            else:
                message = f"{self.loaded.name}: the module trapped: {self._explain(trap.message)}"
                self._end(GuestTrap(message, 134, self._streams.stderr.tail, trap.frames), State.FAILED)

    def _explain(self, trap: str) -> str:
        if "stack exhausted" in trap:
            return f"{trap} (each thread has {self.options.limits.stack >> 20} MiB for it: Limits(stack=...))"
        return trap

    def _exited(self, code: int) -> None:
        tail = self._streams.stderr.tail
        name = self.loaded.name
        if code == 2 and (reason := _panic(tail)):
            self._end(GuestPanic(f"{name}: the module has ended: {reason}", code, tail), State.EXITED)
        else:
            how = "main returned, or os.Exit(0)" if code == 0 else f"exit code {code}"
            self._end(GuestExit(f"{name}: the module has ended: {how}", code, tail if code else ""), State.EXITED)

    def _host_function_failed(self, error: BaseException) -> str:
        """What a host function raised: an exit is none of its faults, the rest ends the module. The trap's message."""
        if isinstance(error, ExitRequested):
            self._exited(error.code)
            return str(error)
        if self._cause is None:
            cause = HostFunctionError(f"{self.loaded.name}: a Python function that the module called raised {_words(error)}", 134,
                                      self._streams.stderr.tail)
            cause.__cause__ = error
            self._end(cause, State.FAILED)
        return _words(error)

    def _error(self) -> GothreadsError:
        """The first cause, as an exception of the caller's own."""
        cause = self._cause
        assert cause is not None
        own = type(cause)(*cause.args)
        own.__cause__ = cause.__cause__
        return own

    def _end(self, cause: GothreadsError, final: State) -> None:
        with self._lock:
            if self._cause is not None:
                return
            self._cause, self._final, self._state = cause, final, State.ENDING
        self._ready.set()
        self._stop_running()
        self._world.stop()
        try:
            threading.Thread(target=self._sweep, name="gothreads-sweep", daemon=True).start()
        except RuntimeError:  # Python is ending, or the system has no thread left
            if not stack.inside.depth:
                self._sweep()

    def _sweep(self) -> None:
        """Until all have left: push. Polling, since a thread may park just after it was looked at."""
        pause = 0.0005
        while not self._sweep_once():
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        self._world.table.close_all()  # as a process's are closed when it ends
        self._close_workers()
        self._streams.stdout.flush()
        self._streams.stderr.flush()
        with self._lock:
            self._state = self._final
        self._left.set()
        self._free_if_wanted()

    def _close_workers(self) -> None:
        """End the threads that calls are handed to."""
        self._workers.close()

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


def _words(error: BaseException) -> str:
    """An exception in words, even one that cannot say them."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _payload(payload: bytes | bytearray | memoryview | str) -> bytes:
    if isinstance(payload, str):
        return payload.encode()
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    raise MisuseError(f"a payload must be bytes or str, not {type(payload).__name__}")


def _panic(stderr: str) -> str | None:
    """The line that says what a panic was."""
    return next((line.strip() for line in stderr.splitlines() if line.startswith(("panic: ", "fatal error: "))), None)


def _close_all() -> None:
    for app in list(_apps):
        with contextlib.suppress(Exception):  # the others must be closed all the same
            app.close()


def _after_fork() -> None:
    _Process.forked = _Process.used
    for app in list(_apps):
        app._forked()


# Daemon threads that are still in WebAssembly when the interpreter goes away may crash it.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
