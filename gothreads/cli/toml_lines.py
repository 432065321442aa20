"""Where the keys of a TOML file are: tomllib does not say."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

#: The names of tables and keys that lead to a value, and the places in arrays.
Keys = tuple[str | int, ...]


def key_lines(text: str) -> Mapping[Keys, int]:
    """The line, from 1, of the statement that each key or table begins in.

    A part of the file that ends with a statement is TOML, too. So a key is in the first statement with which the part
    before has it.
    """
    found: dict[Keys, int] = {}
    lines = text.splitlines(keepends=True)
    begin = 1  # of the statement that is being read
    for end in range(1, len(lines) + 1):
        try:
            part = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:  # in the middle of a statement
            continue
        for path in _paths(part, ()):
            found.setdefault(path, begin)
        begin = end + 1
    return found


def _paths(value: Any, path: Keys) -> Iterator[Keys]:
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _paths(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _paths(inner, (*path, number))
