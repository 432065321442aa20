"""The dashboard of a server: a page that shows what its apps are doing.

    GET /dashboard                       the page
    GET /api/dashboard                   the apps, and what this client may do
    GET /api/apps/{name}/live            figures, as they change (feed.py): the right `metrics`
    GET /api/apps/{name}/failures        the last calls that failed, with stacks: the right `inspect`
    GET /api/apps/{name}/goroutines      the goroutines with their stacks: the right `inspect`
    GET /debug/pprof/{kind}              profiles (profiling.py), which have stacks, too: the right `inspect`

It is where /metrics is: at an address of its own, if the metrics have one. There, figures need no right, but the texts
of errors need `inspect`, as stacks do.

Rights are as for /metrics: in that app, or if that needs no keys, in one of the others. Where none needs keys,
everybody may see the figures; but stacks only if no other machine can connect, and no proxy hands on the request:
clients never see them elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from gothreads.errors import GothreadsError
from gothreads.serve import profiling
from gothreads.serve.auth import AnyOf, permits
from gothreads.serve.deployment import Deployment
from gothreads.serve.error_responses import message
from gothreads.serve.failures import stack_of
from gothreads.serve.feed import Feeds, Stream
from gothreads.serve.gate import Gate
from gothreads.serve.guard import Held, policy
from gothreads.serve.identity import INSPECT, METRICS, RESTART
from gothreads.serve.metrics import Metrics
from gothreads.supervise.app import Supervised
from gothreads.text import cut, printable
from gothreads.version import __version__

_PAGE = (Path(__file__).parent / "dashboard.html").read_text()
_POLICY = policy(_PAGE)
#: With one of these headers, a request comes from a proxy, whose clients may be elsewhere.
_OF_PROXIES = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")


@dataclass(frozen=True)
class Watched:
    """An app on the dashboard: what outlasts its instances."""

    gate: Gate
    deployment: Deployment


class Dashboard:
    """Of one server. On its event loop only.

    authority: of all apps. may_restart: whether clients may replace apps that need no keys.
    """

    def __init__(self, watched: Sequence[Watched], metrics: Metrics, authority: AnyOf, *, may_restart: bool) -> None:
        self._watched = {one.deployment.name: one for one in watched}
        self._metrics, self._authority, self._may_restart = metrics, authority, may_restart
        self.feeds = Feeds()
        self._feed_of = {name: self.feeds.new(one.deployment, one.gate, metrics) for name, one in self._watched.items()}
        self._asked = asyncio.Lock()

    def routes(self, *, is_local: bool) -> list[Route]:
        """For clients who may need keys. is_local: whether only this machine's can connect."""
        return self._routes(_Rights(self._authority, open_figures=False, is_local=is_local), self._may_restart)

    def own_routes(self, *, is_local: bool) -> list[Route]:
        """For an address of its own, where /api/apps/{name}/restart is not."""
        return self._routes(_Rights(self._authority, open_figures=True, is_local=is_local), None)

    def _routes(self, rights: _Rights, may_restart: bool | None) -> list[Route]:
        def of_app(path: str, right: str, answer: Callable[[Watched, Scope], Any]) -> Route:
            async def endpoint(request: Request) -> Response:
                rights.known(request.scope)
                name = request.path_params["name"]
                if (one := self._watched.get(name)) is None:
                    return no_app(name, list(self._watched))
                rights.check(one, request.scope, right)
                async with Held().body(request, 0):  # so that the next that comes is the client's leaving
                    pass
                response: Response = await answer(one, request.scope)
                return response
            return Route(f"/api/apps/{{name:path}}/{path}", endpoint)

        async def about(request: Request) -> Response:
            is_known = rights.known(request.scope)

            def may_replace(one: Watched) -> bool:
                if may_restart is None:
                    return False
                return may_restart if one.gate.is_open else rights.may(one, request.scope, RESTART)
            return JSONResponse({"version": __version__, "known": is_known, "apps": [
                {"name": name, "watch": rights.may(one, request.scope, METRICS),
                 "inspect": rights.may(one, request.scope, INSPECT), "restart": may_replace(one)}
                for name, one in self._watched.items()]})

        async def live(one: Watched, scope: Scope) -> Response:
            return Stream(self._feed_of[one.deployment.name], lambda: rights.sees_errors(one, scope))

        async def profile(request: Request) -> Response:
            rights.known(request.scope)
            names = list(self._watched)
            name = request.query_params.get("app", names[0] if len(names) == 1 else "")
            if (one := self._watched.get(name)) is None:
                return no_app(name, names) if name else JSONResponse(
                    {"error": f"which app? Add ?app=NAME; there are: {', '.join(names)}", "known": names}, 400)
            rights.check(one, request.scope, INSPECT)
            async with Held().body(request, 0):  # as above
                pass
            return await profiling.answer(one.deployment.app, request, self._asked)
        return [Route("/dashboard", _page), Route("/api/dashboard", about), of_app("live", METRICS, live),
                of_app("failures", INSPECT, self._failures), of_app("goroutines", INSPECT, self._goroutines),
                Route("/debug/pprof/{kind:path}", profile)]

    async def _failures(self, one: Watched, _scope: Scope) -> Response:
        app = one.deployment.app
        ends = [app.error] if app.error is not None else []
        if isinstance(app, Supervised) and (cause := app.supervision().last_cause) is not None and not ends:
            ends = [cause]
        return JSONResponse({
            "end": [{"text": printable(message(error)), "stack": stack_of(error)} for error in ends],
            "calls": self._metrics.failures[one.deployment.name].to_json()})

    async def _goroutines(self, one: Watched, _scope: Scope) -> Response:
        async with self._asked:  # one at a time: Go stops for it
            try:
                return PlainTextResponse(await asyncio.to_thread(profiling.stacks, one.deployment.app))
            except TimeoutError:
                raise HTTPException(504, f"Go did not answer within {profiling.STACKS_SECONDS:g} s") from None
            except GothreadsError as error:
                raise HTTPException(503, message(error)) from None


def no_app(name: str, known: Sequence[str]) -> Response:
    """The answer to a request about an app that there is not."""
    return JSONResponse({"error": f"there is no app {cut(name)}; there are: {', '.join(known)}", "known": known}, 404)


class _Rights:
    """What a client may see. open_figures: whether figures need no right. is_local: whether only this machine's clients
    can connect.
    """

    def __init__(self, authority: AnyOf, *, open_figures: bool, is_local: bool) -> None:
        self._authority, self._open_figures, self._is_local = authority, open_figures, is_local

    def known(self, scope: Scope) -> bool:
        """Whether the client may get all that it has a right to. False: it has not said who it is, and need not.
        HTTPException: it must, or what it says is wrong.
        """
        if self._open_figures and "Authorization" not in Headers(scope=scope):
            return permits(lambda: self._authority.known(scope))
        self._authority.known(scope)
        return True

    def check(self, one: Watched, scope: Scope, right: str) -> None:
        """HTTPException: the client does not have that right."""
        authority = self._authority if one.gate.is_open else one.gate.authority
        if right == METRICS and self._open_figures:
            return
        if not authority.is_open:
            authority.allowed(scope, right)
        elif right == INSPECT and not (self._is_local and not any(map(Headers(scope=scope).get, _OF_PROXIES))):
            raise HTTPException(403, "other machines may be able to connect, and without --api-keys or --jwt-keys "
                                     "nobody has the right to see stacks")

    def sees_errors(self, one: Watched, scope: Scope) -> bool:
        """Whether the client may see the texts of errors, beside figures. HTTPException: not even those."""
        self.check(one, scope, METRICS)
        return not self._open_figures or self.may(one, scope, INSPECT)

    def may(self, one: Watched, scope: Scope, right: str) -> bool:
        return permits(lambda: self.check(one, scope, right))


async def _page(_request: Request) -> Response:
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})
