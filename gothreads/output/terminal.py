"""The output of commands: messages to stderr, data to stdout."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any, TextIO

from gothreads.output.json_lines import json_line, record_line
from gothreads.output.progress import Progress, ProgressLine, ProgressLog

#: After so many seconds, a stage is mentioned where there is no line that changes.
_LONG_SECONDS = 30.0


class Verbosity(Enum):
    """Which messages are printed: QUIET, only warnings and errors; VERBOSE, details too."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


class Terminal:
    """Writes a command's output."""

    verbosity = Verbosity.NORMAL
    #: Whether messages are JSON, an object a line.
    as_json = False

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.stdout, self.stderr = stdout or sys.stdout, stderr or sys.stderr
        self._line = ProgressLine(self.stderr)
        self._log = ProgressLog(self.say, _LONG_SECONDS)

    def data(self, value: Any) -> None:
        """Print JSON."""
        print(_printable(json.dumps(value, indent=2, ensure_ascii=False), self.stdout, _in_json), file=self.stdout)

    def out(self, text: str) -> None:
        print(_printable(text, self.stdout), file=self.stdout)

    def detail(self, text: str) -> None:
        """Print a message that only --verbose shows."""
        if self.verbosity is Verbosity.VERBOSE:
            self._message("debug", text)

    def say(self, text: str, **fields: str) -> None:
        """Print a message, unless --quiet. fields: further ones, of JSON."""
        if self.verbosity is not Verbosity.QUIET:
            self._message("info", text, **fields)

    def error(self, text: str) -> None:
        """Print a warning or an error."""
        self._message("error", text)

    def log(self, record: logging.LogRecord) -> None:
        """Print a record of the log."""
        if self.as_json:
            self.raw(record_line(record))
        else:
            self._message("", _named(record))

    def _message(self, level: str, text: str, **fields: str) -> None:
        self.raw(json_line(level, "gothreads", text, **fields) if self.as_json else
                 f"gothreads: {_printable(text, self.stderr)}\n")

    def raw(self, text: str) -> None:
        """Write another program's output unchanged."""
        self.clear()
        self.stderr.write(text)  # at once: the module may print meanwhile
        self.stderr.flush()

    def watch(self, stage: str, done: float, total: float | None) -> None:
        """Show progress, as a gothreads.output.progress.Progress: on a terminal in a line that changes,
        otherwise in a line now and then."""
        if self.verbosity is Verbosity.QUIET:
            return
        if self.stderr.isatty():
            self._line(stage, done, total)
        else:
            self._log(stage, done, total)

    def progress_of(self, app: str) -> Progress:
        """Shows the progress of one of several apps, which are built at the same time: in lines with its name."""
        return ProgressLog(lambda text: self.say(f"{app}: {text}", app=app), _LONG_SECONDS)

    def clear(self) -> None:
        """Erase the progress line."""
        self._line.clear()


def _named(record: logging.LogRecord) -> str:
    """The message of a record, which begins with the name of the app that it concerns."""
    text, app = record.getMessage(), getattr(record, "app", None)
    return text if app is None or text.startswith((f"{app}: ", f"{app} ")) else f"{app}: {text}"


def _in_python(letter: str) -> str:
    return repr(letter)[1:-1] if not letter.isprintable() else letter.encode("ascii", "backslashreplace").decode()


def _in_json(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 1 << 16 else json.dumps(letter)[1:-1]


def _printable(text: str, stream: TextIO, escaped: Callable[[str], str] = _in_python) -> str:
    """Text that may come from a module, without anything that a terminal would interpret or that cannot be encoded."""
    encoding = stream.encoding or "utf-8"

    def can_be_written(letter: str) -> bool:
        try:
            letter.encode(encoding)
        except UnicodeEncodeError:
            return False
        return True
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() or letter in "\n\t" else escaped(letter) for letter in text)
    if not can_be_written(text):
        text = "".join(letter if can_be_written(letter) else escaped(letter) for letter in text)
    return text


class Handler(logging.Handler):
    """Shows the library's log as the command's messages."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.log(record)
