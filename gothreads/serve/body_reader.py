"""A request's body as a file object, which a typed function reads as an io.Reader while it comes.

Nothing is read ahead of Go: a piece is asked for when Go wants it, so a client that is faster waits (back-pressure),
and a body of any size takes no more memory than a piece. A client that is slower than LEAST_RATE, with BODY_SECONDS of
tolerance, gets 408; the time that Go takes does not count.

All but `read` runs on the server's event loop; `read` runs on the app's, so no thread waits for a client.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Self

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from gothreads.serve.disconnect import GONE
from gothreads.serve.guard import BODY_SECONDS, CLIENT_LEFT, LEAST_RATE

#: Where the scope of a request may have a function that is to know that the body is read as it comes, when it is.
STREAMED = "gothreads.streamed"


#: How often who waits for a client looks whether it may wait for ever by now, in seconds.
_LOOK_SECONDS = 1.0


class BodyReader:
    """The body of one request, in a `with` block: after that, reading is an error."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope, self._receive, self._loop = scope, receive, asyncio.get_running_loop()
        self._piece = b""  # what has come, and Go has not read
        self._coming: asyncio.Future[Message] | None = None  # the next message, which Go has not got
        self._taken = asyncio.Event()  # Go has got the last of these
        self._patience = self._most_patience = BODY_SECONDS
        self._reading = asyncio.Lock()  # Go may read in two goroutines at a time
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._complete = asyncio.Event()  # nothing more of the body will come

    async def read(self, size: int) -> bytes:
        """The next bytes; none at the end. For Go: an exception here is an error there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._read(size), self._loop))

    async def receive(self) -> Message:
        """Like the request's own `receive` after the body has been read: returns when the client has left.

        While the body still comes, that is noticed by those who read it, or when the connection ends (connection.py).
        Other servers do not tell that: there, one message is read ahead of Go, since most bodies have no more, and
        clients of WebSockets mostly wait for an answer.
        """
        if (gone := self._scope.get("state", {}).get(GONE)) is None:
            return await self._left_ahead()
        complete = asyncio.ensure_future(self._complete.wait())
        try:
            await asyncio.wait([complete, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            complete.cancel()
        return await self._receive() if self._complete.is_set() else {"type": "http.disconnect"}

    async def _left_ahead(self) -> Message:
        """`receive`, by reading ahead: the first message that Go has not got, and of a WebSocket those that follow."""
        self._tell_streamed()  # before the first message: it would be the whole body of a WebSocket
        while not self._complete.is_set():
            message = await asyncio.shield(self._next_coming())
            if message["type"] == "http.disconnect":
                return message
            if not message.get("more_body", False):
                break
            await (self._taken if STREAMED in self._scope else self._complete).wait()
        return await self._receive()

    def _tell_streamed(self) -> None:
        if (told := self._scope.get(STREAMED)) is not None:
            told()

    def _next_coming(self) -> asyncio.Future[Message]:
        if self._coming is None:
            self._taken.clear()
            self._coming = asyncio.ensure_future(self._receive())
        return self._coming

    def wait_for_ever(self) -> None:
        """Let the client take its time, if it has a WebSocket: there it may have nothing to say for long."""
        if STREAMED in self._scope:
            self._patience = self._most_patience = math.inf

    async def _read(self, size: int) -> bytes:
        self._tell_streamed()
        async with self._reading:
            while not self._piece and not self._complete.is_set():
                message = await self._next()
                if message["type"] == "http.disconnect":
                    raise HTTPException(CLIENT_LEFT, "the client has disconnected")
                self._piece = message.get("body", b"")
                self._patience = min(self._most_patience, self._patience + len(self._piece) / LEAST_RATE)
                if not message.get("more_body", False):
                    self._complete.set()
            read, self._piece = self._piece[:size], self._piece[size:]
            return read

    async def _next(self) -> Message:
        """The next message."""
        begun, got = self._loop.time(), self._next_coming()
        either: set[asyncio.Future[Any]] = {got, self._closed}
        while not (got.done() or self._closed.done() or self._patience <= 0):
            await asyncio.wait(either, timeout=min(self._patience, _LOOK_SECONDS), return_when=asyncio.FIRST_COMPLETED)
            now = self._loop.time()
            self._patience, begun = self._patience - (now - begun), now
        if self._closed.done():
            raise ValueError("the call is over")
        if got.done():
            self._coming = None
            self._taken.set()
            return got.result()
        raise HTTPException(408, "the body arrives too slowly", {"Connection": "close"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        if self._coming is not None:
            self._coming.cancel()
