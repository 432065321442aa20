"""Client connections: uvicorn's, with bounds on what one client can make the server hold, and for how long.

    connections  those above the limit are refused before anything is read from them, except a TLS handshake
    receiving    RECEIVED bytes at a time, which bounds a request head and unread data, and keeps one client from
                 occupying the event loop for long. Beyond the first FREE_CHUNKS, the chunks of a body must have
                 LEAST_CHUNK bytes on average, since h11 takes as long for the smallest chunk as for a large one
    waiting      HEAD_SECONDS for a head, or for the rest of a body whose response has been sent already
    sending      nothing more is written while anything is unsent; if that is sent more slowly than LEAST_RATE, with
                 SEND_SECONDS of tolerance, the connection is closed
    leaving      asyncio does not see the end of a connection that it does not read from: while a request is answered
                 and reading is paused, it is looked for every LOOK_SECONDS

All of it runs on the server's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gothreads.serve.disconnect import BREAK_OFF, CUT, GONE
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
#: How often the end of a connection that is not read from is looked for, in seconds.
LOOK_SECONDS = 1.0
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


class Sending:
    """For a protocol of uvicorn's: cuts the connection of a client that takes what is sent too slowly.

    The transport pauses whenever anything is unsent, and resumes when nothing is.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _sends: asyncio.TimerHandle | None = None  # running while anything is unsent
    # The time left to send the unsent bytes beyond what LEAST_RATE takes, in seconds, and when that was computed.
    _patience, _since, _unsent = SEND_SECONDS, 0.0, 0

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        now = self.loop.time()
        self._patience = min(SEND_SECONDS, self._patience + now - self._since)  # nothing was unsent meanwhile
        self._since, self._unsent = now, self.transport.get_write_buffer_size()
        self._sends = self.loop.call_later(self._patience + self._unsent / LEAST_RATE, self._cut)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        self.stop_timer()
        now = self.loop.time()
        self._patience = min(SEND_SECONDS, self._patience + self._unsent / LEAST_RATE - (now - self._since))
        self._since = now

    def stop_timer(self) -> None:
        if self._sends is not None:
            self._sends.cancel()

    def _cut(self) -> None:
        # Without SO_LINGER the kernel would keep the unsent rest, and go on trying to send it.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Connection(Sending, H11Protocol, asyncio.BufferedProtocol):
    """uvicorn's h11 protocol, with the bounds above."""

    _waits: asyncio.TimerHandle | None = None  # closes the connection if no head arrives in time
    _looks: asyncio.TimerHandle | None = None  # for a client that has left while reading is paused
    _is_upgraded = False  # to a WebSocket, whose protocol has the transport now

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
        self._gone = self.loop.create_future()
        self.app_state = {**self.app_state, CUT: self._cut, GONE: self._gone,  # each scope["state"] is a copy
                          BREAK_OFF: transport.close}
        self._received, self._patience = bytearray(RECEIVED), SEND_SECONDS
        self._next_event, self.conn.next_event = self.conn.next_event, self._checked_event  # type: ignore[method-assign]
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        if not self._gone.done():
            self._gone.set_result(None)
        super().connection_lost(exc)

    def _stop_timers(self) -> None:
        self.stop_timer()
        for timer in (self._waits, self._looks):
            if timer is not None:
                timer.cancel()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_timers()
        self._is_upgraded = True
        super().handle_websocket_upgrade(event)

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
        """Run the timers: one while no request is being answered, whether or not the next has begun; else the other."""
        if self._is_upgraded:
            return
        answering = self._is_answering()
        if self._looks is None and answering and self.flow.read_paused:
            self._looks = self.loop.call_later(LOOK_SECONDS, self._look)
        if self._waits is not None and answering:
            self._waits.cancel()
            self._waits = None
        elif self._waits is None and not answering and not self.transport.is_closing():
            self._waits = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """Cut the connection if the client has ended it. Runs as long as a request is answered and nothing is read."""
        self._looks = None
        if self.transport.is_closing():
            return
        looked = select.poll()
        looked.register(self.transport.get_extra_info("socket"), select.POLLRDHUP)  # errors are told, too
        if self._is_answering() and self.flow.read_paused and looked.poll(0):
            self._cut()
        else:
            self._watch()
