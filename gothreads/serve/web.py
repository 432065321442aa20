"""HTTP in front of an app.

    GET  /                        a page to try it from
    GET  /healthz                 200 while the module runs, else 503 and why; when it is supervised, with its restarts
    GET  /api/exports             what there is to call
    POST /api/call/{export}       {"args": […]} → {"result": …}
    POST /api/request/{handler}   the body is the payload, the reply is the body
    POST /api/signal/{event}      the body is the payload; 202: it is in the queue

Errors are {"error": text, …}: 400 a malformed body, 403 another site's page, 404 an unknown name (with those there are),
405 the wrong method, 413 too large, 422 wrong arguments or an error that the handler returned, 503 all callers busy, no room
for an event, or the module has ended; with Retry-After when that is worth while.
"""

from __future__ import annotations

import asyncio
import json
import math
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from gothreads.app import App
from gothreads.errors import ArgumentError, CallersBusy, GothreadsError, HandlerError, QueueFull, UnknownExport, unknown
from gothreads.state import State
from gothreads.supervised import Supervised
from gothreads.version import __version__

#: The most that a request's body may be, in bytes.
LARGEST_BODY = 64 << 20
#: How long a list of handlers may take, in seconds; when all callers are busy the last known is shown.
HANDLERS_SECONDS = 1.0

_templates = Jinja2Templates(Path(__file__).parent)


#: What is served.
Served = App | Supervised


def web_app(app: Served) -> Starlette:
    """The ASGI application for an app. It does not close the app."""
    faces = _Faces(app)
    return Starlette(
        routes=[
            Route("/", faces.index),
            Route("/healthz", faces.health),
            Route("/api/exports", faces.exports),
            Route("/api/call/{export:path}", faces.call, methods=["POST"]),
            Route("/api/request/{handler:path}", faces.request, methods=["POST"]),
            Route("/api/signal/{event:path}", faces.signal, methods=["POST"]),
        ],
        exception_handlers={GothreadsError: faces.failed, HTTPException: _http_error})


class _Faces:
    """The routes."""

    def __init__(self, app: Served) -> None:
        self._app = app
        self._last_handlers: list[str] = []

    async def index(self, request: Request) -> Response:
        return _templates.TemplateResponse(request, "index.html", {
            "name": self._app.loaded.name, "model": self._app.model, "state": self._app.state.value, "version": __version__,
            "exports": [function.signature for function in map(self._app.exports.__getitem__, self._app.exports)],
            "handlers": await self._handlers(), "events": self._app.events,
            "restarts": self._app.supervision().restarts if isinstance(self._app, Supervised) else None})

    async def health(self, _request: Request) -> Response:
        state, error = self._app.state, self._app.error
        body: dict[str, Any] = {"state": state.value} | ({"error": str(error)} if error else {})
        if isinstance(self._app, Supervised):
            so_far = self._app.supervision()
            cause = so_far.last_cause
            body["supervision"] = asdict(replace(so_far, last_cause=None)) | {"last_cause": cause and str(cause)}
        return JSONResponse(body, 200 if state is State.RUNNING else 503, {} if state is State.RUNNING else self._retry_after())

    def _retry_after(self) -> dict[str, str]:
        """When the module is to be there again."""
        if not isinstance(self._app, Supervised) or (seconds := self._app.supervision().next_try_seconds) is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(seconds)))}

    async def failed(self, _request: Request, error: Exception) -> Response:
        """The answer for an error of gothreads."""
        body: dict[str, Any] = {"error": error.message if hasattr(error, "message") else str(error)}
        match error:
            case UnknownExport():
                return JSONResponse(body | {"known": list(error.known)}, 404)
            case ArgumentError() | HandlerError():
                return JSONResponse(body, 422)
            case CallersBusy() | QueueFull():
                return JSONResponse(body, 503, {"Retry-After": "1"})
            case _:  # the module has ended
                return JSONResponse(body, 503, self._retry_after())

    async def exports(self, _request: Request) -> Response:
        exports = []
        for name in self._app.exports:
            function = self._app.exports[name]
            exports.append(function.signature.to_json() | {"python": str(function.signature)})
        return JSONResponse({"exports": exports, "handlers": await self._handlers(), "events": self._app.events})

    async def call(self, request: Request) -> Response:
        _check_origin(request)
        name = request.path_params["export"]
        self._app.exports[name]  # a name that is not there is said before anything about the body
        result = await self._begun_in_time(self._app.submit(name, *_arguments(await _body(request))))
        return JSONResponse({"result": _finite(result)})

    async def request(self, request: Request) -> Response:
        _check_origin(request)
        reply = await self._begun_in_time(self._app.submit_request(request.path_params["handler"], await _body(request)))
        return Response(reply, media_type="application/json" if _is_json(reply) else "application/octet-stream")

    async def signal(self, request: Request) -> Response:
        _check_origin(request)
        name = request.path_params["event"]
        if name not in self._app.events:  # others would wait for ever, and take up memory
            raise unknown("event", name, self._app.events)
        self._app.signal(name, await _body(request), full="raise")
        return JSONResponse({"queued": True}, 202)

    async def _begun_in_time(self, future: Future[Any]) -> Any:
        """The result of a call that has found a caller within the app's `callers_timeout`; else CallersBusy."""
        result = asyncio.wrap_future(future)
        done, _ = await asyncio.wait({result}, timeout=self._app.options.callers_timeout)
        if not done and future.cancel():  # it had not begun
            raise CallersBusy(f"all {self._app.options.callers} callers were busy for {self._app.options.callers_timeout:g} s. "
                              "Try again, or serve with more --callers")
        return await result

    async def _handlers(self) -> list[str]:
        try:
            async with asyncio.timeout(HANDLERS_SECONDS):
                self._last_handlers = await self._app.handlers_async()
        except (GothreadsError, TimeoutError):
            pass
        return self._last_handlers


def _arguments(body: bytes) -> list[Any]:
    if not body.strip():
        return []
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f'the body is not JSON: {error}; expected {{"args": [...]}}') from None
    if not isinstance(value, dict) or not isinstance(value.get("args", []), list) or value.keys() - {"args"}:
        raise HTTPException(400, 'the body must be {"args": [...]}')
    args: list[Any] = value.get("args", [])
    return args


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > LARGEST_BODY:
                raise HTTPException(413, f"the body is larger than {LARGEST_BODY:,} bytes")
            parts.append(part)
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None
    return b"".join(parts)


def _check_origin(request: Request) -> None:
    """A page of another site must not make a browser call this one."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise HTTPException(403, f"requests from pages of {origin} are not allowed")


def _finite(value: Any) -> Any:
    """JSON has no numbers for these."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _is_json(reply: bytes) -> bool:
    return reply[:1] in (b"{", b"[") and reply.rstrip()[-1:] in (b"}", b"]")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = error.detail
    match error.status_code, error.headers:
        case 404, _:
            text = f"there is no {request.url.path}; there are: {', '.join(r.path for r in request.app.routes)}"
        case 405, {"Allow": allowed} | {"allow": allowed}:
            text = f"{request.url.path} does not take {request.method}, but {allowed}"
    return JSONResponse({"error": text}, error.status_code, dict(error.headers or {}))
