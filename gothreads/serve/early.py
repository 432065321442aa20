"""Answers clients while the apps are being opened: the first build of a program takes a minute, and a probe would end
the process meanwhile.

    bind ─▶ open the apps; this answers, on a thread ─▶ this ends ─▶ the server begins, on the same sockets

/livez (also under an app's path) is 200; everything else is 503: /readyz for probes, the rest with Retry-After. Between
the two servers, clients wait in the backlog of the sockets, which both share.

Not on a socket that somebody else has opened (systemd, --fd): there, clients are meant to wait until the program is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from gothreads.serve.connection import Connection
from gothreads.serve.listeners import BACKLOG
from gothreads.serve.tls import limit_handshakes

#: Apps that are open within so many seconds, from the cache, need none of this.
_SOON = 0.5
#: How long clients may take for what they have begun, at the end, in seconds.
_LEAVE_SECONDS = 1
_OPENING = ("the server is not ready yet: its programs are being built, compiled to machine code or started. Try again "
            "soon")


@contextlib.contextmanager
def answering(listeners: Sequence[socket.socket], tls: ssl.SSLContext | None, most: int) -> Iterator[None]:
    """Answer on these sockets meanwhile. most: the limit on clients."""
    opened = threading.Event()
    server = _Server(uvicorn.Config(
        _answer, loop="asyncio", http=Connection, ws="none", lifespan="off", log_config=None, log_level="critical",
        access_log=False, server_header=False, proxy_headers=False, backlog=BACKLOG, limit_concurrency=most + 1,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        timeout_graceful_shutdown=_LEAVE_SECONDS))

    def run() -> None:
        if opened.wait(_SOON):
            return
        with contextlib.ExitStack() as own:  # the server closes these; the listeners stay open
            server.run(sockets=[own.enter_context(listener.dup()) for listener in listeners])
    thread = threading.Thread(target=run, name="gothreads-early", daemon=True)
    thread.start()
    try:
        yield
    finally:
        opened.set()
        server.should_exit = True
        thread.join()


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.is_ssl:
            limit_handshakes(asyncio.get_running_loop())
        await super().startup(sockets)


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    is_live = Request(scope).url.path.rpartition("/")[2] == "livez"
    reply = JSONResponse({"ok": True}) if is_live else JSONResponse({"error": _OPENING}, 503, {"Retry-After": "1"})
    await reply(scope, receive, send)
