"""Connections that have become WebSockets: uvicorn's protocol for wsproto, with bounds as in connection.py.

    receiving    RECEIVED bytes at a time, and none while the application has a message that it has not taken; a message
                 has at most MOST_MESSAGE bytes
    handshake    a client that sends anything before the answer is cut
    waiting      a client that says nothing is asked to answer (ping), so one that is gone is noticed
    leaving      while the application has a message that it has not taken, nothing is read, and asyncio does not see
                 that a connection is broken: it is looked for every LOOK_SECONDS. (A client that has only ended what it
                 sends may have sent more messages, which the application still gets.)
    sending      a message waits until the one before is sent; slow clients are cut, as in connection.py

Messages are not compressed: a small one could become a large one.
"""

from __future__ import annotations

import asyncio
import select

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto import events

from gothreads.serve.connection import LOOK_SECONDS, RECEIVED, Sending
from gothreads.serve.disconnect import GONE
from gothreads.serve.guard import SMALL

#: The largest message from a client, in bytes: as large as a body that is not counted (guard.py).
MOST_MESSAGE = SMALL
#: How often a client is asked whether it is there, and how long it may take to answer, in seconds.
PING_SECONDS = PONG_SECONDS = 20.0
#: How long the client may take to end the WebSocket, after the server has, in seconds.
_CLOSE_SECONDS = 3.0


class WebSocketConnection(Sending, WSProtocol, asyncio.BufferedProtocol):
    """uvicorn's protocol, with the bounds above. All of it runs on the server's event loop."""

    _looks: asyncio.TimerHandle | None = None  # for a connection that breaks while reading is paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._received, self.close_timeout = bytearray(RECEIVED), _CLOSE_SECONDS
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_timer()
        if self._looks is not None:
            self._looks.cancel()
        super().connection_lost(exc)
        if not (gone := self.app_state[GONE]).done():
            gone.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._received)

    def buffer_updated(self, nbytes: int) -> None:
        if self.handshake_complete:
            self.data_received(bytes(self._received[:nbytes]))
        else:  # a client must not send by then (RFC 6455, 4.1), and wsproto would keep all of it
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except UnicodeError:  # wsproto takes some headers for ASCII, and uvicorn would not notice the end
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
        if self.read_paused and self._looks is None:
            self._looks = self.loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Cut the connection if it is broken. Runs as long as nothing is read."""
        self._looks = None
        if not self.read_paused or self.transport.is_closing():
            return
        looked = select.poll()
        looked.register(self.transport.get_extra_info("socket"), 0)  # errors and hang-ups are told nevertheless
        if looked.poll(0):
            self._cut()
        else:
            self._looks = self.loop.call_later(LOOK_SECONDS, self._look)

    async def send(self, message: events.Event) -> None:  # type: ignore[override]
        await super().send(message)  # type: ignore[arg-type]
        await self.writable.wait()  # until it is sent, it counts as held (guard.py)

    def handle_ping(self, event: events.Ping) -> None:
        if self.writable.is_set():  # else answers would pile up for a client that reads none
            super().handle_ping(event)

    def keepalive_timeout(self) -> None:
        if self.read_paused:  # the answer may be behind messages that the application has not taken yet
            self.pending_ping_payload = self.pong_timer = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def shutdown(self) -> None:
        """The server stops: a call that has begun may end, as with requests."""
        if self.close_sent:
            super().shutdown()
