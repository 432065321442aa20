"""Ctrl-C while Python's main thread is in a call.

Two things go wrong without this. Python runs signal handlers between bytecodes of the main thread, so in a call that blocks
it never gets to them. And a KeyboardInterrupt that is raised in a host function, at its very first or last bytecode, would
leave wasmtime with no answer: the process dies.

So while the main thread is in a call, SIGINT is noted and raised when the call has come back. And since Python's C handler
writes to a "wakeup" descriptor at once, a thread reads that, waits a moment (most calls come back by themselves), and ends
the app if the same call is still there: one thread cannot be taken out of a running Go program alone.

Only where Python's own SIGINT handler is in place; whoever installs another has their own way. Other handlers that raise
must not do so in the main thread while it is in a call.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from gothreads.host.fast import compiled

#: How long a call may take to come back by itself after Ctrl-C, in seconds.
PATIENCE = 0.2

#: How often it is looked whether the wakeup descriptor is still there, in seconds: asyncio takes it for signal handlers of its own, and leaves none.
_LOOK_SECONDS = 0.05

MAIN = threading.main_thread().ident
#: The calls that the main thread is in, outermost first. Only the main thread changes it.
calls: list[Postponed] = []
_pending = False  # unless C keeps it
_wakeup = -1  # what the watcher is woken by; -1: there is none yet
#: When a call on the main thread is to look after the signal handlers, in seconds of the monotonic clock.
next_look = 0.0
_serial = 0


def watch() -> None:
    """Take over Python's own SIGINT handler, and begin to watch. From other threads than the main one: does nothing."""
    global _wakeup, next_look
    if not on_main_thread():
        return
    next_look = time.monotonic() + _LOOK_SECONDS
    if compiled is not None:
        compiled.set_next_look(next_look)
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, _note)
    elif handler is not _note:
        return
    if not hasattr(signal, "set_wakeup_fd"):
        return
    previous = signal.set_wakeup_fd(-1)
    if previous not in (-1, _wakeup):  # somebody else's, asyncio's for one
        signal.set_wakeup_fd(previous)
        return
    if _wakeup == -1:
        try:
            read, write = os.pipe()
        except OSError:  # no descriptor is left: the next call to look tries again
            return
        os.set_blocking(write, False)
        try:
            threading.Thread(target=_watch, args=(read,), name="gothreads-interrupt", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            os.close(read)
            os.close(write)
            return
        _wakeup = write
    signal.set_wakeup_fd(_wakeup, warn_on_full_buffer=False)


def on_main_thread() -> bool:
    return threading.get_ident() == MAIN


class Postponed:
    """Around a call on the main thread: Ctrl-C is raised when the call has come back, and calls `end` if it does not."""

    __slots__ = ("end",)

    def __init__(self, end: Callable[[], None] | None = None) -> None:
        self.end = end

    def __enter__(self) -> None:
        if not calls and time.monotonic() >= next_look:
            watch()
        calls.append(self)

    def __exit__(self, *_: object) -> None:
        end()


def _note(number: int, frame: FrameType | None) -> None:
    if calls:
        _set_pending(True)
    else:
        _set_pending(False)  # one that came before, and was about to be raised, is this one
        signal.default_int_handler(number, frame)


def _set_pending(pending: bool) -> None:
    global _pending
    if compiled is None:
        _pending = pending
    else:
        compiled.set_interrupted(pending)


def begin(around: Postponed) -> None:
    """As entering it, but for calls that share one, and when `next_look` has not come."""
    global _serial
    _serial += 1
    calls.append(around)


def end() -> None:
    """As leaving it."""
    calls.pop()
    if not calls and (_pending if compiled is None else compiled.get_interrupted()):
        _set_pending(False)
        raise KeyboardInterrupt


def _told_apart() -> int:
    """Tells calls apart that share one Postponed."""
    return _serial if compiled is None else compiled.get_serial()


def _watch(read: int) -> None:
    while True:
        if signal.SIGINT in os.read(read, 512) and signal.getsignal(signal.SIGINT) is _note:
            _look()  # a function of its own: what it has seen must not be kept until the next Ctrl-C


def _look() -> None:
    """Wait a moment, and end the app if the same call is still there."""
    with contextlib.suppress(IndexError):  # the main thread is in no call
        outermost, serial = calls[0], _told_apart()  # those inside it may come and go without end
        time.sleep(PATIENCE)
        if calls[0] is outermost and _told_apart() == serial:
            for call in reversed(calls[:]):
                if call.end is not None:  # the innermost app: what has called it comes back then
                    call.end()
                    break
