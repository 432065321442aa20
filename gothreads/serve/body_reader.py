"""A request's body as a file object, which a typed function reads as an io.Reader while it comes.

Nothing is read ahead of Go: a piece is asked for when Go wants it, so a client that is faster waits (back-pressure),
and a body of any size takes no more memory than a piece. A client that is slower than LEAST_RATE, with BODY_SECONDS of
tolerance, gets 408; the time that Go takes does not count.

All but `read` runs on the server's event loop; `read` runs on the app's, so no thread waits for a client.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from gothreads.serve.guard import BODY_SECONDS, CLIENT_LEFT, LEAST_RATE


class BodyReader:
    """The body of one request, in a `with` block: after that, reading is an error."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._loop = receive, asyncio.get_running_loop()
        self._piece = b""  # what has come, and Go has not read
        self._patience = BODY_SECONDS
        self._reading = asyncio.Lock()  # Go may read in two goroutines at a time
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._complete = asyncio.Event()  # nothing more of the body will come

    async def read(self, size: int) -> bytes:
        """The next bytes; none at the end. For Go: an exception here is an error there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._read(size), self._loop))

    async def receive(self) -> Message:
        """Like the request's own `receive` after the body has been read: returns when the client has left.

        While the body still comes, that is noticed by those who read it.
        """
        await self._complete.wait()
        return await self._receive()

    async def _read(self, size: int) -> bytes:
        async with self._reading:
            while not self._piece and not self._complete.is_set():
                message = await self._next()
                if message["type"] == "http.disconnect":
                    raise HTTPException(CLIENT_LEFT, "the client has disconnected")
                self._piece = message.get("body", b"")
                self._patience = min(BODY_SECONDS, self._patience + len(self._piece) / LEAST_RATE)
                if not message.get("more_body", False):
                    self._complete.set()
            read, self._piece = self._piece[:size], self._piece[size:]
            return read

    async def _next(self) -> Message:
        """The next message, which nobody else waits for."""
        begun, got = self._loop.time(), asyncio.ensure_future(self._receive())
        either: set[asyncio.Future[Any]] = {got, self._closed}
        try:
            await asyncio.wait(either, timeout=max(0.0, self._patience),
                               return_when=asyncio.FIRST_COMPLETED)
            self._patience -= self._loop.time() - begun
            if got.done():
                return got.result()
            if self._closed.done():
                raise ValueError("the call is over")
            raise HTTPException(408, "the body arrives too slowly", {"Connection": "close"})
        finally:
            got.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
