"""`gothreads.supervise`: a module that is opened again when it ends, and is called like any app. Its life: supervise/supervisor.py."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, cast

from gothreads.bridge.buffers import ReadWriteMemory
from gothreads.bridge.exports import Export, Exports, Function
from gothreads.errors import CallTimeout, GothreadsError, MisuseError
from gothreads.launch import LoadedOptions, OpenOptions, PathLike, find, say_once
from gothreads.runtime.app import App
from gothreads.runtime.inspector import Goroutine
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.pickling import Picklable, PickledOptions
from gothreads.runtime.statistics import AppStatistics
from gothreads.supervise.restarts import Backoff, Restart, RestartWhen, WhileDown
from gothreads.supervise.supervisor import Supervisor

T = TypeVar("T")
Payload = bytes | bytearray | memoryview | str

#: How long a signal may go unseen in a wait, in seconds.
_SLICE = 0.2


def supervise(path: PathLike, *, restart: RestartWhen = "on-failure", backoff: Backoff | None = None, while_down: WhileDown = "wait",
              wait_timeout: float | None = None, most_restarts: int | None = None, save_every: float | None = None,
              on_restart: Callable[[Restart], object] | None = None, model: str | None = None, go: PathLike | None = None,
              **options: Unpack[OpenOptions]) -> Supervised:
    """Like `open`, for a module that is replaced by a fresh instance, with fresh memory, when it ends.

    restart: "on-failure": when it ended by a panic, os.Exit with another code than 0, a trap, or a host function; "always": also when main
        returned, or somebody closed the app. close() ends it for good.
    backoff: how long to wait before each restart.
    while_down: what calls do that come while there is no instance: "wait" for the next, `wait_timeout` seconds at the most (None: for ever) and
        then they fail with the cause, and no longer than their own timeout, then CallTimeout; or "fail" at once. Those that are in the module when it ends
        fail with the cause in any case: they may have had an effect, so they are not made again.
    most_restarts: give up after so many in a row, that is without `backoff.reset_after` seconds of running between. Every call gets the last cause.
    save_every: when the module has handlers `save` and `load`: so often, in seconds, `save` is called, and what it has answered last goes to the
        `load` of a fresh instance, before any call does. (So does what it answers before a planned `restart()`, with or without this. A module that
        has ended cannot be asked: what was changed since the last time is lost.) A `load` that fails is a failed start; the next is without the state,
        which is dropped if that works.
    on_restart: called with a `gothreads.Restart` before each pause, on the thread that will make the fresh instance, which waits for it. Else it is logged.
    Everything else is for `open`. It is opened each time with the same; a port 0 in `listen` stays the port that it got first.

    Returns when the first instance has started, or has failed to: that counts as an end. Raises BuildError, ModuleError, MisuseError.
    """
    _check(restart, backoff, while_down, wait_timeout, most_restarts, save_every, on_restart, model)
    loaded = find(path, model=model, go=go, progress=say_once())
    supervised = Supervised(loaded, cast(LoadedOptions, {**options, "model": model}), restart=restart, backoff=backoff, while_down=while_down,
                            wait_timeout=wait_timeout, most_restarts=most_restarts, save_every=save_every, on_restart=on_restart)
    supervised.configuration = PickledOptions.of("supervise", path, {
        "restart": restart, "backoff": backoff, "while_down": while_down, "wait_timeout": wait_timeout, "most_restarts": most_restarts,
        "save_every": save_every, "on_restart": on_restart, **options, "model": model, "go": go})
    return supervised


def _check(restart: object, backoff: object, while_down: object, wait_timeout: object, most_restarts: object, save_every: object, on_restart: object,
           model: object) -> None:
    if restart not in ("on-failure", "always"):
        raise MisuseError(f'restart must be "on-failure" or "always", not {restart!r}')
    if backoff is not None and not isinstance(backoff, Backoff):
        raise MisuseError(f"backoff must be gothreads.Backoff(...), not {backoff!r}")
    if while_down not in ("wait", "fail"):
        raise MisuseError(f'while_down must be "wait" or "fail", not {while_down!r}')
    for name, value in (("wait_timeout", wait_timeout), ("save_every", save_every)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise MisuseError(f"{name} must be a number of seconds above 0, not {value!r}")
    if most_restarts is not None and (isinstance(most_restarts, bool) or not isinstance(most_restarts, int) or most_restarts < 0):
        raise MisuseError(f"most_restarts must be an int of at least 0, not {most_restarts!r}")
    if on_restart is not None and not callable(on_restart):
        raise MisuseError(f"on_restart must be a function, not {on_restart!r}")
    _check_carries(save_every, model)


def _check_carries(save_every: object, model: object) -> None:
    if save_every is not None and model == "pool":
        raise MisuseError('save_every is not for the model "pool": its instances share nothing, so there is no state of the module to save')


class Supervised(Picklable, Supervisor):
    """A supervised module. Use `gothreads.supervise`. It is called like an `App`, whatever keywords a method of App takes; each call is one
    of the instance that takes calls then. All methods may be called from any thread.

    A Python function that the module calls had better call back through its `gothreads.Context`: that is the instance which calls it.
    """

    def __init__(self, loaded: LoadedModule, options: LoadedOptions, *, restart: RestartWhen = "on-failure", backoff: Backoff | None = None,
                 while_down: WhileDown = "wait", wait_timeout: float | None = None, most_restarts: int | None = None,
                 save_every: float | None = None, on_restart: Callable[[Restart], object] | None = None) -> None:
        _check_carries(save_every, options.get("model"))
        self._while_down, self._wait_timeout = while_down, wait_timeout
        #: The functions that the module exports: `supervised.exports.add(2, 3)`.
        self.exports = Exports({export.name: _SupervisedFunction(export, self) for export in loaded.exports}, loaded.uncallable)
        self._events: dict[str, None] = {}
        super().__init__(loaded, options, restart, backoff or Backoff(), most_restarts, save_every, on_restart)

    # Calls.

    def submit(self, export: str, *args: Any, **options: Any) -> Future[Any]:
        """See App. A call that is submitted while there is no instance is begun by the next."""
        self.exports[export]._export.convert(args)
        return self._submit(lambda app, left: app.submit(export, *args, **left), options)

    def map(self, export: str, *iterables: Iterable[Any], **options: Any) -> Iterator[Any]:
        """See App."""
        futures = [self.submit(export, *args, **options) for args in zip(*iterables, strict=False)]

        def results() -> Iterator[Any]:
            try:
                for future in futures:
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()
        return results()

    async def call_async(self, export: str, *args: Any, **options: Any) -> Any:
        """See App."""
        self.exports[export]._export.convert(args)
        return await self._call_async(lambda app, left: app.call_async(export, *args, **left), options)

    def request(self, handler: str, payload: Payload = b"", **options: Any) -> bytes:
        """See App."""
        reply: bytes = self._call(lambda app, left: app.request(handler, payload, **left), options)
        self._carried.answered.add(handler)
        return reply

    def submit_request(self, handler: str, payload: Payload = b"", **options: Any) -> Future[bytes]:
        """See App. A request that is submitted while there is no instance is begun by the next."""
        future = self._submit(lambda app, left: app.submit_request(handler, payload, **left), options)

        def answered(done: Future[bytes]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._carried.answered.add(handler)
        future.add_done_callback(answered)
        return future

    async def request_async(self, handler: str, payload: Payload = b"", **options: Any) -> bytes:
        """See App."""
        reply: bytes = await self._call_async(lambda app, left: app.request_async(handler, payload, **left), options)
        self._carried.answered.add(handler)
        return reply

    def signal(self, name: str, payload: Payload = b"", **options: Any) -> bool:
        """See App. While there is no instance, an event waits for the next, unless `full` says otherwise: there is no room for it."""
        if (app := self._instance.up) is not None:  # looked at once: meanwhile it may go down
            return app.signal(name, payload, **options)
        if options.get("full", "wait") != "wait":
            if options["full"] == "drop" and self._over is None:
                return False
            raise self._why()
        return self._call(lambda app, left: app.signal(name, payload, **left), options)

    async def signal_async(self, name: str, payload: Payload = b"", **options: Any) -> None:
        """See App."""
        await self._call_async(lambda app, left: app.signal_async(name, payload, **left), options)

    def handlers(self, **options: Any) -> list[str]:
        """See App."""
        return self._call(lambda app, left: app.handlers(**left), options)

    async def handlers_async(self, **options: Any) -> list[str]:
        """See App."""
        return await self._call_async(lambda app, left: app.handlers_async(**left), options)

    def goroutines(self, timeout: float | None = None) -> list[Goroutine]:
        """See App."""
        return self._call(lambda app, left: app.goroutines(**left), {"timeout": timeout})

    def wait_idle(self, timeout: float | None = None) -> None:
        """See App."""
        self._call(lambda app, left: app.wait_idle(**left), {"timeout": timeout})

    # Looking: these do not wait for an instance.

    @property
    def events(self) -> list[str]:
        """The names of the events that the module has asked for, in any of its instances."""
        if (app := self._instance.app) is not None:
            self._events.update(dict.fromkeys(app.events))
        return list(self._events)

    @property
    def listening(self) -> list[str]:
        """See App; none while there is no instance."""
        app = self._instance.up
        return [] if app is None else app.listening

    @property
    def memory(self) -> ReadWriteMemory:
        """The memory of the instance that takes calls now. Raises the cause while there is none."""
        if (app := self._instance.up) is None:
            raise self._why()
        return app.memory

    def statistics(self) -> AppStatistics:
        """See App: of the instance that takes calls now. While there is none, nothing has run."""
        app = self._instance.up
        if app is not None:
            return app.statistics()
        return AppStatistics(self.model, self.state.value, 0.0, 0, 0, self.options.limits.memory, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    async def close_async(self, **options: Any) -> None:
        """Like close, without blocking the event loop."""
        await asyncio.to_thread(self.close, **options)

    def __repr__(self) -> str:
        return f"<gothreads.Supervised {self.loaded.name} {self.model} {self.state.value}>"

    # Waiting for an instance.

    def _check_may_wait(self) -> None:
        """Raises why a call that has found no instance fails at once."""
        if self._over is not None or self._while_down == "fail" or threading.current_thread() is self._keeper:
            raise self._why()

    def _until(self, options: dict[str, Any]) -> float | None:
        """When a call with these options stops waiting for an instance."""
        bounds = [seconds for seconds in (self._wait_timeout, options.get("timeout")) if isinstance(seconds, int | float)]
        return time.monotonic() + min(bounds) if bounds else None

    def _waited_out(self, options: dict[str, Any], begun: float) -> GothreadsError:
        """What a call gets that has found no instance in its time: CallTimeout when that was its own limit, else the cause."""
        why, timeout = self._why(), options.get("timeout")
        if not isinstance(timeout, int | float) or time.monotonic() - begun < timeout:
            return why
        error = CallTimeout(f"{self.loaded.name}: there was no instance to call within {timeout:g} s")
        error.__cause__ = why
        return error

    def _call(self, call: Callable[[App, dict[str, Any]], T], options: dict[str, Any]) -> T:
        """Make a call of the instance that is up, or of the next. It gets the options, with what is left of its timeout."""
        app = self._instance.up
        if app is not None:
            return call(app, options)
        begun, until = time.monotonic(), self._until(options)
        while True:
            instance = self._instance
            if (app := instance.up) is not None:
                return call(app, _left(options, begun))
            self._check_may_wait()
            told = threading.Event()
            forget = instance.after.when(told.set)
            try:
                while not told.wait(_SLICE if until is None else max(0.0, min(_SLICE, until - time.monotonic()))):
                    if until is not None and time.monotonic() >= until:
                        raise self._waited_out(options, begun)
            finally:
                forget()

    async def _call_async(self, call: Callable[[App, dict[str, Any]], Awaitable[T]], options: dict[str, Any]) -> T:
        """Like _call, without blocking the event loop."""
        app = self._instance.up
        if app is not None:
            return await call(app, options)
        begun, until, loop = time.monotonic(), self._until(options), asyncio.get_running_loop()
        while True:
            instance = self._instance
            if (app := instance.up) is not None:
                return await call(app, _left(options, begun))
            self._check_may_wait()
            told = asyncio.Event()

            def tell(told: asyncio.Event = told) -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(told.set)
            forget = instance.after.when(tell)
            try:
                async with asyncio.timeout(None if until is None else until - time.monotonic()):
                    await told.wait()
            except TimeoutError:
                error = self._waited_out(options, begun)
                raise error from error.__cause__
            finally:
                forget()

    def _submit(self, begin: Callable[[App, dict[str, Any]], Future[T]], options: dict[str, Any]) -> Future[T]:
        """Like _call, for what gives a future."""
        app = self._instance.up
        if app is not None:
            return begin(app, options)
        if self._over is not None or self._while_down == "fail":
            raise self._why()
        return _Later(self, begin, options)


class _Later(Future[T], Generic[T]):
    """A call that was submitted while there was no instance. Claimed once: by an instance, by its time limit, or by the end of supervision.

    It begins while `_beginning` is held: so who cancels it sees either that it has not begun, and then it will not, or what it has become.
    """

    def __init__(self, supervised: Supervised, begin: Callable[[App, dict[str, Any]], Future[T]], options: dict[str, Any]) -> None:
        super().__init__()
        self._supervised, self._begin, self._options = supervised, begin, options
        self._since = time.monotonic()
        self._claims, self._beginning = threading.Lock(), threading.RLock()
        self._inner: Future[T] | None = None
        self._forget: Callable[[], object] = lambda: None
        until = supervised._until(options)
        self._no_matter: Callable[[], object] = lambda: None
        if until is not None:
            deadline = supervised._deadlines.after(max(0.0, until - self._since), lambda: self._fail(supervised._waited_out(options, self._since)))
            self._no_matter = lambda: supervised._deadlines.cancel(deadline)
        self._look()

    def cancel(self) -> bool:
        """False when it has begun."""
        with self._beginning:
            if self._inner is not None:
                return self._inner.cancel() and super().cancel()
            first = self._claimed()
            cancelled = super().cancel()
            if first:  # else whoever was first says so to those who wait
                self.set_running_or_notify_cancel()
            return cancelled

    def _claimed(self) -> bool:
        """Whether this is the first to decide what becomes of it."""
        first = self._claims.acquire(blocking=False)
        if first:
            self._no_matter()
            self._forget()
        return first

    def _look(self) -> None:
        """Is there an instance now? Otherwise come again when there is. On any thread."""
        instance = self._supervised._instance
        if (app := instance.up) is not None:
            if self._claimed():
                self._begin_in(app)
        elif self._supervised._over is not None:
            self._fail(self._supervised._why())
        elif not self.cancelled():
            self._forget = instance.after.when(self._look)

    def _fail(self, error: GothreadsError) -> None:
        if self._claimed() and self.set_running_or_notify_cancel():
            self.set_exception(error)

    def _begin_in(self, app: App) -> None:
        try:
            with self._beginning:
                if self.cancelled():
                    self.set_running_or_notify_cancel()
                    return
                self._inner = inner = self._begin(app, _left(self._options, self._since))
        except Exception as error:  # it is the future's, not the keeper's
            if self.set_running_or_notify_cancel():
                self.set_exception(error)
            return
        inner.add_done_callback(self._done)

    def _done(self, inner: Future[T]) -> None:
        if inner.cancelled():
            super().cancel()
        if not self.set_running_or_notify_cancel():
            return
        if (error := inner.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(inner.result())


class _SupervisedFunction(Function):
    """An export, of whichever instance takes calls."""

    def __init__(self, export: Export, supervised: Supervised) -> None:
        super().__init__(export, lambda *_: None)
        self._supervised = supervised

    def __call__(self, *args: Any, **options: Any) -> Any:
        app = self._supervised._instance.up
        if app is not None:
            return app.exports[self._export.name](*args, **options)
        self._export.convert(args)  # a wrong argument is said before it waits
        return self._supervised._call(lambda app, left: app.exports[self._export.name](*args, **left), options)

    def bytes(self, *args: Any, **options: Any) -> builtins.bytes:
        """See Function."""
        self._export.packed().convert(args)
        call: Callable[[App, dict[str, Any]], builtins.bytes] = lambda app, left: app.exports[self._export.name].bytes(*args, **left)  # noqa: E731
        return self._supervised._call(call, options)


def _left(options: dict[str, Any], begun: float) -> dict[str, Any]:
    """The options of a call that has waited: what is left of its timeout. It is never 0: a call that has found its instance is made."""
    timeout = options.get("timeout")
    if not isinstance(timeout, int | float):
        return options
    return {**options, "timeout": max(timeout - (time.monotonic() - begun), 0.001)}
