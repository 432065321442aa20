"""`gothreads serve`: serves a module over HTTP."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, cast

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
    parse_count_or_none,
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
from gothreads.runtime.options import DRAIN_SECONDS, OpenOptions
from gothreads.serve.options import CALLERS_SECONDS, ServeOptions, check_together
from gothreads.supervise.options import RestartOptions

if TYPE_CHECKING:
    from gothreads.serve.listeners import Address, Place
    from gothreads.serve.server import Transport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_module(parser)
    parser.add_argument("--host", type=parse_host, default="127.0.0.1",
                        help="address to listen on (default: %(default)s). Without --api-keys, --jwt-keys or "
                        "--tls-client-ca there is no authentication")
    parser.add_argument("--port", type=parse_port, default=8080,
                        help="port to listen on; 0: any free port (default: %(default)s). A socket of systemd "
                        "(LISTEN_FDS) takes precedence")
    parser.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument("--fd", type=parse_descriptor, metavar="N",
                        help="listen on a socket instead that this process was started with")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                        help="another name of the server, such as a proxy's; requests for other names are refused "
                        "(default: localhost and --host)")
    parser.add_argument("--trust-proxy", action="append", default=[], type=parse_network, metavar="ADDRESS",
                        help="address or network of a proxy, whose X-Forwarded-For and X-Forwarded-Proto are believed; "
                        "*: any (default: none)")
    parser.add_argument("--tls-cert", metavar="FILE", help="speak TLS, with this certificate, and those up to its "
                        "authority's (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's key (PEM; default: in the same file)")
    parser.add_argument("--tls-client-ca", metavar="FILE",
                        help="clients need a certificate of one of these authorities (PEM)")
    add_option(parser, "--api-keys", ServeOptions, "api_keys", metavar="FILE")
    add_option(parser, "--jwt-keys", ServeOptions, "jwt_keys", metavar="FILE")
    add_option(parser, "--jwt-issuer", ServeOptions, "jwt_issuer", metavar="TEXT")
    add_option(parser, "--jwt-audience", ServeOptions, "jwt_audience", metavar="TEXT")
    add_option(parser, "--jwt-rights", ServeOptions, "jwt_rights", metavar="CLAIM")
    add_option(parser, "--allow-origin", ServeOptions, "allow_origins", action="append", dest="allow_origins",
               metavar="ORIGIN")
    add_option(parser, "--max-calls", ServeOptions, "max_calls", type=parse_count, metavar="N")
    add_option(parser, "--max-waiting", ServeOptions, "max_waiting", type=parse_count_or_none, metavar="N")
    add_option(parser, "--max-client-calls", ServeOptions, "max_client_calls", type=parse_count, metavar="N")
    add_option(parser, "--callers", OpenOptions, "callers", type=parse_count, metavar="N")
    add_option(parser, "--timeout", ServeOptions, "timeout", type=parse_seconds, metavar="S")
    add_option(parser, "--on-timeout", ServeOptions, "on_timeout", choices=("cancel", "continue", "stop"))
    parser.add_argument("--json-limit", metavar="SIZE", default="4M",
                        help="the largest arguments of a call, as JSON (default: %(default)s; payloads of handlers: "
                             "64M)")
    parser.add_argument("--drain", type=parse_drain, metavar="S", default=DRAIN_SECONDS,
                        help="how long to wait for requests in progress after Ctrl-C or SIGTERM, in seconds (default: "
                             "%(default)g)")
    parser.add_argument("--drain-delay", type=parse_drain, metavar="S", default=0.0,
                        help="how long to go on after SIGTERM before that, in seconds, while /readyz says that the "
                             "server is not ready: load balancers need some time to notice (default: %(default)g)")
    parser.add_argument("--metrics-address", type=parse_address, metavar="HOST:PORT",
                        help="answer /metrics there, and not where the module is served")
    add_option(parser, "--access-log", ServeOptions, "access_log", action="store_true")
    parser.add_argument("--log-format", choices=("text", "json"), default="text",
                        help="how messages are written to standard error; json: an object a line (default: "
                             "%(default)s)")
    add_model_options(parser)
    add_run_options(parser)
    add_service_options(parser)
    add_option(parser, "--while-down", RestartOptions, "while_down", choices=("wait", "fail"),
               more=". With --restart only; waiting ends after 10 s; calls that fail get 503")
    add_option(parser, "--save-every", RestartOptions, "save_every", type=parse_seconds, metavar="S",
               more=". With --restart only")
    parser.set_defaults(no_calls=False)


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    terminal.as_json = arguments.log_format == "json"
    if (problem := lacking("serve")) is not None:
        raise GothreadsError(problem)
    from gothreads.serve.server import Stopping, serve
    warn_once(UVICORN)
    if arguments.restart is None and (arguments.save_every is not None or arguments.while_down != "wait"):
        raise MisuseError("--save-every and --while-down need --restart")
    options = cast(ServeOptions, complete("serve", ServeOptions, {
        name: getattr(arguments, name) for name in definition(ServeOptions)}))
    check_together(options)
    address, metrics, transport = _address(arguments), _metrics(arguments), _transport(arguments)
    check_exists(arguments.module)  # before the port is taken, which is before the module is built
    return serve(lambda: open_or_supervise(arguments, terminal, callers=arguments.callers,
                                           callers_timeout=CALLERS_SECONDS),
                 terminal, address=address, metrics=metrics, allowed=arguments.allow_host,
                 stopping=Stopping(arguments.drain_delay, arguments.drain), transport=transport,
                 largest_json=parse_size(arguments.json_limit, "--json-limit "), **options)


def _address(arguments: argparse.Namespace) -> Place:
    """Where to listen."""
    from gothreads.serve.listeners import Address, Inherited, UnixSocket, of_systemd
    if arguments.uds is not None and arguments.fd is not None:
        raise MisuseError("--uds and --fd exclude each other")
    if arguments.uds is not None:
        return UnixSocket(arguments.uds)
    if arguments.fd is not None:
        return Inherited(arguments.fd)
    return of_systemd() or Address(arguments.host, arguments.port)


def _metrics(arguments: argparse.Namespace) -> Address | None:
    """Where the metrics are, if not there."""
    from gothreads.serve.listeners import Address
    if arguments.metrics_address is None:
        return None
    host, port = arguments.metrics_address
    return Address(host, port, "--metrics-address", "--metrics-address")


def _transport(arguments: argparse.Namespace) -> Transport:
    from gothreads.serve.server import Transport, trusted
    from gothreads.serve.tls import Tls
    if arguments.tls_cert is None and (arguments.tls_key is not None or arguments.tls_client_ca is not None):
        raise MisuseError("--tls-key and --tls-client-ca need --tls-cert")
    tls = None
    if arguments.tls_cert is not None:
        tls = Tls(arguments.tls_cert, arguments.tls_key, arguments.tls_client_ca).context()
    return Transport(tls, trusted(arguments.trust_proxy))


SERVE = Command("serve", "serve a module's exports and handlers over HTTP", """\
  gothreads serve app.wasm
  gothreads serve --port 8000 examples/searchd DIR
  gothreads serve --model pool --instances 4 ./app
  gothreads serve --python host.py ./app             with Python functions that the module calls
  gothreads serve --timeout 5 --limit memory=512M --limit files=100 ./app
  gothreads serve --restart --save-every 10 ./app    restart after a failure, with a state at most 10 s old
  curl -d '{"args": [2, 3]}' localhost:8080/api/call/add""", add_arguments, run, own_arguments=1)
