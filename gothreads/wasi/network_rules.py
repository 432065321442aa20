"""Rules that allow a module network access, and addresses as users and Go write them.

A rule is HOST:PORT, unix:PATH or unix:*; HOST may be a name, an address or "*"; PORT may be "*". Listening on an
address that other machines can reach needs a rule with that exact address ("0.0.0.0:80").

Paths of Unix sockets are resolved when the rule is made. Later lookups follow no links, since the module may be able to
create links.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
from dataclasses import dataclass

from gothreads.errors import MisuseError
from gothreads.text import cut, whole_number

_UNIX, _FD = "unix:", "fd:"
#: A rule for all Unix sockets.
_ANY_UNIX = "unix:*"
#: The addresses that mean all of this machine's, in IPv4 and IPv6.
EVERYWHERE = ("0.0.0.0", "::")
_LARGEST_PORT = 65535
_LARGEST_DESCRIPTOR = 1 << 20  # Linux's own limit
#: The address of this machine that others cannot reach.
_HERE = "127.0.0.1"


@dataclass(frozen=True)
class Rule:
    """An address that --allow-net allows. `path`: a Unix socket's path with links resolved."""

    host: str
    port: str
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parse HOST:PORT or unix:PATH. MisuseError if the text is not a rule."""
        if text == _ANY_UNIX:
            return cls(_UNIX, "*")
        if is_unix(text):
            path = unix_path(text)
            return cls(_UNIX, path, without_links(path))
        host, port = host_and_port(text)
        if port != "*":
            port_number(port, text)
        return cls(host.lower(), port)

    @property
    def is_unix(self) -> bool:
        return self.host == _UNIX

    @property
    def is_any_unix(self) -> bool:
        return self.is_unix and not self.path

    def is_for(self, port: int) -> bool:
        return not self.is_unix and self.port in ("*", str(port))

    def allows(self, host: str, port: int) -> bool:
        """Whether the rule allows dialling host:port.

        A rule for listening on all addresses does not: to a dialler, 0.0.0.0 is this machine.
        """
        return self.host not in EVERYWHERE and self.is_for(port) and self.host in ("*", host.lower())

    def allows_listening(self, host: str, address: str, port: int) -> bool:
        """Whether the rule allows listening on an address of a host."""
        exact = self.host in (host.lower(), address)
        return self.is_for(port) and (exact or (self.host == "*" and _ip_address(address).is_loopback))


def is_unix(text: str) -> bool:
    """Whether the text is unix:PATH."""
    return text.startswith(_UNIX) and text != _UNIX


def unix_path(text: str) -> str:
    """The absolute path in unix:PATH. MisuseError if it is not valid."""
    path = text.removeprefix(_UNIX)
    if "\0" in path or any("\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff" for letter in path):
        raise MisuseError(f"{cut(text)} is not an address: the path of a Unix socket must be Unicode, without NUL")
    return os.path.abspath(path)


def without_links(path: str) -> str:
    """The path with links resolved in its folders, but not in its last part."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def inherited_descriptor(text: str) -> int | None:
    """The number in fd:NUMBER, a listener that this process was started with; None if it is another address."""
    return whole_number(text.removeprefix(_FD), _LARGEST_DESCRIPTOR) if text.startswith(_FD) else None


def host_and_port(text: str) -> tuple[str, str]:
    """Split HOST:PORT or [HOST]:PORT in two. MisuseError if it has neither form."""
    if "://" in text:
        raise MisuseError(f"{cut(text)} is a URL, not an address: write HOST:PORT, such as example.com:443")
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or not port or (":" in host and not bracketed):
        raise MisuseError(f"{cut(text)} is not an address: write HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or "
                          "0.0.0.0:8080, or unix:PATH")
    return host, port


def listening_address(text: str) -> str:
    """An address to listen on, where :PORT stands for this machine alone: others are let in only if that is said.

    MisuseError if it is not an address.
    """
    address = f"{_HERE}{text}" if text.startswith(":") and text[1:].isdigit() else text
    try:
        if inherited_descriptor(address) is not None:
            return address
        if is_unix(address):
            unix_path(address)
        else:
            port_number(host_and_port(address)[1], address)
    except MisuseError as error:
        raise MisuseError(f"listen (--listen): {error}{_meant(text, ':{}')}") from None
    return address


def allowed_address(text: str) -> Rule:
    """A rule of allow_net. MisuseError if it is not one."""
    try:
        return Rule.parse(text)
    except MisuseError as error:
        raise MisuseError(f"allow_net (--allow-net): {error}. HOST and PORT may be *"
                          f"{_meant(text, '127.0.0.1:{}')}") from None


def _meant(text: str, port: str) -> str:
    """What a text lacks that is only a port or only a host."""
    if whole_number(number := text.removeprefix(":"), _LARGEST_PORT) is not None:
        return f". Did you mean {port.format(number)}?"
    return f". The port is missing: {text}:PORT" if re.fullmatch(r"[A-Za-z0-9.-]+", text) else ""


def port_number(text: str, address: str) -> int:
    """A port in an address. MisuseError if it is not one."""
    number = whole_number(text, _LARGEST_PORT)
    if number is None:
        raise MisuseError(f"{cut(address)}: a port is a number from 0 to 65535, not {cut(text)}")
    return number


def dialled_address(text: str) -> tuple[str, int]:
    """Split an address in Go's notation. An empty host means any address of this machine. OSError if it is invalid."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = whole_number(port, _LARGEST_PORT)
    if number is None:
        raise OSError(errno.EINVAL, "not a port")
    return host, number


def is_localhost(host: str) -> bool:
    return host.lower() == "localhost"


def is_ip_address(host: str) -> bool:
    try:
        _ip_address(host)
        return True
    except ValueError:
        return False


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text.partition("%")[0])  # without an IPv6 scope
