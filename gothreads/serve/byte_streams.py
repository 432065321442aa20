"""Answers of handlers that stream (guest.HandleStream): what Go writes is sent as it comes, with the type that it says.

One batch is here at a time, as with items (item_streams.py). If Go fails in the middle, the answer breaks off: the
connection ends before the end of the body (of HTTP/1.0: is reset), so no client takes it for complete. A WebSocket has
the error as its last message.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gothreads.errors import GothreadsError, HandlerError
from gothreads.serve.disconnect import BREAK_OFF, CUT, GONE
from gothreads.serve.error_responses import message
from gothreads.serve.guard import TOO_LARGE_TOGETHER, Held
from gothreads.serve.item_streams import FAILED, Batches
from gothreads.text import cut, shown

if TYPE_CHECKING:
    from gothreads.typed.streams import ByteStream

log = logging.getLogger("gothreads.serve")

#: Where the scope of a request may have a function that is to know that each piece of the body is a message.
PIECES = "gothreads.pieces"
_UNKNOWN_TYPE = "application/octet-stream"
#: The longest content type, in characters.
_MOST_TYPE = 255


class Answer(Response):
    """What a handler writes. name: the handler's, for the log."""

    def __init__(self, name: str, stream: ByteStream, receive: Receive, held: Held) -> None:
        """receive: tells when the client has left. HandlerError: no header can have the type of the content."""
        kind = stream.content_type or _UNKNOWN_TYPE
        if not (kind.isascii() and kind.isprintable() and len(kind) <= _MOST_TYPE):
            stream.close()
            raise HandlerError(f"the handler {cut(name)} has no valid content type: {cut(kind)}")
        super().__init__(headers={"Content-Type": kind, "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._name, self._batches, self._held = name, Batches(stream, receive), held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._batches.stream:
            if (told := scope.get(PIECES)) is not None:
                told()
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                error = await self._send_pieces(send, apart=told is not None)
                if error is None:
                    await send({"type": "http.response.body", "body": b""})
            except OSError:  # so servers say that the client has left
                return
            if error is not None:
                log.warning("the answer of the handler %s breaks off: %s", cut(self._name), shown(message(error)))
                await _fail(error, scope, send)

    async def _send_pieces(self, send: Send, *, apart: bool) -> Exception | None:
        """Send what comes, until there is no more or the client has left. Returns an error that has ended it.

        apart: each piece by itself.
        """
        await send({"type": "http.response.body", "body": b"", "more_body": True})  # the head goes out now
        while True:
            try:
                batch = await self._batches.next()
            except (GothreadsError, HTTPException) as failed:  # or of the body that Go reads (body_reader.py)
                return failed
            if not batch:
                return None
            with self._held.answer(sum(map(len, batch))) as fits:
                if not fits:
                    return HTTPException(503, TOO_LARGE_TOGETHER)
                for piece in batch if apart else [b"".join(batch)]:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _fail(error: Exception, scope: Scope, send: Send) -> None:
    """End the answer, so that the client sees that it is not complete."""
    if (told := scope.get(FAILED)) is not None:
        told(error)
    if PIECES in scope:
        await send({"type": "http.response.body", "body": json.dumps({"error": message(error)}).encode()})
        return
    state: dict[str, Any] = scope.get("state", {})
    # For HTTP/1.0 the end of the connection is that of the body: only a reset tells that it is not complete.
    if (end := state.get(CUT if scope.get("http_version") == "1.0" else BREAK_OFF)) is not None:
        end()  # other servers do that when the application returns now
        await state[GONE]
