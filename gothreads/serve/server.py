"""Serving an app: a socket, a web server, and their end together with the app's.

Three things end a server: a signal, the app's own end, and, when draining takes too long or a second signal comes, closing
the app, which ends the calls in flight. All only set `should_exit`, or close the app; uvicorn does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gothreads.app import App
from gothreads.errors import GothreadsError, GuestError
from gothreads.serve.web import web_app
from gothreads.terminal import Terminal

#: How long requests in flight may take after SIGTERM or Ctrl-C, in seconds; then they get 503.
DRAIN_SECONDS = 10


def serve(open_app: Callable[[], App], host: str, port: int, terminal: Terminal) -> int:
    """Serve until SIGTERM, Ctrl-C, or the module's end; the exit code is 0, or the module's."""
    with _listen(host, port) as listener, open_app() as app:
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        server = _Server(app)
        # From here on a signal drains: before uvicorn has its handlers in place, and after it has taken them away.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)
        threading.Thread(target=server.stop_with_app, name="gothreads-watch", daemon=True).start()
        terminal.say(f"serving {app.loaded.name} on http://{shown}:{address[1]} (Ctrl-C ends)")
        server.run(sockets=[listener])
        ended = app.error
        if isinstance(ended, GuestError):
            terminal.say(ended.message)
            return ended.code
        return 0


class _Server(uvicorn.Server):
    """uvicorn's server, for one app."""

    def __init__(self, app: App) -> None:
        super().__init__(uvicorn.Config(_quiet(web_app(app)), log_level="warning", access_log=False, timeout_graceful_shutdown=DRAIN_SECONDS + 5))
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the next ends. Unlike uvicorn's, none is raised again at the end."""
        if self.should_exit:
            self._close_app()
        self.should_exit = True

    def stop_with_app(self) -> None:
        """Wait for the app's end, then stop."""
        with contextlib.suppress(GothreadsError):
            self._app.wait()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        late = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._close_app)
        await super().shutdown(sockets)
        late.cancel()

    def _close_app(self) -> None:
        """On a thread: it takes as long as a Python function that the module has called."""
        threading.Thread(target=self._app.close, name="gothreads-close", daemon=True).start()


def _quiet(app: ASGIApp) -> ASGIApp:
    """The application, without a traceback in the log for each client that talks nonsense.

    uvicorn answers 400 itself to what follows a request and is none (behind one of HTTP/1.0, that is anything), though the first is not answered
    yet. That answer then has no place: uvicorn raises in it, ends the connection, and says in one line what it missed.
    """
    async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(h11.LocalProtocolError):
            await app(scope, receive, send)
    return quiet


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise GothreadsError(f"cannot listen on {host}:{port}: {error.strerror}. Name an address of this machine with --host") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        hints = {errno.EADDRINUSE: "Choose another with --port (0: any)", errno.EACCES: "Choose one from 1024 on with --port",
                 errno.EADDRNOTAVAIL: "Name an address of this machine with --host"}
        hint = hints.get(error.errno or 0)
        raise GothreadsError(f"cannot listen on {host}:{port}: {error.strerror}{f'. {hint}' if hint else ''}") from None
    return listener
