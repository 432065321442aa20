"""The programs that `go test` and `go run` link: rewritten into modules, which are kept in the cache.

go test links a program anew each time, unless it can use a result in its own cache. Only the build ID differs then, and
not even that when go test runs the program: it changes the ID after the linker. So the key has no build ID.
"""

from __future__ import annotations

import hashlib
import logging
import re

from gothreads.build.builder import finish
from gothreads.build.overlay import fingerprint
from gothreads.errors import GothreadsError, ModuleError, listed
from gothreads.files import cache_folder, keep, kept
from gothreads.version import __version__
from gothreads.wasm.metadata import SECTION, THREADED, Metadata
from gothreads.wasm.parsing import parse
from gothreads.wasm.undefined import callers_of_undefined

log = logging.getLogger("gothreads")

_BUILD_ID = re.compile(rb'Go build ID: "([^"\n]+)"')


def rewritten(linked: bytes, sharpen: int | None) -> bytes:
    """The module that is run for a program that was linked with the overlay; anything else as it is.

    Raises ModuleError if it calls functions that are not defined.
    """
    settings = {} if sharpen is None else {"sharpen": sharpen}
    metadata = Metadata(__version__, "go", THREADED, "exe", handlers=False, options=settings)
    content = _without_build_id(linked)
    key = hashlib.sha256(b"test %s %s" % (metadata.encode(), fingerprint().encode()) + content).hexdigest()[:32]
    path = cache_folder() / "modules" / f"{key}.wasm"
    with kept(path) as file:
        if file is not None:
            file.seek(0)  # the check has read it
            return file.read()
    module = parse(content)
    if module.custom(SECTION) is not None or not any(export.name == "gt_attach" for export in module.exports):
        return linked
    if callers := callers_of_undefined(module):
        raise ModuleError("the program calls functions that are not defined (a //go:linkname to what is not there?), "
                          f"in {listed(callers)}")
    made = finish(module, metadata, strip=False).encode()
    try:
        keep(path, made)
    except GothreadsError as error:  # a full disk, for example, must not keep the program from running
        log.warning("the module is not kept: %s", error)
    return made


def _without_build_id(linked: bytes) -> bytes:
    """The same, with letters x for the build ID, which has the same length in each build of a program."""
    found = _BUILD_ID.search(linked)
    return linked if found is None else linked.replace(found[1], b"x" * len(found[1]))
