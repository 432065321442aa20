"""The context that a Python function may receive, besides its arguments, when the module calls it."""

from __future__ import annotations

import threading
from typing import Any, Self

from gothreads.shared_memory import BoundedMemory
from gothreads.sync.stop_event import Away


class CallContext:
    """The base class of `gothreads.Context`, with what this package needs of it.

    in_python: has one entry for each thread that is inside one of the program's Python functions.
    """

    __slots__ = ("app", "cancelled", "ended", "in_python", "memory")

    memory: BoundedMemory  # set before the module runs

    def __init__(self, app: Any, in_python: Away) -> None:
        self.app, self.in_python = app, in_python
        self.cancelled = threading.Event()
        # Set when a nested call has ended the instance. Nothing may return to its code, even if a Python function
        # swallows the error.
        self.ended = False

    def for_call(self, cancelled: threading.Event) -> Self:
        """Return a copy for one call of a handler."""
        context = type(self)(self.app, self.in_python)
        context.memory, context.cancelled = self.memory, cancelled
        return context

    def __repr__(self) -> str:
        return f"<gothreads.Context of {self.app!r}>"
