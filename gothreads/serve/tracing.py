"""Spans of requests, by OpenTelemetry's conventions for HTTP servers, if the process uses OpenTelemetry.

It does if it has set a tracer provider: `opentelemetry-instrument gothreads serve …` has, and so may the application
that has a gothreads.asgi. Then each request has a span, with the incoming `traceparent` as its parent, and the calls of
Go are spans in that (bridge/tracing.py). If the outer application has made a span of the request, that is the one.

Otherwise nothing is done, except that Go's context gets the headers as they have come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gothreads.bridge import tracing
from gothreads.text import shown
from gothreads.version import __version__

#: Methods that are a span's name and attribute; others are `_OTHER`, since clients can send any.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
_OTHER = "_OTHER"
#: Of what a client sends, so many characters are in an attribute.
_LONGEST = 1000


class Traces:
    """An ASGI application whose requests belong to traces."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or tracing.has_span():
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        found = {name: headers[name] for name in tracing.HEADERS if name in headers}
        if (trace := tracing.api()) is not None:
            await self._in_span(trace, found, scope, receive, send)
        elif found:
            token = tracing.passed_on.set(found)
            try:
                await self._app(scope, receive, send)
            finally:
                tracing.passed_on.reset(token)
        else:
            await self._app(scope, receive, send)

    async def _in_span(self, trace: Any, headers: Mapping[str, str], scope: Scope, receive: Receive,
                       send: Send) -> None:
        from opentelemetry import context, propagate
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        status = 0

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
        outer = context.attach(propagate.extract(headers))
        try:
            with trace.get_tracer("gothreads.serve", __version__).start_as_current_span(
                    method, kind=trace.SpanKind.SERVER, attributes=_attributes(method, scope),
                    record_exception=False, set_status_on_exception=False) as span:
                try:
                    await self._app(scope, receive, send_noting)
                except BaseException as error:
                    span.set_attribute("error.type", type(error).__name__)
                    span.set_status(trace.StatusCode.ERROR)
                    raise
                finally:
                    if (path := getattr(scope.get("route"), "path", None)) is not None:
                        route = scope.get("root_path", "") + path
                        span.update_name(f"{method} {route}" if method != _OTHER else f"HTTP {route}")
                        span.set_attribute("http.route", route)
                    if status:
                        span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_attribute("error.type", str(status))
                        span.set_status(trace.StatusCode.ERROR)
        finally:
            context.detach(outer)


def _attributes(method: str, scope: Scope) -> dict[str, str | int]:
    """What is known of a request before it is answered. (Not its query, which may have secrets.)"""
    found: dict[str, str | int] = {
        "http.request.method": method, "url.path": shown(scope["path"][:_LONGEST]), "url.scheme": scope["scheme"],
        "network.protocol.name": "http", "network.protocol.version": scope.get("http_version", "1.1")}
    if method == _OTHER:
        found["http.request.method_original"] = shown(scope["method"][:_LONGEST])
    if client := scope.get("client"):
        found["client.address"] = shown(client[0][:_LONGEST])
    if server := scope.get("server"):
        found["server.address"] = server[0]
        found |= {"server.port": server[1]} if server[1] else {}
    if (agent := Headers(scope=scope).get("user-agent")) is not None:
        found["user_agent.original"] = shown(agent[:_LONGEST])
    return found
