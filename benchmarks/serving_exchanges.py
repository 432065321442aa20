"""What the clients of benchmarks.serving_load ask, and which answers are right."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from websockets.asyncio.client import connect

from benchmarks.load_client import Answer, Client, Cut, Pace

#: One exchange of a client: the answer, and whether it is right.
Exchange = Callable[[Client, random.Random], Awaitable[tuple[Answer, bool]]]


def add(app: str) -> Exchange:
    async def add(client: Client, choose: random.Random) -> tuple[Answer, bool]:
        a, b = choose.randrange(1 << 30), choose.randrange(1 << 30)
        answer = await client.call(f"/{app}/api/call/add", a, b)
        return answer, answer.json == {"result": (a + b + (1 << 31)) % (1 << 32) - (1 << 31)}
    return add


def hashed(app: str) -> Exchange:
    async def hashed(client: Client, choose: random.Random) -> tuple[Answer, bool]:
        body = choose.randbytes(choose.choice((0, 100, 10_000, 200_000)))
        answer = await client.post(f"/{app}/api/request/hash", body)
        return answer, answer.body == hashlib.sha256(body).hexdigest().encode()
    return hashed


def squares(app: str, most: int, pace: Pace = Pace(), *, may_end: bool = False) -> Exchange:
    """Items as they come. may_end: the module may end meanwhile; then an error follows the items."""
    async def squares(client: Client, choose: random.Random) -> tuple[Answer, bool]:
        n = choose.randrange(most)
        # Who reads slowly has the last items when the connection has been idle for long, and the server closes it.
        headers = {"Accept": "application/x-ndjson", **({"Connection": "close"} if pace.pause else {})}
        answer = await client.post(f"/{app}/api/call/squares", json.dumps({"args": [n]}).encode(), pace, headers)
        lines = answer.body.splitlines()
        ended = may_end and bool(lines) and lines[-1].startswith(b'{"error"')
        if ended:
            lines.pop()
        right = len(lines) == n or (ended and len(lines) < n)
        return answer, right and all(int(line) == i * i for i, line in enumerate(lines))
    return squares


def digest(app: str, most: int, pace: Pace = Pace()) -> Exchange:
    """A body that Go reads as it comes."""
    async def digest(client: Client, choose: random.Random) -> tuple[Answer, bool]:
        body = choose.randbytes(choose.randrange(1, most))
        answer = await client.post(f"/{app}/api/call/digest", body, pace)
        return answer, answer.json == {"result": hashlib.sha256(body).hexdigest()}
    return digest


#: What the handler `shift` makes of each byte.
SHIFTED = bytes((*range(1, 256), 0))


def shifts(app: str, most: int, pace: Pace = Pace(), *, may_end: bool = False) -> Exchange:
    """A handler that streams: its answer comes while it reads. may_end: the module may end; then it breaks off."""
    async def shifts(client: Client, choose: random.Random) -> tuple[Answer, bool]:
        body = choose.randbytes(choose.randrange(1, most))
        expected = body.translate(SHIFTED)
        try:
            answer = await client.post(f"/{app}/api/request/shift", body, pace, {"Connection": "close"})
        except Cut as cut:
            if not may_end or cut.answer is None:
                raise
            return cut.answer, expected.startswith(cut.answer.body)
        return answer, (answer.body, answer.headers.get("content-type")) == (expected, "application/x-shifted")
    return shifts


def waits(app: str, most: int) -> Exchange:
    """A call that takes up to so many milliseconds."""
    async def waits(client: Client, choose: random.Random) -> tuple[Answer, bool]:
        body = str(choose.randrange(most)).encode()
        answer = await client.post(f"/{app}/api/request/wait", body)
        return answer, answer.body == body
    return waits


async def talks(client: Client, choose: random.Random) -> tuple[Answer, bool]:
    """A WebSocket: messages there and back, one after the other."""
    words = [f"{choose.randrange(1 << 30):x}" for _ in range(choose.randrange(20))]
    got: list[str] = []
    uri = f"ws://localhost:{client.port}/steady/api/call/upper"
    async with connect(uri, host="127.0.0.1", open_timeout=None, ping_interval=None, compression=None) as talk:
        for word in words:
            await talk.send(word)
            got.append(json.loads(await talk.recv()))
        await talk.send("")
        got += [json.loads(message) async for message in talk]
    return Answer(200, {}, b""), got == [word.upper() for word in words] and talk.close_code == 1000


async def talks_to_handler(client: Client, choose: random.Random) -> tuple[Answer, bool]:
    """The same, with a handler that streams: bytes, of which each message is answered with one."""
    sent = [choose.randbytes(choose.randrange(1, 1000)) for _ in range(choose.randrange(20))]
    got: list[bytes] = []
    uri = f"ws://localhost:{client.port}/steady/api/request/shift"
    async with connect(uri, host="127.0.0.1", open_timeout=None, ping_interval=None, compression=None) as talk:
        for piece in sent:
            await talk.send(piece)
            got.append(bytes(await talk.recv(decode=False)))
        await talk.send(b"")
        got += [bytes(message) async for message in talk if isinstance(message, bytes)]
    return Answer(200, {}, b""), got == [piece.translate(SHIFTED) for piece in sent] and talk.close_code == 1000


async def stalls(client: Client, choose: random.Random) -> tuple[Answer, bool]:
    """A body that never ends."""
    answer = await client.post("/steady/api/request/hash", bytes(100_000), Pace(10_000, 0.1, stalls=True))
    return answer, False


async def probes(client: Client, choose: random.Random) -> tuple[Answer, bool]:
    path = choose.choice(("/livez", "/readyz", "/metrics", "/api/apps", "/steady/healthz", "/", "/steady/openapi.json"))
    answer = await client.ask("GET", path)
    await asyncio.sleep(0.3)
    return answer, True


async def kills(client: Client, choose: random.Random) -> tuple[Answer, bool]:
    """Ends the module of `fragile`."""
    await asyncio.sleep(choose.uniform(2, 6))
    client.close()  # an idle connection may be closed by the server at any time
    return await client.call("/fragile/api/call/die", choose.choice(("exit", "panic", "trap", "goroutine"))), False


async def replaces(client: Client, choose: random.Random) -> tuple[Answer, bool]:
    await asyncio.sleep(choose.uniform(8, 16))
    client.close()
    answer = await client.post(f"/api/apps/{choose.choice(('steady', 'fragile', 'narrow'))}/restart", b"")
    return answer, answer.json == {"restarted": True}


@dataclass(frozen=True)
class Clients:
    """So many clients, which make this exchange again and again. may: the statuses that are right besides 200.
    patience: how long an answer may take, in seconds.
    """

    count: int
    exchange: Exchange
    may: tuple[int, ...] = ()
    source: str = "127.0.0.1"
    patience: float = 120.0


#: 503: the module has ended, or a queue is full. 409: the sources of that moment cannot be built.
LOAD: Mapping[str, Clients] = {
    "steady: exports": Clients(3, add("steady")),
    "steady: handlers": Clients(2, hashed("steady")),
    "steady: iterators": Clients(2, squares("steady", 3000)),
    "steady: bodies that Go reads": Clients(2, digest("steady", 1 << 20)),
    "steady: slow to send": Clients(4, digest("steady", 400_000, Pace(20_000, 0.5))),
    "steady: slow to read": Clients(3, squares("steady", 60_000, Pace(30_000, 0.5)), patience=400.0),
    "steady: WebSockets": Clients(2, talks),
    "steady: handlers that stream": Clients(2, shifts("steady", 1 << 20)),
    "steady: slow both ways": Clients(3, shifts("steady", 400_000, Pace(20_000, 0.5)), patience=400.0),
    "steady: WebSockets of handlers": Clients(1, talks_to_handler),
    "steady: stall": Clients(2, stalls, (408,)),
    "fragile: exports": Clients(3, add("fragile"), (503,)),
    "fragile: handlers": Clients(2, hashed("fragile"), (503,)),
    "fragile: iterators": Clients(2, squares("fragile", 3000, may_end=True), (503,)),
    "fragile: handlers that stream": Clients(2, shifts("fragile", 1 << 20, may_end=True), (503,)),
    "fragile: killed": Clients(1, kills, (503,)),
    "narrow: more than places": Clients(8, waits("narrow", 400), (503,), source="127.0.0.2"),
    "narrow: one client, too many": Clients(20, waits("narrow", 400), (429, 503), source="127.0.0.3"),
    "server: probes and pages": Clients(1, probes),
    "server: apps are replaced": Clients(1, replaces, (409, 503), patience=600.0),  # builds wait for each other
}
