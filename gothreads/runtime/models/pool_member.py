"""One of a pool's instances."""

from __future__ import annotations

import contextlib

from gothreads import text
from gothreads.engine import ffi
from gothreads.errors import GuestError
from gothreads.runtime.app import App
from gothreads.runtime.models.single_instance import SingleInstance, SingleInstances
from gothreads.runtime.wasi_environment import WasiEnvironment
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.streams import OutputExceeded, Streams


class PoolMember:
    """An instance with its own WASI environment and streams.

    `cause` is why it ended, if a host function or a stop determined that.
    """

    def __init__(self, app: App, instances: SingleInstances) -> None:
        self._app, self._instances = app, instances
        self.cause: GuestError | None = None
        self.wanted = 0  # how many threads wait for this member; guarded by PoolApp._condition
        with contextlib.ExitStack() as owned:
            self._stop = StopEvent()
            owned.callback(self._stop.close)
            self.streams: Streams = app._new_streams(self._stop)
            self._reasons = app._reasons.for_another(self.streams.stderr)
            self.environment: WasiEnvironment = app._new_environment(self.streams, self._stop)
            owned.callback(app._close_environment, self.environment)
            try:
                self.instance: SingleInstance = instances.new(self.environment, self._host_function_failed,
                                                              lambda: self.stopped)
            except ffi.Trapped as trapped:  # in its start function; or the app has ended
                if app._cause is not None:
                    raise
                error = self.ended(trapped)
                raise error from error.__cause__
            self.instance.stop = self.stop
            owned.callback(self.instance.close)
            self._owned = owned.pop_all()

    @property
    def stopped(self) -> bool:
        """Whether it is no longer usable. (If it was made after the app's end, the code that makes it notices.)"""
        return self._stop.is_set or self._app._cause is not None

    def stop(self, cause: GuestError) -> None:
        """End what runs in it. From any thread; returns at once."""
        if self.cause is None:
            self.cause = cause
        self.environment.stop()
        self._instances.increment_epoch()  # the other members check, and run on

    def close(self) -> None:
        """Free it. No thread may be in it."""
        self._owned.close()
        for output in (self.streams.stdout, self.streams.stderr):
            output.end_line()

    def _host_function_failed(self, error: BaseException) -> str:
        if isinstance(error, OutputExceeded):  # the limit is the app's: a fresh instance would be over it too
            return self._app._host_function_failed(error)
        if (raised := self._app._kept(error)) is not None:
            self.stop(self._reasons.of_stop(raised))
        elif self.cause is None:
            self.cause = self._reasons.of_host_function(error)
        return text.words(error.error if isinstance(error, ffi.Raised) else error)

    def ended(self, trapped: ffi.Trapped) -> GuestError:
        """Why it ended, given the trap."""
        return self.cause or self._reasons.of_trap(trapped.trap)
