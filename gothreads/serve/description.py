"""What an app says of itself: its page, its health, and what it exports, also as OpenAPI 3.1."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.templating import Jinja2Templates

from gothreads.runtime.state import State
from gothreads.serve import openapi
from gothreads.serve.error_responses import message, retry_after, root
from gothreads.serve.guard import policy
from gothreads.serve.handler_names import HandlerNames
from gothreads.serve.served import Served
from gothreads.serve.surroundings import Surroundings
from gothreads.supervise.app import Supervised
from gothreads.version import __version__

_FOLDER = Path(__file__).parent
_templates = Jinja2Templates(_FOLDER)
_POLICY = policy((_FOLDER / "index.html").read_text())


class Description:
    """The route handlers of an app's description. `around` is what it shares with the app's other instances."""

    def __init__(self, app: Served, handlers: HandlerNames, around: Surroundings) -> None:
        self._app, self._handlers, self._around, self._gate = app, handlers, around, around.gate

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
            "handlers": await self._handlers.known(), "streaming": self._handlers.streaming,
            "events": self._app.events,
            "restarts": self._app.supervision().restarts if isinstance(self._app, Supervised) else None},
            headers={"Content-Security-Policy": _POLICY})

    async def health(self, request: Request) -> Response:
        is_up, knows = self._app.state is State.RUNNING, self._gate.knows(request.scope)
        body = health_of(self._app, self._around.failure()) if knows else {"state": self._app.state.value}
        return JSONResponse(body, 200 if is_up else 503, {} if is_up else retry_after(self._app))

    async def exports(self, _request: Request) -> Response:
        exports = []
        for name in self._app.exports:
            function = self._app.exports[name]
            exports.append(function.signature.to_json() | {"python": str(function.signature)})
        typed = [self._app.functions[name].to_json() for name in self._typed()]
        handlers = await self._handlers.known()
        streaming = sorted(self._handlers.streaming)
        return JSONResponse({"exports": exports, **({"typed": typed} if typed else {}), "handlers": handlers,
                             **({"streaming": streaming} if streaming else {}), "events": self._app.events})

    async def openapi(self, request: Request) -> Response:
        handlers = await self._handlers.known()
        names = openapi.Names(self._typed(), handlers, self._handlers.streaming, self._app.events)
        return JSONResponse(openapi.document(self._app, names, root(request), self._gate.schemes,
                                             self._around.named))

    def _typed(self) -> list[str]:
        """The typed functions that can be called. An export of the same name has precedence."""
        return [name for name in self._app.functions if name not in self._app.exports
                and (self._app.functions[name].has_json or self._app.functions[name].schema.body is not None)]


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
