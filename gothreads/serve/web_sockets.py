"""WebSocket, as another framing of POST: whoever opens one at the path of a call makes that call.

    from the client: a message         a piece of the body, for an io.Reader: of a text message with "\\n" after it. An
                                       empty message is the end of the body. Otherwise the first message is the body
    to the client: a message           an item of an iterator, as it comes; what a handler that streams has flushed; or
                                       the result
    close 1000                         the end; 4000 + the status, if that is an error, whose text is the last message

So rights, limits, metrics, back-pressure and the end of a call are those of POST. What is behind this module only says
whether the body is read as it comes (body_reader.py), and whether an error has ended the items (item_streams.py).

Until the body is wanted, or there is an answer, the handshake waits: what is refused before gets its HTTP status.
Browsers let every page open a WebSocket to every server: guard.py refuses those of other sites, as it does with POST.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gothreads.serve.body_reader import STREAMED
from gothreads.serve.byte_streams import PIECES
from gothreads.serve.item_streams import FAILED, NDJSON

#: The largest result, in bytes: on its way it is copied several times.
MOST_SENT = 16 << 20
#: Codes of the end (RFC 6455): of an answer; of a message that nobody expects; of a result that is too large; of items,
#: by an error.
_END, _UNEXPECTED, _TOO_LARGE, _ITEMS_FAILED = 1000, 1008, 1009, 1011
#: A status is this less than the code of the end.
_STATUSES = 4000
#: The longest text beside such a code, in bytes.
_MOST_REASON = 123
_SCHEMES = {"ws": "http", "wss": "https"}
#: Headers of the request that are of the handshake, or of bodies.
_OF_HANDSHAKE = frozenset({b"connection", b"upgrade", b"accept", b"content-length", b"transfer-encoding"})


class WebSockets:
    """An ASGI application for HTTP, which answers WebSockets, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
        elif (await receive())["type"] == "websocket.connect":
            exchange = Exchange(scope, receive, send)
            await self._app(exchange.scope, exchange.receive, exchange.send)


class Exchange:
    """One WebSocket as one request and its response. On the server's event loop only.

    The handshake is accepted once, by whoever first needs it: a task, since a `receive` may be cancelled.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._is_streamed = False  # the body is read as it comes: it has more than one message
        self._failed = False  # an error has ended the items
        self._in_pieces = False  # each piece of the answer is a message
        self._body_over, self._gone, self._refuses = False, False, False
        self._accepting: asyncio.Task[None] | None = None
        self._status, self._type = 0, ""
        self._rest = bytearray()  # what is sent of a message that is not complete
        headers = [(name, value) for name, value in scope["headers"] if name not in _OF_HANDSHAKE]
        #: The request's.
        self.scope: Scope = {**scope, "type": "http", "method": "POST",
                             STREAMED: self._read_as_it_comes, FAILED: self._items_have_failed,
                             PIECES: self._is_in_pieces,
                             "scheme": _SCHEMES.get(scope.get("scheme", "ws"), "http"),
                             "headers": [*headers, (b"accept", NDJSON.encode())]}

    def _read_as_it_comes(self) -> None:
        self._is_streamed = True

    def _items_have_failed(self, _error: Exception) -> None:
        self._failed = True

    def _is_in_pieces(self) -> None:
        self._in_pieces = True

    async def receive(self) -> Message:
        if not self._gone:
            await self._accepted()
            message = await self._receive()
            if message["type"] == "websocket.receive" and not self._body_over:
                return self._piece(message)
            if message["type"] == "websocket.receive":
                await self._close(_UNEXPECTED, "the call has its arguments: it takes no more messages")
            self._gone = True
        return {"type": "http.disconnect"}

    def _piece(self, message: Message) -> Message:
        text: str | None = message.get("text")
        data: bytes = message["bytes"] if text is None else text.encode()
        self._body_over = not data or not self._is_streamed
        if text and self._is_streamed:
            data += b"\n"
        return {"type": "http.request", "body": data, "more_body": not self._body_over}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            self._status, self._type = message["status"], headers.get("content-type", "")
            self._refuses = self._accepting is None and self._status >= 400
            if self._refuses:
                await self._refuse(message)
            else:
                await self._accepted()
        elif self._refuses:
            await self._refuse(message)
        elif not self._gone:
            await self._send_messages(message.get("body", b""), is_last=not message.get("more_body", False))

    async def _refuse(self, message: Message) -> None:
        """Answer the handshake by HTTP, where the server can; by 403 elsewhere."""
        if "websocket.http.response" in (self.scope.get("extensions") or {}):
            await self._send({**message, "type": message["type"].replace("http", "websocket.http", 1)})
        elif message["type"] == "http.response.start":
            await self._send({"type": "websocket.close"})

    async def _accepted(self) -> None:
        if self._accepting is None:
            self._accepting = asyncio.create_task(self._accept())
        await asyncio.shield(self._accepting)

    async def _accept(self) -> None:
        """Accept the handshake: a coroutine, also where a `send` of the server's is none (granian)."""
        await self._send({"type": "websocket.accept"})

    async def _send_messages(self, piece: bytes, *, is_last: bool) -> None:
        if self._in_pieces:
            if self._failed:  # the error is a message by itself
                await self._send_rest()
            if piece:
                await self._send_piece(piece)
            if is_last:
                await self._send_rest()
                await self._close(_ITEMS_FAILED if self._failed else _END, "")
            return
        self._rest += piece
        if self._type.startswith(NDJSON) and b"\n" in piece:  # the rest has none: it is looked through once
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                await self._send_message(bytes(line))
        if not is_last:
            return
        whole = bytes(self._rest)
        self._rest = bytearray()
        if len(whole) > MOST_SENT:
            await self._close(_TOO_LARGE, f"the result has more than {MOST_SENT >> 20} MiB: use POST")
            return
        if whole or not self._type.startswith(NDJSON):
            await self._send_message(whole)
        if self._status < 400:
            await self._close(_ITEMS_FAILED if self._failed else _END, "")
        else:
            await self._close(_STATUSES + self._status, _error_of(whole))

    async def _send_piece(self, piece: bytes) -> None:
        """Send a piece; of text, without the beginning of a character at its end, which waits for the next piece."""
        whole = bytes(self._rest) + piece
        size = len(whole)
        if self._is_text():
            with contextlib.suppress(UnicodeDecodeError):  # what is no text is sent as bytes
                size = codecs.utf_8_decode(whole)[1]  # not its end, if more is to come
        self._rest = bytearray(whole[size:])
        if size:
            await self._send_message(whole[:size])

    async def _send_rest(self) -> None:
        if self._rest:
            rest, self._rest = bytes(self._rest), bytearray()
            await self._send_message(rest)

    def _is_text(self) -> bool:
        return "json" in self._type or self._type.startswith("text/") or self._failed

    async def _send_message(self, data: bytes) -> None:
        text = None
        if self._is_text():
            with contextlib.suppress(UnicodeDecodeError):  # a handler's reply may only look like JSON
                text = data.decode()
        await self._send({"type": "websocket.send", **({"bytes": data} if text is None else {"text": text})})

    async def _close(self, code: int, reason: str) -> None:
        cut = reason.encode()[:_MOST_REASON].decode(errors="ignore")
        await self._send({"type": "websocket.close", "code": code, "reason": cut})


def _error_of(body: bytes) -> str:
    """The text of an error's body."""
    try:
        found: Any = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(found)
