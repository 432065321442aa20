"""Runs an HTTP server for an app: its socket, the web server, and their shutdown together with the app's.

A server stops because of a signal, or because the app ends. After SIGTERM it first goes on for a while, although it
says that it is not ready, so that load balancers send requests elsewhere. Then it accepts no more clients, and drains:
requests in flight finish. If that takes too long, or a second signal arrives, the app is closed, which ends the calls
in flight. All of these only set `should_exit` or close the app; uvicorn does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import math
import os
import resource
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Unpack

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gothreads.errors import GothreadsError, GuestError
from gothreads.files import reason
from gothreads.output.terminal import Handler, Terminal
from gothreads.runtime.options import DRAIN_SECONDS
from gothreads.runtime.state import State
from gothreads.serve.access import RequestIds
from gothreads.serve.connection import Connection, Seldom, log
from gothreads.serve.guard import Hosts
from gothreads.serve.listeners import BACKLOG, Address, Place, host_of, url_of
from gothreads.serve.metrics import Metrics, metrics_app
from gothreads.serve.probes import Probes
from gothreads.serve.served import Served
from gothreads.serve.tls import limit_handshakes
from gothreads.serve.web import WebOptions, web_app

#: The largest number of connected clients. More get 503.
MOST_CONNECTIONS = 2048

_seldom, _request_ids = Seldom(), RequestIds()
_uvicorns = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Stopping:
    """How a server stops, in seconds.

    delay: how long it goes on after SIGTERM, although it is not ready. drain: how long requests in flight may take
    then, or after another signal; after that they get 503.
    """

    delay: float = 0.0
    drain: float = DRAIN_SECONDS


@dataclass(frozen=True)
class Transport:
    """What is between clients and the application.

    tls: if clients speak TLS to this server. proxies: the addresses and networks of proxies, whose X-Forwarded-For and
    X-Forwarded-Proto are believed.
    """

    tls: ssl.SSLContext | None = None
    proxies: Sequence[str] = ()


def trusted(networks: Sequence[str]) -> Sequence[str]:
    """These networks of proxies, as uvicorn takes them: also as a socket of IPv6 sees those of IPv4. "*": any."""
    if "*" in networks:
        return ["*"]
    mapped = [f"::ffff:{network.network_address}/{96 + network.prefixlen}"
              for network in map(ipaddress.ip_network, networks) if network.version == 4]
    return [*networks, *mapped]


def serve(open_app: Callable[[], Served], terminal: Terminal, *, address: Place, metrics: Address | None = None,
          allowed: Sequence[str] = (), stopping: Stopping = Stopping(), transport: Transport = Transport(),
          **options: Unpack[WebOptions]) -> int:
    """Serve until SIGTERM, Ctrl-C, or the end of the module (the final one if it is supervised).

    Returns the exit code: 0, or the module's.

    metrics: where to answer /metrics, and nothing else, instead of at `address`. allowed: further names of the server.
    options: of web_app.
    """
    with contextlib.ExitStack() as listeners:
        listener = listeners.enter_context(address.listen())
        of_metrics = None if metrics is None else listeners.enter_context(metrics.listen())
        bound = host_of(listener)
        hosts = Hosts.of(address.host if isinstance(address, Address) else bound, bound, allowed)

        def web(app: Served, probes: Probes) -> ASGIApp:
            if metrics is None or of_metrics is None:
                return web_app(app, hosts, probes=probes, **options)
            own = Metrics(app)
            return _two(web_app(app, hosts, probes=probes, own_metrics=own, **options),
                        metrics_app(own, Hosts.of(metrics.host, host_of(of_metrics), allowed)),
                        of_metrics.getsockname(), listener.getsockname())
        return _serve(open_app, web, [listener] if of_metrics is None else [listener, of_metrics], terminal=terminal,
                      stopping=stopping, transport=transport, warning=_warning(hosts, transport, options))


def _warning(hosts: Hosts, transport: Transport, options: WebOptions) -> str | None:
    """What whoever runs the server should know about who can use it."""
    asks = options.get("api_keys") is not None or options.get("jwt_keys") is not None
    if hosts.is_local or (transport.tls is not None and transport.tls.verify_mode is ssl.VerifyMode.CERT_REQUIRED):
        return None
    if not asks:
        return ("other machines may be able to connect, and there is no authentication. Accepted host names: "
                f"{hosts}")
    if transport.tls is None and not transport.proxies:
        return ("other machines may be able to connect, without TLS: whoever sees the traffic sees the keys. "
                "Use --tls-cert, or a proxy that has TLS")
    return None


def _two(web: ASGIApp, metrics: ASGIApp, of_metrics: tuple[Any, ...], of_web: tuple[Any, ...] | str) -> ASGIApp:
    """An application that is `metrics` for clients of that address, and `web` for others.

    A listener on all addresses does not share its port with another; those of two addresses may. A Unix socket has
    none.
    """
    other = None if isinstance(of_web, str) else of_web[1]

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        host, port = scope.get("server") or ("", None)
        is_metrics = port == of_metrics[1] and (port != other or host == of_metrics[0])
        await (metrics if is_metrics else web)(scope, receive, send)
    return choose


def _serve(open_app: Callable[[], Served], web: Callable[[Served, Probes], ASGIApp],
           listeners: Sequence[socket.socket], *, terminal: Terminal, stopping: Stopping, transport: Transport,
           warning: str | None) -> int:
    urls = [url_of(listener, "http" if transport.tls is None else "https") for listener in listeners]
    with open_app() as app:
        probes = Probes(app)
        server = _Server(app, web(app, probes), terminal, stopping, probes, transport=transport)
        # From here on a signal drains, also before uvicorn installs its handlers and after it has removed them.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)
        signal.signal(signal.SIGHUP, server.handle_hang_up)
        threading.Thread(target=server.stop_with_app, name="gothreads-watch", daemon=True).start()
        terminal.say(f"serving {app.loaded.name} on {urls[0]} (Ctrl-C to stop)")
        for url in urls[1:]:
            terminal.say(f"metrics are at {url}/metrics")
        if warning is not None:
            terminal.say(warning)
        server.run(sockets=[*listeners])
        ended = app.error
        # A supervised module that is down has not ended.
        if app.exit is not None and isinstance(ended, GuestError):
            terminal.error(ended.headline)
            return ended.code
        if server.stopped_by is not None:
            terminal.say(f"stopped by {server.stopped_by.name}")
        return 0


class _Server(uvicorn.Server):
    """uvicorn's server for one app."""

    def __init__(self, app: Served, web: ASGIApp, terminal: Terminal, stopping: Stopping, probes: Probes, *,
                 transport: Transport = Transport()) -> None:
        most, tls = most_connections(), transport.tls
        # The backlog is how many clients are accepted per turn of the event loop. Refusing one takes some turns.
        super().__init__(uvicorn.Config(_quiet(web), loop="asyncio", http=Connection, ws="none", log_level="warning",
                                        access_log=False, server_header=False,
                                        # Otherwise uvicorn believes these headers of every client of this machine.
                                        proxy_headers=bool(transport.proxies),
                                        forwarded_allow_ips=[*transport.proxies],
                                        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
                                        log_config=None if terminal.as_json else uvicorn.config.LOGGING_CONFIG,
                                        backlog=max(1, most // 16), limit_concurrency=most + 1,
                                        timeout_graceful_shutdown=math.ceil(stopping.drain) + 5))
        for logger in (log, _uvicorns):
            logger.addFilter(_seldom)
            logger.addFilter(_request_ids)
        if terminal.as_json:
            _uvicorns.addHandler(Handler(terminal))
        self._app, self._terminal, self._stopping, self._probes = app, terminal, stopping, probes
        self._ignores_hang_up = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup
        self.stopped_by: signal.Signals | None = None
        self._drain_at: float | None = None  # when to drain, once SIGTERM has come and there is a delay
        self._announced = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends. Unlike in uvicorn, signals are not raised again at the end."""
        self.stopped_by = self.stopped_by or signal.Signals(sig)
        self._probes.stopping = True
        if self.should_exit or self._drain_at is not None:
            self._close_app()
            self.should_exit = True
        elif sig == signal.SIGTERM and self._stopping.delay:
            self._drain_at = time.monotonic() + self._stopping.delay
        else:
            self._begin_drain(sig)

    def _begin_drain(self, sig: int) -> None:
        self._app.send_signal(sig, default=False)  # the program may have something to finish, too
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if self._drain_at is not None and not self.should_exit:
            if not self._announced:  # not by the signal's handler, which may have interrupted another message
                self._announced = True
                self._terminal.say(f"not ready any more: shutting down in {self._stopping.delay:g} s (Ctrl-C to stop "
                                   "now)")
            if time.monotonic() >= self._drain_at:
                self._begin_drain(signal.SIGTERM)
        return await super().on_tick(counter)

    def handle_hang_up(self, sig: int, frame: FrameType | None) -> None:
        """A program that handles SIGHUP loads its configuration anew, or the like. Others drain, as for SIGTERM."""
        taken = self._app.send_signal(sig, default=False) or self._app.state is State.RESTARTING
        if not taken and not self._ignores_hang_up:
            self.handle_exit(sig, frame)

    def stop_with_app(self) -> None:
        """Wait for the end of the app, then stop."""
        with contextlib.suppress(GothreadsError):
            self._app.wait()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_loop_failed)
        if self.config.is_ssl:
            limit_handshakes(loop)
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drain = self._stopping.drain
        if drain and self._app.error is None and (waiting := len(self.server_state.tasks)):
            requests = "1 request" if waiting == 1 else f"{waiting} requests"
            self._terminal.say(f"shutting down: waiting up to {drain:g} s for {requests} (Ctrl-C again to stop "
                               f"now)")
        late = asyncio.get_running_loop().call_later(drain, self._close_app)
        await super().shutdown(sockets)
        late.cancel()

    def _close_app(self) -> None:
        """On a thread, because it may wait for a Python function that the module has called."""
        threading.Thread(target=self._app.close, name="gothreads-close", daemon=True).start()


def most_connections() -> int:
    """The limit on clients: at most half of the descriptors that are left, since the module opens files too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, (soft - len(os.listdir("/proc/self/fd"))) // 2))


def _loop_failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log failed accepts as warnings, which Seldom limits.

    If the module holds all descriptors, asyncio fails to accept every second, as often as its backlog is long, and
    reports each failure.
    """
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        log.warning("cannot accept clients: %s. Raise the limit on open files (ulimit -n), or lower the module's "
                    "(--limit files=N)", reason(error))
    else:
        loop.default_exception_handler(context)


def _quiet(app: ASGIApp) -> ASGIApp:
    """The application, without a traceback in the log for each client that sends garbage.

    If what follows a request is not a valid request (after one of HTTP/1.0, anything is not), uvicorn answers 400, even
    while the first request is still unanswered. The response to that then is invalid: uvicorn raises an error in the
    application, closes the connection, and logs one line.
    """
    async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(h11.LocalProtocolError):
            await app(scope, receive, send)
    return quiet
