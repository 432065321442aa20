"""Server-sent events of an ASGI application in this process. (httpx reads a response to its end.)"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message

from gothreads.serve.disconnect import CUT
from tests.support.waiting import PATIENCE

Event = tuple[str, dict[str, Any]]


class EventStream:
    """A request whose events are taken one by one. reads: whether the client takes what is sent."""

    def __init__(self, *, reads: bool = True) -> None:
        self.status, self.headers = 0, dict[str, str]()
        self.ended = asyncio.Event()
        self._started, self._left = asyncio.Event(), asyncio.Event()
        self._pieces: asyncio.Queue[str] = asyncio.Queue()
        self._reads, self._asked = reads, False

    async def run(self, web: ASGIApp, path: str, headers: Mapping[str, str]) -> None:
        sent = [(name.lower().encode(), value.encode()) for name, value in {"Host": "localhost", **headers}.items()]
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "",
                 "query_string": b"", "headers": sent, "http_version": "1.1", "scheme": "http",
                 "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {CUT: self.leave}}
        try:
            await web(scope, self._receive, self._send)
        finally:
            self.ended.set()
            self._started.set()

    async def started(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._started.wait()

    async def next(self, kind: str) -> dict[str, Any]:
        """The next event of that kind."""
        async with asyncio.timeout(PATIENCE):
            while True:
                piece = await self._pieces.get()
                found = [event for event in parsed([piece]) if event[0] == kind]
                if found:
                    return found[0][1]

    def leave(self) -> None:
        """Disconnect."""
        self._left.set()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self._started.set()
        if not self._reads and message.get("more_body"):
            await self._left.wait()
        await self._pieces.put(message.get("body", b"").decode())


@asynccontextmanager
async def watching(web: ASGIApp, path: str, headers: Mapping[str, str] | None = None, *,
                   reads: bool = True) -> AsyncIterator[EventStream]:
    """A request that has begun to be answered. The client disconnects at the end."""
    stream = EventStream(reads=reads)
    task = asyncio.create_task(stream.run(web, path, headers or {}))
    try:
        await stream.started()
        yield stream
    finally:
        stream.leave()
        await task


def parsed(pieces: Iterable[str]) -> list[Event]:
    """The events in a text, which has whole ones."""
    found = []
    for block in "".join(pieces).split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found
