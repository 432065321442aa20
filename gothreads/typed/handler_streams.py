"""Calls of handlers that stream (guest.HandleStream): Go reads a body as it comes, and Python what Go writes.

The body is lent to Go, as a typed function's file object is, and the answer is an iterator of Go's, whose items are
what the handler has written. So all that these are bounded by holds here, too. The other side is
build/goroot/gothreads/guest/wire/pieces.go.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from msgspec.msgpack import encode

from gothreads.errors import GothreadsError
from gothreads.text import shown
from gothreads.typed.batches import Batches
from gothreads.typed.caller import Call, Caller, made
from gothreads.typed.classes import classes_of
from gothreads.typed.lending import Loan, lender_of, raised
from gothreads.typed.parking import Wait
from gothreads.typed.schema import Field, Type
from gothreads.typed.streams import ByteStream
from gothreads.typed.values import ErrorDecoder, TypeDecoder

#: What the handler's name has before it (build/goroot/gothreads/guest/slot/handlers.go).
OPEN = "gothreads:open "
#: What asks whether Go has written something, and what ends a stream (guest/wire/pieces.go).
_BEGUN, _CLOSE = "gothreads:stream begun", "gothreads:stream close"
_BODY = Field("body", "io.Reader", Type("reader"), "")
_classes = classes_of({"functions": [], "classes": [], "errors": []})
_errors = ErrorDecoder(_classes, raised)
_pieces = TypeDecoder("the stream", tuple[list[bytes], bool])
_opened = TypeDecoder("the stream", tuple[int, str | None])


class Opening:
    """One call of such a handler. `handler` and `message` are the request that makes it, and goes on with it."""

    def __init__(self, handler: str, body: Any, *, parks: bool) -> None:
        """body: a file object. ArgumentError: it is none. parks: as of a Caller."""
        self.handler, self._name = OPEN + handler, shown(handler)
        self._loan, self._wait = Loan(), Wait() if parks else None
        self.message = encode([self._loan.lend(lender_of(self._name, _BODY, _classes), body),
                               0 if self._wait is None else self._wait.number])

    def read(self, call: Call) -> ByteStream | Wait:
        """Make the call, which returns when Go has written something, or is done; or its wait, until that is so."""
        failed = functools.partial(_errors.refused, self._name)
        wait = self._wait
        if wait is not None:
            wait.arm()
        try:
            reply, caller = made(call, failed)
            number, content_type = _opened.decode(reply)
        except BaseException:
            if wait is not None:
                wait.disarm()
            raise
        if content_type is None:
            assert wait is not None
            self.handler, self.message = _BEGUN, encode([number, wait.number])
            wait.abandon = functools.partial(_close, caller, number)
            return wait
        if wait is not None:
            wait.disarm()
        return ByteStream(Batches(number, _pieces, failed, caller, self.close), content_type)

    def close(self) -> None:
        """Take the body back. So does the end of the stream."""
        self._loan.close()


def _close(caller: Caller, number: int) -> None:
    with contextlib.suppress(GothreadsError, RuntimeError):  # it has ended; or the interpreter does
        caller.submit(_CLOSE, encode([number]), lambda call: call()[0], {})
