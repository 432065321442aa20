"""Turns the end of a module into an error: an exit code, a trap, or what a Python function that it called raised.

`name` is the name of the module, `stderr` the end of what it wrote there.
"""

from __future__ import annotations

from gothreads.bridge.host_functions import WrongResult
from gothreads.engine import ffi
from gothreads.errors import AppClosed, GuestError, GuestExit, GuestPanic, GuestTrap, HostFunctionError, LimitExceeded
from gothreads.text import place, words
from gothreads.wasi import panics
from gothreads.wasi.calls.proc import ExitRequested
from gothreads.wasi.signals import NAMES
from gothreads.wasi.streams import OutputExceeded


def of_exit(name: str, code: int, stderr: str) -> GuestExit:
    """For a return of main, os.Exit or a panic."""
    if code == 2 and (reason := panics.reason(stderr)):
        hint = advice(stderr)
        return GuestPanic(f"{name}: the module has ended: {reason}{f' ({hint})' if hint else ''}", code, stderr)
    how = "main returned, or os.Exit(0)" if code == 0 else f"exit code {code}"
    return GuestExit(f"{name}: the module has ended: {how}", code, stderr if code else "")


def advice(stderr: str) -> str | None:
    """How to fix what ended the module, if its last output tells; else None."""
    if panics.reason(stderr) == "fatal error: stack overflow":
        return "endless recursion? runtime/debug.SetMaxStack raises the limit"
    if "all goroutines are asleep" not in stderr or "net.(*fakeNetFD)" not in stderr:
        return None
    return ("in stock Go, package net cannot reach the network: use the model threaded, or listen with guest.Listen of "
            "gothreads/guest (needs --allow-net HOST:PORT) or guest.Listener (needs --listen HOST:PORT)")


def of_trap(name: str, trap: ffi.Trap, stderr: str, stack: int) -> GuestError:
    """For a trap. `stack` is the limit on the stack, in bytes."""
    if trap.exit_code is not None:
        return of_exit(name, trap.exit_code, stderr)
    if "unreachable" in trap.message and panics.reason(stderr):
        return of_exit(name, 2, stderr)  # in a library, Go's panics end with abort instead of exit
    message = trap.message
    if "stack exhausted" in message:
        message += f" (each thread has {stack >> 20} MiB for it: Limits(stack=...))"
    return GuestTrap(f"{name}: the module trapped: {message}", 134, stderr, trap.frames)


def of_host_function(name: str, error: BaseException, stderr: str) -> GuestError:
    """For what a host function raised: a host-function error, unless it is an exit or too much output."""
    if isinstance(error, ExitRequested):
        return of_exit(name, error.code, stderr)
    if isinstance(error, OutputExceeded):
        return LimitExceeded(f"{name}: the module was ended: {error}", 153, stderr)
    what = "a Python function that the module called"
    if isinstance(error, ffi.Raised):
        what, error = f"{error.name}, {what},", error.error
    if isinstance(error, WrongResult):
        cause = HostFunctionError(f"{name}: {error}", 134, stderr, (), error.place)
    else:
        cause = HostFunctionError(f"{name}: {what} raised {words(error)}", 134, stderr, (), place(error))
    cause.__cause__ = error
    return cause


def of_signal(name: str, error: BaseException | None) -> AppClosed | LimitExceeded:
    """For what a signal handler raised in the main thread's call, which did not return. None: Ctrl-C."""
    if isinstance(error, Exception):
        return of_stop(name, error)
    how = (
        "Ctrl-C"
        if error is None or isinstance(error, KeyboardInterrupt)
        else f"a signal handler, which raised {words(error)}"
    )
    return AppClosed(f"{name}: the app was ended by {how}")


def of_stop(name: str, error: BaseException | None) -> LimitExceeded:
    """As of_signal, where only the instance is stopped."""
    what = "Ctrl-C" if error is None else f"a signal handler, which raised {words(error)}"
    return LimitExceeded(f"{name}: the module was stopped: its call was given up because of {what}", 124)


def of_sent_signal(name: str, signal_name: str) -> GuestExit:
    """For a signal that was sent to a module without a handler for it."""
    code = 2 if signal_name == "QUIT" else 128 + NAMES.index(signal_name)
    return GuestExit(f"{name}: the module has ended: signal {signal_name}", code, "")


def of_time(name: str, seconds: float, stderr: str) -> LimitExceeded:
    """For a module that has reached its limit on time, in seconds."""
    return LimitExceeded(f"{name}: the module was ended: it has run for {seconds:g} s, which is its limit "
                         f"(Limits(seconds=...))", 124, stderr)
