"""`gothreads.asgi`: a module as an ASGI application, for any ASGI server and framework.

Nothing here needs Starlette until the application is made: `from gothreads import *` works without the extra `serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Unpack, cast

from gothreads.errors import MisuseError, listed
from gothreads.launch import open as open_module
from gothreads.requirements import lacking_for_asgi
from gothreads.runtime.app import App
from gothreads.runtime.keywords import complete, definition, documented
from gothreads.runtime.module_source import ModuleSource
from gothreads.runtime.options import OpenOptions
from gothreads.serve.options import (
    CALLERS_SECONDS,
    AllAsgiOptions,
    AsgiOptions,
    ServeOptions,
    check_together,
)
from gothreads.supervise.app import Supervised
from gothreads.text import cut

#: Code in this module uses apps as a program does: close() may wait in a signal handler that has interrupted it
#: (runtime/own_code.py).
PROGRAM_CODE = True

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("gothreads.serve")

_CLOSED = b'{"error":"the module is not open: the server is starting or stopping"}'


@documented(AsgiOptions, OpenOptions)
def asgi(source: ModuleSource | Callable[[], App | Supervised], **options: Unpack[AllAsgiOptions]) -> AsgiApp:
    """An ASGI application that serves a module as `gothreads serve` does (docs/serve.md).

    The module is opened when the server starts, in each of its worker processes, and closed when the server stops.

    source: what `open` takes; or a function that opens an app, such as one that calls `gothreads.supervise`.
    {AsgiOptions}

    All other options are those of `open`. (callers_timeout is 30 if it is not given.)

    {OpenOptions}

    Raises ImportError if the extra `serve` is not installed, MisuseError for wrong options.
    """
    if (problem := lacking_for_asgi()) is not None:
        raise ImportError(problem)
    chosen = complete("asgi()", AllAsgiOptions, options)
    check_together(chosen)
    given = {name: value for name, value in options.items() if name in definition(OpenOptions)}
    if callable(source):
        if given:
            raise MisuseError("asgi() was given a function that opens the app, so options of open are for what that "
                              f"calls: {listed(list(given))}")
        return AsgiApp(source, chosen)
    of_open = cast(OpenOptions, {"callers_timeout": CALLERS_SECONDS, **given})
    return AsgiApp(lambda: open_module(source, **of_open), chosen)


class AsgiApp:
    """An ASGI application, made by `gothreads.asgi`.

    A server that runs it opens and closes the module by itself (ASGI's lifespan). Inside another application, that
    has the lifespan:

        go = gothreads.asgi("app.wasm")
        web = FastAPI(lifespan=go.lifespan)
        web.mount("/go", go)
    """

    def __init__(self, open_app: Callable[[], App | Supervised], options: dict[str, Any]) -> None:
        self._open, self._options = open_app, options
        self._app: App | Supervised | None = None
        self._web: Asgi | None = None
        self._is_open = False

    def app(self) -> App | Supervised:
        """The open app; a dependency for FastAPI: `app: Annotated[gothreads.App, Depends(go.app)]`.

        MisuseError: the application has not started.
        """
        if self._app is None:
            raise MisuseError("the app is not open, since the lifespan of this gothreads.asgi has not begun. Inside "
                              "another application: FastAPI(lifespan=go.lifespan)")
        return self._app

    @contextlib.asynccontextmanager
    async def lifespan(self, _web: object = None) -> AsyncIterator[None]:
        """The module is open inside of this: `FastAPI(lifespan=go.lifespan)`, `async with go.lifespan():`."""
        from gothreads.serve.guard import Hosts
        from gothreads.serve.web import web_app

        if self._is_open:
            raise MisuseError("the lifespan of this gothreads.asgi has begun already: only one application may have it")
        options = self._options
        self._is_open = True
        try:
            app = await asyncio.to_thread(self._open)
            if not isinstance(app, App | Supervised):
                raise MisuseError(f"asgi() was given a function that returned {cut(app)}, not an app")
            try:
                # Anew each time: it belongs to the event loop.
                shared = cast(ServeOptions, {name: options[name] for name in definition(ServeOptions)})
                self._web = web_app(app, Hosts.of_asgi(options["allow_hosts"]), access_log=options["access_log"],
                                    allow_origins=options["allow_origins"], largest_json=options["json_limit"],
                                    **shared)
                self._app = app
                yield
            finally:
                self._app = self._web = None
                await app.close_async(drain=options["drain"])
        finally:
            self._is_open = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ASGI says."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif self._web is not None:
            await self._web(scope, receive, send)
        elif scope["type"] == "http":
            log.error("a request has come, and the module is not open. If another application has this gothreads.asgi, "
                      "it must run its lifespan: FastAPI(lifespan=go.lifespan)")
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_CLOSED)).encode())]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": _CLOSED})
        else:
            await send({"type": "websocket.close"})

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        phase = "startup"
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as error:
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})
