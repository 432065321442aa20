"""The HTTP interface of an app.

    GET  /                        a page to try it from
    GET  /healthz                 200 while the module runs, else 503 and why; if supervised, with its restarts
    GET  /livez, /readyz          whether the process should live, and whether it should get requests (probes.py)
    GET  /api/exports             exports, typed functions, handlers and events
    GET  /openapi.json            the same, as OpenAPI 3.1 (openapi.py)
    GET  /metrics                 for Prometheus (metrics.py), unless the metrics have an address of their own
    POST /api/call/{export}       {"args": […]} → {"result": …}; a typed function takes its arguments by name, too;
                                  items of an iterator are sent as they come (item_streams.py); an io.Reader reads the
                                  body as it comes, and other arguments are in the query (body_reader.py)
    POST /api/request/{handler}   the body is the payload, the reply is the body
    POST /api/signal/{event}      the body is the payload; 202: it is in the queue

Errors: error_responses.py.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Unpack

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gothreads.errors import GothreadsError
from gothreads.serve.access import Access
from gothreads.serve.calls import Calls
from gothreads.serve.cors import with_origins
from gothreads.serve.description import Description
from gothreads.serve.endpoint import Endpoint
from gothreads.serve.error_responses import AppErrors, bug, http_error
from gothreads.serve.gate import Gate
from gothreads.serve.guard import Guard, Held, Hosts
from gothreads.serve.handler_names import HandlerNames
from gothreads.serve.identity import METRICS
from gothreads.serve.metrics import Metrics
from gothreads.serve.options import WebOptions
from gothreads.serve.probes import Probes
from gothreads.serve.served import NamedRoute, Served
from gothreads.serve.surroundings import Surroundings
from gothreads.serve.tracing import Traces
from gothreads.serve.web_sockets import WebSockets


def web_app(app: Served, hosts: Hosts = Hosts(), *, access_log: bool = False, allow_origins: Collection[str] = (),
            **options: Unpack[WebOptions]) -> ASGIApp:
    """The ASGI application for an app that is addressed by the names `hosts`. It does not close the app.

    access_log: log each request. allow_origins: other sites whose pages may use it.
    """
    held, name, gate = Held(), app.loaded.name, Gate.of(options)
    metrics = Metrics({name: lambda: app})
    metrics.watch(name, gate.admission)
    routes = [*Probes(lambda: app).routes(), Route("/metrics", gate.closed(metrics.answer, METRICS))]
    web = app_web(app, Surroundings(name, held, metrics, gate, routes), **options)
    return guarded(web, hosts, held, access_log=access_log, allow_origins=allow_origins)


def guarded(web: ASGIApp, hosts: Hosts, held: Held, *, access_log: bool, allow_origins: Collection[str]) -> ASGIApp:
    """An application behind the checks of requests, with request ids, the access log, and spans; also by WebSocket."""
    origins = frozenset(allow_origins)
    checked = Access(Guard(with_origins(web, origins), hosts, held, origins), is_logged=access_log)
    return WebSockets(Traces(checked))


def app_web(app: Served, around: Surroundings, **options: Unpack[WebOptions]) -> Starlette:
    """The application for one instance of an app, without the checks of requests."""
    gate, metrics = around.gate, around.metrics.of(around.name, app)
    handlers = HandlerNames(app)
    about = Description(app, handlers, around)

    def of(options: WebOptions) -> Calls:
        return Calls(app, handlers, gate.admission, around.held, options)
    calls = of(options)

    def called(kind: str, parameter: str, endpoint: Endpoint) -> Endpoint:
        return metrics.measured(parameter, gate.call(kind, parameter, endpoint))

    def by_name(kind: str, parameter: str, endpoint: Endpoint) -> Route:
        return Route(f"/api/{kind}/{{{parameter}:path}}", called(kind, parameter, endpoint), methods=["POST"])

    def named(route: NamedRoute) -> Route:
        own = calls if route.timeout is None else of({**options, "timeout": route.timeout})
        endpoint = (called("call", "export", own.call) if route.kind == "export"
                    else called("request", "handler", own.request))

        async def call(request: Request) -> Response:
            request.scope["path_params"] = {route.kind: route.name}  # as if the path had it
            return await endpoint(request)
        # Errors list it only where names are for everybody.
        return Route(route.path, call, methods=[route.method], include_in_schema=gate.is_open)
    return Starlette(
        routes=[
            Route("/", about.index),
            Route("/healthz", about.health),
            Route("/api/exports", gate.closed(about.exports)),
            by_name("call", "export", calls.call),
            by_name("request", "handler", calls.request),
            by_name("signal", "event", calls.signal),
            Route("/openapi.json", gate.closed(about.openapi)),
            *around.routes,
            *map(named, around.named),
        ],
        exception_handlers={GothreadsError: AppErrors(app, handlers).failed, HTTPException: http_error, Exception: bug})
