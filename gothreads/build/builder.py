"""Builds a Go program into a module: link (linking.py) ─▶ finish (rewriting.py) ─▶ a file in the cache."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gothreads.version
from gothreads.build import optimizer
from gothreads.build.linking import Linked, link
from gothreads.build.overlay import fingerprint
from gothreads.build.request import Request
from gothreads.build.rewriting import finish, undefined
from gothreads.build.toolchain import Toolchain
from gothreads.errors import CompileError
from gothreads.files import cache_folder, cache_key, is_kept, keep, making
from gothreads.output.progress import WAIT, timed
from gothreads.wasm.metadata import Metadata
from gothreads.wasm.parsing import parse
from gothreads.wasm.undefined import callers_of_undefined


@dataclass(frozen=True)
class Built:
    """A module in gothreads' cache. `cached`: nothing had to be compiled or rewritten."""

    path: Path
    toolchain: Toolchain
    metadata: Metadata
    cached: bool
    seconds: float


def build(request: Request) -> Built:
    """Build a module, or find it in the cache.

    Raises CompileError, with Go's own output; ToolchainError; BuildError.
    """
    begin = time.monotonic()
    linked, cache = link(request), cache_folder()
    metadata = Metadata(gothreads.version.__version__, linked.toolchain.version, request.model, request.mode,
                        linked.uses_guest, linked.signatures.exports, _options(request), linked.signatures.imports,
                        typed=linked.schema)
    edition = [optimizer.identity()] if metadata.optimized else []
    path = cache / "modules" / f"{cache_key(linked.content, metadata.encode(), fingerprint(), *edition)}.wasm"
    found = is_kept(path)
    if not found:
        with making(path, timed(WAIT, None)):
            found = is_kept(path)
            if not found:
                keep(path, _rewritten(request, linked, metadata))
    return Built(path, linked.toolchain, metadata, found and linked.compiled == 0, time.monotonic() - begin)


def _rewritten(request: Request, linked: Linked, metadata: Metadata) -> bytes:
    module = parse(linked.content)
    if callers := callers_of_undefined(module):
        raise CompileError(f"{request.package}: the program calls functions that are not defined",
                           undefined(module, callers, linked.files))
    return finish(module, metadata, strip=request.strip, go=linked.toolchain.go).encode()


def _options(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {"preemption": request.preemption, "strip": request.strip}
    if request.sharpen is not None:
        options["sharpen"] = request.sharpen
    if request.optimize or optimizer.by_default():
        options["optimize"] = True
    return options
