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

Errors are {"error": text, …}, with the "path" to an argument of a typed function that is wrong:

    400  malformed body
    401  no credentials, or wrong ones (auth.py)
    403  a request from another site's page, or without the right to do that
    404  unknown name (with the known ones), or this module has nothing of that kind
    405  wrong method
    408  body too slow
    413  body too large
    421  a name that is not this server's
    422  wrong arguments, or an error that the handler returned
    429  the client has too many calls in progress
    500  a bug
    502  the module's answer is invalid
    503  all callers are busy; too many calls wait; no room for an event, a body, or a response (the call has been made
         in that case); or the module has ended (with Retry-After if retrying makes sense)
    504  the call took longer than allowed

If the client of a request disconnects, the request is abandoned: if its handler has a context (guest.HandleContext),
that is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Receive

from gothreads.errors import (
    ArgumentError,
    CallersBusy,
    GothreadsError,
    GuestError,
    HostFunctionError,
    UnknownExport,
    unknown,
)
from gothreads.runtime.cancellation import OnTimeout
from gothreads.runtime.settling import SETTLE_SECONDS
from gothreads.runtime.state import State
from gothreads.serve import guard, openapi
from gothreads.serve.access import Access
from gothreads.serve.body_reader import BodyReader
from gothreads.serve.cors import with_origins
from gothreads.serve.disconnect import left_first
from gothreads.serve.gate import Gate, Within
from gothreads.serve.guard import Guard, Held, Hosts, policy
from gothreads.serve.identity import METRICS
from gothreads.serve.item_streams import items_response
from gothreads.serve.json_arguments import (
    TYPED_WEIGHT,
    WEIGHT,
    aside,
    parse_arguments,
    parse_typed_arguments,
    result_json,
)
from gothreads.serve.metrics import Endpoint, Metrics
from gothreads.serve.options import LARGEST_JSON, ServeOptions
from gothreads.serve.outcomes import STATUSES, outcome_of
from gothreads.serve.probes import Probes
from gothreads.serve.served import NamedRoute, Served
from gothreads.supervise.app import Supervised
from gothreads.version import __version__

if TYPE_CHECKING:
    from gothreads.typed.functions import LendingFunction, TypedFunction
    from gothreads.typed.streams import JsonStream

#: The longest error text in a response, in characters.
MOST_TEXT = 16 << 10
#: Seconds to wait for the list of handlers; if all callers are busy, the last known list is shown.
HANDLERS_SECONDS = 1.0

_FOLDER = Path(__file__).parent
_templates = Jinja2Templates(_FOLDER)
_POLICY = policy((_FOLDER / "index.html").read_text())


class WebOptions(ServeOptions, total=False):
    """The options of an app that is served. largest_json: the largest arguments of a call, in bytes."""

    largest_json: int


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
    """An application behind the checks of requests, with request ids and the access log."""
    origins = frozenset(allow_origins)
    return Access(Guard(with_origins(web, origins), hosts, held, origins), is_logged=access_log)


@dataclass(frozen=True)
class Surroundings:
    """What an app's application shares with others of its server, and with those of the app's other instances: counts
    and keys outlast an instance that is replaced.

    name: the app's. gate: who may call it, and how much. routes: further ones. named: those that the app's owner has
    named. failure: why the app has not been replaced by a newer one; None: it has, or that was not tried.
    dashboard: the link to it, if there is one.
    """

    name: str
    held: Held
    metrics: Metrics
    gate: Gate
    routes: Sequence[BaseRoute] = ()
    named: Sequence[NamedRoute] = ()
    failure: Callable[[], str | None] = lambda: None
    dashboard: str | None = None


def app_web(app: Served, around: Surroundings, **options: Unpack[WebOptions]) -> Starlette:
    """The application for one instance of an app, without the checks of requests."""
    gate, metrics = around.gate, around.metrics.of(around.name, app)
    routes = _Routes(app, around, options)

    def called(kind: str, parameter: str, endpoint: Endpoint) -> Endpoint:
        return metrics.measured(parameter, gate.call(kind, parameter, endpoint))

    def by_name(kind: str, parameter: str, endpoint: Endpoint) -> Route:
        return Route(f"/api/{kind}/{{{parameter}:path}}", called(kind, parameter, endpoint), methods=["POST"])

    def named(route: NamedRoute) -> Route:
        own = routes if route.timeout is None else _Routes(app, around, {**options, "timeout": route.timeout})
        endpoint = (called("call", "export", own.call) if route.kind == "export"
                    else called("request", "handler", own.request))

        async def call(request: Request) -> Response:
            request.scope["path_params"] = {route.kind: route.name}  # as if the path had it
            return await endpoint(request)
        # Errors list it only where names are for everybody.
        return Route(route.path, call, methods=[route.method], include_in_schema=gate.is_open)
    return Starlette(
        routes=[
            Route("/", routes.index),
            Route("/healthz", routes.health),
            Route("/api/exports", gate.closed(routes.exports)),
            by_name("call", "export", routes.call),
            by_name("request", "handler", routes.request),
            by_name("signal", "event", routes.signal),
            Route("/openapi.json", gate.closed(routes.openapi)),
            *around.routes,
            *map(named, around.named),
        ],
        exception_handlers={GothreadsError: routes.failed, HTTPException: http_error, Exception: bug})


class _Routes:
    """The route handlers."""

    def __init__(self, app: Served, around: Surroundings, options: WebOptions) -> None:
        self._app, self._around, self._gate, self._held = app, around, around.gate, around.held
        self._admission = around.gate.admission
        self._timeout = options.get("timeout")
        self._on_timeout: OnTimeout = options.get("on_timeout", "cancel")
        self._largest_json = options.get("largest_json", LARGEST_JSON)
        self._asked: asyncio.Future[list[str]] | None = None  # the module, for its handlers
        self._last_handlers: list[str] = []

    async def index(self, request: Request) -> Response:
        if not self._gate.knows(request.scope):
            return _templates.TemplateResponse(request, "index.html", {
                "name": self._around.name, "version": __version__, "locked": True},
                headers={"Content-Security-Policy": _POLICY})
        return _templates.TemplateResponse(request, "index.html", {
            "name": self._around.name, "model": self._app.model, "state": self._app.state.value,
            "version": __version__, "failure": self._around.failure(), "dashboard": self._around.dashboard,
            # A link has no key.
            "linked": self._gate.is_open or "authorization" not in request.headers,
            "exports": [function.signature for function in map(self._app.exports.__getitem__, self._app.exports)],
            "functions": [self._app.functions[name] for name in self._typed()],
            "handlers": await self._handlers(), "events": self._app.events,
            "restarts": self._app.supervision().restarts if isinstance(self._app, Supervised) else None},
            headers={"Content-Security-Policy": _POLICY})

    async def health(self, request: Request) -> Response:
        is_up, knows = self._app.state is State.RUNNING, self._gate.knows(request.scope)
        body = health_of(self._app, self._around.failure()) if knows else {"state": self._app.state.value}
        return JSONResponse(body, 200 if is_up else 503, {} if is_up else self._retry_after())

    def _retry_after(self) -> dict[str, str]:
        """When the module is expected to be up again."""
        if not isinstance(self._app, Supervised) or (seconds := self._app.supervision().next_try_seconds) is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(seconds)))}

    async def failed(self, request: Request, error: Exception) -> Response:
        """The response for a GothreadsError."""
        body: dict[str, Any] = {"error": message(error)}
        outcome, headers = outcome_of(error), dict[str, str]()
        match outcome:
            case "unknown" if isinstance(error, UnknownExport):
                body["error"] += await self._instead(request)
                body["known"] = list(error.known)
            case "wrong_arguments" if isinstance(error, ArgumentError) and error.path:
                body["path"] = error.path
            case "busy":
                headers = {"Retry-After": "1"}
            case "ended":
                headers = self._retry_after()
        return JSONResponse(body, STATUSES[outcome], headers)

    async def _instead(self, request: Request) -> str:
        """A sentence to follow an error about an unknown name, if it is of the other kind."""
        match request.path_params:
            case {"handler": name} if name in self._app.exports:
                return f". There is an export of that name: {_root(request)}/api/call/{name}"
            case {"export": name} if name in await self._handlers():
                return f". There is a handler of that name: {_root(request)}/api/request/{name}"
        return ""

    async def exports(self, _request: Request) -> Response:
        exports = []
        for name in self._app.exports:
            function = self._app.exports[name]
            exports.append(function.signature.to_json() | {"python": str(function.signature)})
        typed = [self._app.functions[name].to_json() for name in self._typed()]
        return JSONResponse({"exports": exports, **({"typed": typed} if typed else {}),
                             "handlers": await self._handlers(), "events": self._app.events})

    async def openapi(self, request: Request) -> Response:
        names = openapi.Names(self._typed(), await self._handlers(), self._app.events)
        return JSONResponse(openapi.document(self._app, names, _root(request), self._gate.schemes,
                                             self._around.named))

    def _typed(self) -> list[str]:
        """The typed functions that can be called. An export of the same name has precedence."""
        return [name for name in self._app.functions if name not in self._app.exports
                and (self._app.functions[name].has_json or self._app.functions[name].schema.body is not None)]

    async def call(self, request: Request) -> Response:
        self._admission.check()
        name = request.path_params["export"]
        if (typed := self._app._typed_function(name)) is not None:
            return await self._call_typed(typed, request)
        self._app.exports[name]  # report an unknown name before any error in the body
        on_timeout: OnTimeout = "stop" if self._on_timeout == "stop" else "continue"
        async with self._held.body(request, self._largest_json, WEIGHT) as body:
            arguments = await aside(parse_arguments, body)
            async with self._admission.place(request.receive):
                future = self._app.submit(name, *arguments, timeout=self._timeout, on_timeout=on_timeout)
                result = await self._answered(request.receive, future)
        return Response(await aside(result_json, result), media_type="application/json")

    async def _call_typed(self, function: TypedFunction, request: Request) -> Response:
        options = {"timeout": self._timeout, "on_timeout": self._on_timeout}
        if function.schema.body is not None:
            return await self._call_with_body(cast("LendingFunction", function), request, options)

        def begin(body: bytes) -> Future[bytes | JsonStream]:
            return function.submit_json(parse_typed_arguments(body), options)
        async with (self._held.body(request, self._largest_json, TYPED_WEIGHT) as body,
                    self._admission.place(request.receive)):
            result = await self._answered(request.receive, await aside(begin, body))
            return await self._typed_response(result, request.headers, request.receive)

    async def _call_with_body(self, function: LendingFunction, request: Request,
                              options: Mapping[str, Any]) -> Response:
        """The body is a file object for Go, which reads it as it comes. Other arguments are in the query."""
        with contextlib.ExitStack() as stack:
            body = stack.enter_context(BodyReader(request.receive))
            async with self._admission.place(body.receive):
                future = function.submit_body(body, dict(request.query_params), options)
                result = await self._answered(body.receive, future)
                response = await self._typed_response(result, request.headers, body.receive)
            return Within(response, stack.pop_all())

    async def _typed_response(self, result: bytes | JsonStream, headers: Headers, receive: Receive) -> Response:
        if not isinstance(result, bytes):
            return await items_response(result, headers, receive, self._held, message)
        return Response(b'{"result":%s}' % result, media_type="application/json")

    async def request(self, request: Request) -> Response:
        self._admission.check()
        async with (self._held.body(request, guard.LARGEST_BODY) as body, self._admission.place(request.receive)):
            future = self._app.submit_request(request.path_params["handler"], body, timeout=self._timeout,
                                              on_timeout=self._on_timeout)
            reply = await self._answered(request.receive, future)
        return Response(reply, media_type="application/json" if _is_json(reply) else "application/octet-stream")

    async def signal(self, request: Request) -> Response:
        name = request.path_params["event"]
        if name not in self._app.events:
            await self._handlers(SETTLE_SECONDS)  # main may be about to subscribe to it
        if name not in self._app.events:  # an event without a receiver would stay in memory for ever
            raise unknown("event", name, self._app.events)
        async with self._held.body(request, guard.LARGEST_BODY) as body:
            self._app.signal(name, body, full="raise")
        return JSONResponse({"queued": True}, 202)

    async def _answered(self, receive: Receive, future: Future[Any]) -> Any:
        """A call's result. The call is abandoned if the client disconnects, unless that would stop the module."""
        result = asyncio.wrap_future(future)
        try:
            if await left_first(receive, result) and self._on_timeout != "stop":
                result.cancel()
                raise HTTPException(guard.CLIENT_LEFT, "the client has disconnected")
            return await result
        except CallersBusy:
            options = self._app.options
            raise CallersBusy(f"all {options.callers} callers were busy for {options.callers_timeout:g} s. Try again, "
                              f"or serve with more --callers") from None

    async def _handlers(self, seconds: float | None = None) -> list[str]:
        """The handlers that there are, or were last, if the module does not answer in that time.

        However many ask, one call is made at a time: these are no calls of clients, which have limits.
        """
        if self._asked is None or self._asked.done():
            self._asked = asyncio.ensure_future(self._app.handlers_async())
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        with contextlib.suppress(GothreadsError, TimeoutError):
            async with asyncio.timeout(HANDLERS_SECONDS if seconds is None else seconds):
                self._last_handlers = await asyncio.shield(self._asked)
        return self._last_handlers


def health_of(app: Served, failure: str | None) -> dict[str, Any]:
    """All about the state of an app, for /healthz. `failure`: why it has not been replaced."""
    state, error = app.state, app.error
    body: dict[str, Any] = {"state": state.value} | ({"error": message(error)} if error else {})
    if failure is not None:
        body["not_replaced"] = failure
    if isinstance(app, Supervised):
        so_far = app.supervision()
        cause = so_far.last_cause
        body["supervision"] = asdict(replace(so_far, last_cause=None)) | {"last_cause": cause and message(cause)}
    return body


def _root(request: Request) -> str:
    """The path under which this application is mounted."""
    root: str = request.scope.get("root_path", "")
    return root


def _is_json(reply: bytes) -> bool:
    return reply[:1] in (b"{", b"[") and reply[-64:].rstrip()[-1:] in (b"}", b"]")


def message(error: Exception) -> str:
    """The error's text for clients: without the module's stderr and stack, without what a Python function raised, and
    without advice for whoever runs the server, which the log has.
    """
    if isinstance(error, HostFunctionError):
        return "the module has ended: a Python function that it called raised an exception"
    message = error.message if isinstance(error, GuestError | UnknownExport) else str(error)
    if isinstance(error, GuestError) and error.hint:
        message = message.removesuffix(f" ({error.hint})")
    # The text of a handler's error can have any length.
    return message if len(message) <= MOST_TEXT else f"{message[:MOST_TEXT]}… ({len(message):,} characters)"


def bug(_request: Request, _error: Exception) -> Response:
    """The server's log has the details."""
    return JSONResponse({"error": "internal server error"}, 500)


def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = error.detail
    match error.status_code, error.headers:
        case 404, _:
            there_are = ", ".join(_root(request) + route.path for route in request.app.routes
                                  if getattr(route, "include_in_schema", True))
            text = f"there is no {request.url.path}; there are: {re.sub('{.*?}', 'NAME', there_are)}"
        case 405, {"Allow": allowed} | {"allow": allowed}:
            text = f"{request.url.path} does not allow {request.method}; use {allowed}"
    return JSONResponse({"error": text}, error.status_code, dict(error.headers or {}))
