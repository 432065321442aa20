"""TLS for a server, and mutual TLS: which certificates it has, and which clients need."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gothreads.errors import MisuseError
from gothreads.files import reason

#: Suites with forward secrecy and authenticated encryption, for TLS 1.2; those of 1.3 all are that.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
#: In scope["state"]: the name in the client's certificate, which has been verified (connection.py puts it there).
CERTIFICATE = "gothreads.certificate"
#: How long a client may take for the handshake, in seconds.
HANDSHAKE_SECONDS = 20.0
#: How long it may take, when the server closes a connection, to say that it has seen that.
SHUTDOWN_SECONDS = 1.0


@dataclass(frozen=True)
class Tls:
    """certificate: a PEM file with the certificate, and those between it and the authority's. key: its key's; None: the
    same file. clients: a PEM file with the authorities of clients, each of which needs a certificate then.
    """

    certificate: str
    key: str | None = None
    clients: str | None = None

    def context(self) -> ssl.SSLContext:
        """MisuseError: a file cannot be used."""
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers(_CIPHERS)
        made.options |= ssl.OP_NO_RENEGOTIATION
        with _reported(f"--tls-cert {self.certificate}" + (f" --tls-key {self.key}" if self.key else "")):
            made.load_cert_chain(self.certificate, self.key, _no_password)
        if self.clients is not None:
            with _reported(f"--tls-client-ca {self.clients}"):
                made.load_verify_locations(self.clients)
            made.verify_mode = ssl.CERT_REQUIRED
        return made


@contextlib.contextmanager
def _reported(options: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise MisuseError(f"{options}: {error.reason or error}; expected PEM (of a key without a password)") from None
    except OSError as error:
        raise MisuseError(f"{options}: {reason(error)}") from None


def _no_password() -> str:
    """Instead of OpenSSL's question on the terminal."""
    return ""


def name_of(transport: asyncio.BaseTransport) -> str | None:
    """The name in the client's certificate, which has been verified: its first alternative name, or else, without any,
    its common name, which authorities check less.
    """
    found: dict[str, Any] | None = transport.get_extra_info("peercert")
    if not found:
        return None
    subject = [value for part in found.get("subject", ()) for kind, value in part if kind == "commonName"]
    others = [value for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "URI", "email")]
    return next(iter([*others, *subject]), None)


def limit_handshakes(loop: asyncio.AbstractEventLoop) -> None:
    """Let the servers of a loop wait for handshakes, and for the ends of connections, no longer than that. (uvicorn has
    no options for it.)
    """
    create: Any = loop.create_server
    limited = functools.partial(create, ssl_handshake_timeout=HANDSHAKE_SECONDS,
                                ssl_shutdown_timeout=SHUTDOWN_SECONDS)
    loop.create_server = limited  # type: ignore[method-assign]
