"""The options of a served app, for `gothreads serve` and `gothreads.asgi`.

Annotations in this module are evaluated when it is imported (no `from __future__ import annotations`): see
runtime/keywords.py.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Annotated, TypedDict

from gothreads.errors import MisuseError
from gothreads.runtime.cancellation import OnTimeout
from gothreads.runtime.keywords import Option, check_bool, one_of, whole
from gothreads.runtime.options import DRAIN_SECONDS, OpenOptions
from gothreads.serve.api_keys import check_api_keys
from gothreads.serve.tokens import check_tokens
from gothreads.sync.seconds import check_seconds
from gothreads.text import cut

#: Default for the largest arguments of a call, in bytes of JSON.
LARGEST_JSON = 4 << 20
#: How long calls wait for their turn, in seconds, before they get 503.
CALLERS_SECONDS = 30.0
#: Default for how many calls wait for others, where the number of calls in flight has a limit.
MOST_WAITING = 100


def same_host(name: str) -> str:
    """A host name as it is compared: without a dot at its end, in lower case."""
    return name.lower().rstrip(".")


def host_names(option: str, names: Iterable[str]) -> frozenset[str]:
    """Names of a server. MisuseError if one is not a name; `option` is what gave it."""
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name):
            raise MisuseError(f"{option} {name}: expected a name, without a port, such as app.example.org")
    return frozenset(map(same_host, names))


def _check_hosts(name: str, value: object) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
        raise MisuseError(f"{name} must be a list of names, not {cut(value)}")
    host_names(name, value)


def _check_hosts_or_all(name: str, value: object) -> None:
    _check_hosts(name, [each for each in value if each != "*"] if isinstance(value, list | tuple) else value)


def _check_origins(name: str, value: object) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise MisuseError(f"{name} must be a list of origins, not {cut(value)}")
    for each in value:
        if not isinstance(each, str) or not re.fullmatch(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?", each):
            raise MisuseError(f"{name}: {cut(each)} is not an origin; expected http:// or https:// and a name in lower "
                              "case, with a port if there is one, such as https://app.example.org")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise MisuseError(f"{name} must be a text, not {cut(value)}")


def _check_timeout(name: str, value: object) -> None:
    check_seconds(name, value, above_zero=True)


AccessLog = Annotated[bool, Option(
    default=False, help="log each request: the logger gothreads.access", check=check_bool)]
AllowedOrigins = Annotated[Sequence[str], Option((), """
    other sites whose pages may use the server (CORS), such as https://app.example.org (default: none)
    """, check=_check_origins)]
JsonLimit = Annotated[int, Option(
    LARGEST_JSON, "the largest arguments of a call, in bytes of JSON", check=whole(1))]


class ServeOptions(TypedDict, total=False):
    """How an app is called, and by whom: the options that the command and the function share."""

    timeout: Annotated[float | None, Option(
        None, "how many seconds a call may take, before it is answered with 504 (default: without limit)",
        check=_check_timeout)]
    on_timeout: Annotated[OnTimeout, Option("cancel", """
        what happens to such a call. cancel: its context is cancelled, if the handler has one; continue: it goes on;
        stop: the module, or its instance in a pool, is stopped
        """, check=one_of("cancel", "continue", "stop"))]
    max_calls: Annotated[int | None, Option(
        None, "how many calls may be in flight at a time; further ones wait (default: without limit)",
        check=whole(1))]
    max_waiting: Annotated[int, Option(
        MOST_WAITING, "how many calls may wait, where the calls in flight have a limit; others get 503",
        check=whole(0))]
    max_client_calls: Annotated[int | None, Option(
        None, "how many calls of one client may be in progress at a time; others get 429 (default: without limit)",
        check=whole(1))]
    api_keys: Annotated[str | PathLike[str] | None, Option(None, """
        a file of API keys, one of which calls need then; gothreads keys new makes them (default: without
        authentication)
        """, check=check_api_keys)]
    jwt_keys: Annotated[str | PathLike[str] | None, Option(None, """
        a file with the public key (PEM), or the keys (JWKS), that verify JSON Web Tokens, which calls need then, or an
        API key
        """, check=check_tokens)]
    jwt_issuer: Annotated[str | None, Option(None, "who must have issued tokens: their claim iss", check=_check_text)]
    jwt_audience: Annotated[str | None, Option(None, "for whom tokens must be: their claim aud", check=_check_text)]
    jwt_rights: Annotated[str, Option(
        "scope", "the claim of tokens that has the rights, such as call/add, as a list or words", check=_check_text)]


class WebOptions(ServeOptions, total=False):
    """The options of an app that is served. largest_json: the largest arguments of a call, in bytes."""

    largest_json: int


class AsgiOptions(ServeOptions, total=False):
    """The options of `gothreads.asgi`, besides those of `gothreads.open`."""

    access_log: AccessLog
    allow_origins: AllowedOrigins
    json_limit: JsonLimit
    drain: Annotated[float, Option(
        DRAIN_SECONDS, "how long calls may still take when the server stops, in seconds", check=check_seconds)]
    allow_hosts: Annotated[Sequence[str], Option((), """
        further names by which clients may address the server (default: localhost, this machine's name, and any IP
        address)
        """, """
        Requests for other names are refused: a page whose name leads to this address could have sent them. "*" accepts
        all names, where something before this checks them.
        """, check=_check_hosts_or_all)]


def _check_port(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
        raise MisuseError(f"{name} must be a port, from 0 to 65535, not {cut(value)}")


def _check_descriptor(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 3:
        raise MisuseError(f"{name} must be the number of a descriptor, 3 or more, not {cut(value)}")


def _check_networks(name: str, value: object) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise MisuseError(f"{name} must be a list of addresses and networks, not {cut(value)}")
    for each in value:
        if each != "*" and not _is_network(each):
            raise MisuseError(f"{name}: {cut(each)} is neither an address nor a network, such as 10.0.0.0/8; nor *")


def _is_network(value: object) -> bool:
    try:
        ipaddress.ip_network(value if isinstance(value, str) else "", strict=False)
        return True
    except ValueError:
        return False


class ServerOptions(TypedDict, total=False):
    """The options of `gothreads serve` that are the server's, whatever it serves."""

    host: Annotated[str, Option("127.0.0.1", """
        address to listen on. Without --api-keys, --jwt-keys or --tls-client-ca there is no authentication
        """, check=_check_text)]
    port: Annotated[int, Option(8080, """
        port to listen on; 0: any free port. A socket of systemd (LISTEN_FDS) takes precedence
        """, check=_check_port)]
    uds: Annotated[str | None, Option(None, "listen on a Unix socket instead", check=_check_text)]
    fd: Annotated[int | None, Option(
        None, "listen on a socket instead that this process was started with", check=_check_descriptor)]
    allow_host: Annotated[Sequence[str], Option((), """
        another name of the server, such as a proxy's; requests for other names are refused (default: localhost and
        --host)
        """, check=_check_hosts)]
    allow_origin: AllowedOrigins
    trust_proxy: Annotated[Sequence[str], Option((), """
        address or network of a proxy, whose X-Forwarded-For and X-Forwarded-Proto are believed; *: any (default: none)
        """, check=_check_networks)]
    tls_cert: Annotated[str | None, Option(
        None, "speak TLS, with this certificate, and those up to its authority's (PEM)", check=_check_text)]
    tls_key: Annotated[str | None, Option(
        None, "the certificate's key (PEM; default: in the same file)", check=_check_text)]
    tls_client_ca: Annotated[str | None, Option(
        None, "clients need a certificate of one of these authorities (PEM)", check=_check_text)]
    drain: Annotated[float, Option(DRAIN_SECONDS, """
        how long requests in progress may still take, in seconds, when the server stops (Ctrl-C, SIGTERM), or the module
        is replaced
        """, check=check_seconds)]
    drain_delay: Annotated[float, Option(0.0, """
        how long to go on after SIGTERM before that, in seconds, while /readyz says that the server is not ready: load
        balancers need some time to notice
        """, check=check_seconds)]
    metrics_address: Annotated[str | None, Option(
        None, """
        answer /metrics, /dashboard and /debug/pprof there, and not where the module is served: `gothreads top` and
        `gothreads profile` need this address then
        """, check=_check_text)]
    access_log: AccessLog
    log_format: Annotated[str, Option(
        "text", "how messages are written to standard error; json: an object a line", check=one_of("text", "json"))]
    watch: Annotated[bool, Option(default=False, help="""
        replace the module when its file, or the Go program, changes: calls in progress finish in the old one. If a
        build fails, that goes on. SIGHUP does the same
        """, check=check_bool)]
    allow_restart: Annotated[bool, Option(default=False, help="""
        let clients replace the module by a new instance: POST /api/apps/NAME/restart. Where keys or tokens are needed,
        those with the right `restart` may do it anyway, and nobody else
        """, check=check_bool)]


def _check_route(name: str, value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"(POST|PUT|PATCH|DELETE) (/[\w.~-]+)+", value):
        raise MisuseError(f'{name} must be POST, PUT, PATCH or DELETE, and a path, such as "POST /search", not '
                          f"{cut(value)}")


def _check_prefix(name: str, value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"/|(/[\w.~-]+)+", value):
        raise MisuseError(f'{name} must be a path such as "/search", not {cut(value)}')


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[\w.-]+", value):
        raise MisuseError(f'{name} must be a name, without a port, such as "app.example.org", not {cut(value)}')


class AppOptions(TypedDict, total=False):
    """What an app of a server of many is, besides the options of `open` and `supervise`."""

    module: Annotated[str | None, Option(None, "a module, or a Go package, which is built first", check=_check_text)]
    python: Annotated[str | None, Option(
        None, "a Python file with `host = gothreads.Host()`: what the module may import", check=_check_text)]
    json_limit: JsonLimit


class PlaceOptions(TypedDict, total=False):
    """Where an app of a server of many is."""

    prefix: Annotated[str | None, Option(
        None, 'the path of the app, such as "/search" (default: its name)', check=_check_prefix)]
    host: Annotated[str | None, Option(
        None, "the host name of the app, instead of a path", check=_check_name)]


class RouteOptions(TypedDict, total=False):
    """A path of an app that leads to one of its exports, typed functions or handlers."""

    route: Annotated[str | None, Option(None, 'method and path, such as "POST /search"', check=_check_route)]
    export: Annotated[str | None, Option(
        None, "the export or typed function that is called, with arguments as at /api/call", check=_check_text)]
    handler: Annotated[str | None, Option(
        None, "or the handler that is called, with the body as its payload", check=_check_text)]
    timeout: Annotated[float | None, Option(
        None, "how many seconds such a call may take (default: the app's timeout)", check=_check_timeout)]


class AllAsgiOptions(AsgiOptions, OpenOptions, total=False):
    """All options of `gothreads.asgi`."""


def check_together(options: Mapping[str, object]) -> None:
    """MisuseError: an option is missing that another needs."""
    given = {name for name in ("jwt_keys", "jwt_issuer", "jwt_audience") if options.get(name) is not None}
    if given and len(given) < 3:
        raise MisuseError(f"jwt_keys, jwt_issuer and jwt_audience belong together; given: {', '.join(sorted(given))}. "
                          "A token that is meant for another service must not be accepted here")
