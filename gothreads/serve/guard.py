"""Request filtering: what is rejected before it reaches the module (docs/security.md).

    Host            names that are not this server's: otherwise a page whose name was rebound to this address (DNS
                    rebinding) could call the server
    Origin          requests from pages of other sites, except those that are allowed (CORS); where browsers do not send
                    Origin, Sec-Fetch-Site is checked
    bodies          those that arrive too slowly, and those that would bring all bodies, together with responses that
                    clients have not read, above MOST_HELD

(The bounds on one client's connection are in connection.py.)

Also the response headers for browsers: only the page is treated as a page, no other site may frame it, and only its own
scripts run in it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gothreads.serve.disconnect import remembered
from gothreads.serve.options import host_names

#: The largest request body; and the largest sum of all bodies that the server holds and all unsent responses. Bytes.
LARGEST_BODY = 64 << 20
MOST_HELD = 512 << 20
#: Bodies and responses up to SMALL are not counted. Responses are sent in pieces of PIECE. Bytes.
SMALL = PIECE = 64 << 10
TOO_LARGE_TOGETHER = "the requests and responses in progress are too large together. Try again"
#: Seconds allowed for a request's body, in addition to a second for each LEAST_RATE bytes.
BODY_SECONDS = 20.0
#: The slowest rate at which data may arrive, or be taken, after that. Bytes per second.
LEAST_RATE = 16 << 10
#: The status where the client has disconnected, which is for logs and metrics only (nginx has introduced it).
CLIENT_LEFT = 499

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
#: Headers of a response with which pages of other sites may read it (cors.py).
_OF_CORS = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary")
#: For all responses. (The page has its own policy for scripts and styles.)
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
    """The names by which a server may be addressed.

    any_address: any IP address is accepted too. Unlike a name, nobody can make an address lead elsewhere.
    any_name: so is any name: something before this server has checked it.
    to_add: how to add a name.
    """

    names: frozenset[str] = _LOCAL
    any_address: bool = False
    any_name: bool = False
    to_add: str = "gothreads serve --allow-host NAME"

    @classmethod
    def of(cls, host: str, address: str, allowed: Iterable[str] = ()) -> Hosts:
        """For a server told to listen on `host`, bound to `address`. MisuseError if one of `allowed` is not a name."""
        names = {*_LOCAL, host.lower(), address, *host_names("--allow-host", allowed)}
        everywhere = _is_address(address) and ipaddress.ip_address(address.partition("%")[0]).is_unspecified
        return cls(frozenset(names | ({socket.gethostname().lower()} if everywhere else set())), everywhere)

    @classmethod
    def of_asgi(cls, allowed: Iterable[str]) -> Hosts:
        """For an application that does not know where its server listens. "*" in `allowed` allows any name."""
        names = host_names("allow_hosts", [name for name in allowed if name != "*"])
        return cls(_LOCAL | names | {socket.gethostname().lower()}, any_address=True, any_name="*" in allowed,
                   to_add="gothreads.asgi(..., allow_hosts=[NAME])")

    @property
    def is_local(self) -> bool:
        """Whether all names mean the local machine."""
        return self.names <= _LOCAL and not self.any_address

    def have(self, headers: Headers) -> bool:
        """Whether the request is addressed to one of the names."""
        name = host_name(headers)
        return bool(name) and (self.any_name or name in self.names or (self.any_address and _is_address(name)))

    def __str__(self) -> str:
        return ", ".join([*sorted(self.names), *(["any address of this machine"] if self.any_address else [])])


def host_name(headers: Headers) -> str:
    """The name that a request is addressed to, without the port; empty if it has none, or more than one."""
    asked = headers.getlist("host")
    name = re.sub(r":[0-9]*$", "", asked[0].strip().lower()) if len(asked) == 1 else ""
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name.rstrip(".")


class Guard:
    """The ASGI application `app`, behind the checks above."""

    def __init__(self, app: ASGIApp, hosts: Hosts, held: Held, origins: Collection[str] = ()) -> None:
        self._app, self._hosts, self._held, self._origins = app, hosts, held, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        start: Message | None = None

        async def send_guarded(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if not scope.get("http_version", "1.1").startswith("1"):  # HTTP/2 does not allow it
                    del headers["connection"]
                start = message  # held back: once the body comes, it is known whether it fits
                return
            body: bytes = message.get("body", b"")
            with self._held.answer(len(body)) as fits:
                if start is not None and not fits:
                    answered = Headers(raw=start["headers"])
                    start = None
                    refused = _refused(503, TOO_LARGE_TOGETHER, {
                        "Retry-After": "1", **{name: answered[name] for name in _OF_CORS if name in answered}})
                    await refused(scope, receive, send_guarded)
                    return
                if start is not None:
                    await send(start)
                    start = None
                # uvicorn takes a piece when the previous one is sent; the rest waits here, where it is counted.
                for at in range(0, max(len(body), 1), PIECE):
                    more = message.get("more_body", False) or at + PIECE < len(body)
                    await send({**message, "body": body[at:at + PIECE], "more_body": more})
        await (self._refusal(scope) or self._app)(scope, remembered(receive), send_guarded)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers, looks = Headers(scope=scope), scope["method"] in ("GET", "HEAD")
        if not self._hosts.have(headers):
            asked = headers.get("host", "")
            return _refused(421,
                            f"unknown host name {asked!r:.200}; this server has the names {self._hosts}. To add one: "
                            f"{self._hosts.to_add}")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._origins:
            return None
        if origin is not None and origin.partition("://")[2] != headers["host"] and not looks:
            return _refused(403, f"requests from pages of {origin:.200} are not allowed")
        # Except that links from other sites may lead here.
        if site not in (None, "same-origin", "none") and not (looks and headers.get("sec-fetch-dest") == "document"):
            return _refused(403, "requests from pages of other sites are not allowed")
        return None


class Held:
    """Counts the bytes held for clients: request bodies, and responses not yet read. On the server's event loop only.

    Small ones are not counted, so other responses still go out when the limit is reached: the number of connections
    bounds those.
    """

    def __init__(self) -> None:
        self._size = 0

    @contextmanager
    def answer(self, size: int) -> Iterator[bool]:
        """Count a response while it is sent. Yields whether it fits; a large one does if there is nothing else."""
        mine = _counted(size)
        fits = self._fits(mine)
        mine = mine if fits else 0
        self._size += mine
        try:
            yield fits
        finally:
            self._size -= mine

    @asynccontextmanager
    async def body(self, request: Request, most: int, weight: int = 1) -> AsyncIterator[bytes]:
        """A request's body, counted as long as it is in use.

        HTTPException if it is larger than `most`, too slow, or does not fit beside the others.

        weight: bytes of memory per byte of the body.
        """
        body, mine, begun = bytearray(), 0, asyncio.get_running_loop().time()
        too_large = HTTPException(413, f"the body is larger than {most:,} bytes", {"Connection": "close"})
        if (told := request.headers.get("content-length", "")).isdecimal() and len(told) < 20 and int(told) > most:
            raise too_large
        try:
            try:
                async with asyncio.timeout(BODY_SECONDS) as late:
                    async for part in request.stream():
                        body += part
                        if len(body) > most:
                            raise too_large
                        more = _counted(len(body) * weight) - mine
                        if not self._fits(more, mine):
                            raise HTTPException(503, TOO_LARGE_TOGETHER, {"Retry-After": "1"})
                        self._size, mine = self._size + more, mine + more
                        late.reschedule(begun + BODY_SECONDS + len(body) / LEAST_RATE)
            except TimeoutError:
                raise HTTPException(408, "the body arrives too slowly", {"Connection": "close"}) from None
            except ClientDisconnect:
                raise HTTPException(CLIENT_LEFT, "the client has disconnected") from None
            whole = bytes(body)
            body.clear()
            yield whole
        finally:
            self._size -= mine

    def _fits(self, more: int, mine: int = 0) -> bool:
        return not more or self._size + more <= max(MOST_HELD, mine + more)


def _counted(size: int) -> int:
    return size if size > SMALL else 0


def policy(page: str) -> str:
    """A page's Content-Security-Policy: allows its own scripts and styles, by their hashes, and nothing else."""
    def hashes(tag: str) -> Iterator[str]:
        for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL):
            yield f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    return (f"default-src 'none'; script-src {' '.join(hashes('script'))}; style-src {' '.join(hashes('style'))}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def _refused(status: int, why: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": why}, status, headers)


def _is_address(text: Any) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
        return True
    except ValueError:
        return False
