"""The idle model: stock Go that runs on after a call until every goroutine waits."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from gothreads.engine.stack import big_stack
from gothreads.engine.thread_names import name_thread
from gothreads.errors import GothreadsError
from gothreads.runtime.models.single import SingleApp
from gothreads.runtime.models.single_instance import SingleInstance
from gothreads.wasi.idle import Waits

T = TypeVar("T")


class IdleApp(SingleApp):
    """See App. After each call the module runs on until every goroutine waits.

    It runs again when what they wait for arrives: an event, a reply, a peer's bytes, a timer. Go does the same in a
    browser (syscall/js), where the event loop drives it. There is still one thread: while the module runs, calls queue.
    """

    model = "idle"
    _parks = True

    def _make(self) -> None:
        super()._make()
        self._instance.check_idle()
        self._driver = threading.Thread(target=self._drive, name="gothreads-idle", daemon=True)
        self._ran = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # readable: the driver's waits may be stale
        self._owned.callback(os.close, self._ran)

    def _start(self) -> None:
        super()._start()
        with big_stack(self.options.limits.stack):
            self._driver.start()

    def _run(self, work: Callable[[SingleInstance], T]) -> T:
        if self._call_lock.is_owned:  # a nested call: the goroutine that called Python waits for it
            return super()._run(work)
        self._check_callable()
        with self._call_lock:
            try:
                result = work(self._instance)
            except GothreadsError:  # a handler's error: what the handler began runs on
                self._run_on()
                raise
            self._run_on()
            return result

    def _run_on(self) -> None:
        self._instance.run_until_idle()
        os.eventfd_write(self._ran, 1)

    def _drive(self) -> None:
        name_thread("go-idle")
        with contextlib.suppress(GothreadsError):  # the app has ended, which every call reports
            while True:
                self._guarded(lambda: self._run(lambda _instance: None))
                while self._wait() == [(self._ran, select.POLLIN)]:
                    pass

    def _wait(self) -> list[tuple[int, int]]:
        """Wait for what the module waits for, or for another thread's call, which may change that."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._ran)
        idle = self._environment.calls.idle
        waits = idle.waits if idle is not None else Waits()
        return self._stop.wait({**waits.descriptors, self._ran: select.POLLIN}, None if waits.until is None
                               else waits.until - time.monotonic())

    def _sweep_once(self) -> int:
        return super()._sweep_once() or int(self._driver.is_alive())
