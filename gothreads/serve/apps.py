"""The apps of a server, as one ASGI application: each under its path, or for its host name.

    GET  /                         the list of apps, for browsers, unless one of them is there
    GET  /healthz                  their states; 503 if one of them takes no calls
    GET  /livez, /readyz           of the server (probes.py)
    GET  /metrics                  of all apps (metrics.py), unless the metrics have an address of their own
    GET  /dashboard                what the apps are doing, live (dashboard.py), where /metrics is
    GET  /api/apps                 the apps, and their states
    POST /api/apps/{name}/restart  replaces an app by a new instance (deployment.py), if clients may do that

An app that is served alone has its own page and its own /healthz there.

If an app needs keys or tokens, so does what the server has of its own: /metrics the right `metrics` in one of the apps,
/api/apps any of their keys. An app is replaced by those with the right `restart` in that app; without keys, by all
clients or none. Names, places and states are for everybody; more is for those whom the app knows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Receive, Scope, Send

from gothreads.errors import AppClosed, GothreadsError
from gothreads.runtime.app import App
from gothreads.runtime.state import State
from gothreads.serve.auth import AnyOf, permits
from gothreads.serve.dashboard import Dashboard, Watched, no_app
from gothreads.serve.deployment import Deployment, together
from gothreads.serve.description import health_of
from gothreads.serve.error_responses import bug, http_error, message
from gothreads.serve.gate import Gate, closed
from gothreads.serve.guard import Held, Hosts, host_name, policy
from gothreads.serve.identity import METRICS, RESTART
from gothreads.serve.metrics import Metrics
from gothreads.serve.options import WebOptions, same_host
from gothreads.serve.probes import Probes
from gothreads.serve.served import NamedRoute, Served
from gothreads.serve.surroundings import Surroundings
from gothreads.serve.web import app_web, guarded
from gothreads.supervise.handover import current
from gothreads.version import __version__

_FOLDER = Path(__file__).parent
_templates = Jinja2Templates(_FOLDER)
_POLICY = policy((_FOLDER / "apps.html").read_text())


@dataclass(frozen=True)
class Hosted:
    """An app to serve.

    open_app: opens it, each time anew. options: how it is called, and by whom. name: default: the module's. prefix: its
    path, "/" or one such as "/search"; None: it has the host name `host`. named: further paths of it.
    """

    open_app: Callable[[], Served]
    options: WebOptions
    name: str | None = None
    prefix: str | None = "/"
    host: str | None = None
    named: Sequence[NamedRoute] = ()


@dataclass(frozen=True)
class _Member:
    """An app of the server: what outlasts its instances."""

    hosted: Hosted
    gate: Gate
    deployment: Deployment


class Apps:
    """The apps of a server. Opens them, and raises why that fails.

    drain: how long requests may still take in an instance that has been replaced, in seconds.
    may_restart: whether clients may replace apps that need no keys.
    """

    def __init__(self, hosted: Sequence[Hosted], *, drain: float, may_restart: bool = False) -> None:
        self._may_restart, self._has_dashboard = may_restart, False
        gates = [Gate.of(one.options) for one in hosted]  # before anything is opened: keys may be wrong
        self._members: list[_Member] = []
        try:
            for one, gate in zip(hosted, gates, strict=True):
                self._members.append(_Member(one, gate, Deployment(one.name, one.open_app, drain)))
        except BaseException:
            self.close()
            raise
        self.deployments = [member.deployment for member in self._members]
        current = {deployment.name: _current(deployment) for deployment in self.deployments}
        self.probes, self.metrics = Probes(*current.values()), Metrics(current)
        for member in self._members:
            self.metrics.watch(member.deployment.name, member.gate.admission)
        self._authority = AnyOf(gate.authority for gate in gates)
        self.dashboard = Dashboard([Watched(member.gate, member.deployment) for member in self._members], self.metrics,
                                   self._authority, may_restart=may_restart)

    @property
    def current(self) -> list[Served]:
        """Those that get requests now."""
        return [deployment.app for deployment in self.deployments]

    @property
    def places(self) -> list[tuple[str, str]]:
        """The names of the apps, and their hosts or prefixes."""
        return [(member.deployment.name, member.hosted.host or member.hosted.prefix or "") for member in self._members]

    @property
    def without_keys(self) -> list[str]:
        """The names of the apps that everybody may call."""
        return [member.deployment.name for member in self._members if member.gate.is_open]

    def send_signal(self, number: int) -> list[App]:
        """Give a signal to all programs that handle it. Returns these."""
        running = [current(app) for deployment in self.deployments for app in deployment.apps]
        return [app for app in running if app is not None and app.send_signal(number, default=False)]

    def stop(self) -> None:
        """Replace no app any more. From any thread."""
        for deployment in self.deployments:
            deployment.stop()

    def close(self) -> None:
        """Close all apps. From any thread, at any time."""
        together([member.deployment.close for member in self._members])

    async def replace(self, deployment: Deployment) -> None:
        """Replace an app. If that fails, the log and the app's page have the reason."""
        await asyncio.gather(deployment.replace(), return_exceptions=True)

    async def replace_all(self) -> None:
        """Replace all apps, one after the other: each build takes all processors."""
        for deployment in self.deployments:
            await self.replace(deployment)

    # The ASGI application.

    def web(self, hosts: Hosts, *, has_metrics: bool, is_local: bool = False, access_log: bool = False,
            allow_origins: Collection[str] = ()) -> ASGIApp:
        """The application, for a server that is addressed by the names `hosts`. Call it once.

        has_metrics: whether /metrics and /dashboard are there. is_local: whether only clients of this machine can
        connect. access_log, allow_origins: as for web_app.
        """
        held, self._has_dashboard = Held(), has_metrics
        of_metrics = [Route("/metrics", closed(self._authority, self.metrics.answer, METRICS)),
                      *self.dashboard.routes(is_local=is_local)]
        if not has_metrics:
            of_metrics = [Route(route.path, _elsewhere, include_in_schema=False) for route in of_metrics]
        metrics, *dashboard = of_metrics
        own: list[BaseRoute] = [
            *self.probes.routes(), metrics,
            Route("/api/apps", closed(self._authority, self._list)),
            Route("/api/apps/{name:path}/restart", self._restart, methods=["POST"]),
            *dashboard]
        web = self._begin(self._members[0], held, own) if self._is_alone else self._web_of_many(held, own)
        return guarded(web, hosts, held, access_log=access_log, allow_origins=allow_origins)

    @property
    def _is_alone(self) -> bool:
        return len(self._members) == 1 and self._members[0].hosted.prefix == "/"

    def _begin(self, member: _Member, held: Held, routes: Sequence[BaseRoute]) -> ASGIApp:
        hosted, deployment = member.hosted, member.deployment
        around = Surroundings(deployment.name, held, self.metrics, member.gate, routes, hosted.named,
                              lambda: deployment.failure, self._dashboard_from(hosted))
        deployment.begin(lambda app: app_web(app, around, **hosted.options))
        return deployment

    def _dashboard_from(self, hosted: Hosted) -> str | None:
        """The link to the dashboard from an app's page. None: it is at another address."""
        if not self._has_dashboard or hosted.prefix is None:
            return None
        return "../" * len(hosted.prefix.rstrip("/").split("/")[1:]) + "dashboard"

    def _web_of_many(self, held: Held, own: Sequence[BaseRoute]) -> ASGIApp:
        by_host: dict[str, ASGIApp] = {}
        by_prefix: dict[str, ASGIApp] = {}
        for member in self._members:
            app = self._begin(member, held, Probes(_current(member.deployment), server=self.probes).routes())
            if member.hosted.host is not None:
                by_host[same_host(member.hosted.host)] = app
            elif member.hosted.prefix is not None:
                by_prefix[member.hosted.prefix.rstrip("/")] = app
        page = [] if "" in by_prefix else [Route("/", self._page)]
        mounts = [Mount(prefix, by_prefix[prefix]) for prefix in sorted(by_prefix, key=len, reverse=True)]
        others = Starlette(routes=[*own, Route("/healthz", self._health), *page, *mounts],
                           exception_handlers={HTTPException: http_error, Exception: bug})

        async def choose(scope: Scope, receive: Receive, send: Send) -> None:
            await by_host.get(host_name(Headers(scope=scope)), others)(scope, receive, send)
        return choose

    async def _page(self, request: Request) -> Response:
        port = re.search(r":[0-9]+$", request.headers["host"].strip())
        shown = []
        for member in self._members:
            hosted, deployment, knows = member.hosted, member.deployment, _knows(member, request.scope)
            shown.append({
                "name": deployment.name, "where": hosted.host or hosted.prefix, "state": deployment.app.state.value,
                "model": deployment.app.model if knows else None, "failure": deployment.failure if knows else None,
                "link": f"//{hosted.host}{port[0] if port else ''}/" if hosted.host else f".{hosted.prefix}/"})
        return _templates.TemplateResponse(request, "apps.html", {
            "apps": shown, "version": __version__, "has_dashboard": self._has_dashboard,
            "linked": permits(lambda: self._authority.known(request.scope))},
                                           headers={"Content-Security-Policy": _POLICY})

    async def _health(self, request: Request) -> Response:
        is_up = all(app.state is State.RUNNING for app in self.current)
        return JSONResponse({"apps": self._about_all(request.scope)}, 200 if is_up else 503)

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"apps": self._about_all(request.scope)})

    def _about_all(self, scope: Scope) -> list[dict[str, Any]]:
        return [_about(member, knows=_knows(member, scope)) for member in self._members]

    async def _restart(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = next((member for member in self._members if member.deployment.name == name), None)
        if found is None:
            self._authority.known(request.scope)
            return no_app(name, [deployment.name for deployment in self.deployments])
        if not found.gate.is_open:
            found.gate.authority.allowed(request.scope, RESTART)
        elif not self._may_restart:
            return JSONResponse({"error": "clients of this server may not restart apps. To allow that to all of them: "
                                          "gothreads serve --allow-restart"}, 403)
        try:
            await found.deployment.replace()
        except AppClosed as error:
            return JSONResponse({"error": message(error)}, 503)
        except (GothreadsError, OSError) as error:  # TimeoutError, too
            return JSONResponse({"error": f"the app goes on as it was: {message(error)}"}, 409)
        return JSONResponse({"restarted": True})


async def _elsewhere(request: Request) -> Response:
    return JSONResponse({"error": f"{request.url.path} is at another address of this server, that of "
                                  "--metrics-address: the server says it when it starts"}, 404)


def _about(member: _Member, *, knows: bool) -> dict[str, Any]:
    """What to tell of an app. knows: all of it."""
    hosted, deployment = member.hosted, member.deployment
    about: dict[str, Any] = {"name": deployment.name}
    about |= {"host": hosted.host} if hosted.host else {"prefix": hosted.prefix}
    if not knows:
        return about | {"state": deployment.app.state.value}
    return about | {**health_of(deployment.app, deployment.failure), "requests": deployment.requests,
                    "replaced": deployment.replaced}


def _knows(member: _Member, scope: Scope) -> bool:
    """Whether the app knows the client. (Other apps may: so a key that is unknown here is no error.)"""
    return permits(lambda: member.gate.authority.known(scope))


def _current(deployment: Deployment) -> Callable[[], Served]:
    return lambda: deployment.app
