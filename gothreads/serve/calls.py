"""Calls of clients: of exports, typed functions and handlers, and events.

If the client of a request disconnects, the request is abandoned: if its handler has a context (guest.HandleContext),
that is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive

from gothreads.errors import CallersBusy, unknown
from gothreads.runtime.cancellation import OnTimeout
from gothreads.runtime.settling import SETTLE_SECONDS
from gothreads.serve import guard
from gothreads.serve.admission import Admission
from gothreads.serve.body_reader import BodyReader
from gothreads.serve.byte_streams import Answer
from gothreads.serve.disconnect import left_first, unread
from gothreads.serve.endpoint import Within
from gothreads.serve.guard import Held
from gothreads.serve.handler_names import HandlerNames
from gothreads.serve.item_streams import items_response
from gothreads.serve.json_arguments import (
    TYPED_WEIGHT,
    WEIGHT,
    aside,
    parse_arguments,
    parse_typed_arguments,
    result_json,
)
from gothreads.serve.options import LARGEST_JSON, WebOptions
from gothreads.serve.served import Served

if TYPE_CHECKING:
    from gothreads.typed.functions import LendingFunction, TypedFunction
    from gothreads.typed.streams import JsonStream


class Calls:
    """The route handlers of calls. They wait for a place in `admission`; bodies and results count in `held`."""

    def __init__(self, app: Served, handlers: HandlerNames, admission: Admission, held: Held,
                 options: WebOptions) -> None:
        self._app, self._handlers, self._admission, self._held = app, handlers, admission, held
        self._timeout = options.get("timeout")
        self._on_timeout: OnTimeout = options.get("on_timeout", "cancel")
        self._largest_json = options.get("largest_json", LARGEST_JSON)

    async def call(self, request: Request) -> Response:
        self._admission.check()
        name = request.path_params["export"]
        if (typed := self._app._typed_function(name)) is not None:
            return await self._call_typed(typed, request)
        self._app.exports[name]  # report an unknown name before any error in the body
        on_timeout: OnTimeout = "stop" if self._on_timeout == "stop" else "continue"
        async with self._held.body(request, self._largest_json, WEIGHT) as body:
            arguments = await aside(parse_arguments, body)
            async with self._admission.place(request.receive):
                future = self._app.submit(name, *arguments, timeout=self._timeout, on_timeout=on_timeout)
                result = await self._answered(request.receive, future)
        return Response(await aside(result_json, result), media_type="application/json")

    async def _call_typed(self, function: TypedFunction, request: Request) -> Response:
        options = {"timeout": self._timeout, "on_timeout": self._on_timeout}
        if function.schema.body is not None:
            return await self._call_with_body(cast("LendingFunction", function), request, options)

        def begin(body: bytes) -> Future[bytes | JsonStream]:
            return function.submit_json(parse_typed_arguments(body), options)
        async with (self._held.body(request, self._largest_json, TYPED_WEIGHT) as body,
                    self._admission.place(request.receive)):
            result = await self._answered(request.receive, await aside(begin, body))
            return await self._typed_response(result, request.headers, request.receive)

    async def _call_with_body(self, function: LendingFunction, request: Request,
                              options: Mapping[str, Any]) -> Response:
        """The body is a file object for Go, which reads it as it comes. Other arguments are in the query."""
        with contextlib.ExitStack() as stack:
            body = stack.enter_context(BodyReader(request.scope, request.receive))
            async with self._admission.place(body.receive):
                future = function.submit_body(body, dict(request.query_params), options)
                result = await self._answered(body.receive, future)
                response = await self._typed_response(result, request.headers, body.receive)
            body.wait_for_ever()  # from now on it holds no place
            return Within(response, stack.pop_all())

    async def _typed_response(self, result: bytes | JsonStream, headers: Headers, receive: Receive) -> Response:
        if not isinstance(result, bytes):
            return await items_response(result, headers, receive, self._held)
        return Response(b'{"result":%s}' % result, media_type="application/json")

    async def request(self, request: Request) -> Response:
        self._admission.check()
        name = request.path_params["handler"]
        if (streams := self._handlers.streams(name)) is None:
            streams = await self._asked_whether_it_streams(name, request)
        if streams:
            return await self._stream(name, request)
        async with (self._held.body(request, guard.LARGEST_BODY) as body, self._admission.place(request.receive)):
            future = self._app.submit_request(name, body, timeout=self._timeout, on_timeout=self._on_timeout)
            reply = await self._answered(request.receive, future)
        return Response(reply, media_type="application/json" if _is_json(reply) else "application/octet-stream")

    async def _asked_whether_it_streams(self, name: str, request: Request) -> bool:
        """Ask the module, before the body is read. That is a call: it needs a place, and Go may be slow to answer."""
        receive = unread(request.scope)
        async with self._admission.place(receive):
            future = self._app._submit_kinds(name, timeout=self._timeout, on_timeout=self._on_timeout)
            self._handlers.learn(*await self._answered(receive, future))
        return bool(self._handlers.streams(name))

    async def _stream(self, name: str, request: Request) -> Response:
        """The handler reads the body as it comes."""
        with contextlib.ExitStack() as stack:
            body = stack.enter_context(BodyReader(request.scope, request.receive))
            async with self._admission.place(body.receive):
                future = self._app.submit_stream(name, body, timeout=self._timeout, on_timeout=self._on_timeout)
                response = Answer(name, await self._answered(body.receive, future), body.receive, self._held)
            body.wait_for_ever()  # from now on it holds no place
            return Within(response, stack.pop_all())

    async def signal(self, request: Request) -> Response:
        name = request.path_params["event"]
        if name not in self._app.events:
            await self._handlers.known(SETTLE_SECONDS)  # main may be about to subscribe to it
        if name not in self._app.events:  # an event without a receiver would stay in memory for ever
            raise unknown("event", name, self._app.events)
        async with self._held.body(request, guard.LARGEST_BODY) as body:
            self._app.signal(name, body, full="raise")
        return JSONResponse({"queued": True}, 202)

    async def _answered(self, receive: Receive, future: Future[Any]) -> Any:
        """A call's result. The call is abandoned if the client disconnects, unless that would stop the module."""
        result = asyncio.wrap_future(future)
        try:
            if await left_first(receive, result) and self._on_timeout != "stop":
                result.cancel()
                future.add_done_callback(_dropped)
                raise HTTPException(guard.CLIENT_LEFT, "the client has disconnected")
            return await result
        except CallersBusy:
            options = self._app.options
            raise CallersBusy(f"all {options.callers} callers were busy for {options.callers_timeout:g} s. Try again, "
                              f"or serve with more --callers") from None


def _dropped(done: Future[Any]) -> None:
    """Close a stream that has come too late for its client: until it is freed, its handler would go on."""
    if not done.cancelled() and done.exception() is None and hasattr(done.result(), "close"):
        done.result().close()


def _is_json(reply: bytes) -> bool:
    return reply[:1] in (b"{", b"[") and reply[-64:].rstrip()[-1:] in (b"}", b"]")
