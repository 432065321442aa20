"""Turns the end of a module into an error: an exit code, a trap, or what a Python function that it called raised."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from gothreads.bridge.host_functions import WrongResult
from gothreads.engine import ffi
from gothreads.errors import AppClosed, GuestError, GuestExit, GuestPanic, GuestTrap, HostFunctionError, LimitExceeded
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import Limits, Options
from gothreads.runtime.trap_frames import TrapFrames
from gothreads.text import as_size, place, words
from gothreads.wasi import panics
from gothreads.wasi.calls.proc import ExitRequested
from gothreads.wasi.signals import NAMES
from gothreads.wasi.streams import Output, OutputExceeded
from gothreads.wasm.layout import MOST_MEMORY

_Error = TypeVar("_Error", bound=GuestError)


@dataclass(frozen=True)
class ExitReasons:
    """Makes the errors for one memory of a module.

    `stays_callable`: whether it takes calls as long as main runs. `traps`: finds the lines of traps. `stderr`: its
    standard error, whose end the errors contain. `signals`: the names of those that asked the program to end, and that
    it handles.
    """

    name: str
    stays_callable: bool
    limits: Limits
    traps: TrapFrames
    stderr: Output
    signals: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, loaded: LoadedModule, options: Options, stderr: Output) -> ExitReasons:
        return cls(loaded.name, loaded.entry == "_start" and loaded.takes_calls, options.limits,
                   TrapFrames(loaded, loaded.stop_check(main_calls=options.main_calls)), stderr)

    def for_another(self, stderr: Output) -> ExitReasons:
        """The same for another memory."""
        return replace(self, stderr=stderr, signals=set())

    def of_exit(self, code: int) -> GuestExit:
        """For a return of main, os.Exit or a panic."""
        stderr = self.stderr.tail
        if code == 2 and (reason := panics.reason(stderr)):
            hint = _hint(reason, stderr, self.limits)
            said = f"the module has ended: {reason}{f' ({hint})' if hint else ''}"
            frames = panics.frames(stderr) if reason.startswith("panic: ") else []
            panic = GuestPanic(self._says(said), code, stderr, frames)
            panic.hint = hint  # serve/error_responses.py cuts it off the message again
            return self._noted(panic)
        if code:
            return self._noted(GuestExit(self._says(f"the module has ended: exit code {code}"), code, stderr))
        how = "main returned, or os.Exit(0)"
        if self.signals:
            how += f", after {', '.join(f'SIG{name}' for name in sorted(self.signals))}"
        elif self.stays_callable:
            how += ". To keep the module running, end main with select {}"
        exit = GuestExit(self._says(f"the module has ended: {how}"), 0)
        exit.asked = bool(self.signals)
        return exit

    def of_trap(self, trap: ffi.Trap) -> GuestError:
        """For a trap."""
        if trap.exit_code is not None:
            return self.of_exit(trap.exit_code)
        stderr = self.stderr.tail
        if "unreachable" in trap.message and panics.reason(stderr):
            return self.of_exit(2)  # in a library, Go's panics end with abort instead of exit
        message = trap.message
        if "stack exhausted" in message:
            message += (f" (each thread has {self.limits.stack >> 20} MiB for it: --limit stack=SIZE, "
                        "in Python Limits(stack=...))")
        frames = self.traps.frames(trap.frames)
        return self._noted(GuestTrap(self._says(f"the module trapped: {message}"), 134, stderr, frames))

    def of_host_function(self, error: BaseException) -> GuestError:
        """For what a host function raised: a host-function error, unless it is an exit or too much output."""
        if isinstance(error, ExitRequested):
            return self.of_exit(error.code)
        if isinstance(error, OutputExceeded):
            return self._exceeded(f"the module was ended: {error}", 153)
        what = "a Python function that the module called"
        if isinstance(error, ffi.Raised):
            what, error = f"{error.name}, {what},", error.error
        text, where = ((str(error), error.place) if isinstance(error, WrongResult)
                       else (f"{what} raised {words(error)}", place(error)))
        cause = self._noted(HostFunctionError(self._says(text), 134, self.stderr.tail, (), where))
        cause.__cause__ = error
        return cause

    def of_time(self, seconds: float) -> LimitExceeded:
        """For a module that has reached its limit on time, in seconds."""
        return self._exceeded(f"the module was ended: it has run for {seconds:g} s, which is its limit "
                              "(--limit seconds=N, in Python Limits(seconds=...))", 124)

    def of_signal(self, error: BaseException | None) -> AppClosed | LimitExceeded:
        """For what a signal handler raised in the main thread's call, which did not return. None: Ctrl-C."""
        if isinstance(error, Exception):
            return self.of_stop(error)
        how = (
            "Ctrl-C"
            if error is None or isinstance(error, KeyboardInterrupt)
            else f"a signal handler, which raised {words(error)}"
        )
        return AppClosed(self._says(f"the app was ended by {how}"))

    def of_stop(self, error: BaseException | None) -> LimitExceeded:
        """As of_signal, where only the instance is stopped."""
        what = "Ctrl-C" if error is None else f"a signal handler, which raised {words(error)}"
        return LimitExceeded(self._says(f"the module was stopped: its call was given up because of {what}"), 124)

    def of_sent_signal(self, signal_name: str) -> GuestExit:
        """For a signal that was sent to a module without a handler for it."""
        code = 2 if signal_name == "QUIT" else 128 + NAMES.index(signal_name)
        return GuestExit(self._says(f"the module has ended: signal {signal_name}"), code)

    def _exceeded(self, text: str, code: int) -> LimitExceeded:
        return self._noted(LimitExceeded(self._says(text), code, self.stderr.tail))

    def _noted(self, error: _Error) -> _Error:
        """The error, with where the module's standard error went."""
        error.printed = self.stderr.inherited
        return error

    def _says(self, text: str) -> str:
        return f"{self.name}: {text}"


def _hint(reason: str, stderr: str, limits: Limits) -> str | None:
    """How to prevent the panic that ended the module, if its last output tells; else None."""
    if reason == "fatal error: stack overflow":
        return "endless recursion? runtime/debug.SetMaxStack raises the limit"
    if panics.is_out_of_memory(reason):
        if limits.memory == MOST_MEMORY:
            return "the module needs more than 3.75 GiB of memory, the most that a module can have"
        return (f"the limit on memory, {as_size(limits.memory)}, is reached. Raise it (--memory SIZE, in "
                "Python Limits(memory=...)), unless the program leaks")
    if "all goroutines are asleep" not in stderr or "net.(*fakeNetFD)" not in stderr:
        return None
    return ("in stock Go, package net cannot reach the network: use the model threaded, or listen with guest.Listen of "
            "gothreads/guest (needs --allow-net HOST:PORT) or guest.Listener (needs --listen HOST:PORT)")
