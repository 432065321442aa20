"""What an orchestrator asks a server: whether it lives, and whether it should get requests.

    GET /livez    503 once the module has ended for good: a new process is needed
    GET /readyz   503 unless the module takes calls; and from when the server is asked to stop

Neither calls the module, so both are answered while all callers are busy. /healthz has the details, for people.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gothreads.runtime.state import State
from gothreads.serve.served import Served

_ALIVE = frozenset((State.STARTING, State.RUNNING, State.DRAINING, State.RESTARTING))


class Probes:
    """The probes of one server. On the server's event loop only."""

    def __init__(self, app: Served) -> None:
        self._app = app
        #: Whether the server has been asked to stop. Set by it, in a signal handler.
        self.stopping = False

    def routes(self) -> list[Route]:
        return [Route("/livez", self._live), Route("/readyz", self._ready)]

    async def _live(self, _request: Request) -> Response:
        state = self._app.state
        return _answer(None if state in _ALIVE else f"the module has ended: {state.value}")

    async def _ready(self, _request: Request) -> Response:
        state = self._app.state
        if self.stopping:
            return _answer("the server is about to stop")
        return _answer(None if state is State.RUNNING else f"the module takes no calls: {state.value}")


def _answer(problem: str | None) -> Response:
    return JSONResponse({"ok": True}) if problem is None else JSONResponse({"error": problem}, 503)
