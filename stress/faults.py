"""The ways in which stress.chaos ends an app."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable

import gothreads
from gothreads import errors
from stress.call_ledger import AuditError
from stress.random_clients import PATIENCE

#: By fault: the errors that callers may get for it.
FAULTS: dict[str, tuple[type[errors.GothreadsError], ...]] = {
    "panic": (errors.GuestPanic,), "goroutine": (errors.GuestPanic,), "exit": (errors.GuestExit,),
    "stack": (errors.GuestTrap, errors.GuestPanic), "memory": (errors.GuestPanic,), "map": (errors.GuestPanic,),
    "host": (errors.HostFunctionError,), "output": (errors.LimitExceeded,), "handler": (errors.GuestPanic,),
    "stop": (errors.LimitExceeded,), "seconds": (errors.LimitExceeded,), "close": (errors.AppClosed,),
    "drain": (errors.AppClosed,), "twice": (errors.AppClosed,), "inside": (errors.AppClosed,),
    "ctrl-c": (errors.AppClosed,),
}
#: Faults that need goroutines in parallel.
ONLY_THREADED = {"map"}

#: Suppresses the errors of a call whose app may end meanwhile.
_ENDING = contextlib.suppress(errors.GuestError, errors.AppClosed, errors.CallersBusy)


def limits(fault: str, draw: random.Random) -> gothreads.Limits:
    """The app's limits; some faults are a limit that is reached."""
    return gothreads.Limits(memory=512 << 20, output=(1 << 20) if fault == "output" else None,
                            seconds=draw.uniform(0.05, 0.8) if fault == "seconds" else None)


def end(app: gothreads.App, fault: str, model: str, draw: random.Random, call: Callable[[], None]) -> None:
    """Do what ends the app. Returns once that has begun.

    call: makes a call that goes into the ledger.
    """
    match fault:
        case "seconds":
            pass  # its time will be up
        case "close":
            app.close()
        case "twice":
            threads = [threading.Thread(target=app.close) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        case "drain":
            app.close(drain=draw.uniform(0.01, 0.5))
        case "inside":
            _close_from_inside(app)
        case "ctrl-c":
            _interrupt(app)
        case "stop":
            _stop_a_call(app, model)
        case _:
            _crash(app, fault, model, call)


def _stop_a_call(app: gothreads.App, model: str) -> None:
    """A call whose timeout expires is stopped, and the app with it."""
    while app.error is None:
        with _ENDING, contextlib.suppress(errors.CallTimeout):
            app.exports.spin(timeout=0.1, on_timeout="stop")
        if model == "pool":
            app.close()


def _crash(app: gothreads.App, fault: str, model: str, call: Callable[[], None]) -> None:
    """A call crashes."""
    while app.error is None:
        with _ENDING:
            if fault == "handler":
                app.request("panic")
            else:
                app.exports.die(fault)
        if model == "pool" and fault != "output":  # it has lost one instance; the app goes on
            with _ENDING:
                call()
            app.close()


def _close_from_inside(app: gothreads.App) -> None:
    """close() in the callback of a future, on a thread of the app's own."""
    with contextlib.suppress(errors.GothreadsError):
        app.submit("work", 0, 0).add_done_callback(lambda _: app.close())
    deadline = time.monotonic() + PATIENCE
    while app.error is None:
        if time.monotonic() > deadline:
            raise AuditError("close() in a future's callback does not take effect")
        time.sleep(0.001)


def _interrupt(app: gothreads.App) -> None:
    """Ctrl-C while this thread, the main one, is in a call that does not return."""
    try:
        threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        while True:
            app.exports.spin()
    except KeyboardInterrupt:  # it has ended the app, or it came after the call, which had found all callers busy
        app.close()
    except errors.CallersBusy:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(10)
        app.close()
    except (errors.GuestError, errors.AppClosed):
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(10)
