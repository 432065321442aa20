"""The command `gothreads`: from arguments to an exit code. Each command has a module of its own."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, TextIO

from gothreads.cli.build import BUILD
from gothreads.cli.cache import CACHE
from gothreads.cli.call import CALL
from gothreads.cli.command import Command, RawCommand
from gothreads.cli.compile import COMPILE
from gothreads.cli.completion import COMPLETION
from gothreads.cli.doctor import DOCTOR
from gothreads.cli.go_exec import GO_EXEC
from gothreads.cli.go_test import TEST
from gothreads.cli.init import INIT
from gothreads.cli.inspect import INSPECT
from gothreads.cli.keys import KEYS
from gothreads.cli.optimize import OPTIMIZE
from gothreads.cli.parser import UsageError, parse
from gothreads.cli.profile import PROFILE
from gothreads.cli.run import RUN
from gothreads.cli.serve import SERVE
from gothreads.cli.stubs import STUBS
from gothreads.cli.tools import COMPARE, STRESS
from gothreads.cli.top import TOP
from gothreads.cli.wheel import WHEEL
from gothreads.errors import CallTimeout, CompileError, GothreadsError, GuestError, GuestExit
from gothreads.files import reason
from gothreads.output.progress import watching
from gothreads.output.terminal import Handler, Terminal, Verbosity
from gothreads.runtime.process import close_all

#: In the order of `gothreads --help`: what people need first comes first.
COMMANDS: tuple[Command | RawCommand, ...] = (RUN, SERVE, CALL, BUILD, INIT, TEST, INSPECT, PROFILE, TOP, OPTIMIZE,
                                              COMPILE, STUBS, WHEEL, KEYS, DOCTOR, CACHE, COMPARE, STRESS, COMPLETION,
                                              GO_EXEC)

#: A shell's exit code for a process that SIGINT ended.
INTERRUPTED = 128 + signal.SIGINT
#: The exit code of timeout(1) at a timeout.
TIMED_OUT = 124
#: A shell's exit code for a process that SIGTERM ended.
STOPPED = 128 + signal.SIGTERM

_LEVELS = {Verbosity.QUIET: logging.WARNING, Verbosity.NORMAL: logging.INFO, Verbosity.VERBOSE: logging.DEBUG}


class _Stop(BaseException):
    """Raised on SIGTERM."""


def run() -> NoReturn:
    """The console script."""
    code = main()
    try:
        sys.stdout.flush()
    except OSError:  # main has reported it; do not let Python report it again at shutdown
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code in (INTERRUPTED, STOPPED):  # a module may still be compiling, on a thread that cannot be stopped
        close_all()  # an app may be open that the command has not received yet
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Run a command; returns its exit code. The module's own output goes to the process's descriptors."""
    terminal = Terminal(stdout, stderr)
    try:
        with contextlib.redirect_stdout(terminal.stdout), contextlib.redirect_stderr(terminal.stderr):
            arguments = parse(COMMANDS, list(sys.argv[1:] if argv is None else argv))
    except SystemExit as error:  # the help is printed
        return int(error.code or 0)
    except UsageError as error:
        if error.as_json:
            terminal.data({"error": error.message, "kind": "UsageError"})
        terminal.error(error.message)
        terminal.raw(f"try: {error.help}\n")
        return 2
    terminal.verbosity = arguments.verbosity
    if arguments.note:
        terminal.error(arguments.note)
    handler = Handler(terminal)
    logger = logging.getLogger("gothreads")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(_LEVELS[terminal.verbosity])
    previous = signal.signal(signal.SIGTERM,
                             _raise_stop) if threading.current_thread() is threading.main_thread() else None
    try:
        with watching(terminal.watch, again=True):
            return _run(arguments, terminal)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
        terminal.clear()
        logger.removeHandler(handler)
        logger.setLevel(level)


def _run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    try:
        code: int = arguments.run(arguments, terminal)
        terminal.stdout.flush()
        return code
    except GothreadsError as error:
        if getattr(arguments, "json", False):
            with contextlib.suppress(OSError):
                terminal.data({"error": getattr(error, "message", str(error)), "kind": type(error).__name__})
        if terminal.verbosity is Verbosity.VERBOSE:
            terminal.raw(_traceback(error))
        return _failed(error, terminal)
    except KeyboardInterrupt:
        return INTERRUPTED
    except _Stop:
        return STOPPED
    except BrokenPipeError:
        return 1
    except OSError as error:
        terminal.error(f"cannot write the output: {reason(error)}")
        return 1


def _failed(error: GothreadsError, terminal: Terminal) -> int:
    """Report the error; returns the exit code (parser.EXIT_CODES)."""
    match error:
        case CompileError():
            terminal.raw(error.output)
            terminal.error(error.message)
            return 1
        case GuestExit():
            if error.code == 0:
                terminal.error(f"{error.message}; or build with --buildmode c-shared, which does not run main")
            elif error.hint:
                terminal.error(error.hint)
            return error.code or 1  # the module itself has written the rest to stderr
        case GuestError():
            terminal.error(str(error))
            return error.code
        case _:
            terminal.error(str(error))
            return TIMED_OUT if isinstance(error, CallTimeout) else 1


def _traceback(error: GothreadsError) -> str:
    """The traceback of an error, without its message, which is printed on its own."""
    text, message = traceback.format_exception(error), traceback.format_exception_only(error)
    return f"{''.join(text).removesuffix(''.join(message))}{type(error).__name__}\n"


def _raise_stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stop
