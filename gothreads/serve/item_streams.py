"""Iterators of Go's as responses: {"result": [1, 2, 3]}, or, for clients that accept NDJSON, a line for each item.

Items are sent as they come. One batch is here at a time: Go is asked for the next when the client has taken this one.
A client that leaves stops Go, at once if Go is being asked for items.

If Go fails after the first batch, the status has been sent. Then the text of the error follows the items:
{"result": [1, 2], "error": "…"}, or a last line {"error": "…"}.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gothreads.errors import GothreadsError
from gothreads.serve.disconnect import left_first
from gothreads.serve.guard import CLIENT_LEFT, PIECE, TOO_LARGE_TOGETHER, Held

if TYPE_CHECKING:
    from gothreads.typed.streams import JsonStream

NDJSON = "application/x-ndjson"


async def items_response(stream: JsonStream, headers: Headers, receive: Receive, held: Held,
                         message: Callable[[Exception], str]) -> Response:
    """The response with the items of a stream. Waits for the first batch, whose error it raises.

    message: makes the text of an error.
    """
    first = await _unless_gone(stream, receive)
    if first is None:
        raise HTTPException(CLIENT_LEFT, "the client has disconnected")
    return _Items(stream, first, held, message, lines=NDJSON in headers.get("accept", ""))


class _Items(Response):
    def __init__(self, stream: JsonStream, first: list[bytes], held: Held, message: Callable[[Exception], str], *,
                 lines: bool) -> None:
        super().__init__(media_type=NDJSON if lines else "application/json")
        del self.headers["content-length"]
        self._stream, self._first, self._held, self._message, self._lines = stream, first, held, message, lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_piece(piece: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": piece, "more_body": more})
        with self._stream:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if not self._lines:
                await send_piece(b'{"result":[')
            error = await self._send_items(receive, send_piece)
            tail = b"" if self._lines else b"]}"
            if error is not None:
                told = json.dumps({"error": error}).encode()
                tail = told + b"\n" if self._lines else b"]," + told[1:]
            await send_piece(tail, more=False)

    async def _send_items(self, receive: Receive, send_piece: Callable[[bytes], Awaitable[None]]) -> str | None:
        """Send the items, until there are no more or the client has left. Returns the text of an error."""
        before, between, after = b"", *((b"\n", b"\n") if self._lines else (b",", b""))
        batch: list[bytes] | None = self._first
        self._first = []
        while batch:
            body = before + between.join(batch) + after
            before = b"" if self._lines else between
            with self._held.answer(len(body)) as fits:
                if not fits:
                    return TOO_LARGE_TOGETHER
                for at in range(0, len(body), PIECE):
                    await send_piece(body[at:at + PIECE])
            try:
                batch = await _unless_gone(self._stream, receive)
            except GothreadsError as failed:
                return self._message(failed)
        return None


async def _unless_gone(stream: JsonStream, receive: Receive) -> list[bytes] | None:
    """The next batch; none if the client has left, or leaves before there is one. Closes the stream then."""
    batch = asyncio.ensure_future(stream.batch())
    try:
        if not await left_first(receive, batch):
            return batch.result()
        stream.close()
        return None
    finally:
        batch.cancel()
