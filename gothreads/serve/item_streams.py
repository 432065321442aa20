"""Iterators of Go's as responses: {"result": [1, 2, 3]}, or what the client accepts: NDJSON, a line for each item, or
server-sent events, an event for each.

Items are sent as they come. One batch is here at a time: Go is asked for the next when the client has taken this one.
A client that leaves stops Go, at once if Go is being asked for items.

If Go fails after the first batch, the status has been sent. Then the text of the error follows the items:
{"result": [1, 2], "error": "…"}, or a last line {"error": "…"}, or the event `error`. The last event is `end`
otherwise, so that clients can tell the end from a connection that was lost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gothreads.errors import GothreadsError
from gothreads.serve.disconnect import left_first
from gothreads.serve.error_responses import message
from gothreads.serve.guard import CLIENT_LEFT, PIECE, TOO_LARGE_TOGETHER, Held

if TYPE_CHECKING:
    from gothreads.typed.streams import BatchedStream, JsonStream

#: Where the scope of a request may have a function that is told the error that ends an answer in the middle.
FAILED = "gothreads.failed"
NDJSON, EVENTS = "application/x-ndjson", "text/event-stream"


@dataclass(frozen=True)
class _Format:
    """How items are written: `first` is before the first item, `before` before others, `after` after each.

    begin, end: of the body. failed: the end, if Go has failed, with the error's text as JSON.
    """

    media_type: str
    first: bytes
    before: bytes
    after: bytes
    end: bytes
    failed: bytes
    begin: bytes = b""


_LIST = _Format("application/json", first=b"", before=b",", after=b"", end=b"]}", failed=b'],"error": %s}',
                begin=b'{"result":[')
_LINES = _Format(NDJSON, first=b"", before=b"", after=b"\n", end=b"", failed=b'{"error": %s}\n')
_EVENTS = _Format(EVENTS, first=b"data: ", before=b"data: ", after=b"\n\n", end=b"event: end\ndata: {}\n\n",
                  failed=b'event: error\ndata: {"error": %s}\n\n')


async def items_response(stream: JsonStream, headers: Headers, receive: Receive, held: Held) -> Response:
    """The response with the items of a stream. Waits for the first batch, whose error it raises.

    receive: tells when the client has left.
    """
    batches = Batches(stream, receive)
    first = await batches.next()
    if first is None:
        raise HTTPException(CLIENT_LEFT, "the client has disconnected")
    accepted = headers.get("accept", "")
    written = next((each for each in (_LINES, _EVENTS) if each.media_type in accepted), _LIST)
    return _Items(first, batches, held, written)


class Batches:
    """The batches of items of a stream, for a client that may leave."""

    def __init__(self, stream: BatchedStream, receive: Receive) -> None:
        self.stream, self._receive = stream, receive

    async def next(self) -> list[bytes] | None:
        """The next batch; none if the client has left, or leaves before there is one. Closes the stream then."""
        batch = asyncio.ensure_future(self.stream.batch())
        try:
            if not await left_first(self._receive, batch):
                return batch.result()
            self.stream.close()
            return None
        finally:
            batch.cancel()


class _Items(Response):
    def __init__(self, first: list[bytes], batches: Batches, held: Held, written: _Format) -> None:
        # Proxies that would keep items until there are more of them are asked not to.
        super().__init__(media_type=written.media_type,
                         headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._first, self._batches, self._held, self._format = first, batches, held, written

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_piece(piece: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": piece, "more_body": more})
        with self._batches.stream:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if self._format.begin:
                await send_piece(self._format.begin)
            try:
                error = await self._send_items(send_piece)
            except OSError:  # so servers say that the client has left
                return
            if error is not None and (told := scope.get(FAILED)) is not None:
                told(error)
            await send_piece(self._format.end if error is None
                             else self._format.failed % json.dumps(message(error)).encode(), more=False)

    async def _send_items(self, send_piece: Callable[[bytes], Awaitable[None]]) -> Exception | None:
        """Send the items, until there are no more or the client has left. Returns an error that has ended them."""
        before, between = self._format.first, self._format.after + self._format.before
        batch: list[bytes] | None = self._first
        self._first = []
        while batch:
            body = before + between.join(batch) + self._format.after
            before = self._format.before
            with self._held.answer(len(body)) as fits:
                if not fits:
                    return HTTPException(503, TOO_LARGE_TOGETHER)
                for at in range(0, len(body), PIECE):
                    await send_piece(body[at:at + PIECE])
            try:
                batch = await self._batches.next()
            except (GothreadsError, HTTPException) as failed:  # or of the body that Go reads (body_reader.py)
                return failed
        return None
