"""How foreign text and values are shown: a module's names and output, a caller's arguments, exceptions."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from pathlib import Path

#: What a terminal or a log may take for more than text: control characters, and those that turn the direction of writing round.
_COMMANDS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """Text of a module's, such as a name, as a part of a line that a terminal shows: what is not printable is escaped, as in repr()."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(value: object) -> str:
    """A value for an error's line: its repr, or the beginning of a long one. Some have none: an int of 5,000 digits, what raises."""
    try:
        told = repr(value)
    except Exception:
        return f"{'an' if isinstance(value, int) else 'a value of type'} {type(value).__name__} that cannot be shown"
    return told if len(told) <= 200 else f"{told[:200]}… ({len(told):,} characters)"


def printable(text: str) -> str:
    """Lines of a module's, for people: what a terminal or a log would take for a command is escaped, as in repr()."""
    return _COMMANDS.sub(lambda found: repr(found[0])[1:-1], text.replace("\r\n", "\n"))


#: Folders of files that are not the program's own: gothreads'; Python's, and what was installed.
_OURS = str(Path(__file__).parent) + os.sep


_INSTALLED = tuple(sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def words(error: BaseException) -> str:
    """An exception in words, even one that cannot say them."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def place(error: BaseException) -> str:
    """Where an exception comes from, as "host.py, line 9": the last of the program's own lines, or else of others' that are not ours. "": none."""
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    others = [(file, line) for file, line in lines if not file.startswith((_OURS, "<"))]
    own = [(file, line) for file, line in others if not file.startswith(_INSTALLED)]
    return "{}, line {}".format(*(own or others)[-1]) if others else ""
