"""Bounds on the calls of one app: how many are in flight, how many wait for that, and how many one client has.

A call is in flight while the module works on it. It enters the line when its body has been read, and leaves when there
is a result: so neither a client that sends slowly nor one that reads slowly takes a place from others. The items of an
iterator are sent without a place after the first ones, as they hold no caller either.

A client's own calls count from their heads until they are answered.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.exceptions import HTTPException
from starlette.types import Receive

from gothreads.errors import CallersBusy
from gothreads.serve.disconnect import left_first
from gothreads.serve.guard import CLIENT_LEFT
from gothreads.serve.options import CALLERS_SECONDS, MOST_WAITING


class Admission:
    """The bounds of one app. On the server's event loop only, so nothing happens between two awaits.

    Invariant: if a place is free, nobody waits. A call that leaves hands its place over to the first that waits.
    """

    def __init__(self, most: int | None = None, most_waiting: int = MOST_WAITING,
                 most_of_client: int | None = None) -> None:
        self._most, self._most_waiting, self._most_of_client = most, most_waiting, most_of_client
        self._free = most or 0
        self._line: deque[asyncio.Future[None]] = deque()
        self._of_clients: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return len(self._line)

    @contextmanager
    def of_client(self, client: str) -> Iterator[None]:
        """Count a call of that client. HTTPException: it has too many."""
        if self._most_of_client is not None and self._of_clients[client] >= self._most_of_client:
            raise HTTPException(429, f"you have as many calls in progress as one client may ({self._most_of_client}). "
                                     "Try again when one has ended", {"Retry-After": "1"})
        self._of_clients[client] += 1
        try:
            yield
        finally:
            self._of_clients[client] -= 1
            if not self._of_clients[client]:
                del self._of_clients[client]

    def check(self) -> None:
        """CallersBusy: there is no room, even to wait."""
        if self._most is not None and not self._free and len(self._line) >= self._most_waiting:
            raise CallersBusy(f"as many calls are in flight ({self._most}) and wait ({len(self._line)}) as may be. Try "
                              "again")

    @asynccontextmanager
    async def place(self, receive: Receive) -> AsyncIterator[None]:
        """A place among the calls in flight. Waits for it, at most CALLERS_SECONDS.

        CallersBusy: there is none. HTTPException: the client has left.
        """
        if self._most is None:
            yield
            return
        self.check()
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._free:
            self._free -= 1
            mine.set_result(None)
        else:
            self._line.append(mine)
        try:
            if not mine.done():
                await self._wait(mine, receive)
            yield
        finally:
            self._leave(mine)

    async def _wait(self, mine: asyncio.Future[None], receive: Receive) -> None:
        try:
            async with asyncio.timeout(CALLERS_SECONDS):
                if await left_first(receive, mine):
                    raise HTTPException(CLIENT_LEFT, "the client has disconnected")
        except TimeoutError:
            raise CallersBusy(f"as many calls as may be ({self._most}) were in flight for {CALLERS_SECONDS:g} s. Try "
                              "again") from None

    def _leave(self, mine: asyncio.Future[None]) -> None:
        if not mine.done():  # it has waited in vain
            self._line.remove(mine)
        elif self._line:
            self._line.popleft().set_result(None)
        else:
            self._free += 1


def address_of(client: tuple[str, int] | None) -> str:
    """The address that stands for a client: of IPv6, its network, since one client has all addresses of that.

    Clients of a Unix socket have none.
    """
    try:
        address = ipaddress.ip_address((client or ("", 0))[0].partition("%")[0])
    except ValueError:
        return client[0] if client else ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
