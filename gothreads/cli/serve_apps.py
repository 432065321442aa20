"""Opens the apps of a file of `gothreads serve -c`, and says what it would serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from gothreads.bridge.host_registry import load_host
from gothreads.cli.aside import aside
from gothreads.cli.module_options import DOWN_SECONDS, check_takes_calls, raise_file_limit
from gothreads.cli.serve_file import AppEntry, FileErrors, ServerFile
from gothreads.cli.serve_routes import unknown_exports, warn_of_routes
from gothreads.errors import GothreadsError
from gothreads.launch import LoadedOptions, find, open_loaded
from gothreads.output.progress import watching
from gothreads.output.terminal import Terminal
from gothreads.runtime.module_file import LoadedModule
from gothreads.serve.apps import Hosted
from gothreads.serve.options import WebOptions
from gothreads.serve.served import Served
from gothreads.supervise.app import Supervised
from gothreads.supervise.options import RestartOptions, restart_policy
from gothreads.wasi.handed_listeners import Listeners


def hosted(served: ServerFile, entry: AppEntry, terminal: Terminal) -> Hosted:
    """An app of the file, to be served."""
    # Those of the module stay open from one instance to the next.
    listeners = Listeners(entry.open.get("listen", ()), keep=True)

    def opened() -> Served:
        with watching(terminal.progress_of(entry.name), again=True):
            app = _open(entry, listeners)
        warn_of_routes(served, entry, app)
        return app
    return Hosted(opened, cast(WebOptions, {**entry.calls, "largest_json": entry.json_limit}),
                  entry.name, entry.prefix, entry.host, entry.routes)


def _open(entry: AppEntry, listeners: Listeners) -> Served:
    loaded = _find(entry)
    check_takes_calls(loaded, entry.module, listens=bool(entry.open.get("listen")))
    loaded = replace(loaded, name=entry.name)  # several apps may have the same module
    host = load_host(entry.python) if entry.python is not None else None
    raise_file_limit()
    options = cast(LoadedOptions, entry.open) | LoadedOptions(host=host, listeners=listeners, main_calls=False)
    if entry.restart is None:
        return aside(lambda: open_loaded(loaded, **options))
    given = cast(RestartOptions, {"wait_timeout": DOWN_SECONDS, **entry.restart})
    policy = restart_policy(given, options.get("model"))
    return aside(lambda: Supervised(loaded, options, policy))


def _find(entry: AppEntry) -> LoadedModule:
    of_open = entry.open
    return find(entry.module, model=of_open.get("model"), go=of_open.get("go"), trust=of_open.get("trust", False),
                optimize=of_open.get("optimize", False))


def check(served: ServerFile, terminal: Terminal, *, as_json: bool) -> None:
    """Say what would be served. FileErrors if a module cannot be; packages are not built."""
    errors, rows = [], []
    for entry in served.apps:
        if Path(entry.module).is_file() and Path(entry.module).suffix != ".go":
            try:
                loaded = _find(entry)
                check_takes_calls(loaded, entry.module, listens=bool(entry.open.get("listen")))
                errors += unknown_exports(served, entry, loaded)
            except GothreadsError as error:
                errors.append(f"{served.place('apps', entry.name, 'module')}: {error}")
        rows.append(_row(entry))
    if errors:
        raise FileErrors(errors)
    if as_json:
        terminal.data({"server": served.server, "apps": rows})
        return
    width = [max(len(str(row[name])) for row in rows) for name in ("name", "at")]
    for row in rows:
        terminal.out(f"{row['name']:{width[0]}}  {row['at']:{width[1]}}  {row['module']}")
        for route in row["routes"]:
            terminal.out(f"{'':{width[0]}}  {route['route']} → {route['to']}")


def _row(entry: AppEntry) -> Mapping[str, Any]:
    routes = [{"route": f"{route.method} {(entry.prefix or '').rstrip('/')}{route.path}",
               "to": f"{route.kind} {route.name}",
               "timeout": route.timeout if route.timeout is not None else entry.calls.get("timeout")}
              for route in entry.routes]
    return {"name": entry.name, "at": entry.host or entry.prefix, "module": entry.module,
            "model": entry.open.get("model"), "restart": (entry.restart or {}).get("restart", "never"),
            "routes": routes}
