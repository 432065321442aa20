"""The names of a module's handlers, which only the module can tell: calls of clients may be in its way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from gothreads.errors import GothreadsError
from gothreads.serve.served import Served

#: Seconds to wait for the list of handlers; if all callers are busy, the last known list is shown.
HANDLERS_SECONDS = 1.0
#: How long no name that the module did not know is asked for again, in seconds: clients may try any.
TOLD_SECONDS = 1.0


class _Question:
    """Something that the module is asked once at a time, however many ask: these are no calls, which have limits."""

    def __init__(self, ask: Callable[[], Awaitable[list[str]]]) -> None:
        self._ask = ask
        self._asked: asyncio.Future[list[str]] | None = None

    async def answer(self) -> list[str]:
        if self._asked is None or self._asked.done():
            self._asked = asyncio.ensure_future(self._ask())
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        return await asyncio.shield(self._asked)


class HandlerNames:
    """The handlers of an app. On the server's event loop only."""

    def __init__(self, app: Served) -> None:
        self._app = app
        self._all, self._those_that_stream = _Question(app.handlers_async), _Question(app._streaming_handlers)
        self._last_handlers: list[str] = []
        self._whole: frozenset[str] = frozenset()  # those that do not stream, as far as known
        self._told_until = 0.0
        #: Those that stream, as far as known.
        self.streaming: frozenset[str] = frozenset()

    async def known(self, seconds: float | None = None) -> list[str]:
        """The handlers that there are, or were last, if the module does not answer in that time."""
        with contextlib.suppress(GothreadsError, TimeoutError):
            async with asyncio.timeout(HANDLERS_SECONDS if seconds is None else seconds):
                self._last_handlers = await self._all.answer()
                self.streaming = frozenset(await self._those_that_stream.answer())
        return self._last_handlers

    def streams(self, name: str) -> bool | None:
        """Whether the handler of that name streams; None: ask the module (`learn`).

        One that main has yet to register does not, until it is there, and the module is asked again.
        """
        if name in self.streaming:
            return True
        told = name in self._whole or time.monotonic() < self._told_until or not self._app.loaded.may_stream
        return False if told else None

    def learn(self, whole: frozenset[str], streaming: frozenset[str]) -> None:
        """Note what the module has told: the handlers that do not stream, and those that do."""
        self._whole |= whole
        self.streaming |= streaming
        self._told_until = time.monotonic() + TOLD_SECONDS
