"""What a server does not take from clients, before anything of theirs gets to the module (docs/security.md).

    Host            a name that is not this server's: a page whose name was made to lead here (DNS rebinding) could call it otherwise
    Origin          a page of another site; and what browsers say of themselves (Sec-Fetch-Site), where they do not send it
    heads, bodies   those that come too slowly, and bodies that are too many bytes together

And what answers say to browsers: nothing of them is a page but the page, no other site may show it, and no script runs in it but its own.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from gothreads.errors import MisuseError

#: The most that a request's body may be, and all of those that the server has at a time, in bytes.
LARGEST_BODY = 64 << 20
MOST_BODIES = 512 << 20
#: How long a request's head may take; and its body, besides a second for each LEAST_RATE bytes. Seconds.
HEAD_SECONDS = BODY_SECONDS = 20.0
LEAST_RATE = 16 << 10

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
#: For all answers. (The page's policy for scripts and styles is its own.)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Hosts:
    """By what names a server may be asked for. `any_address`: by any address too, which nobody can make to lead elsewhere, as they can a name."""

    names: frozenset[str] = _LOCAL
    any_address: bool = False

    @classmethod
    def of(cls, host: str, address: str, allowed: Iterable[str] = ()) -> Hosts:
        """For a server that was told to listen on `host`, and does on `address`. MisuseError when one of `allowed` is no name."""
        names = {*_LOCAL, host.lower(), address}
        for name in allowed:
            if not re.fullmatch(r"[\w.-]+", name):
                raise MisuseError(f"--allow-host {name}: expected a name, without a port, such as app.example.org")
            names.add(name.lower().rstrip("."))
        everywhere = _is_address(address) and ipaddress.ip_address(address.partition("%")[0]).is_unspecified
        return cls(frozenset(names | ({socket.gethostname().lower()} if everywhere else set())), everywhere)

    @property
    def is_local(self) -> bool:
        """Whether it has no names but those of this machine for itself."""
        return self.names <= _LOCAL and not self.any_address

    def have(self, headers: Headers) -> bool:
        """Whether the request is for one of them."""
        asked = headers.getlist("host")
        name = re.sub(r":[0-9]*$", "", asked[0].strip().lower()) if len(asked) == 1 else ""
        name = name[1:-1] if name.startswith("[") and name.endswith("]") else name.rstrip(".")
        return bool(name) and (name in self.names or (self.any_address and _is_address(name)))

    def __str__(self) -> str:
        return ", ".join([*sorted(self.names), *(["any address of this machine"] if self.any_address else [])])


class Guard:
    """The ASGI application `app`, for those who may ask it."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)
        await (self._refusal(scope) or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers, looks = Headers(scope=scope), scope["method"] in ("GET", "HEAD")
        if not self._hosts.have(headers):
            asked = headers.get("host", "")
            return _refused(421, f"this server does not go by the name {asked!r:.200}, but by {self._hosts}. If it is to: gothreads serve --allow-host NAME")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and origin.partition("://")[2] != headers["host"] and not looks:
            return _refused(403, f"requests from pages of {origin:.200} are not allowed")
        if site not in (None, "same-origin", "none") and not (looks and headers.get("sec-fetch-dest") == "document"):  # but a link may lead here
            return _refused(403, "requests from pages of other sites are not allowed")
        return None


class Bodies:
    """The bodies of requests that the server has. On its event loop only."""

    def __init__(self) -> None:
        self._size = 0

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """A request's, for as long as it is needed. HTTPException when it is too large, too slow, or one too many."""
        body, begun = bytearray(), asyncio.get_running_loop().time()
        try:
            try:
                async with asyncio.timeout(BODY_SECONDS) as late:
                    async for part in request.stream():
                        body += part
                        self._size += len(part)
                        if len(body) > LARGEST_BODY:
                            raise HTTPException(413, f"the body is larger than {LARGEST_BODY:,} bytes")
                        if self._size > max(MOST_BODIES, len(body)):
                            raise HTTPException(503, "the bodies of all requests together are too large. Try again", {"Retry-After": "1"})
                        late.reschedule(begun + BODY_SECONDS + len(body) / LEAST_RATE)
            except TimeoutError:
                raise HTTPException(408, "the body comes too slowly", {"Connection": "close"}) from None
            except ClientDisconnect:
                raise HTTPException(400, "the client went away") from None
            yield bytes(body)
        finally:
            self._size -= len(body)


class Connection(H11Protocol):
    """One of uvicorn's, which is closed when a request's head takes too long."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch(lost=True)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def _watch(self, *, lost: bool = False) -> None:
        """The clock runs as long as a head has not come whole, whether or not it has begun."""
        if self.conn.their_state is h11.IDLE and not lost:
            self._late = self._late or self.loop.call_later(HEAD_SECONDS, self.transport.close)
        elif self._late is not None:
            self._late.cancel()
            self._late = None


def policy(page: str) -> str:
    """The Content-Security-Policy of a page: what its own scripts and styles are, by their hashes, and nothing else."""
    def hashes(tag: str) -> Iterator[str]:
        for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL):
            yield f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    return (f"default-src 'none'; script-src {' '.join(hashes('script'))}; style-src {' '.join(hashes('style'))}; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def _refused(status: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, status)


def _is_address(text: Any) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
        return True
    except ValueError:
        return False
