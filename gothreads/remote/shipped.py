"""A module that travels by its content. Where it arrives, it is kept in the cache, under its digest.

So it crosses once to each machine: what follows carries the digest alone (`lean`). Only the module travels, never its
machine code, which each machine compiles for itself, once (engine/settings.py).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gothreads.errors import GothreadsError, ModuleError
from gothreads.files import cache_folder, keep, kept, making

log = logging.getLogger("gothreads")


class Missing(Exception):
    """The module is not on this machine, and who has sent the digest has not said where it is. Internal."""


@dataclass(frozen=True)
class Shipped:
    """A module. name: for messages, and the program's name in the module. fetch: gets its content, elsewhere."""

    name: str
    digest: str
    content: bytes | None = field(default=None, repr=False, compare=False)
    fetch: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, name: str, content: bytes) -> Shipped:
        return cls(name, hashlib.sha256(content).hexdigest(), content)

    @property
    def lean(self) -> Shipped:
        """The same, without the content."""
        return self if self.content is None else replace(self, content=None)

    def bring(self) -> bytes:
        """Its content, which this machine keeps from now on. Missing: see there. ModuleError: it is another's content.

        One process of a machine fetches it (files.making): the others find it then.
        """
        path = cache_folder() / "remote" / f"{self.digest}.wasm"
        if (found := self._kept(path)) is None:
            with making(path):
                if (found := self._kept(path)) is None:
                    found = self._arrived()
                    try:
                        keep(path, found)
                    except GothreadsError as error:  # a full disk: the next process has to fetch it again
                        log.warning("%s is not kept on this machine: %s", self.name, error)
        return found

    def _kept(self, path: Path) -> bytes | None:
        with kept(path) as file:
            if file is None:
                return None
            file.seek(0)
            content = file.read()
        return content if self._is(content) else None

    def _arrived(self) -> bytes:
        content = self.fetch() if self.content is None and self.fetch is not None else self.content
        if content is None:
            raise Missing
        if not self._is(content):
            raise ModuleError(f"{self.name} has arrived with other content than it was sent with: its SHA-256 is not "
                              f"{self.digest}. Send it again")
        return content

    def _is(self, content: bytes) -> bool:
        return hashlib.sha256(content).hexdigest() == self.digest
