"""Calls of a supervised module: each goes to the current instance, or waits for the next.

How a call meets the end of its instance is in supervise/supervisor.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from gothreads.errors import CallTimeout, GothreadsError
from gothreads.runtime.app import App
from gothreads.supervise.supervisor import Supervisor
from gothreads.sync.later import Later, left
from gothreads.sync.seconds import check_seconds
from gothreads.sync.waiting import wait_in_slices

T = TypeVar("T")


class SupervisedCalls(Supervisor):
    """Makes calls. Each is given as a function of the instance, and of the keyword arguments for it (`options`)."""

    def _check_may_wait(self) -> None:
        """Raises the cause if a call that has found no instance must fail at once."""
        if self._over is not None or self._policy.while_down == "fail" or threading.current_thread() is self._keeper:
            raise self._why()

    def _until(self, options: dict[str, Any]) -> float | None:
        """The time (monotonic) at which a call with these options stops waiting for an instance; None: never."""
        timeout: float | None = options.get("timeout")
        check_seconds("timeout", timeout)
        bounds = [seconds for seconds in (self._policy.wait_timeout, timeout) if seconds is not None]
        return time.monotonic() + min(bounds) if bounds else None

    def _waited_out(self, options: dict[str, Any], begun: float) -> GothreadsError:
        """The error for a call that waited too long for an instance: CallTimeout at its own limit, else the cause."""
        why, timeout = self._why(), options.get("timeout")
        if timeout is None or time.monotonic() - begun < timeout:
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
                return call(app, left(options, begun))
            self._check_may_wait()
            told = threading.Event()
            forget = instance.after.when(told.set)
            try:
                if not wait_in_slices(told.wait, None if until is None else until - time.monotonic()):
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
                return await call(app, left(options, begun))
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
        if self._over is not None or self._policy.while_down == "fail":
            raise self._why()
        return _Later(self, begin, options)


class _Later(Later[T]):
    """A call submitted while there was no instance: it begins in the next, or fails at the end of supervision."""

    def __init__(self, supervised: SupervisedCalls, begin: Callable[[App, dict[str, Any]], Future[T]],
                 options: dict[str, Any]) -> None:
        super().__init__()
        self._supervised, self._options, self._begin = supervised, options, begin
        self._since = time.monotonic()
        self._forget: Callable[[], object] = lambda: None
        if (until := supervised._until(options)) is not None:
            self.fail_after(supervised._deadlines, until - self._since,
                            lambda: supervised._waited_out(options, self._since))
        self._look()

    def _claimed(self) -> bool:
        first = super()._claimed()
        if first:
            self._forget()
        return first

    def _look(self) -> None:
        """Start the call if there is an instance; otherwise look again when there is. On any thread."""
        instance = self._supervised._instance
        if (app := instance.up) is not None:
            self.begin(lambda: self._begin(app, left(self._options, self._since)))
        elif self._supervised._over is not None:
            self.fail(self._supervised._why())
        elif not self.cancelled():
            self._forget = instance.after.when(self._look)
