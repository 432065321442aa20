"""Errors as responses: {"error": text, …}, with the "path" to an argument of a typed function that is wrong.

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
"""

from __future__ import annotations

import math
import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gothreads.errors import ArgumentError, CallTimeout, GuestError, HostFunctionError, UnknownExport
from gothreads.serve.handler_names import HandlerNames
from gothreads.serve.outcomes import STATUSES, outcome_of
from gothreads.serve.served import Served
from gothreads.supervise.app import Supervised

#: The longest error text in a response, in characters.
MOST_TEXT = 16 << 10


class AppErrors:
    """The responses for errors of an app."""

    def __init__(self, app: Served, handlers: HandlerNames) -> None:
        self._app, self._handlers = app, handlers

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
                headers = retry_after(self._app)
        return JSONResponse(body, STATUSES[outcome], headers)

    async def _instead(self, request: Request) -> str:
        """A sentence to follow an error about an unknown name, if it is of the other kind."""
        match request.path_params:
            case {"handler": name} if name in self._app.exports:
                return f". There is an export of that name: {root(request)}/api/call/{name}"
            case {"export": name} if name in await self._handlers.known():
                return f". There is a handler of that name: {root(request)}/api/request/{name}"
        return ""


def retry_after(app: Served) -> dict[str, str]:
    """When the module is expected to be up again."""
    if not isinstance(app, Supervised) or (seconds := app.supervision().next_try_seconds) is None:
        return {}
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def root(request: Request) -> str:
    """The path under which this application is mounted."""
    root: str = request.scope.get("root_path", "")
    return root


def message(error: Exception) -> str:
    """The error's text for clients: without the module's stderr and stack, without what a Python function raised, and
    without advice for whoever runs the server, which the log has.
    """
    if isinstance(error, HostFunctionError):
        return "the module has ended: a Python function that it called raised an exception"
    if isinstance(error, HTTPException):
        return error.detail
    message = error.message if isinstance(error, GuestError | UnknownExport) else str(error)
    if isinstance(error, GuestError | CallTimeout) and error.hint:
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
            there_are = ", ".join(root(request) + route.path for route in request.app.routes
                                  if getattr(route, "include_in_schema", True))
            text = f"there is no {request.url.path}; there are: {re.sub('{.*?}', 'NAME', there_are)}"
        case 405, {"Allow": allowed} | {"allow": allowed}:
            text = f"{request.url.path} does not allow {request.method}; use {allowed}"
    return JSONResponse({"error": text}, error.status_code, dict(error.headers or {}))
