"""The programs that `go test` and `go run` link: rewritten into modules, which are kept in the cache.

go test links a program anew each time, unless it can use a result in its own cache. Only the build ID differs then, and
not even that when go test runs the program: it changes the ID after the linker. So the key has no build ID.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from gothreads.build import optimizer
from gothreads.build.overlay import fingerprint
from gothreads.build.rewriting import finish
from gothreads.build.toolchain import find_go
from gothreads.errors import GothreadsError, ModuleError, listed
from gothreads.files import cache_folder, cache_key, keep, kept
from gothreads.version import __version__
from gothreads.wasm.metadata import SECTION, THREADED, Metadata
from gothreads.wasm.parsing import parse
from gothreads.wasm.undefined import callers_of_undefined

log = logging.getLogger("gothreads")

_BUILD_ID = re.compile(rb'Go build ID: "([^"\n]+)"')


@dataclass(frozen=True)
class Rewriting:
    """How a program is rewritten. sharpen: a seed (wasm/passes/sharpen.py). optimize: see build/optimizer.py."""

    sharpen: int | None = None
    optimize: bool = False

    @property
    def flags(self) -> list[str]:
        """For `gothreads go-exec`."""
        sharpen = [] if self.sharpen is None else ["--sharpen", str(self.sharpen)]
        return [*sharpen, "--optimize"] if self.optimize else sharpen

    @property
    def _metadata(self) -> Metadata:
        options: dict[str, Any] = {} if self.sharpen is None else {"sharpen": self.sharpen}
        if self.optimize:
            options["optimize"] = True
        return Metadata(__version__, "go", THREADED, "exe", handlers=False, options=options)

    def key(self, content: bytes) -> str:
        edition = [optimizer.identity()] if self.optimize else []
        return cache_key(content, "test", self._metadata.encode(), fingerprint(), *edition)

    def __call__(self, content: bytes) -> bytes:
        module = parse(content)
        if module.custom(SECTION) is not None:
            return content
        if not any(export.name == "gt_attach" for export in module.exports):  # stock Go's
            return optimizer.optimized(find_go().go, content, cache_folder()) if self.optimize else content
        if callers := callers_of_undefined(module):
            raise ModuleError("the program calls functions that are not defined (a //go:linkname to what is not "
                              f"there?), in {listed(callers)}")
        return finish(module, self._metadata, strip=False).encode()


def rewritten(linked: bytes, how: Rewriting) -> bytes:
    """The module that is run for a program that was linked with the overlay; anything else as it is.

    Raises ModuleError if it calls functions that are not defined.
    """
    content = _without_build_id(linked)
    key = how.key(content)
    path = cache_folder() / "modules" / f"{key}.wasm"
    with kept(path) as file:
        if file is not None:
            file.seek(0)  # the check has read it
            return file.read()
    made = how(content)
    if made is content:
        return linked
    try:
        keep(path, made)
    except GothreadsError as error:  # a full disk, for example, must not keep the program from running
        log.warning("the module is not kept: %s", error)
    return made


def _without_build_id(linked: bytes) -> bytes:
    """The same, with letters x for the build ID, which has the same length in each build of a program."""
    found = _BUILD_ID.search(linked)
    return linked if found is None else linked.replace(found[1], b"x" * len(found[1]))
