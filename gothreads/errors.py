"""Every error that gothreads raises, in one tree, by who is to blame.

    GothreadsError
    ├── BuildError              the module could not be built
    │   ├── ToolchainError          no Go, or none that is supported
    │   └── CompileError            Go's compiler said no; its own words are in `output`
    ├── ModuleError             the file is not a module that can be opened
    ├── GuestError              the module failed: once it has, all of it has ended
    │   ├── GuestExit               os.Exit, or main returned; `code` tells
    │   │   └── GuestPanic              a panic or a fatal error of Go's runtime
    │   ├── GuestTrap               a WebAssembly trap; `frames` tell where
    │   ├── Stalled                 all calls waited for ever, and on_stall was "exit"
    │   ├── LimitExceeded           it took more time, or wrote more, than it was given
    │   └── HostFunctionError       a Python function that the module called raised
    ├── HandlerError            a handler returned an error; the module goes on
    ├── CallTimeout             a call took longer than its caller waits; also a TimeoutError
    ├── MisuseError             the caller's mistake; nothing has run
    │   ├── UnknownExport
    │   ├── ArgumentError           also a TypeError and a ValueError
    │   ├── MemoryAccessError       an address outside the memory; also an IndexError
    │   ├── NotCallable             the module, as it was built, takes no calls
    │   ├── AppClosed               close() came first
    │   ├── AppForked               the app belongs to the parent process
    │   ├── CallersBusy             no caller slot came free in time
    │   └── QueueFull               no room for an event
    └── InternalError           a bug in gothreads: please report it

All can be pickled: their arguments are plain values and are the ones that the constructor takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from gothreads.text import cut, printable, shown

_Error = TypeVar("_Error", bound="GothreadsError")

#: How many lines of a compiler's output are part of the message; and how many letters of the names that a module has.
_SHOWN = 20
_SHOWN_NAMES = 2000


class GothreadsError(Exception):
    """The base of all errors of gothreads. `str()` is one message: what, why, and how to mend it."""


class BuildError(GothreadsError):
    """The module could not be built."""


class ToolchainError(BuildError):
    """There is no Go here, or none that gothreads supports."""


class CompileError(BuildError):
    """Go's own tools refused the program. `output` is what they printed."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message, output)
        self.message, self.output = message, output

    def __str__(self) -> str:
        lines = self.output.rstrip().splitlines()
        shown = lines[:_SHOWN] + ([f"… and {len(lines) - _SHOWN} lines more, in the exception's `output`"] if len(lines) > _SHOWN else [])
        return "\n".join([self.message, *shown])


class ModuleError(GothreadsError):
    """The file is not a module that gothreads can open."""


@dataclass(frozen=True)
class Frame:
    """One frame of the WebAssembly stack at a trap, innermost first. `offset` is in bytes, into the module; -1: not known."""

    function: str
    offset: int

    def __str__(self) -> str:
        return self.function if self.offset < 0 else f"{self.function} (+{self.offset:#x})"


class GuestError(GothreadsError):
    """The module failed, and with it every call in flight: all get this one error.

    `code` is the exit code that a process would have had, `stderr` what the module wrote to its standard error
    last (text, the last few KB).
    """

    def __init__(self, message: str, code: int = 2, stderr: str = "", frames: Sequence[Frame] = ()) -> None:
        super().__init__(message, code, stderr, tuple(frames))
        self.message, self.code, self.stderr, self.frames = message, code, stderr, tuple(frames)

    @property
    def headline(self) -> str:
        """The message, and where in the program's own files it comes from, on one line."""
        return self.message

    def __str__(self) -> str:
        parts = [printable(self.headline)]
        if self.stderr.strip():
            parts.append("the module's last words on stderr:\n" + _indent(printable(self.stderr).rstrip()))
        if self.frames:
            parts.append("WebAssembly frames:\n" + _indent("\n".join(shown(str(frame)) for frame in self.frames[:20])))
        return "\n".join(parts)


class GuestExit(GuestError):
    """The module ended by os.Exit, or because main returned (code 0)."""


class GuestPanic(GuestExit):
    """An unrecovered panic, or a fatal error of Go's runtime: exit code 2."""


class GuestTrap(GuestError):
    """A WebAssembly trap (unreachable, out of bounds, stack exhausted)."""


class Stalled(GuestError):
    """All calls waited for ever, and the app was told to end then. The message has the stacks."""


class LimitExceeded(GuestError):
    """The module was ended because it took more time than it was given (code 124), or wrote more (code 153), as a shell has them."""


class HostFunctionError(GuestError):
    """A Python function that the module called raised; the exception is `__cause__`. `place`: where, as "host.py, line 9", or ""."""

    def __init__(self, message: str, code: int = 134, stderr: str = "", frames: Sequence[Frame] = (), place: str = "") -> None:
        super().__init__(message, code, stderr, frames)
        self.args, self.place = (*self.args, place), place

    @property
    def headline(self) -> str:
        return f"{self.message} ({self.place})" if self.place else self.message


class HandlerError(GothreadsError):
    """A handler in the module returned an error: its text. The module goes on."""


class CallTimeout(GothreadsError, TimeoutError):
    """A call did not come back in the time that its caller gave it. Whether it goes on was the caller's choice (`on_timeout`)."""


class MisuseError(GothreadsError):
    """The caller's mistake: nothing has run in the module."""


class UnknownExport(MisuseError, AttributeError, KeyError):
    """There is no such export or handler. `known` are those there are. hasattr and getattr's default work with it."""

    def __init__(self, message: str, known: Sequence[str] = ()) -> None:
        super().__init__(message, tuple(known))
        self.message, self.known = message, tuple(known)

    def __str__(self) -> str:
        return self.message


class MemoryAccessError(MisuseError, IndexError):
    """An address outside the module's memory."""


class ArgumentError(MisuseError, TypeError, ValueError):
    """A wrong argument; says what was expected."""


class NotCallable(MisuseError):
    """The module takes no calls, as it was built."""


class AppClosed(MisuseError):
    """The app was closed before, or during, the call."""


class AppForked(MisuseError):
    """The app was opened before a fork: threads do not survive one."""


class CallersBusy(MisuseError):
    """All callers were in use and none came free in time."""


class QueueFull(MisuseError):
    """There was no room for an event."""


class InternalError(GothreadsError):
    """A bug in gothreads."""


def again(error: _Error) -> _Error:
    """The same error, for one more caller: an exception that is raised in several threads gets the tracebacks of all."""
    own = type(error)(*error.args)
    own.__cause__ = error.__cause__
    return own


def unknown(kind: str, name: str, known: Sequence[str]) -> UnknownExport:
    """The error for a name that the module does not have, with the names that it has."""
    return UnknownExport(f"the module has no {kind} {cut(name)}; it has: {listed(known) or 'none'}", known)


def listed(names: Sequence[str]) -> str:
    """Names of a module's, as a part of a line: the first of very many."""
    there = ", ".join(map(shown, names))
    return there if len(there) <= _SHOWN_NAMES else f"{there[:_SHOWN_NAMES]}… ({len(names):,} in all)"


def _indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
