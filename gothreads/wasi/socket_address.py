"""Addresses of sockets, in the form that Go's syscall package writes and reads (hostSockaddr)."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

#: Family, port, zone, address, length of a Unix socket's path, path.
_SOCKADDR = struct.Struct("<HHI16sI108s")
SOCKADDR_SIZE = _SOCKADDR.size


@dataclass(frozen=True)
class Address:
    """An IP address and port, or a Unix socket's path (`host`; port 0)."""

    family: int
    host: str = ""
    port: int = 0
    zone: int = 0

    @classmethod
    def unpack(cls, data: bytes) -> Address:
        """EINVAL or EAFNOSUPPORT if it is not an address."""
        family, port, zone, packed, length, name = _SOCKADDR.unpack(data)
        if family == socket.AF_INET:
            return cls(family, socket.inet_ntop(family, packed[:4]), port)
        if family == socket.AF_INET6:
            return cls(family, socket.inet_ntop(family, packed), port, zone)
        if family != socket.AF_UNIX:
            raise OSError(errno.EAFNOSUPPORT, "a family of addresses")
        path = name[:length]
        if b"\0" in path or not path or path.startswith(b"@"):
            raise OSError(errno.EINVAL, "a path of a Unix socket")
        return cls(family, os.fsdecode(path))

    @classmethod
    def of(cls, family: int, name: Any) -> Address:
        """From an address of Python's socket module."""
        if family == socket.AF_UNIX:
            return cls(family, os.fsdecode(name) if name else "")
        host = name[0].partition("%")[0]
        return cls(socket.AF_INET6 if ":" in host else socket.AF_INET, host, name[1], name[3] if len(name) > 3 else 0)

    def __str__(self) -> str:
        """As Go and the options write it; of any address of this machine, only the port."""
        if self.family == socket.AF_UNIX:
            return f"unix:{self.host}"
        host = "" if self.is_any else f"[{self.host}]" if ":" in self.plain else self.plain
        return f"{host}:{self.port}"

    def pack(self) -> bytes:
        if self.family == socket.AF_UNIX:
            path = os.fsencode(self.host)[:108]
            return _SOCKADDR.pack(self.family, 0, 0, b"", len(path), path)
        return _SOCKADDR.pack(self.family, self.port, self.zone, socket.inet_pton(self.family, self.host), 0, b"")

    @property
    def sockaddr(self) -> Any:
        if self.family == socket.AF_INET6:
            return (self.host, self.port, 0, self.zone)
        return (self.host, self.port)

    @property
    def plain(self) -> str:
        """The IP address; of an IPv4 address in IPv6 form, the IPv4 address."""
        if self.family == socket.AF_INET6 and (mapped := ipaddress.IPv6Address(self.host).ipv4_mapped):
            return str(mapped)
        return self.host

    def in_family(self, family: int) -> Address:
        """An IPv6 form of an IPv4 address as that, for a socket of IPv4; other addresses as they are."""
        if family == socket.AF_INET and self.family == socket.AF_INET6 and (plain := self.plain) != self.host:
            return Address(family, plain, self.port)
        return self

    @property
    def is_here(self) -> bool:
        """Whether it is loopback, or any address of this machine."""
        return self.family != socket.AF_UNIX and ((ip := ipaddress.ip_address(self.plain)).is_loopback
                                                  or ip.is_unspecified)

    @property
    def is_any(self) -> bool:
        return self.family != socket.AF_UNIX and ipaddress.ip_address(self.plain).is_unspecified

    def with_port(self, port: int) -> Address:
        return Address(self.family, self.host, port, self.zone)
