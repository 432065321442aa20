"""An HTTP/1.1 client that is as slow as it is told, for benchmarks.serving_load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NONE: Mapping[str, str] = {}


class Cut(Exception):
    """The connection has ended before the answer was complete. answer: what has come, if that is its head at least."""

    answer: Answer | None = None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Pace:
    """How a client sends its body, and reads the answer: so many bytes, then a pause in seconds.

    stalls: it stops in the middle of its body.
    """

    piece: int = 1 << 30
    pause: float = 0.0
    stalls: bool = False


class Client:
    """One client, with one connection at a time, which it keeps. source: the address that it connects from."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.port, self._source = port, source
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, pace: Pace = Pace(), headers: Mapping[str, str] = NONE) -> Answer:
        """Cut: the server has ended the connection before the answer was complete."""
        return await self.ask("POST", path, body, pace, headers)

    async def call(self, path: str, *args: Any) -> Answer:
        return await self.post(path, json.dumps({"args": args}).encode())

    async def ask(self, method: str, path: str, body: bytes = b"", pace: Pace = Pace(),
                  headers: Mapping[str, str] = NONE) -> Answer:
        try:
            reader, writer = self._open or await self._connect(is_slow=pace.pause > 0)
            head = {"Host": "localhost", "Content-Length": str(len(body)), **headers}
            lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            sending = asyncio.create_task(_send(writer, body, pace))
            try:
                answer = await _answer(reader, pace)
            finally:
                is_whole = sending.done() and not sending.cancelled() and sending.exception() is None
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await sending
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Cut(f"{type(error).__name__}: {error}") from error
        except BaseException:
            self.close()
            raise
        if not is_whole or answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def leave(self, path: str, body: bytes, seconds: float) -> None:
        """Send a request, and disconnect without waiting for the answer."""
        with contextlib.suppress(TimeoutError, Cut):
            async with asyncio.timeout(seconds):
                await self.post(path, body)
        self.close()

    def close(self) -> None:
        if self._open is not None:
            self._open[1].transport.abort()
        self._open = None

    async def _connect(self, *, is_slow: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = socket.socket()
        try:
            if is_slow:  # otherwise the kernel would take megabytes at once
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
            connection.settimeout(0)
            connection.bind((self._source, 0))
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
            self._open = await asyncio.open_connection(sock=connection, limit=1 << 16)
        except BaseException:
            connection.close()
            raise
        return self._open


async def _send(writer: asyncio.StreamWriter, body: bytes, pace: Pace) -> None:
    for at in range(0, len(body), pace.piece):
        if pace.stalls and at * 2 > len(body):
            await asyncio.Event().wait()
        writer.write(body[at:at + pace.piece])
        await writer.drain()
        await asyncio.sleep(pace.pause)


async def _answer(reader: asyncio.StreamReader, pace: Pace) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    status, pieces = int(head[0].split()[1]), list[bytes]()
    try:
        if "content-length" in headers:
            await _read(reader, int(headers["content-length"]), pace, pieces)
        else:
            while size := int(await reader.readuntil(b"\n"), 16):
                await _read(reader, size, pace, pieces)
                await reader.readexactly(2)
            await reader.readexactly(2)
    except (OSError, asyncio.IncompleteReadError) as error:
        cut = Cut(f"in the answer: {type(error).__name__}: {error}")
        cut.answer = Answer(status, headers, b"".join(pieces))
        raise cut from error
    return Answer(status, headers, b"".join(pieces))


async def _read(reader: asyncio.StreamReader, size: int, pace: Pace, pieces: list[bytes]) -> None:
    while size > 0:
        pieces.append(await reader.readexactly(min(size, pace.piece)))
        size -= len(pieces[-1])
        if pace.pause:
            await asyncio.sleep(pace.pause)
