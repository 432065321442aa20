"""Fails a test that takes too long, and no other: a plugin that is pytest-timeout's method.

pytest-timeout's own methods do not fit. `thread` ends the process. `signal` raises once, so a test whose `with` block
waits for what hangs still hangs; and its SIGALRM is what many tests use.

Here a thread sends the main thread a signal whose handler raises. gothreads lets handlers run during calls, and ends a
call whose handler has raised (gothreads/engine/interrupt.py). The handler raises again every AGAIN seconds until the
test has ended. If it does not end, the process does. A worker of pytest-xdist is replaced then, and only the test that
it was in fails.

A signal may be late: the test may have ended when its handler runs. So the thread notes in `_late` for which test it
sent the signal, and the main thread clears that note when the test ends. The handler, which runs on the main thread
too, raises only if the note is there, and only inside the test's setup, call or teardown: pytest itself must not be
interrupted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any

import pytest
import pytest_timeout

#: Not used by tests, by gothreads or by glibc.
SIGNAL = signal.SIGRTMAX
#: Seconds between attempts to make a late test end, and how many there are before the process ends.
AGAIN, MOST = 20.0, 4
#: The limit on what a test builds, in seconds.
BUILD = 1800.0


class _Timer:
    """The time of the current test. Only the main thread calls `start` and `cancel`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._fired = 0
        self._late: str | None = None
        self._item: pytest.Item | None = None
        self._seconds = 0.0
        self._thread: threading.Thread | None = None
        self.interruptible = False

    def start(self, item: pytest.Item, seconds: float) -> None:
        if self._thread is None:
            signal.signal(SIGNAL, self._raise)
            self._thread = threading.Thread(target=self._watch, name="test-timeout", daemon=True)
            self._thread.start()
        with self._changed:
            self._deadline, self._fired, self._late = time.monotonic() + seconds, 0, None
            self._item, self._seconds = item, seconds
            self._changed.notify()

    def cancel(self) -> None:
        with self._changed:
            self._deadline = self._late = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done here does not count. For builds, whose time depends on what has been built before."""
        begin = time.monotonic()
        self._postpone(BUILD)
        try:
            yield
        finally:
            self._postpone(time.monotonic() - begin - BUILD)

    def _postpone(self, seconds: float) -> None:
        with self._changed:
            if self._deadline is not None:
                self._deadline += seconds
                self._changed.notify()

    def _watch(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while True:
            with self._changed:
                while self._deadline is None or self._deadline > time.monotonic():
                    self._changed.wait(None if self._deadline is None else self._deadline - time.monotonic())
                self._deadline = time.monotonic() + AGAIN
                self._fired += 1
                if self._fired <= MOST:
                    self._late = stacks(but=main)
                    signal.pthread_kill(main, SIGNAL)
                elif not pytest_timeout.is_debugging():
                    _exit(f"{self._item} takes longer than {self._seconds:g} s, and cannot be interrupted.\n{stacks()}")

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if self._late is not None and self.interruptible and not pytest_timeout.is_debugging():
            assert self._item is not None
            self._item.add_report_section("call", "stacks of other threads", self._late)
            self._late = None
            pytest.fail(f"took longer than {self._seconds:g} s (the load is {os.getloadavg()[0]:.1f})")


_timer = _Timer()
paused = _timer.paused


def stacks(but: int = 0) -> str:
    """The stacks of all other Python threads, but for one; threads with the same stack are listed together."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    same: dict[str, list[str]] = defaultdict(list)
    for number, frame in sys._current_frames().items():
        if number not in (but, threading.get_ident()):
            same["".join(traceback.format_stack(frame))].append(names.get(number, "?"))
    return "\n".join(f"{', '.join(names)}:\n{stack}" for stack, names in same.items())


def _exit(text: str) -> None:
    """End this process. In a worker its standard error is the terminal, as soon as nothing is captured."""
    with contextlib.suppress(Exception):
        if _capture is not None:
            _capture.suspend_global_capture(in_=True)
    os.write(2, f"\n{text}\n".encode())
    os._exit(1)


_capture: Any = None


def pytest_configure(config: pytest.Config) -> None:
    global _capture
    _capture = config.pluginmanager.get_plugin("capturemanager")


def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool:
    _timer.start(item, settings.timeout)
    return True


def pytest_timeout_cancel_timer() -> bool:
    """Does nothing: pytest-timeout calls this when a test has failed, but its teardown may still take too long."""
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        _timer.cancel()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    _timer.interruptible = True
    try:
        yield
    finally:
        _timer.interruptible = False


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    with _interruptible():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    with _interruptible():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    with _interruptible():
        return (yield)
