"""What is wrong with an argument of a typed function, and where: `fit: o.notes["a"]: expected str, got int`."""

from __future__ import annotations

import json

from gothreads.errors import ArgumentError
from gothreads.text import cut, shown

#: Of the path to a wrong value, so many characters are shown.
_LONGEST_PATH = 160
#: And of a key in it.
_LONGEST_KEY = 40


def argument_error(function: str, path: str, why: str) -> ArgumentError:
    """The error for the value at a path, which may begin with a point; "" if it is no single value."""
    path = shown_path(path)
    return with_path(f"{function}: {path}: {why}" if path else f"{function}: {why}", path)


def with_path(message: str, path: str) -> ArgumentError:
    """An error with this message, which may name the path in its own words."""
    error = ArgumentError(message)
    error.path = shown_path(path)
    return error


def at_key(key: object) -> str:
    """The path from a dict to its entry, as Go spells it (wire/reader.go)."""
    text = json.dumps(key, ensure_ascii=False) if isinstance(key, str) else cut(key)
    return f"[{text if len(text) <= _LONGEST_KEY else f'{text[:_LONGEST_KEY]}…'}]"


def shown_path(path: str) -> str:
    """The path as it is shown. One to a value that is nested deeply is cut."""
    path = path.removeprefix(".")
    if len(path) > _LONGEST_PATH:
        path = f"{path[:_LONGEST_PATH // 2]}…{path[-_LONGEST_PATH // 2:]}"
    return shown(path)
