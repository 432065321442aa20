"""`gothreads.supervise`: a module that is reopened when it ends, and is called like any app.

Its lifecycle is in supervise/supervisor.py.
"""

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
from gothreads.engine.precompiled import Trust
from gothreads.errors import CallTimeout, GothreadsError, MisuseError
from gothreads.launch import LoadedOptions, OpenOptions, PathLike, find
from gothreads.runtime.app import App
from gothreads.runtime.inspector import Goroutine
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.module_source import ModuleSource, source_of
from gothreads.runtime.pickling import Picklable, PickledOptions
from gothreads.runtime.statistics import AppStatistics
from gothreads.supervise.restarts import Backoff, Restart, RestartPolicy, RestartWhen, WhileDown
from gothreads.supervise.supervisor import Supervisor

T = TypeVar("T")
Payload = bytes | bytearray | memoryview | str

#: The longest single wait, in seconds: so a signal is not missed for longer.
_SLICE = 0.2


def supervise(path: ModuleSource, *,  # noqa: PLR0913  (public options)
              restart: RestartWhen = "on-failure", backoff: Backoff | None = None, while_down: WhileDown = "wait",
              wait_timeout: float | None = None, most_restarts: int | None = None, save_every: float | None = None,
              on_restart: Callable[[Restart], object] | None = None, model: str | None = None, go: PathLike | None = None,
              trust: Trust = False, **options: Unpack[OpenOptions]) -> Supervised:
    """Like `open`, for a module that is replaced by a new instance, with new memory, when it ends.

    restart: "on-failure": when it ends by a panic, os.Exit with a code other than 0, a trap, or a host function;
        "always": also when main returns or the app is closed from elsewhere. close() ends it for good.
    backoff: how long to wait before each restart.
    while_down: what happens to calls made while there is no instance. "wait": they wait for the next one. After
        `wait_timeout` seconds (None: without limit) they fail with the cause; after their own timeout, with
        CallTimeout. "fail": they fail at once. Calls in the module when it ends always fail with the cause: they may
        have had an effect, so they are not repeated.
    most_restarts: give up after this many restarts in a row, that is without `backoff.reset_after` seconds of running
        in between. Every call then fails with the last cause.
    save_every: seconds. If the module has handlers `save` and `load`, `save` is called this often, and its latest
        reply is passed to `load` of a new instance, before any call. (The same happens with the reply of `save` before
        a planned `restart()`, with or without save_every. A module that has ended cannot be asked: changes since the
        last `save` are lost.) If `load` fails, the start has failed; the next start is tried without the state, which
        is dropped if that succeeds.
    on_restart: called with a `gothreads.Restart` before each pause, on the thread that will create the new instance
        and waits for it. Without it, restarts are logged.
    All other options are for `open`, and are the same each time; a port 0 in `listen` stays the port that was chosen
    first.

    Returns when the first instance has started or has failed to, which counts as an end. Raises BuildError,
    ModuleError, MisuseError.
    """
    _check(restart=restart, backoff=backoff, while_down=while_down, wait_timeout=wait_timeout,
           most_restarts=most_restarts, save_every=save_every, on_restart=on_restart, model=model)
    source = source_of(path)
    loaded = find(source, model=model, go=go, trust=trust)
    policy = RestartPolicy(restart, backoff or Backoff(), most_restarts, save_every, on_restart)
    supervised = Supervised(loaded, cast(LoadedOptions, {**options, "model": model}), policy,
                            while_down=while_down, wait_timeout=wait_timeout)
    supervised.configuration = PickledOptions.of("supervise", source, {
        "restart": restart, "backoff": backoff, "while_down": while_down, "wait_timeout": wait_timeout, "most_restarts": most_restarts,
        "save_every": save_every, "on_restart": on_restart, **options, "model": model, "go": go, "trust": trust})
    return supervised


def _check(*, restart: object, backoff: object, while_down: object, wait_timeout: object,
           most_restarts: object, save_every: object, on_restart: object, model: object) -> None:
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
    """A supervised module; create it with `gothreads.supervise`. It is called like an `App`, with the same keywords.

    Each call goes to the instance that takes calls at that time. All methods may be called from any thread.

    A Python function that the module calls should call back through its `gothreads.Context`, which belongs to the
    instance that called the function.
    """

    def __init__(self, loaded: LoadedModule, options: LoadedOptions, policy: RestartPolicy, *,
                 while_down: WhileDown = "wait", wait_timeout: float | None = None) -> None:
        _check_carries(policy.save_every, options.get("model"))
        self._while_down, self._wait_timeout = while_down, wait_timeout
        #: The module's exported functions: `supervised.exports.add(2, 3)`.
        self.exports = Exports({export.name: _SupervisedFunction(export, self) for export in loaded.exports}, loaded.uncallable)
        self._events: dict[str, None] = {}
        super().__init__(loaded, options, policy)

    # Calls.

    def submit(self, export: str, *args: Any, **options: Any) -> Future[Any]:
        """See App. A call submitted while there is no instance starts in the next one."""
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
        """See App. A request submitted while there is no instance starts in the next one."""
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
        """See App. While there is no instance, the queue counts as full: the event waits for the next, or
        fares as `full` says.
        """
        if (app := self._instance.up) is not None:  # read once: it may go down meanwhile
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

    # State. These do not wait for an instance.

    @property
    def events(self) -> list[str]:
        """The names of the events that any instance of the module has subscribed to."""
        if (app := self._instance.app) is not None:
            self._events.update(dict.fromkeys(app.events))
        return list(self._events)

    @property
    def listening(self) -> list[str]:
        """See App; empty while there is no instance."""
        app = self._instance.up
        return [] if app is None else app.listening

    @property
    def memory(self) -> ReadWriteMemory:
        """The memory of the current instance. Raises the cause while there is none."""
        if (app := self._instance.up) is None:
            raise self._why()
        return app.memory

    def statistics(self) -> AppStatistics:
        """See App: the statistics of the current instance; zeros while there is none."""
        app = self._instance.up
        if app is not None:
            return app.statistics()
        return AppStatistics(model=self.model, state=self.state.value, uptime=0.0, calls=0, memory=0,
                             memory_limit=self.options.limits.memory, compile_seconds=None)

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
        """Raises the cause if a call that has found no instance must fail at once."""
        if self._over is not None or self._while_down == "fail" or threading.current_thread() is self._keeper:
            raise self._why()

    def _until(self, options: dict[str, Any]) -> float | None:
        """The time (monotonic) at which a call with these options stops waiting for an instance; None: never."""
        bounds = [seconds for seconds in (self._wait_timeout, options.get("timeout")) if isinstance(seconds, int | float)]
        return time.monotonic() + min(bounds) if bounds else None

    def _waited_out(self, options: dict[str, Any], begun: float) -> GothreadsError:
        """The error for a call that waited too long for an instance: CallTimeout at its own limit, else the cause."""
        why, timeout = self._why(), options.get("timeout")
        if not isinstance(timeout, int | float) or time.monotonic() - begun < timeout:
            return why
        error = CallTimeout(f"{self.loaded.name}: there was no instance to call within {timeout:g} s")
        error.__cause__ = why
        return error

    def _call(self, call: Callable[[App, dict[str, Any]], T], options: dict[str, Any]) -> T:
        """Make a call in the current instance, or in the next, with the options, and what is left of its timeout."""
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
                with contextlib.suppress(RuntimeError):  # the loop has been closed
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
        """Like _call, for calls that return a future."""
        app = self._instance.up
        if app is not None:
            return begin(app, options)
        if self._over is not None or self._while_down == "fail":
            raise self._why()
        return _Later(self, begin, options)


class _Later(Future[T], Generic[T]):
    """A call submitted while there was no instance.

    Claimed once: by an instance, by its timeout, or by the end of supervision.

    It starts while `_beginning` is held. So cancel() sees either that it has not started, and then it never will, or
    the future that it has become.
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
        """False if it has started."""
        with self._beginning:
            if self._inner is not None:
                return self._inner.cancel() and super().cancel()
            first = self._claimed()
            cancelled = super().cancel()
            if first:  # otherwise the first claimant notifies the waiters
                self.set_running_or_notify_cancel()
            return cancelled

    def _claimed(self) -> bool:
        """Claim the call; whether this was the first claim."""
        first = self._claims.acquire(blocking=False)
        if first:
            self._no_matter()
            self._forget()
        return first

    def _look(self) -> None:
        """Start the call if there is an instance; otherwise look again when there is. On any thread."""
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
        except Exception as error:  # for the future, not for the keeper
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
    """An export, called in the current instance."""

    def __init__(self, export: Export, supervised: Supervised) -> None:
        super().__init__(export, lambda *_: None)
        self._supervised = supervised

    def __call__(self, *args: Any, **options: Any) -> Any:
        app = self._supervised._instance.up
        if app is not None:
            return app.exports[self._export.name](*args, **options)
        self._export.convert(args)  # report a wrong argument before waiting
        return self._supervised._call(lambda app, left: app.exports[self._export.name](*args, **left), options)

    def bytes(self, *args: Any, **options: Any) -> builtins.bytes:
        """See Function."""
        self._export.packed().convert(args)
        call: Callable[[App, dict[str, Any]], builtins.bytes] = lambda app, left: app.exports[self._export.name].bytes(*args, **left)  # noqa: E731
        return self._supervised._call(call, options)


def _left(options: dict[str, Any], begun: float) -> dict[str, Any]:
    """The options of a call that has waited, with the rest of its timeout.

    That is never 0: a call that has found its instance is made.
    """
    timeout = options.get("timeout")
    if not isinstance(timeout, int | float):
        return options
    return {**options, "timeout": max(timeout - (time.monotonic() - begun), 0.001)}
