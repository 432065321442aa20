"""Request ids, and the access log.

A request's id is the client's X-Request-ID if that is short and of harmless characters, else a new one. The response
has it, and so have all lines of the log that are written for the request.

The access log is the logger gothreads.access, with a record for each request. Its message is for people; for programs
it has the fields `request_id`, `client`, `identity` (such as "key ci", or "" if there is none), `method`, `path`,
`status`, `bytes` (of the response's body) and `seconds`; and where the request has a span, `trace_id` and `span_id`.
"""

from __future__ import annotations

import contextvars
import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gothreads.bridge import tracing
from gothreads.serve.identity import IDENTITY
from gothreads.text import shown

log = logging.getLogger("gothreads.access")

#: The request that is being answered.
_current: contextvars.ContextVar[str | None] = contextvars.ContextVar("gothreads_request_id", default=None)
#: What an id may be. It goes into headers and logs as it is.
_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
#: Of a path, an address or a name, so many characters are logged.
_LONGEST = 1000


class RequestIds(logging.Filter):
    """Adds `request_id` to the records that are logged while a request is answered, and the ids of its span."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (current := _current.get()) is not None and not hasattr(record, "request_id"):
            record.request_id = current
        for name, value in tracing.ids().items():
            setattr(record, name, value)
        return True


class Access:
    """An ASGI application whose requests have ids, and are logged if `is_logged`."""

    def __init__(self, app: ASGIApp, *, is_logged: bool) -> None:
        self._app, self._is_logged = app, is_logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _id_of(scope)
        begun, status, size = time.perf_counter(), 0, 0

        async def send_with_id(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            else:
                size += len(message.get("body", b""))
            await send(message)
        token = _current.set(request_id)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _current.reset(token)
            if self._is_logged:
                _log(scope, request_id, status or 500, size, time.perf_counter() - begun)


def _id_of(scope: Scope) -> str:
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and _ID.fullmatch(given[0]):
        found: bytes = given[0]
        return found.decode()
    return uuid.uuid4().hex


def _log(scope: Scope, request_id: str, status: int, size: int, seconds: float) -> None:
    client = scope.get("client")
    path, identity = shown(scope["path"][:_LONGEST]), shown(str(scope.get(IDENTITY, ""))[:_LONGEST])
    # A trusted proxy may pass on what its client has sent as an address.
    fields = {"request_id": request_id, "client": shown(client[0][:_LONGEST]) if client else "", "identity": identity,
              "method": shown(scope["method"][:20]), "path": path, "status": status, "bytes": size,
              "seconds": round(seconds, 6), **tracing.ids()}
    log.info('%s%s "%s %s" %d %d bytes %.1f ms %s', fields["client"] or "-", f" ({identity})" if identity else "",
             fields["method"], path, status, size, seconds * 1000, request_id, extra=fields)
