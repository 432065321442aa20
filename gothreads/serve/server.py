"""Serving an app: a socket, a web server, and their end together with the app's."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn

from gothreads.app import App
from gothreads.errors import GothreadsError, GuestError
from gothreads.serve.web import web_app
from gothreads.terminal import Terminal

#: How long requests in flight may take after SIGTERM or Ctrl-C, in seconds.
DRAIN_SECONDS = 10


def serve(open_app: Callable[[], App], host: str, port: int, terminal: Terminal) -> int:
    """Serve until SIGTERM, Ctrl-C, or the module's end; the exit code is 0, or the module's."""
    with _listen(host, port) as listener, open_app() as app:
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        server = uvicorn.Server(uvicorn.Config(web_app(app), log_level="warning", timeout_graceful_shutdown=DRAIN_SECONDS, access_log=False))
        threading.Thread(target=_stop_with_app, args=(app, server), name="gothreads-watch", daemon=True).start()
        # uvicorn raises the signals again when it has drained; by then there is nothing left to do.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _seen)
        terminal.say(f"serving {app.loaded.name} on http://{shown}:{address[1]} (Ctrl-C ends)")
        server.run(sockets=[listener])
        ended = app.error
        if isinstance(ended, GuestError):
            terminal.say(ended.message)
            return ended.code
        return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        hint = " Choose another with --port" if getattr(error, "errno", None) in (98, 48) else ""
        raise GothreadsError(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}.{hint}") from None
    return listener


def _stop_with_app(app: App, server: uvicorn.Server) -> None:
    with contextlib.suppress(GothreadsError):
        app.wait()
    server.should_exit = True


def _seen(_number: int, _frame: FrameType | None) -> None:
    pass
