"""How calls over HTTP end: a word for each kind of error, for the metrics, and the status that clients get."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException

from gothreads.errors import (
    ArgumentError,
    CallersBusy,
    CallTimeout,
    GothreadsError,
    HandlerError,
    InternalError,
    MemoryAccessError,
    NotCallable,
    QueueFull,
    UnknownExport,
)
from gothreads.serve.guard import CLIENT_LEFT

#: The status of a response for a GothreadsError, by its outcome. invalid: what the module has returned.
STATUSES = {"wrong_arguments": 422, "error": 422, "unknown": 404, "timeout": 504, "busy": 503, "invalid": 502,
            "ended": 503}
#: The outcome of a request that was refused, by the status. All others are "refused".
_REFUSALS = {CLIENT_LEFT: "client_left", 401: "denied", 403: "denied", 429: "limited"}


def outcome_of(error: BaseException) -> str:
    """How a call has ended, in a word."""
    match error:
        case ArgumentError():
            return "wrong_arguments"
        case HandlerError():
            return "error"
        case UnknownExport() | NotCallable():
            return "unknown"
        case CallTimeout():
            return "timeout"
        case CallersBusy() | QueueFull():
            return "busy"
        case MemoryAccessError() | InternalError():
            return "invalid"
        case GothreadsError():
            return "ended"
        case HTTPException():
            return _REFUSALS.get(error.status_code, "refused")
        case asyncio.CancelledError():
            return "client_left"
    return "bug"
