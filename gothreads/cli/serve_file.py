"""Reads the file of `gothreads serve -c`: a server, and the apps that it serves.

    [server]                        ServerOptions (serve/options.py)
    [apps.NAME]                     module, python, and the options of calls (who may make them, and how many), of
                                    places, of open and of supervise
    [[apps.NAME.routes]]            RouteOptions

Keys are named like the options of the Python functions, and are checked by the same definitions. Paths are relative to
the file. All that is wrong is reported at once, each with its line.
"""

from __future__ import annotations

import argparse
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

from gothreads.cli.toml_lines import Keys, key_lines
from gothreads.cli.values import parse_address, parse_mount, parse_network, parse_size
from gothreads.errors import GothreadsError, MisuseError
from gothreads.files import reason
from gothreads.launch import check_exists
from gothreads.runtime.keywords import Option, definition
from gothreads.runtime.models import MODELS
from gothreads.runtime.options import Limits, OpenOptions
from gothreads.serve.options import (
    CALLERS_SECONDS,
    LARGEST_JSON,
    AppOptions,
    PlaceOptions,
    RouteOptions,
    ServeOptions,
    ServerOptions,
    check_together,
    same_host,
)
from gothreads.serve.served import NamedRoute
from gothreads.supervise.options import RestartOptions
from gothreads.text import closest, cut
from gothreads.wasi.network_rules import allowed_address, listening_address

#: Options of Python that a file cannot have, and those for which it has something else.
_PYTHON_ONLY = frozenset({"stdin", "stdout", "stderr", "host", "handlers", "imports", "loop", "progress", "backoff",
                          "on_restart"})
#: Paths that a server of many apps, and each app, has itself.
_OWN_PATHS = ("/api", "/dashboard", "/debug", "/healthz", "/livez", "/metrics", "/readyz", "/openapi.json")

_OF_OPEN = {name: option for name, option in definition(OpenOptions).items() if name not in _PYTHON_ONLY}
_OF_RESTARTS = {name: option for name, option in definition(RestartOptions).items() if name not in _PYTHON_ONLY}
#: What [apps.NAME] may have, but for its routes.
APP_KEYS: Mapping[str, Option] = {**definition(AppOptions), **definition(PlaceOptions), **definition(ServeOptions),
                                  **_OF_OPEN, **_OF_RESTARTS}


@dataclass(frozen=True)
class AppEntry:
    """An app of the file. restart: None: it is not replaced when it has ended."""

    name: str
    module: str
    python: str | None
    open: OpenOptions
    calls: ServeOptions
    json_limit: int
    restart: RestartOptions | None
    prefix: str | None
    host: str | None
    routes: tuple[NamedRoute, ...]


@dataclass(frozen=True)
class ServerFile:
    """What the file says. server: the options that it gives."""

    file: Path
    text: str
    server: ServerOptions
    apps: tuple[AppEntry, ...]

    def place(self, *keys: str | int) -> str:
        """Where a key is, as FILE:LINE."""
        return f"{self.file}:{_line(key_lines(self.text), keys)}"


class FileErrors(MisuseError):
    """All that is wrong with the file, each with its place."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def read_file(file: Path) -> ServerFile:
    """Read and check the file. FileErrors if something is wrong with it."""
    try:
        text = file.read_bytes().decode()
        content = tomllib.loads(text)
    except OSError as error:
        raise FileErrors([f"{file}: {reason(error)}"]) from None
    except UnicodeDecodeError:
        raise FileErrors([f"{file}: not UTF-8 text"]) from None
    except tomllib.TOMLDecodeError as error:
        raise FileErrors([f"{file}: not TOML: {error}"]) from None
    reader = _Reader(file.absolute().parent)
    server, apps = reader.read(content)
    if reader.errors:
        lines = key_lines(text)
        places = sorted((_line(lines, keys), why) for keys, why in reader.errors)
        raise FileErrors([f"{file}:{line}: {why}" for line, why in places])
    return ServerFile(file, text, server, apps)


def _line(lines: Mapping[Keys, int], keys: Keys) -> int:
    """The line of the innermost of the keys that there is."""
    return next((lines[keys[:length]] for length in range(len(keys), 0, -1) if keys[:length] in lines), 1)


class _Reader:
    """Reads the content of a file. Paths are relative to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.errors: list[tuple[Keys, str]] = []

    def read(self, content: Mapping[str, Any]) -> tuple[ServerOptions, tuple[AppEntry, ...]]:
        for name in content:
            if name not in ("server", "apps"):
                self._wrong((name,), f"there is no table [{name}] in such a file; there are [server] and [apps.NAME]")
        server = self._table(("server",), content.get("server", {}), definition(ServerOptions))
        if "metrics_address" in server:
            with self._reported(("server", "metrics_address"), "metrics_address: "):
                parse_address(server["metrics_address"])
        apps = content.get("apps", {})
        if not isinstance(apps, dict) or not apps:
            self._wrong(("apps",), 'there is no app in the file. Add one: [apps.NAME], with module = "./app"')
            apps = {}
        entries = [entry for name, table in apps.items() if (entry := self._app(name, table)) is not None]
        self._check_places(entries)
        return cast(ServerOptions, server), tuple(entries)

    def _wrong(self, keys: Keys, why: str) -> None:
        self.errors.append((keys, why))

    @contextmanager
    def _reported(self, keys: Keys, prefix: str = "") -> Iterator[None]:
        try:
            yield
        except (GothreadsError, argparse.ArgumentTypeError) as error:
            self._wrong(keys, f"{prefix}{error}")

    def _table(self, keys: Keys, table: Any, known: Mapping[str, Option]) -> dict[str, Any]:
        """The checked values of a table."""
        if not isinstance(table, dict):
            self._wrong(keys, f"{keys[-1]} must be a table, not {cut(table)}")
            return {}
        found = {}
        for name, value in table.items():
            if (option := known.get(name)) is None:
                self._wrong((*keys, name), _unknown(keys, name, known))
                continue
            with self._reported((*keys, name)):
                value = self._converted(name, value)
                option.verify(name, value)
                found[name] = value
        return found

    def _converted(self, name: str, value: Any) -> Any:
        """A value in the form that Python's options have."""
        match name:
            case "limits" if isinstance(value, dict):
                return _limits(value)
            case "json_limit" if isinstance(value, str):
                return parse_size(value, "json_limit = ")
            case "mounts" if isinstance(value, dict) and all(isinstance(host, str) for host in value.values()):
                return [parse_mount(f"{self._path(host)}:{guest}", "mounts: ") for guest, host in value.items()]
            case "mounts" if isinstance(value, list) and all(isinstance(text, str) for text in value):
                return [parse_mount(self._mount(text), "mounts: ") for text in value]
            case "listen" | "allow_net" if isinstance(value, list) and all(isinstance(text, str) for text in value):
                for text in value:
                    (listening_address if name == "listen" else allowed_address)(text)
            case "model" if not (isinstance(value, str) and value in MODELS):
                raise MisuseError(f"there is no model {cut(value)}; there are: {', '.join(MODELS)}")
            case "trust_proxy" if isinstance(value, list) and all(isinstance(text, str) for text in value):
                return [parse_network(text) for text in value]
            case "python" | "uds" | "tls_cert" | "tls_key" | "tls_client_ca" | "api_keys" | "jwt_keys":
                return self._path(value) if isinstance(value, str) else value
            case "module" | "go" if isinstance(value, str):
                return self._path(value) if self._is_path(value) else value
        return value

    def _path(self, text: str) -> str:
        return os.path.normpath(os.path.join(self._folder, text))

    def _mount(self, text: str) -> str:
        """HOST:GUEST with the path that HOST is."""
        host, colon, guest = text.partition(":")
        return f"{self._path(host) if host else ''}{colon}{guest}"

    def _is_path(self, text: str) -> bool:
        """Whether it is not the import path of a package, or a command."""
        return (text.startswith((".", "/")) or Path(text).suffix in (".wasm", ".cwasm", ".go")
                or os.path.exists(self._path(text)))

    def _app(self, name: str, table: Any) -> AppEntry | None:
        keys: Keys = ("apps", name)
        before = len(self.errors)
        if not re.fullmatch(r"[\w.~-]+", name):
            self._wrong(keys, f"{cut(name)} cannot be the name of an app, which has letters, digits and -._~ only")
        if not isinstance(table, dict):
            self._wrong(keys, f'{name} must be a table: [apps.{name}], with module = "./app"')
            return None
        given = self._table(keys, {key: value for key, value in table.items() if key != "routes"}, APP_KEYS)
        routes = self._routes((*keys, "routes"), table.get("routes", []))
        if "module" in given:
            with self._reported((*keys, "module")):
                check_exists(given["module"])
        elif "module" not in table:
            self._wrong(keys, f'the app {name} has no module: a file, or a Go package, such as module = "./app"')
        if "python" in given and not os.path.isfile(given["python"]):
            self._wrong((*keys, "python"), f"there is no file {given['python']}")
        self._check_together(keys, given)
        if len(self.errors) > before:
            return None
        host = given.get("host")
        return AppEntry(
            name, given["module"], given.get("python"),
            cast(OpenOptions, {"callers_timeout": CALLERS_SECONDS, **{key: given[key] for key in given
                                                                      if key in _OF_OPEN}}),
            cast(ServeOptions, {key: given[key] for key in given if key in definition(ServeOptions)}),
            given.get("json_limit", LARGEST_JSON),
            cast(RestartOptions, {key: given[key] for key in given if key in _OF_RESTARTS}) if "restart" in given
            else None,
            None if host is not None else given.get("prefix", f"/{name}"), host, routes)

    def _check_together(self, keys: Keys, given: Mapping[str, Any]) -> None:
        if "prefix" in given and "host" in given:
            self._wrong((*keys, "host"), "an app has a prefix or a host, not both")
        with self._reported((*keys, "jwt_keys")):
            check_together(given)
        needs = {"on_stall": "stall_timeout"} | {name: "restart" for name in _OF_RESTARTS if name != "restart"}
        for name, needed in needs.items():
            if name in given and needed not in given:
                self._wrong((*keys, name), f"{name} needs {needed}, too")
        if "instances" in given and not (given.get("model") and MODELS[given["model"]].has_many_instances):
            self._wrong((*keys, "instances"), 'instances are for model = "pool"')
        if "save_every" in given and given.get("model") and MODELS[given["model"]].has_many_instances:
            self._wrong((*keys, "save_every"), 'save_every is not for model = "pool": its instances share nothing')

    def _routes(self, keys: Keys, tables: Any) -> tuple[NamedRoute, ...]:
        if not isinstance(tables, list):
            self._wrong(keys, f"routes must be tables: [[{'.'.join(map(str, keys))}]]")
            return ()
        found: dict[tuple[str, str], NamedRoute] = {}
        for number, table in enumerate(tables):
            here: Keys = (*keys, number)
            given = self._table(here, table, definition(RouteOptions))
            if "route" not in given:
                if "route" not in table:
                    self._wrong(here, 'a route needs a method and a path, such as route = "POST /search"')
                continue
            if ("export" in given) == ("handler" in given):
                self._wrong(here, "a route leads to one export or one handler, such as handler = \"search\"")
                continue
            method, _, path = given["route"].partition(" ")
            if (method, path) in found:
                self._wrong((*here, "route"), f"another route of the app is {given['route']}")
            if path in _OWN_PATHS or path.startswith("/api/"):
                self._wrong((*here, "route"), f"{path} is a path that each app has already")
            kind: Literal["export", "handler"] = "export" if "export" in given else "handler"
            found[method, path] = NamedRoute(method, path, kind, given[kind], given.get("timeout"))
        return tuple(found.values())

    def _check_places(self, apps: list[AppEntry]) -> None:
        """Report apps that others hide."""
        for number, app in enumerate(apps):
            key = "prefix" if app.host is None else "host"
            keys: Keys = ("apps", app.name, key)
            if app.prefix is not None and f"{app.prefix}/".startswith(tuple(f"{path}/" for path in _OWN_PATHS)):
                self._wrong(keys, f"{app.prefix} is a path of the server. Give the app {app.name} another prefix")
            for other in apps[:number]:
                if app.host is not None and other.host is not None and same_host(app.host) == same_host(other.host):
                    self._wrong(keys, f"the app {other.name} has the host {app.host}, too")
                if _overlap(app.prefix, other.prefix):
                    self._wrong(keys, f"the prefix {app.prefix} of {app.name}, and {other.prefix} of {other.name}, "
                                      "overlap. Give one of them another")
            if app.prefix == "/":
                self._check_hidden(app, [other for other in apps if other.prefix not in (None, "/")])

    def _check_hidden(self, app: AppEntry, others: list[AppEntry]) -> None:
        """Report routes of an app at "/" that are under the prefixes of others."""
        for number, route in enumerate(app.routes):
            for other in others:
                if f"{route.path}/".startswith(f"{other.prefix}/"):
                    self._wrong(("apps", app.name, "routes", number, "route"), f"{route.path} is under the prefix "
                                f"{other.prefix} of {other.name}, which gets its requests. Give the route another path")


def _overlap(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return False
    if "/" in (one, other):  # which gets what no other app has
        return one == other
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _unknown(keys: Keys, name: str, known: Mapping[str, Option]) -> str:
    close = closest(name, known)
    hint = f"Did you mean {close}?" if close else f"There are: {', '.join(known)}"
    return f"[{'.'.join(str(key) for key in keys if isinstance(key, str))}] has no key {cut(name)}. {hint}"


def _limits(table: Mapping[str, Any]) -> Limits:
    known = [field.name for field in fields(Limits)]
    found = {}
    for name, value in table.items():
        if name not in known:
            raise MisuseError(f"there is no limit {cut(name)}; there are: {', '.join(known)}")
        found[name] = parse_size(value, f"{name} = ") if isinstance(value, str) else value
    return Limits(**found)
