"""Waiting for something on behalf of a client, who may disconnect meanwhile, or be disconnected."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Message, Receive, Scope

#: In a request's scope["state"]: cuts the client's connection, and drops what is unsent. A `send` that waits returns.
CUT = "gothreads.cut"
#: The same: ends the connection when what was sent has gone out, though the response is not complete.
BREAK_OFF = "gothreads.break_off"
#: The same: a future that is done when the connection has ended. Not all servers have it.
GONE = "gothreads.gone"


def remembered(receive: Receive) -> Receive:
    """A request's `receive` that goes on telling that the client has left. Some servers (hypercorn) tell it once."""
    left: Message | None = None

    async def remember() -> Message:
        nonlocal left
        if left is not None:
            return left
        message = await receive()
        if message["type"] == "http.disconnect":
            left = message
        return message
    return remember


def unread(scope: Scope) -> Receive:
    """A `receive` for a request whose body is not read yet: it tells that the client has left, and nothing else.

    With servers that have no GONE it tells nothing.
    """
    gone: asyncio.Future[None] = scope.get("state", {}).get(GONE) or asyncio.get_running_loop().create_future()

    async def receive() -> Message:
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}
    return receive


async def left_first(receive: Receive, work: asyncio.Future[Any]) -> bool:
    """Wait until the work is done or the client has disconnected. Returns whether the client has left before that.

    Only after the request's body has been read, when `receive` has nothing else to tell; before, with `unread`.
    """
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        return not work.done()
    finally:
        gone.cancel()
