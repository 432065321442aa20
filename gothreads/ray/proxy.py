"""A typed answer where Ray Serve's HTTP proxy has none: the replica that had a request was lost.

Ray's proxy sends a request again only while no replica has taken it. Of one that was taken it knows only that there
will be no answer, and its server says "Internal Server Error", with status 500. Proxies that are started with

    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=gothreads.ray.proxy.middlewares

in their nodes' environment answer 503 instead, as `gothreads serve` does when a module ends.
"""

from __future__ import annotations

import json

from starlette.middleware import Middleware

from gothreads.serve.asgi import Asgi, Message, Receive, Scope, Send

_LOST = json.dumps({"error": "the replica that had this request was lost, or has failed: whether the call was made is "
                             "not known. Try again, if it may be made twice"}).encode()
_START = {"type": "http.response.start", "status": 503, "headers": [
    (b"content-type", b"application/json"), (b"content-length", b"%d" % len(_LOST)), (b"retry-after", b"1")]}


def middlewares() -> list[Middleware]:
    """For Ray Serve, which calls it in each proxy."""
    return [Middleware(_Answered)]


class _Answered:
    """The proxy's ASGI application, which answers each request. (An answer that has begun can only break off.)"""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)
        await self._app(scope, receive, sending)
        if scope["type"] == "http" and not has_begun:
            await send(_START)
            await send({"type": "http.response.body", "body": _LOST})
