"""All errors that gothreads raises, in one tree, by what is to blame.

    GothreadsError
    ├── BuildError              the module could not be built
    │   ├── ToolchainError          no Go, or no supported one
    │   └── CompileError            Go's compiler rejected the program; `output` has its messages
    ├── ModuleError             the file is not a module that can be opened
    ├── GuestError              the module failed, and all of it has ended
    │   ├── GuestExit               os.Exit, or main returned; see `code`
    │   │   └── GuestPanic              a panic or a fatal error of Go's runtime
    │   ├── GuestTrap               a WebAssembly trap; `frames` say where
    │   ├── Stalled                 all calls waited for ever, and on_stall was "exit"
    │   ├── LimitExceeded           it exceeded its limit on time or output
    │   └── HostFunctionError       a Python function that the module called raised an exception
    ├── HandlerError            a handler returned an error; the module continues
    │   └── GoError                 a typed function returned an error; app.types has classes for kinds of errors
    ├── CallTimeout             a call exceeded its timeout; also a TimeoutError
    ├── MisuseError             the caller's mistake; nothing has run
    │   ├── UnknownExport
    │   ├── ArgumentError           also a TypeError and a ValueError
    │   ├── MemoryAccessError       an address outside the memory; also an IndexError
    │   ├── NotCallable             the module, as it was built, takes no calls
    │   ├── AppClosed               close() came first
    │   ├── AppForked               the app belongs to the parent process
    │   ├── CallersBusy             no caller slot became free in time
    │   └── QueueFull               no room for an event
    └── InternalError           a bug in gothreads: please report it

All can be pickled: their arguments are plain values, and match the constructor's.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from gothreads.text import closest, cut, printable, shown

#: What `hides_frames` wraps closes apps as a program does (runtime/own_code.py): `open`, when it fails.
PROGRAM_CODE = True

_Error = TypeVar("_Error", bound="GothreadsError")
#: The modules whose frames users need not see, each with a dot behind it.
_OWN_FRAMES = ("gothreads.", "concurrent.futures.", "asyncio.", "threading.", "contextlib.")
_Function = TypeVar("_Function", bound=Callable[..., Any])

#: How many lines of a compiler's output a message includes; and how many characters of a module's names.
_SHOWN = 20
_SHOWN_NAMES = 2000
#: What to do when all callers are in use.
MORE_CALLERS = "Raise `callers` (--callers), or make fewer calls at once"


class GothreadsError(Exception):
    """The base of all gothreads errors. `str()` is one message: what failed, why, and how to fix it."""


class BuildError(GothreadsError):
    """The module could not be built."""


class ToolchainError(BuildError):
    """There is no Go on this machine, or no version that gothreads supports."""


class CompileError(BuildError):
    """Go's tools rejected the program. `output` is what they printed."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message, output)
        self.message, self.output = message, output

    def __str__(self) -> str:
        lines = self.output.rstrip().splitlines()
        more = [f"… and {len(lines) - _SHOWN} lines more, in the exception's `output`"] if len(lines) > _SHOWN else []
        return "\n".join([self.message, *lines[:_SHOWN], *more])


class ModuleError(GothreadsError):
    """The file is not a module that gothreads can open."""


@dataclass(frozen=True)
class Frame:
    """One frame of the WebAssembly stack at a trap, innermost first. `offset`: bytes into the module; -1: unknown."""

    function: str
    offset: int

    def __str__(self) -> str:
        return self.function if self.offset < 0 else f"{self.function} (+{self.offset:#x})"


class GuestError(GothreadsError):
    """The module failed. Every call in flight fails with this one error.

    `code`: the exit code that a process would have had. `stderr`: the last few KB that the module wrote to its standard
    error (text). `frames`: of a trap.
    """

    #: Whether the module's standard error is this process's. Then `stderr` is there already: str() does not repeat it.
    printed = False
    #: What would prevent this, if that is known; the message contains it.
    hint: str | None = None

    def __init__(self, message: str, code: int = 2, stderr: str = "", frames: Sequence[Frame] = ()) -> None:
        super().__init__(message, code, stderr, tuple(frames))
        self.message, self.code, self.stderr, self.frames = message, code, stderr, tuple(frames)

    @property
    def headline(self) -> str:
        """The message and where it comes from in the program's own files, on one line."""
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.headline!r}, code={self.code})"

    def __str__(self) -> str:
        parts = [printable(self.headline)]
        if self.stderr.strip() and not self.printed:
            parts.append("the module's last words on stderr:\n" + _indent(printable(self.stderr).rstrip()))
        if self.frames:
            parts.append("WebAssembly frames:\n" + _indent("\n".join(shown(str(frame)) for frame in self.frames[:20])))
        return "\n".join(parts)


class GuestExit(GuestError):
    """The module ended by os.Exit, or main returned (code 0)."""


class GuestPanic(GuestExit):
    """An unrecovered panic, or a fatal error of Go's runtime: exit code 2. `place`: where, as "main.go:16", or ""."""

    place = ""

    @property
    def headline(self) -> str:
        return f"{self.message}, at {self.place}" if self.place else self.message


class GuestTrap(GuestError):
    """A WebAssembly trap (unreachable, out of bounds, stack exhausted)."""


class Stalled(GuestError):
    """All calls waited for ever, and the app was configured to end then. The message includes the stacks."""


class LimitExceeded(GuestError):
    """The module was ended: it exceeded its time, or a call with on_timeout="stop" did (124), or its output (153).

    The codes are a shell's.
    """


class HostFunctionError(GuestError):
    """A Python function that the module called raised: `__cause__`. `place`: where, as "host.py, line 9", or ""."""

    def __init__(self, message: str, code: int = 134, stderr: str = "", frames: Sequence[Frame] = (),
                 place: str = "") -> None:
        super().__init__(message, code, stderr, frames)
        self.args, self.place = (*self.args, place), place

    @property
    def headline(self) -> str:
        return f"{self.message} ({self.place})" if self.place else self.message


class HandlerError(GothreadsError):
    """A handler in the module returned this error. The module continues."""


class GoError(HandlerError):
    """A function that //gothreads:export exports returned this error. The module continues.

    Errors that its package exports have classes of their own, in App.types: for `var ErrNotFound` and
    `type ParseError`, whose fields are attributes. An error that wraps several is an instance of all their classes.
    """


class CallTimeout(GothreadsError, TimeoutError):
    """A call exceeded its caller's timeout. Whether it continues was the caller's choice (`on_timeout`)."""


class MisuseError(GothreadsError):
    """The caller's mistake: nothing has run in the module."""


class UnknownExport(MisuseError, AttributeError, KeyError):
    """No such export or handler. `known`: those that exist. Works with hasattr and getattr's default."""

    def __init__(self, message: str, known: Sequence[str] = (), advice: str = "") -> None:
        """`advice`: for the program that calls, what to do instead. It follows the message."""
        super().__init__(message, tuple(known), advice)
        self.message, self.known, self.advice = message, tuple(known), advice

    def __str__(self) -> str:
        return f"{self.message}{self.advice}"


class MemoryAccessError(MisuseError, IndexError):
    """An address outside the module's memory."""


class ArgumentError(MisuseError, TypeError, ValueError):
    """A wrong argument; the message says what was expected.

    `path`, of a typed function: to the value that is wrong, as `options.notes["a"]`; "" if that is no single value.
    """

    path = ""


class NotCallable(MisuseError):
    """The module, as it was built, takes no calls."""


class AppClosed(MisuseError):
    """The app was closed before or during the call."""


class AppForked(MisuseError):
    """The app was opened before a fork, which threads do not survive."""


class CallersBusy(MisuseError):
    """All caller slots were in use, and none became free in time."""


class QueueFull(MisuseError):
    """There was no room for an event."""


class InternalError(GothreadsError):
    """A bug in gothreads."""


def again(error: _Error) -> _Error:
    """A copy of the error for another caller: an exception raised in several threads collects all their tracebacks."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    if isinstance(error, GuestError) and isinstance(copy, GuestError):
        copy.printed, copy.hint = error.printed, error.hint
    if isinstance(error, GuestPanic) and isinstance(copy, GuestPanic):
        copy.place = error.place
    return copy


def drop_frames(error: GothreadsError) -> None:
    """Remove the frames that an error has come through, if all are gothreads' own: they say nothing to users.

    For what users call, in `except`, before a bare `raise`. The traceback of a bug stays, and one that leads through
    the program's functions.
    """
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    if not isinstance(error, InternalError) and all(
            f"{frame.f_globals.get('__name__')}.".startswith(_OWN_FRAMES) for frame in frames):
        error.__traceback__ = None


def hides_frames(function: _Function) -> _Function:
    """Make a function that users call raise its errors without frames. Those that must be fast do so themselves."""
    @functools.wraps(function)
    def hiding(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except GothreadsError as error:
            drop_frames(error)
            raise
    return cast("_Function", hiding)


def unknown(kind: str, name: str, known: Sequence[str]) -> UnknownExport:
    """The error for a name that the module lacks; it lists the names that exist, the one that was meant first."""
    meant = closest(name, known) if isinstance(name, str) else None
    these = f". Did you mean {cut(meant)}? It has: " if meant is not None else "; it has: "
    return UnknownExport(f"the module has no {kind} {cut(name)}{these}{listed(known) or 'none'}", known)


def listed(names: Sequence[str]) -> str:
    """A module's names for use in one line; a long list is cut."""
    text = ", ".join(map(shown, names))
    return text if len(text) <= _SHOWN_NAMES else f"{text[:_SHOWN_NAMES]}… ({len(names):,} in all)"


def _indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
