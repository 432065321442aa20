"""Waiting for something on behalf of a client, who may disconnect meanwhile, or be disconnected."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive

#: In a request's scope["state"]: cuts the client's connection, and drops what is unsent. A `send` that waits returns.
CUT = "gothreads.cut"


async def left_first(receive: Receive, work: asyncio.Future[Any]) -> bool:
    """Wait until the work is done or the client has disconnected. Returns whether the client has left before that.

    Only after the request's body has been read: `receive` has nothing else to tell then.
    """
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        return not work.done()
    finally:
        gone.cancel()
