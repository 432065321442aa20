"""Python functions for the module `hostcalls`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gothreads


def host(**functions: Callable[..., Any]) -> gothreads.Host:
    """All functions that the module imports. Those that a test does not give are trivial defaults."""
    made = gothreads.Host()
    for name in ("all", "log", "fill", "wait", "peek"):
        made.function("env", name)(functions.pop(name, lambda *_: None))
    for name in ("bools", "int32s", "uint32s", "int64s", "uint64s", "float32s", "float64s", "uintptrs"):
        made.function("env", name)(functions.pop(name, lambda value: value))
    for name in ("text", "wide"):
        made.function("env", name)(functions.pop(name, lambda *texts: sum(map(len, texts))))
    made.function("env", "enter")(functions.pop("enter", enter))
    made.function("elsewhere", "tick")(functions.pop("tick", lambda: None))
    made.function("elsewhere", "twice")(functions.pop("twice", lambda n: 2 * n))
    assert not functions
    return made


def enter(depth: int, context: gothreads.Context) -> int:
    return int(context.app.exports.enter(depth))
