"""What typed functions need of a module: something that calls their handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from gothreads.bridge.buffers import Message, Refused, Reply
from gothreads.errors import drop_frames

#: Makes a call.
Call = Callable[[], tuple[Reply, "Caller"]]
#: Is given what makes the call, and returns what it makes of the reply.
Read = Callable[[Call], Any]


class Caller(Protocol):
    """What calls the handlers of typed functions."""

    @property
    def parks(self) -> bool:
        """Whether `submit` and `wait` make a request again whose `read` returns a Wait (typed/parking.py)."""

    def call(self, handler: str, message: Message) -> Reply:
        """Call a handler on this thread, and return its reply. Raises Refused."""

    def submit(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Future[Any]:
        """Call a handler on another thread, for the future's result.

        read: makes the call by the function that it is given, which returns the reply, and a caller of the instance
            that has replied; returns the result. options: timeout, on_timeout.
        """

    def wait(self, handler: str, message: Message, read: Read, options: Mapping[str, Any]) -> Any:
        """The same, and wait for the result."""

    def reduce(self, name: str) -> str | tuple[Any, ...]:
        """How another process finds the function of that name: as object.__reduce__."""


def made(call: Call, failed: Callable[[Refused], BaseException]) -> tuple[Reply, Caller]:
    """Make a call. failed: makes the exception for one that has not returned."""
    try:
        return call()
    except Refused as refused:
        error = failed(refused)
    drop_frames(error)
    try:
        raise error
    finally:
        del error  # the traceback has this frame, and with it the arguments
