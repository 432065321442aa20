"""HTTP in front of an app.

    GET  /                        a page to try it from
    GET  /healthz                 200 while the module runs, else 503 and why; when it is supervised, with its restarts
    GET  /api/exports             what there is to call
    POST /api/call/{export}       {"args": […]} → {"result": …}
    POST /api/request/{handler}   the body is the payload, the reply is the body
    POST /api/signal/{event}      the body is the payload; 202: it is in the queue

Errors are {"error": text, …}: 400 a malformed body, 403 another site's page, 404 an unknown name (with those there are)
or nothing of the kind in this module, 405 the wrong method, 408 too slow, 413 too large, 421 another server's name, 422 wrong arguments or
an error that the handler returned, 500 a bug, 502 a module that does not answer as one should, 503 all callers busy, no room for an
event, for the body or for the answer (the call has been made then), or the module has ended (with Retry-After when that is worth while),
504 the call has taken longer than it may. A request whose client goes away is given up: the context of its handler, if it has one
(guest.HandleContext), is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp

from gothreads.errors import (
    ArgumentError,
    CallersBusy,
    CallTimeout,
    GothreadsError,
    GuestError,
    HandlerError,
    HostFunctionError,
    InternalError,
    MemoryAccessError,
    NotCallable,
    QueueFull,
    UnknownExport,
    unknown,
)
from gothreads.runtime.app import App
from gothreads.runtime.cancellation import OnTimeout
from gothreads.runtime.settling import SETTLE_SECONDS
from gothreads.runtime.state import State
from gothreads.serve import guard
from gothreads.serve.guard import Guard, Held, Hosts, policy
from gothreads.serve.payload import LARGEST_JSON, WEIGHT, aside, parse_arguments, result_json
from gothreads.supervise.app import Supervised
from gothreads.version import __version__

#: The most that is told of an error, in characters.
MOST_SAID = 16 << 10
#: How long a list of handlers may take, in seconds; when all callers are busy the last known is shown.
HANDLERS_SECONDS = 1.0

_FOLDER = Path(__file__).parent
_templates = Jinja2Templates(_FOLDER)
_POLICY = policy((_FOLDER / "index.html").read_text())


#: What is served.
Served = App | Supervised


def web_app(app: Served, hosts: Hosts = Hosts(), timeout: float | None = None, on_timeout: OnTimeout = "cancel",
            largest_json: int = LARGEST_JSON) -> ASGIApp:
    """The ASGI application for an app, which goes by the names `hosts`. It does not close the app.

    timeout: of each call, in seconds; on_timeout: as for App.request. largest_json: the most that a call's arguments may be, in bytes.
    """
    held = Held()
    faces = _Faces(app, held, timeout, on_timeout, largest_json)
    return Guard(Starlette(
        routes=[
            Route("/", faces.index),
            Route("/healthz", faces.health),
            Route("/api/exports", faces.exports),
            Route("/api/call/{export:path}", faces.call, methods=["POST"]),
            Route("/api/request/{handler:path}", faces.request, methods=["POST"]),
            Route("/api/signal/{event:path}", faces.signal, methods=["POST"]),
        ],
        exception_handlers={GothreadsError: faces.failed, HTTPException: _http_error, Exception: _bug}), hosts, held)


class _Faces:
    """The routes."""

    def __init__(self, app: Served, held: Held, timeout: float | None, on_timeout: OnTimeout, largest_json: int) -> None:
        self._app, self._held, self._timeout, self._on_timeout, self._largest_json = app, held, timeout, on_timeout, largest_json
        self._last_handlers: list[str] = []

    async def index(self, request: Request) -> Response:
        return _templates.TemplateResponse(request, "index.html", {
            "name": self._app.loaded.name, "model": self._app.model, "state": self._app.state.value, "version": __version__,
            "exports": [function.signature for function in map(self._app.exports.__getitem__, self._app.exports)],
            "handlers": await self._handlers(), "events": self._app.events,
            "restarts": self._app.supervision().restarts if isinstance(self._app, Supervised) else None},
            headers={"Content-Security-Policy": _POLICY})

    async def health(self, _request: Request) -> Response:
        state, error = self._app.state, self._app.error
        body: dict[str, Any] = {"state": state.value} | ({"error": _said(error)} if error else {})
        if isinstance(self._app, Supervised):
            so_far = self._app.supervision()
            cause = so_far.last_cause
            body["supervision"] = asdict(replace(so_far, last_cause=None)) | {"last_cause": cause and _said(cause)}
        return JSONResponse(body, 200 if state is State.RUNNING else 503, {} if state is State.RUNNING else self._retry_after())

    def _retry_after(self) -> dict[str, str]:
        """When the module is to be there again."""
        if not isinstance(self._app, Supervised) or (seconds := self._app.supervision().next_try_seconds) is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(seconds)))}

    async def failed(self, _request: Request, error: Exception) -> Response:
        """The answer for an error of gothreads."""
        body: dict[str, Any] = {"error": _said(error)}
        match error:
            case UnknownExport():
                return JSONResponse(body | {"known": list(error.known)}, 404)
            case NotCallable():
                return JSONResponse(body, 404)
            case ArgumentError() | HandlerError():
                return JSONResponse(body, 422)
            case CallTimeout():
                return JSONResponse(body, 504)
            case CallersBusy() | QueueFull():
                return JSONResponse(body, 503, {"Retry-After": "1"})
            case MemoryAccessError() | InternalError():  # what it has answered with is none of its memory, or makes no sense
                return JSONResponse(body, 502)
            case _:  # the module has ended
                return JSONResponse(body, 503, self._retry_after())

    async def exports(self, _request: Request) -> Response:
        exports = []
        for name in self._app.exports:
            function = self._app.exports[name]
            exports.append(function.signature.to_json() | {"python": str(function.signature)})
        return JSONResponse({"exports": exports, "handlers": await self._handlers(), "events": self._app.events})

    async def call(self, request: Request) -> Response:
        name = request.path_params["export"]
        self._app.exports[name]  # a name that is not there is said before anything about the body
        on_timeout: OnTimeout = "stop" if self._on_timeout == "stop" else "continue"
        async with self._held.body(request, self._largest_json, WEIGHT) as body:
            arguments = await aside(parse_arguments, body)
            future = self._app.submit(name, *arguments, timeout=self._timeout, on_timeout=on_timeout)
            result = await self._answered(request, future)
        return Response(await aside(result_json, result), media_type="application/json")

    async def request(self, request: Request) -> Response:
        async with self._held.body(request, guard.LARGEST_BODY) as body:
            future = self._app.submit_request(request.path_params["handler"], body, timeout=self._timeout, on_timeout=self._on_timeout)
            reply = await self._answered(request, future)
        return Response(reply, media_type="application/json" if _is_json(reply) else "application/octet-stream")

    async def signal(self, request: Request) -> Response:
        name = request.path_params["event"]
        if name not in self._app.events:
            with contextlib.suppress(GothreadsError, TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):  # main may be about to ask for it
                    await self._app.handlers_async()
        if name not in self._app.events:  # others would wait for ever, and take up memory
            raise unknown("event", name, self._app.events)
        async with self._held.body(request, guard.LARGEST_BODY) as body:
            self._app.signal(name, body, full="raise")
        return JSONResponse({"queued": True}, 202)

    async def _answered(self, request: Request, future: Future[Any]) -> Any:
        """The result of a call, which is given up when the client goes away. (A client may not stop the module, though.)"""
        result, gone = asyncio.wrap_future(future), asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done() and self._on_timeout != "stop":
                result.cancel()
                raise HTTPException(400, "the client went away")
            return await result
        except CallersBusy:
            options = self._app.options
            raise CallersBusy(f"all {options.callers} callers were busy for {options.callers_timeout:g} s. Try again, or serve with more --callers") from None
        finally:
            gone.cancel()

    async def _handlers(self) -> list[str]:
        try:
            async with asyncio.timeout(HANDLERS_SECONDS):
                self._last_handlers = await self._app.handlers_async()
        except (GothreadsError, TimeoutError):
            pass
        return self._last_handlers


def _is_json(reply: bytes) -> bool:
    return reply[:1] in (b"{", b"[") and reply[-64:].rstrip()[-1:] in (b"}", b"]")


def _said(error: Exception) -> str:
    """An error without what is not for clients: what the module wrote to stderr, where it is in its code, what the host's own functions raised."""
    if isinstance(error, HostFunctionError):
        return "the module has ended: a function of the host's that it called has failed"
    said = error.message if isinstance(error, GuestError | UnknownExport) else str(error)
    return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}… ({len(said):,} characters)"  # a handler's may be as long as it likes


def _bug(_request: Request, _error: Exception) -> Response:
    """What it was is in the server's log."""
    return JSONResponse({"error": "the server has failed"}, 500)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = error.detail
    match error.status_code, error.headers:
        case 404, _:
            text = f"there is no {request.url.path}; there are: {', '.join(r.path for r in request.app.routes)}"
        case 405, {"Allow": allowed} | {"allow": allowed}:
            text = f"{request.url.path} does not take {request.method}, but {allowed}"
    return JSONResponse({"error": text}, error.status_code, dict(error.headers or {}))
