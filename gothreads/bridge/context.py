"""What a Python function that the module calls is told besides its arguments, where a parameter asks for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gothreads.shared_memory import BoundedMemory

if TYPE_CHECKING:
    from gothreads.runtime.app import App


class Context:
    """For a parameter annotated `gothreads.Context`.

    app: the app that calls. Its exports may be called from inside.
    memory: the memory of the instance that calls, for the addresses that Go gives as pointers. What is behind one is Go's again when
        the function has returned. A handler of guest.Call may look at it in the threaded model only: in the others the module runs on.
    cancelled: set when nobody waits for the reply any more (of a handler of guest.Call), for a function that takes long to look at.
    """

    __slots__ = ("app", "cancelled", "ended", "memory")

    app: App
    memory: BoundedMemory  # set when there is one: before the module runs

    def __init__(self, app: App) -> None:
        self.app = app
        self.cancelled = threading.Event()
        # A call from inside has ended the instance: nothing may return to its code, even if a Python function keeps the error to itself.
        self.ended = False

    def for_call(self, cancelled: threading.Event) -> Context:
        """The same for one call of a handler."""
        context = Context(self.app)
        context.memory, context.cancelled = self.memory, cancelled
        return context

    def __repr__(self) -> str:
        return f"<gothreads.Context of {self.app!r}>"
