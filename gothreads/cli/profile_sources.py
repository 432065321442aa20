"""Where the command line gets profiles from: a module that it runs, or a server."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gothreads.errors import GothreadsError, MisuseError
from gothreads.files import reason, reported
from gothreads.profiles.profile import Profile
from gothreads.text import printable

#: The most of an answer that is read, in bytes; of one that says what is wrong, in characters.
_MOST_ANSWER, _MOST_TOLD = 512 << 20, 500
#: How long a server may take longer than it was asked to, in seconds.
_SERVER_SECONDS = 60.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key is for this server only."""

    def redirect_request(self, *_: object) -> None:
        return None


@dataclass(frozen=True)
class ServerSource:
    """An app of `gothreads serve`. url: the server's. key: an API key. app: its name; "": it is the only one.

    MisuseError: the address is not one.
    """

    url: str
    key: str | None = None
    app: str = ""

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MisuseError(f"{self.url!r} is not the address of a server, such as http://127.0.0.1:8080")

    def take(self, kind: str, seconds: float | None, _stop: threading.Event | None) -> Profile:
        """A profile. GothreadsError: the server refuses, or there is none."""
        query = ({} if seconds is None else {"seconds": f"{seconds:g}"}) | ({"app": self.app} if self.app else {})
        data = self.get(f"/debug/pprof/{'profile' if kind == 'cpu' else kind}?{urllib.parse.urlencode(query)}",
                        (seconds or 0.0) + _SERVER_SECONDS)
        if kind == "trace":
            return Profile("trace", data, seconds or 1.0)
        return replace(Profile.decode(data, "the answer"), kind=kind)  # files do not say whether it is block or mutex

    def get(self, path: str, timeout: float) -> bytes:
        """The answer to a request. GothreadsError: there is none, or it is an error."""
        with self._answer(path, timeout) as answer:
            data: bytes = answer.read(_MOST_ANSWER + 1)
        if len(data) > _MOST_ANSWER:
            raise GothreadsError(f"{self.url}: the answer has more than {_MOST_ANSWER:,} bytes")
        return data

    def lines(self, path: str, silent: float, most: int) -> Iterator[str]:
        """The lines of an answer, as they come. most: of bytes in a line. GothreadsError: as get."""
        with self._answer(path, silent) as answer:
            while line := answer.readline(most + 1):
                if len(line) > most:
                    raise GothreadsError(f"{self.url}: a line of the answer has more than {most:,} bytes")
                yield line.decode(errors="replace").rstrip("\n")

    @contextlib.contextmanager
    def _answer(self, path: str, timeout: float) -> Iterator[http.client.HTTPResponse]:
        request = urllib.request.Request(self.url.rstrip("/") + urllib.parse.quote(path, safe="/?&=%"))
        if self.key is not None:
            request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            raise GothreadsError(f"{self.url}: {error.code}: {_told(error.read(1 << 16))}") from None
        except urllib.error.URLError as error:
            why = reason(error.reason) if isinstance(error.reason, OSError) else error.reason
            raise GothreadsError(f"{self.url} cannot be reached: {why}. Is `gothreads serve` running there?") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise GothreadsError(f"{self.url} does not answer as `gothreads serve` does: {error}") from None


def _told(content: bytes) -> str:
    """What the body of an error says."""
    text = content.decode(errors="replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("error"), str):
        text = found["error"]
    return printable(text)[:_MOST_TOLD]


def is_server(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def read_key(path: str | None) -> str | None:
    """The API key in a file; None: there is no file. GothreadsError: it cannot be read. MisuseError: it has none."""
    if path is None:
        return None
    with reported(f"read {path}"):
        key = Path(path).read_text(errors="replace").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise MisuseError(f"{path} does not have one API key and nothing else. Make one with: gothreads keys new NAME "
                          "--right inspect")
    return key
