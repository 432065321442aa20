"""Routes of the file of `gothreads serve -c` that lead nowhere, because a name is misspelt.

What a module exports is known when it is loaded. Its handlers are known when it runs: main may register some at any
time, so that one is missing is said only once the module rests (runtime/settling.py).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator

from gothreads.cli.serve_file import AppEntry, ServerFile
from gothreads.errors import GothreadsError, unknown
from gothreads.runtime.module_file import LoadedModule
from gothreads.serve.served import Served
from gothreads.supervise.app import Supervised
from gothreads.typed.schema import declared_by

log = logging.getLogger("gothreads")


def unknown_exports(served: ServerFile, entry: AppEntry, loaded: LoadedModule) -> list[str]:
    """Errors for routes to exports that the module does not have."""
    known = {export.name for export in loaded.exports} | {each.name for each in declared_by(loaded.metadata).functions}
    return list(_unknown(served, entry, "export", known))


def warn_of_routes(served: ServerFile, entry: AppEntry, app: Served) -> None:
    """Log routes that lead nowhere: those to exports at once, others when the module has come to rest."""
    for problem in unknown_exports(served, entry, app.loaded):
        log.warning("%s: %s", entry.name, problem)
    if any(route.kind == "handler" for route in entry.routes):
        threading.Thread(target=_warn_of_handlers, args=(served, entry, app), name="gothreads-routes",
                         daemon=True).start()


def _warn_of_handlers(served: ServerFile, entry: AppEntry, app: Served) -> None:
    with contextlib.suppress(GothreadsError, TimeoutError):  # it has ended, or all callers are busy
        running = app.app if isinstance(app, Supervised) else app
        if running is None:
            return
        running.handlers()  # waits for main
        if running._has_settled():  # before it is asked: then its answer is final
            for problem in _unknown(served, entry, "handler", running.handlers()):
                log.warning("%s: %s", entry.name, problem)


def _unknown(served: ServerFile, entry: AppEntry, kind: str, known: Collection[str]) -> Iterator[str]:
    for number, route in enumerate(entry.routes):
        if route.kind == kind and route.name not in known:
            place = served.place("apps", entry.name, "routes", number, kind)
            yield f"{place}: {unknown(kind, route.name, sorted(known)).message}"
