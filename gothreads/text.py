"""Displays untrusted text and values safely: a module's names and output, callers' arguments, exceptions."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

#: Text that a terminal or log may interpret: control characters, and those that change the direction of writing.
_COMMANDS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: How long the names may be that are compared, and how many.
_LONGEST_COMPARED, _MOST_COMPARED = 50, 1000

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size_in_bytes(text: str) -> int | None:
    """A size such as 65536, 512M or 1.5G, in bytes. None if it is not a size."""
    match = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    return int(float(match[1]) * _SIZES[match[2]]) if match else None


def as_size(size: int) -> str:
    """A number of bytes for people, such as 1.5 GiB or 7.125 MiB."""
    if size >= 1 << 60:
        return f"{cut(size)} bytes"
    unit = next((unit for unit in "gmk" if size >= _SIZES[unit]), "")
    return f"{size / _SIZES[unit]:,.4g} {unit.upper()}iB" if unit else f"{size:,} bytes"


def lacks_unit(text: str, below: int = 1000) -> bool:
    """Whether a size is a number of bytes so small that its unit may have been forgotten. (10B is meant so.)"""
    number = whole_number(text.strip(), below)
    return number is not None and 0 < number < below


def shown(text: str) -> str:
    """Text from a module, such as a name, for one line of a terminal: unprintable characters escaped as in repr()."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(value: object) -> str:
    """A value for an error message: its repr on one line, cut if long.

    Some have none: an int of 5,000 digits, or repr() raises.
    """
    try:
        text = " ".join(filter(None, map(str.strip, repr(value).split("\n"))))
    except Exception:
        return f"{'an' if isinstance(value, int) else 'a value of type'} {type(value).__name__} that cannot be shown"
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text):,} characters)"


def printable(text: str) -> str:
    """Lines from a module, for people to read: what a terminal or log may interpret is escaped as in repr()."""
    return _COMMANDS.sub(lambda found: repr(found[0])[1:-1], text.replace("\r\n", "\n"))


def closest(name: str, known: Iterable[str]) -> str | None:
    """The one of these names that was probably meant. None: none is like it.

    Capital letters may be Go's: AddAll is add_all in Python.
    Comparing takes long for long names, and a module may have as many as it likes: only so many are looked at.
    """
    if len(name) > _LONGEST_COMPARED:
        return None
    import difflib  # only for errors
    short = list(islice((other for other in known if len(other) <= _LONGEST_COMPARED), _MOST_COMPARED))
    found = [close for written in dict.fromkeys((name, name.lower()))
             for close in difflib.get_close_matches(written, short, n=1)]
    return found[0] if found else None


def whole_number(text: str, largest: int) -> int | None:
    """The number that ASCII digits write; None if the text is anything else, or the number is above `largest`.

    int() alone raises for more than 4,300 digits, and takes other alphabets' digits, signs, spaces and underscores.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    number = int(digits) if len(digits) <= len(str(largest)) else largest + 1
    return number if number <= largest else None


#: Folders of files that do not belong to the program: gothreads, and then Python and installed packages.
_OURS = str(Path(__file__).parent) + os.sep
_INSTALLED = tuple(sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def words(error: BaseException) -> str:
    """An exception's type and message, or only the type if its __str__ fails."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def place(error: BaseException) -> str:
    """Where an exception was raised, as "host.py, line 9".

    The last line in the program's own files, else in those of other packages except gothreads; "" if there is none.
    """
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    others = [(file, line) for file, line in lines if not file.startswith((_OURS, "<"))]
    own = [(file, line) for file, line in others if not file.startswith(_INSTALLED)]
    return "{}, line {}".format(*(own or others)[-1]) if others else ""
