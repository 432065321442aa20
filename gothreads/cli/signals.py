"""Gives the signals of this process to the program that a command runs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from gothreads.runtime import process
from gothreads.runtime.interface import RunningModule

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


@contextlib.contextmanager
def forwarded() -> Iterator[None]:
    """In this context, signals go to the program if one runs and handles them, and otherwise do what they did before.

    A second Ctrl-C always does what it did before: a program may not end when it is asked to. SIGQUIT ends a program
    that does not handle it with the stacks of its goroutines, as natively. A signal that this process ignores (nohup, a
    job in a shell's background) reaches a program that handles it, as natively.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in _FORWARDED}
    interrupted = False

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        again = number == signal.SIGINT and interrupted
        interrupted = interrupted or number == signal.SIGINT
        # Asked for here: a program may have its handlers before the command has the app.
        apps = [app for app in process.apps() if isinstance(app, RunningModule)]
        before = previous[signal.Signals(number)]
        stacks = number == signal.SIGQUIT and before is not signal.SIG_IGN
        taken = [] if again else [app.send_signal(number, default=stacks) for app in apps]
        if any(taken):
            return
        if callable(before):
            before(number, frame)
        elif before is signal.SIG_DFL and not (number == signal.SIGQUIT and apps):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            if os.getpid() == 1:  # in a container: the kernel gives the first process no default action
                os._exit(128 + number)

    for number in previous:
        signal.signal(number, forward)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
