"""Client connections: uvicorn's, with bounds on what one client can make the server hold, and for how long.

    connections  those above the limit are refused before anything is read from them, except a TLS handshake
    receiving    RECEIVED bytes at a time, which bounds a request head and unread data, and keeps one client from
                 occupying the event loop for long. Beyond the first FREE_CHUNKS, the chunks of a body must have
                 LEAST_CHUNK bytes on average, since h11 takes as long for the smallest chunk as for a large one
    waiting      HEAD_SECONDS for a head, or for the rest of a body whose response has been sent already
    sending      nothing more is written while anything is unsent; if that is sent more slowly than LEAST_RATE, with
                 SEND_SECONDS of tolerance, the connection is closed

All of it runs on the server's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gothreads.serve.disconnect import CUT
from gothreads.serve.guard import LEAST_RATE
from gothreads.serve.tls import CERTIFICATE, name_of

#: Bytes per read. h11 bounds the size of a head only if it arrives in more than one piece.
RECEIVED = 16 << 10
#: How many unsent bytes the kernel may hold.
UNSENT = 64 << 10
#: The number of chunks of a body that may have any size; and the average that any further ones must have, in bytes.
FREE_CHUNKS, LEAST_CHUNK = 1000, 64
#: Seconds allowed for a request head; and for unsent data, in addition to a second for each LEAST_RATE bytes.
HEAD_SECONDS = SEND_SECONDS = 20.0
#: The shortest interval at which a log message is repeated, in seconds.
SELDOM_SECONDS = 60.0

log = logging.getLogger("gothreads.serve")

_FULL = b'{"error":"too many clients are connected. Try again"}'
_REFUSAL = (b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nRetry-After: "
            b"1\r\nConnection: close\r\n\r\n%s"
            % (len(_FULL), _FULL))


class Seldom(logging.Filter):
    """Lets each warning through once a minute: clients can provoke a server's warnings as often as they like."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[tuple[str, int], float] = {}  # keyed by the logging line, so it stays small

    def filter(self, record: logging.LogRecord) -> bool:
        where, now = (record.pathname, record.lineno), time.monotonic()
        if record.levelno > logging.WARNING:
            return True
        if now < self._next.get(where, 0.0):
            return False
        self._next[where] = now + SELDOM_SECONDS
        return True


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """uvicorn's h11 protocol, with the bounds above."""

    _waits: asyncio.TimerHandle | None = None  # closes the connection if no head arrives in time
    _sends: asyncio.TimerHandle | None = None  # running while anything is unsent
    # The time left to send the unsent bytes beyond what LEAST_RATE takes, in seconds, and when that was computed.
    _patience, _since, _unsent = SEND_SECONDS, 0.0, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        assert self.limit_concurrency is not None
        if len(self.connections) + 1 >= self.limit_concurrency:  # as uvicorn does for requests
            transport.set_protocol(asyncio.Protocol())
            transport.write(_REFUSAL)
            transport.close()
            log.warning("%d clients are connected, which is the maximum: others get 503. A higher limit on open files "
                        "(ulimit -n) may allow more",
                        len(self.connections))
            return
        # Limits what the kernel accepts without sending it: otherwise it would hold megabytes more.
        if (connected := transport.get_extra_info("socket")).family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        super().connection_made(transport)
        # So pause_writing is called whenever anything is unsent, and resume_writing when nothing is. (asyncio's TLS
        # pauses at the limit, plain transports above it; and at once, since something of the handshake is unsent.)
        transport.set_write_buffer_limits(high=1, low=0)
        if (name := name_of(transport)) is not None:
            self.app_state = {**self.app_state, CERTIFICATE: name}
        self.app_state = {**self.app_state, CUT: self._cut}  # each request's scope["state"] is a copy
        self._received, self._patience = bytearray(RECEIVED), SEND_SECONDS
        self._next_event, self.conn.next_event = self.conn.next_event, self._checked_event  # type: ignore[method-assign]
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._waits, self._sends):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    # Receiving.

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._received)  # asyncio's TLS reads into slices of it, and one of a bytearray is a copy

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._received[:nbytes]))

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _checked_event(self) -> Any:
        event = self._next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._chunked = 0
        elif isinstance(event, h11.Data) and event.chunk_end:
            self._chunks += 1
            if (counted := self._chunks - FREE_CHUNKS) > 0:
                self._chunked += len(event.data)
                if self._chunked < counted * LEAST_CHUNK:
                    raise h11.RemoteProtocolError("the chunks are too small")
        return event

    def send_400_response(self, msg: str) -> None:
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # the response to the previous request has begun
            self.transport.close()

    def _watch(self) -> None:
        """Run the timer while no request is being answered, whether or not the next has begun."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._waits is not None and answering:
            self._waits.cancel()
            self._waits = None
        elif self._waits is None and not answering and not self.transport.is_closing():
            self._waits = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    # Sending.

    def pause_writing(self) -> None:
        super().pause_writing()
        now = self.loop.time()
        self._patience = min(SEND_SECONDS, self._patience + now - self._since)  # nothing was unsent meanwhile
        self._since, self._unsent = now, self.transport.get_write_buffer_size()
        self._sends = self.loop.call_later(self._patience + self._unsent / LEAST_RATE, self._cut)

    def resume_writing(self) -> None:
        super().resume_writing()
        assert self._sends is not None
        self._sends.cancel()
        now = self.loop.time()
        self._patience = min(SEND_SECONDS, self._patience + self._unsent / LEAST_RATE - (now - self._since))
        self._since = now

    def _cut(self) -> None:
        # Without SO_LINGER the kernel would keep the unsent rest, and go on trying to send it.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
