"""What an orchestrator asks a server: whether it lives, and whether it should get requests.

    GET /livez    503 once the module has ended for good: a new process is needed
    GET /readyz   503 unless the module takes calls; and from when the server is asked to stop

Neither calls the module, so both are answered while all callers are busy. /healthz has the details, for people.

A server of many apps lives while one of them does, and is ready while one takes calls: each has probes of its own, too.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gothreads.runtime.state import State
from gothreads.serve.served import Served

_ALIVE = frozenset((State.STARTING, State.RUNNING, State.DRAINING, State.RESTARTING))


class Probes:
    """The probes of one server, or of one of its apps. On the server's event loop only.

    apps: functions that return the apps of this time. server: the server's probes, if these are of one of its apps.
    """

    def __init__(self, *apps: Callable[[], Served], server: Probes | None = None) -> None:
        self._apps, self._server = apps, server or self
        #: Whether the server has been asked to stop. Set in its own probes, in a signal handler.
        self.stopping = False

    def routes(self) -> list[Route]:
        return [Route("/livez", self._live), Route("/readyz", self._ready)]

    async def _live(self, _request: Request) -> Response:
        states = self._states()
        return _answer(None if _ALIVE.intersection(states) else f"the module has ended: {_listed(states)}")

    async def _ready(self, _request: Request) -> Response:
        states = self._states()
        if self._server.stopping:
            return _answer("the server is about to stop")
        return _answer(None if State.RUNNING in states else f"the module takes no calls: {_listed(states)}")

    def _states(self) -> list[State]:
        return [app().state for app in self._apps]


def _listed(states: list[State]) -> str:
    return ", ".join(state.value for state in states)


def _answer(problem: str | None) -> Response:
    return JSONResponse({"ok": True}) if problem is None else JSONResponse({"error": problem}, 503)
