"""What answers requests, and a response that holds something until it has been sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class Within(Response):
    """A response in a context that ends when it has been sent."""

    def __init__(self, response: Response, context: ExitStack) -> None:
        self._response, self._context = response, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._context:
            await self._response(scope, receive, send)
