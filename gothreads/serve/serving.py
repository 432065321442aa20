"""What a server does besides answering, and what is between it and its clients."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gothreads.runtime.options import DRAIN_SECONDS
from gothreads.serve.listeners import Address, Place

if TYPE_CHECKING:
    from gothreads.serve.watcher import Sources


@dataclass(frozen=True)
class Stopping:
    """How a server stops, in seconds.

    delay: how long it goes on after SIGTERM, although it is not ready. drain: how long requests in flight may take
    then, or after another signal; after that they get 503.
    """

    delay: float = 0.0
    drain: float = DRAIN_SECONDS


@dataclass(frozen=True)
class Transport:
    """What is between clients and the application.

    tls: if clients speak TLS to this server. proxies: the addresses and networks of proxies, whose X-Forwarded-For and
    X-Forwarded-Proto are believed.
    """

    tls: ssl.SSLContext | None = None
    proxies: Sequence[str] = ()


def trusted(networks: Sequence[str]) -> Sequence[str]:
    """These networks of proxies, as uvicorn takes them: also as a socket of IPv6 sees those of IPv4. "*": any."""
    if "*" in networks:
        return ["*"]
    mapped = [f"::ffff:{network.network_address}/{96 + network.prefixlen}"
              for network in map(ipaddress.ip_network, networks) if network.version == 4]
    return [*networks, *mapped]


@dataclass(frozen=True)
class Serving:
    """What a server does besides answering.

    allowed: further names of the server. allow_origins: other sites whose pages may use it. may_restart: whether
    clients may replace apps that need no keys. watched: the sources of each app; if one changes, the app is replaced.
    title: the file that has the apps: the server goes on when they have ended.
    """

    address: Place
    metrics: Address | None = None
    allowed: Sequence[str] = ()
    allow_origins: Sequence[str] = ()
    transport: Transport = Transport()
    stopping: Stopping = Stopping()
    access_log: bool = False
    may_restart: bool = False
    watched: Sequence[Sources] | None = None
    title: str | None = None
