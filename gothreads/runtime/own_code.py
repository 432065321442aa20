"""Tells whether close() is called by a signal handler that has interrupted gothreads' own code.

That code may hold locks, or wait for what close() would wait for. Python runs signal handlers on the main thread, on
top of the interrupted frames.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

from gothreads.engine import interrupt

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = __name__.partition(".")[0] + "."
_ordinary: set[CodeType] = {interrupt.Held.__call__.__code__}


def ordinary(function: F) -> F:
    """Mark a function that calls close() in the ordinary way: it does not count as own code."""
    _ordinary.add(function.__code__)
    return function


def is_interrupted() -> bool:
    """Whether this runs in a signal handler that has interrupted gothreads' own code.

    The calling function, which is close() or stands for it, does not count as own code.
    """
    if not interrupt.on_main_thread():
        return False
    frame: FrameType | None = sys._getframe(1).f_back
    while frame is not None:
        if _is_own_code(frame):
            return True
        frame = frame.f_back
    return False


def _is_own_code(frame: FrameType) -> bool:
    """Whether a frame runs gothreads' own code.

    Modules and packages that use apps as programs do are marked PROGRAM_CODE, and do not count.
    """
    name = str(frame.f_globals.get("__name__", ""))
    if frame.f_code in _ordinary or not name.startswith(_PACKAGE):
        return False
    while name:
        if getattr(sys.modules.get(name), "PROGRAM_CODE", False):
            return False
        name = name.rpartition(".")[0]
    return True
