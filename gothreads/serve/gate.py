"""What stands before the routes of an app: the limit on one client's calls."""

from __future__ import annotations

from contextlib import ExitStack

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gothreads.serve.admission import Admission, address_of
from gothreads.serve.metrics import Endpoint


class Gate:
    """Wraps endpoints, so that they are reached only by those who may."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def call(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint whose requests count as calls of the client, until they are answered."""
        async def call(request: Request) -> Response:
            with ExitStack() as counted:
                client = address_of(request.scope.get("client"))
                counted.enter_context(self._admission.of_client(client))
                response = await endpoint(request)
                until_sent = counted.pop_all()
            return _Within(response, until_sent)
        return call


class _Within(Response):
    """A response in a context that ends when it has been sent."""

    def __init__(self, response: Response, context: ExitStack) -> None:
        self._response, self._context = response, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._context:
            await self._response(scope, receive, send)
