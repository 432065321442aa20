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
import inspect
import itertools
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

#: Code of the program's that gothreads has written. Its own panics (a second handler of the same name) are the
#: caller's doing, wherever its files are.
_GUEST, _GENERATED = "gothreads/guest/", "zz_gothreads_export.go"
#: How many lines of a compiler's output a message includes; and how many characters of a module's names.
_SHOWN = 20
_SHOWN_NAMES = 2000
#: Begins the error of a call that was made after the module had failed.
_CAME_AFTER = ("this call was not made: the module had ended before it (open it again, or let gothreads.supervise do "
               "that). Why it ended: ")
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
    """One frame of a stack. `file` and `line`: where in the Go program; "" and 0 if unknown.

    `offset`: of a trap, bytes into the module; -1: unknown.
    """

    function: str
    offset: int = -1
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        if self.line:
            return f"{self.function} ({self.file}:{self.line})"
        return self.function if self.offset < 0 else f"{self.function} (+{self.offset:#x})"

    @property
    def own(self) -> bool:
        """Whether it is of the program itself: neither of Go's library, nor of gothreads."""
        folder, _, file = self.file.rpartition("/")
        # Of main.fail, or of main.(*T).fail; `panic` itself has no package.
        package = self.function[:max(self.function.find(".", self.function.rfind("/") + 1), 0)]
        of_go = package != "main" and f"/{folder}".endswith(f"/src/{package}")
        return bool(self.line and package) and not (of_go or f"{package}/".startswith(_GUEST) or file == _GENERATED)

    @property
    def place(self) -> str:
        """The file's name and the line, as "main.go:16"; "" if unknown."""
        return f"{self.file.rpartition('/')[2]}:{self.line}" if self.line else ""


class LazyFrames(Sequence[Frame]):
    """Frames that are looked for when somebody asks for them: every caller gets the error before that."""

    def __init__(self, find: Callable[[], tuple[Frame, ...]]) -> None:
        self._find = find

    @functools.cached_property
    def _found(self) -> tuple[Frame, ...]:
        return self._find()

    def __getitem__(self, place: Any) -> Any:
        return self._found[place]

    def __len__(self) -> int:
        return len(self._found)

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._found,)


class GuestError(GothreadsError):
    """The module failed. Every call in flight fails with this one error.

    `code`: the exit code that a process would have had. `stderr`: the last few KB that the module wrote to its standard
    error (text). `frames`: of a trap or a panic, innermost first. `place`: the first in the program's own code, as
    "main.go:16"; or "".
    """

    #: Whether the module's standard error is this process's. Then `stderr` is there already: str() does not repeat it.
    printed = False
    #: What would prevent this, if that is known; the message contains it.
    hint: str | None = None
    #: Whether this call was made after the module had failed: str() says so first.
    came_after = False

    def __init__(self, message: str, code: int = 2, stderr: str = "", frames: Sequence[Frame] = ()) -> None:
        frames = frames if isinstance(frames, LazyFrames) else tuple(frames)
        super().__init__(message, code, stderr, frames)
        self.message, self.code, self.stderr, self._frames = message, code, stderr, frames

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple(self._frames)

    @property
    def place(self) -> str:
        return next((frame.place for frame in self.frames if frame.own), "")

    @property
    def headline(self) -> str:
        """The message and where it comes from in the program's own files, on one line."""
        return f"{self.message}, at {self.place}" if self.place else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.headline!r}, code={self.code})"

    def __str__(self) -> str:
        parts = [(_CAME_AFTER if self.came_after else "") + printable(self.headline)]
        if self.frames:
            kind = "Go" if any(frame.line for frame in self.frames) else "WebAssembly"
            parts.append(f"{kind} frames, innermost first:\n" + _indent("\n".join(shown_frames(self.frames))))
        if self.stderr.strip() and not self.printed:
            parts.append("the module's last words on stderr:\n" + _indent(printable(self.stderr).rstrip()))
        return "\n".join(parts)


class GuestExit(GuestError):
    """The module ended by os.Exit, or main returned (code 0). `asked`: a signal had asked the program to end."""

    asked = False

class GuestPanic(GuestExit):
    """An unrecovered panic, or a fatal error of Go's runtime: exit code 2."""


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
        self.args, self._place = (*self.args, place), place

    @property
    def place(self) -> str:
        return self._place

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

    #: What the program that calls may do instead; the message ends with it.
    hint: str | None = None


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
    return copy


def drop_frames(error: BaseException) -> None:
    """Remove the frames of gothreads that an error has come through, up to the program's own. Users need not see them.

    For what users call, in `except`, before a bare `raise`. The traceback of a bug stays: of an error that is not meant
    for users and begins in gothreads.
    """
    rest = error.__traceback__
    while rest is not None and f"{rest.tb_frame.f_globals.get('__name__')}.".startswith(_OWN_FRAMES):
        rest = rest.tb_next
    meant = isinstance(error, (GothreadsError, KeyboardInterrupt)) and not isinstance(error, InternalError)
    if meant or rest is not None:
        error.__traceback__ = rest


def hides_frames(function: _Function) -> _Function:
    """Make a function that users call, or a coroutine function, raise its errors without frames of gothreads.

    Those that must be fast do so themselves.
    """
    if inspect.iscoroutinefunction(function):
        @functools.wraps(function)
        async def hiding_async(*args: Any, **named: Any) -> Any:
            try:
                return await function(*args, **named)
            except BaseException as error:
                drop_frames(error)
                raise
        return cast("_Function", hiding_async)

    @functools.wraps(function)
    def hiding(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except BaseException as error:  # the program's functions, which Go has called, may have raised it
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


def shown_frames(frames: Sequence[Frame]) -> list[str]:
    """Frames as lines of text, not too many. Where some are of the program itself, the others are only counted."""
    some_own = any(frame.own for frame in frames)
    lines: list[str] = []
    for hidden, group in itertools.groupby(frames, lambda frame: some_own and not frame.own):
        these = list(group)
        lines += [f"… {len(these)} of Go's library or runtime"] if hidden else [shown(str(frame)) for frame in these]
    return lines[:_SHOWN]


def _indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
