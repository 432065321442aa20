"""Runs an HTTP server for apps: its sockets, the web server, and their shutdown together with the apps'.

A server stops because of a signal, or because its only app ends. After SIGTERM it first goes on for a while, although
it says that it is not ready, so that load balancers send requests elsewhere. Then it accepts no more clients, and
drains: requests in flight finish, and programs that handle the signal end by themselves. If that takes too long, or a
second signal arrives, the apps are closed, which ends the calls in flight. All of these only set `should_exit` or close
the apps; uvicorn does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import math
import os
import resource
import signal
import socket
import ssl
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gothreads.errors import GothreadsError, GuestError
from gothreads.files import reason
from gothreads.output.app_names import AppNames
from gothreads.output.terminal import Handler, Terminal
from gothreads.runtime.app import App
from gothreads.runtime.state import State
from gothreads.serve.access import RequestIds
from gothreads.serve.apps import Apps, Hosted
from gothreads.serve.connection import Connection, Seldom, log
from gothreads.serve.guard import Hosts
from gothreads.serve.listeners import BACKLOG, Address, Place, host_of, url_of
from gothreads.serve.metrics import metrics_app
from gothreads.serve.serving import Serving, Transport
from gothreads.serve.tls import limit_handshakes
from gothreads.serve.web_socket_connection import MOST_MESSAGE, PING_SECONDS, PONG_SECONDS, WebSocketConnection

if TYPE_CHECKING:
    from gothreads.serve.watcher import Watcher

#: The largest number of connected clients. More get 503.
MOST_CONNECTIONS = 2048

_seldom, _request_ids = Seldom(), RequestIds()
_uvicorns = logging.getLogger("uvicorn.error")
_apps_log = logging.getLogger("gothreads")  # `log` is the server's


def serve(hosted: Sequence[Hosted], terminal: Terminal, serving: Serving) -> int:
    """Serve until SIGTERM, Ctrl-C, or the end of the module (the final one if it is supervised).

    Returns the exit code: 0, or the module's.
    """
    with contextlib.ExitStack() as open_now:
        listener = open_now.enter_context(serving.address.listen())
        of_metrics = None if serving.metrics is None else open_now.enter_context(serving.metrics.listen())
        bound = host_of(listener)
        hosts = Hosts.of(serving.address.host if isinstance(serving.address, Address) else bound, bound,
                         [*serving.allowed, *(one.host for one in hosted if one.host is not None)])
        watcher = None
        if serving.watched is not None:
            from gothreads.serve.watcher import Watcher
            watcher = Watcher(serving.watched)  # before anything is built
            open_now.callback(watcher.stop)
        names = AppNames([one.name for one in hosted if one.name is not None])
        for logger in (log, _apps_log):
            logger.addFilter(names)
            open_now.callback(logger.removeFilter, names)
        apps = Apps(hosted, drain=serving.stopping.drain, may_restart=serving.may_restart)
        open_now.callback(apps.close)
        web = apps.web(hosts, has_metrics=of_metrics is None, is_local=_is_local(serving, serving.address, hosts),
                       access_log=serving.access_log, allow_origins=serving.allow_origins)
        if serving.metrics is not None and of_metrics is not None:
            at = serving.metrics.host, host_of(of_metrics)
            own = metrics_app(apps.metrics, Hosts.of(*at, serving.allowed), apps.dashboard.own_routes(
                is_local=_is_local(serving, serving.metrics, Hosts.of(*at))))  # `allowed` is for the other address
            web = _two(web, own, of_metrics.getsockname(), listener.getsockname())
        server = _Server(apps, web, terminal, serving, watcher)
        return server.serve_until_stopped([listener] if of_metrics is None else [listener, of_metrics],
                                          _warning(hosts, serving.transport, apps))


def _is_local(serving: Serving, place: Place, hosts: Hosts) -> bool:
    """Whether only clients of this machine can connect, as far as can be known. A proxy is one, whose clients may be
    elsewhere: Unix sockets, and those that somebody else has opened, are for proxies.
    """
    return isinstance(place, Address) and hosts.is_local and not serving.transport.proxies


def _warning(hosts: Hosts, transport: Transport, apps: Apps) -> str | None:
    """What whoever runs the server should know about who can use it."""
    if hosts.is_local or (transport.tls is not None and transport.tls.verify_mode is ssl.VerifyMode.CERT_REQUIRED):
        return None
    if without := apps.without_keys:
        of_which = "" if len(without) == len(apps.current) else f" for {', '.join(without)}"
        return (f"other machines may be able to connect, and there is no authentication{of_which} (--api-keys adds "
                f"it). Accepted host names: {hosts}")
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


class _Server(uvicorn.Server):
    """uvicorn's server for the apps. watcher: of their sources."""

    def __init__(self, apps: Apps, web: ASGIApp, terminal: Terminal, serving: Serving,
                 watcher: Watcher | None = None) -> None:
        stopping, transport, title = serving.stopping, serving.transport, serving.title
        most, tls = most_connections(), transport.tls
        # The backlog is how many clients are accepted per turn of the event loop. Refusing one takes some turns.
        super().__init__(uvicorn.Config(_quiet(web), loop="asyncio", http=Connection, lifespan="off",
                                        ws=WebSocketConnection, ws_max_size=MOST_MESSAGE, ws_per_message_deflate=False,
                                        ws_ping_interval=PING_SECONDS, ws_ping_timeout=PONG_SECONDS,
                                        log_level="warning", access_log=False, server_header=False,
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
        self._apps, self._terminal, self._stopping, self._watcher = apps, terminal, stopping, watcher
        self._title, self._scheme = title, "http" if tls is None else "https"
        #: Whether it goes on when apps have ended, which a new version may mend, and SIGHUP replaces them.
        self._outlives_apps = watcher is not None or title is not None
        self._had_terminal = _has_terminal()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._replacing: set[Future[None]] = set()
        self._ignores_hang_up = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup
        self.stopped_by: signal.Signals | None = None
        self._signals = itertools.count()  # those that ask it to stop
        self._drain_at: float | None = None  # when to drain, once SIGTERM has come and there is a delay
        self._announced = False
        self._ending: list[App] = []  # the programs that have been given the signal, and handle it

    def serve_until_stopped(self, listeners: list[socket.socket], warning: str | None) -> int:
        """Serve, and say what is served. Returns the exit code."""
        # From here on a signal drains, also before uvicorn installs its handlers and after it has removed them.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        signal.signal(signal.SIGHUP, self.handle_hang_up)
        if not self._outlives_apps:
            threading.Thread(target=self.stop_with_app, name="gothreads-watch", daemon=True).start()
        self._say_what_is_served([url_of(listener, self._scheme) for listener in listeners], warning)
        self.run(sockets=listeners)
        if not self._outlives_apps:
            (deployment,) = self._apps.deployments
            app = deployment.app
            # A supervised module that is down has not ended.
            if app.exit is not None and isinstance(app.error, GuestError):
                deployment.say_end(app)
                return app.error.code
        if self.stopped_by is not None:
            self._terminal.say(f"stopped by {self.stopped_by.name}")
        return 0

    def _say_what_is_served(self, urls: Sequence[str], warning: str | None) -> None:
        self._terminal.say(f"serving {self._title or self._apps.current[0].loaded.name} on {urls[0]} (Ctrl-C to stop)")
        if self._title is not None:
            for name, place in self._apps.places:
                self._terminal.say(f"{name} is at {place}")
        for url in urls[1:]:
            self._terminal.say(f"metrics are at {url}/metrics (there only, as are /dashboard and /debug/pprof: "
                               f"gothreads top {url})")
        if warning is not None:
            self._terminal.say(warning)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends. Unlike in uvicorn, signals are not raised again at the end.

        The second may interrupt this in the middle of the first.
        """
        is_first = next(self._signals) == 0
        self.stopped_by = self.stopped_by or signal.Signals(sig)
        self._apps.probes.stopping = True
        if self.should_exit or not is_first:
            self._close_apps()
            self.should_exit = True
        elif sig == signal.SIGTERM and self._stopping.delay:
            self._drain_at = time.monotonic() + self._stopping.delay
        else:
            self._begin_drain(sig)

    def _begin_drain(self, sig: int) -> None:
        self._ending = self._apps.send_signal(sig)  # the programs may have something to finish, too
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
        """Where sources are watched, or a file has the apps, replaces them. Otherwise SIGHUP is for a program that
        handles it, which loads its configuration anew, or the like. Others drain, as for SIGTERM; and so does whatever
        was started in a terminal that has been closed.
        """
        is_hung_up = self._had_terminal and not _has_terminal()
        if self._outlives_apps and not is_hung_up:
            if self._loop is not None and not self.should_exit:
                self._replace(self._apps.replace_all())
            return
        restarting = any(app.state is State.RESTARTING for app in self._apps.current)
        if not (self._apps.send_signal(sig) or restarting or self._ignores_hang_up):
            self.handle_exit(sig, frame)

    def _replace(self, replacing: Coroutine[None, None, None]) -> None:
        """Run this on the event loop. From any thread, and from a signal handler."""
        try:
            assert self._loop is not None
            future = asyncio.run_coroutine_threadsafe(replacing, self._loop)
        except RuntimeError:  # the server has stopped
            replacing.close()
        else:
            self._replacing.add(future)  # asyncio keeps weak references only
            future.add_done_callback(self._replacing.discard)

    def stop_with_app(self) -> None:
        """Wait for the end of the app, then stop."""
        while True:
            (app,) = self._apps.current
            with contextlib.suppress(GothreadsError):
                app.wait()
            if self._apps.current == [app]:  # not replaced
                break
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_loop_failed)
        if self.config.is_ssl:
            limit_handshakes(self._loop)
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)
        if self._watcher is not None:
            self._watcher.report(self._source_changed)

    def _source_changed(self, place: int, files: Sequence[Path]) -> None:
        """Replace an app, whose sources have changed, and say so at once: building it may take long."""
        deployment = self._apps.deployments[place]
        file, more = files[0], "" if len(files) == 1 else f" and {len(files) - 1} more"
        with contextlib.suppress(ValueError):
            file = file.relative_to(Path.cwd())
        doing = "opening it anew" if file.suffix in (".wasm", ".cwasm", ".py") else "building"
        _apps_log.info("%s: %s%s changed: %s", deployment.name, file, f"{more} have" if more else " has", doing,
                       extra={"app": deployment.name})
        self._replace(self._apps.replace(deployment))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._watcher is not None:
            self._watcher.stop()
        self._apps.stop()
        feeds, drain = self._apps.dashboard.feeds, self._stopping.drain
        waiting = len(self.server_state.tasks) - feeds.readers
        feeds.end()
        if drain and any(app.error is None for app in self._apps.current) and waiting > 0:
            requests = "1 request" if waiting == 1 else f"{waiting} requests"
            self._terminal.say(f"shutting down: waiting up to {drain:g} s for {requests} (Ctrl-C again to stop "
                               f"now)")
        late = asyncio.get_running_loop().call_later(drain, self._close_apps)
        await super().shutdown(sockets)
        if drain and any(app.error is None for app in self._ending):
            self._terminal.say(f"shutting down: the program may take up to {drain:g} s in all for its end (Ctrl-C "
                               "again to stop now)")
        await asyncio.gather(*(asyncio.to_thread(app.wait) for app in self._ending), return_exceptions=True)
        late.cancel()

    def _close_apps(self) -> None:
        """On a thread, because it may wait for a Python function that the module has called."""
        threading.Thread(target=self._apps.close, name="gothreads-close", daemon=True).start()


def _has_terminal() -> bool:
    """Whether this process has a terminal that can send it signals."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    except OSError:
        return False


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
