"""`gothreads serve`: serves a module over HTTP."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gothreads.cli.command import Command
from gothreads.cli.module_options import (
    add_model_options,
    add_module,
    add_option,
    add_run_options,
    add_service_options,
    open_or_supervise,
)
from gothreads.cli.values import (
    parse_address,
    parse_count,
    parse_count_or_zero,
    parse_descriptor,
    parse_drain,
    parse_host,
    parse_network,
    parse_port,
    parse_seconds,
    parse_size,
)
from gothreads.errors import GothreadsError, MisuseError
from gothreads.launch import check_exists
from gothreads.output.terminal import Terminal
from gothreads.requirements import UVICORN, lacking, warn_once
from gothreads.runtime.keywords import complete, definition
from gothreads.runtime.options import OpenOptions
from gothreads.serve.options import CALLERS_SECONDS, LARGEST_JSON, ServeOptions, ServerOptions, check_together
from gothreads.supervise.options import RestartOptions
from gothreads.wasi.handed_listeners import Listeners

if TYPE_CHECKING:
    from gothreads.serve.listeners import Place
    from gothreads.serve.serving import Serving, Transport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_module(parser)
    parser.add_argument("-c", "--config", metavar="FILE",
                        help="serve the apps of this file (TOML) instead of a module; options of the server that are "
                             "given here take precedence over the file's")
    parser.add_argument("--check", action="store_true", help="with -c: check the file, and say what would be served")
    parser.add_argument("--json", action="store_true", help="with --check: as JSON")
    add_option(parser, "--host", ServerOptions, "host", type=parse_host)
    add_option(parser, "--port", ServerOptions, "port", type=parse_port)
    add_option(parser, "--uds", ServerOptions, "uds", metavar="PATH")
    add_option(parser, "--fd", ServerOptions, "fd", type=parse_descriptor, metavar="N")
    add_option(parser, "--allow-host", ServerOptions, "allow_host", action="append", metavar="NAME")
    add_option(parser, "--trust-proxy", ServerOptions, "trust_proxy", action="append", type=parse_network,
               metavar="ADDRESS")
    add_option(parser, "--tls-cert", ServerOptions, "tls_cert", metavar="FILE")
    add_option(parser, "--tls-key", ServerOptions, "tls_key", metavar="FILE")
    add_option(parser, "--tls-client-ca", ServerOptions, "tls_client_ca", metavar="FILE")
    add_option(parser, "--api-keys", ServeOptions, "api_keys", metavar="FILE")
    add_option(parser, "--jwt-keys", ServeOptions, "jwt_keys", metavar="FILE")
    add_option(parser, "--jwt-issuer", ServeOptions, "jwt_issuer", metavar="TEXT")
    add_option(parser, "--jwt-audience", ServeOptions, "jwt_audience", metavar="TEXT")
    add_option(parser, "--jwt-rights", ServeOptions, "jwt_rights", metavar="CLAIM")
    add_option(parser, "--allow-origin", ServerOptions, "allow_origin", action="append", metavar="ORIGIN")
    add_option(parser, "--max-calls", ServeOptions, "max_calls", type=parse_count, metavar="N")
    add_option(parser, "--max-waiting", ServeOptions, "max_waiting", type=parse_count_or_zero, metavar="N")
    add_option(parser, "--max-client-calls", ServeOptions, "max_client_calls", type=parse_count, metavar="N")
    add_option(parser, "--callers", OpenOptions, "callers", type=parse_count, metavar="N")
    add_option(parser, "--timeout", ServeOptions, "timeout", type=parse_seconds, metavar="S")
    add_option(parser, "--on-timeout", ServeOptions, "on_timeout", choices=("cancel", "continue", "stop"))
    parser.add_argument("--json-limit", metavar="SIZE", default=f"{LARGEST_JSON >> 20}M",
                        help="the largest arguments of a call, as JSON (default: %(default)s; payloads of handlers: "
                             "64M)")
    add_option(parser, "--drain", ServerOptions, "drain", type=parse_drain, metavar="S")
    add_option(parser, "--drain-delay", ServerOptions, "drain_delay", type=parse_drain, metavar="S")
    add_option(parser, "--metrics-address", ServerOptions, "metrics_address", type=_address, metavar="HOST:PORT")
    add_option(parser, "--access-log", ServerOptions, "access_log", action="store_true")
    add_option(parser, "--log-format", ServerOptions, "log_format", choices=("text", "json"))
    add_option(parser, "--watch", ServerOptions, "watch", action="store_true")
    add_option(parser, "--allow-restart", ServerOptions, "allow_restart", action="store_true")
    add_model_options(parser)
    add_run_options(parser)
    add_service_options(parser)
    add_option(parser, "--while-down", RestartOptions, "while_down", choices=("wait", "fail"),
               more=". With --restart only; waiting ends after 10 s; calls that fail get 503")
    add_option(parser, "--save-every", RestartOptions, "save_every", type=parse_seconds, metavar="S",
               more=". With --restart only")
    parser.set_defaults(no_calls=False)


def _address(text: str) -> str:
    """Check HOST:PORT."""
    parse_address(text)
    return text


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    terminal.as_json = arguments.log_format == "json"
    if (problem := lacking("serve")) is not None:
        raise GothreadsError(problem)
    warn_once(UVICORN)
    if arguments.config is not None:
        return _serve_file(arguments, terminal)
    if arguments.check:
        raise MisuseError("--check is for a file: gothreads serve --check -c FILE")
    if arguments.restart is None and (arguments.save_every is not None or arguments.while_down != "wait"):
        raise MisuseError("--save-every and --while-down need --restart")
    from gothreads.serve.apps import Hosted
    from gothreads.serve.server import serve
    calls, chosen = cast(ServeOptions, _chosen(arguments, ServeOptions)), _chosen(arguments, ServerOptions)
    check_together(calls)
    check_exists(arguments.module)  # before the port is taken, which is before the module is built
    if arguments.python and not Path(arguments.python).is_file():
        raise MisuseError(f"there is no Python file {arguments.python}")
    sources = [arguments.module, *([arguments.python] if arguments.python else [])]
    serving = _serving(cast(ServerOptions, chosen), [sources])
    # Those of the module stay open from one instance to the next.
    is_replaced = arguments.watch or arguments.allow_restart or calls["api_keys"] or calls["jwt_keys"]
    listeners = Listeners(arguments.listen, keep=True) if is_replaced else None
    hosted = Hosted(lambda: open_or_supervise(arguments, terminal, callers=arguments.callers, listeners=listeners,
                                              callers_timeout=CALLERS_SECONDS),
                    {**calls, "largest_json": parse_size(arguments.json_limit, "--json-limit ")})
    return serve([hosted], terminal, serving)


def _chosen(arguments: argparse.Namespace, options: type) -> dict[str, Any]:
    """What the command line says for these options. MisuseError: a value is wrong."""
    found = {name: getattr(arguments, name) for name in definition(options)}
    for name, option in definition(options).items():
        option.verify(f"--{name.replace('_', '-')}", found[name])
    return found


def _serve_file(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from gothreads.cli.serve_apps import check, hosted
    from gothreads.cli.serve_file import FileErrors, read_file
    from gothreads.serve.server import serve
    given = _given(arguments)
    if arguments.module:
        raise MisuseError(f"-c has the apps, so {arguments.module} is too much. To serve it by itself, leave out -c; "
                          f"to serve it with the others, write it into {arguments.config}")
    try:
        served = read_file(Path(arguments.config))
        chosen = cast(ServerOptions, complete("serve", ServerOptions, {**served.server, **given}))
        sources = [[app.module, *([app.python] if app.python else [])] for app in served.apps]
        serving = replace(_serving(chosen, sources), title=Path(arguments.config).name)
        if arguments.check:
            check(served, terminal, as_json=arguments.json)
            return 0
    except FileErrors as error:
        if arguments.json:
            terminal.data({"errors": error.errors})
        for each in error.errors:
            terminal.error(each)
        return 1
    terminal.as_json = chosen["log_format"] == "json"
    return serve([hosted(served, app, terminal) for app in served.apps], terminal, serving)


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the server that the command line has. MisuseError: it has options of apps."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    of_server, of_file = definition(ServerOptions), ("module", "args", "config", "check", "json", "help")
    given = {}
    for action in parser._actions:
        if action.dest in of_file or arguments.flags.isdisjoint(action.option_strings):
            continue
        if action.dest not in of_server:
            raise MisuseError(f"with -c, {action.option_strings[-1]} is for the file: it concerns one app")
        given[action.dest] = getattr(arguments, action.dest)
    return given


def _serving(chosen: ServerOptions, sources: Sequence[Sequence[str]]) -> Serving:
    """What a server does. sources: of each app."""
    from gothreads.serve.listeners import Address
    from gothreads.serve.serving import Serving, Stopping
    metrics = None
    if (address := chosen["metrics_address"]) is not None:
        metrics = Address(*parse_address(address), "--metrics-address", "--metrics-address")
    watched = None
    if chosen["watch"]:
        from gothreads.serve.watcher import Sources
        watched = [Sources.of(*each) for each in sources]
    return Serving(_place(chosen), metrics, chosen["allow_host"], chosen["allow_origin"], _transport(chosen),
                   stopping=Stopping(chosen["drain_delay"], chosen["drain"]), access_log=chosen["access_log"],
                   may_restart=chosen["allow_restart"], watched=watched)


def _place(chosen: ServerOptions) -> Place:
    """Where to listen."""
    from gothreads.serve.listeners import Address, Inherited, UnixSocket, of_systemd
    if chosen["uds"] is not None and chosen["fd"] is not None:
        raise MisuseError("--uds and --fd exclude each other")
    if chosen["uds"] is not None:
        return UnixSocket(chosen["uds"])
    if chosen["fd"] is not None:
        return Inherited(chosen["fd"])
    return of_systemd() or Address(chosen["host"], chosen["port"])


def _transport(chosen: ServerOptions) -> Transport:
    from gothreads.serve.serving import Transport, trusted
    from gothreads.serve.tls import Tls
    certificate, key, clients = chosen["tls_cert"], chosen["tls_key"], chosen["tls_client_ca"]
    if certificate is None and (key is not None or clients is not None):
        raise MisuseError("--tls-key and --tls-client-ca need --tls-cert")
    return Transport(None if certificate is None else Tls(certificate, key, clients).context(),
                     trusted(chosen["trust_proxy"]))


SERVE = Command("serve", "serve a module's exports and handlers over HTTP", """\
  gothreads serve app.wasm
  gothreads serve --port 8000 examples/searchd DIR
  gothreads serve --model pool --instances 4 ./app
  gothreads serve --python host.py ./app             with Python functions that the module calls
  gothreads serve --timeout 5 --limit memory=512M --limit files=100 ./app
  gothreads serve --watch --restart ./app            rebuild and replace it when a source changes
  gothreads serve --restart --save-every 10 ./app    restart after a failure, with a state at most 10 s old
  gothreads serve -c gothreads.toml                  several apps, as the file says
  curl -d '{"args": [2, 3]}' localhost:8080/api/call/add""", add_arguments, run, own_arguments=1,
                last_is_optional_with=("-c", "--config"), variables="GOTHREADS_SERVE_")
