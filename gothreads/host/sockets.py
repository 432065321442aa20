"""The module's way to the network: addresses that it may use, listeners that it is handed, and the calls behind guest.Listen and guest.Dial.

Nothing is allowed that was not said. A rule is HOST:PORT or unix:PATH; HOST may be a name, an address, or "*", PORT may be "*".
Listening where others than this machine can connect needs a rule that names that very address ("0.0.0.0:80"): "*" is loopback then.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import queue
import socket
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gothreads.errors import AppClosed, GothreadsError, MisuseError
from gothreads.host.descriptors import Connection, Table
from gothreads.host.wasi_calls import prepared
from gothreads.shared_memory import BoundedMemory

_UNIX = "unix:"
_BACKLOG = 4096  # the system cuts it to what it has
#: How often a lookup, which cannot be interrupted, looks whether the app has ended. Seconds.
_LOOKUP_SLICE = 0.05


@dataclass(frozen=True)
class Rule:
    """What --allow-net says."""

    host: str
    port: str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """MisuseError when it is not one."""
        if text.startswith(_UNIX) and len(text) > len(_UNIX):
            return cls(_UNIX, os.path.abspath(text.removeprefix(_UNIX)))
        host, port = split(text, f"{text!r} is not an address that can be allowed: it must be HOST:PORT (each may be *) or unix:PATH")
        if port != "*":
            _port(port, text)
        return cls(host.lower(), port)

    def allows(self, host: str, port: int) -> bool:
        return self.host in ("*", host.lower()) and self.port in ("*", str(port))


def split(text: str, wrong: str) -> tuple[str, str]:
    """HOST:PORT or [HOST]:PORT in two; MisuseError(wrong) when it is not."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise MisuseError(wrong)
    if not colon or not host or not port:
        raise MisuseError(wrong)
    return host, port


def listen(address: str) -> socket.socket:
    """A listening socket to hand over. MisuseError for a wrong address, GothreadsError when it cannot be had."""
    try:
        if address.startswith(_UNIX) and address != _UNIX:
            return _listen_unix(os.path.abspath(address.removeprefix(_UNIX)))
        host, port = split(address, f"{address!r} is not an address to listen on: it must be HOST:PORT, such as 127.0.0.1:8080 or 0.0.0.0:8080, or unix:PATH")
        number = _port(port, address)
        families = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return _listen_tcp(families[0][0], families[0][4])
    except socket.gaierror as error:
        raise GothreadsError(f"cannot listen on {address}: {error.strerror}") from None
    except OSError as error:
        hint = ". Another process has it; choose another port, or 0 for any" if error.errno == errno.EADDRINUSE else ""
        raise GothreadsError(f"cannot listen on {address}: {error.strerror}{hint}") from None


def address_of(connection: socket.socket, *, peer: bool = False) -> str:
    """As Go writes it: 127.0.0.1:80, [::1]:80, or a path."""
    name = connection.getpeername() if peer else connection.getsockname()
    if connection.family == socket.AF_UNIX:
        return os.fsdecode(name)
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SocketCalls:
    """What gothreads/guest imports, in WASI's manner: numbers and addresses in; returns nothing, or raises OSError.

    `memory` is set before the module runs. From any thread.
    """

    memory: BoundedMemory

    def __init__(self, table: Table, rules: Sequence[Rule]) -> None:
        self._table, self._rules = table, tuple(rules)
        self._unlink: list[str] = []  # the paths of Unix sockets

    def sock_listen(self, network: int, network_length: int, address: int, length: int, result: int) -> None:
        kind, text = self._text(network, network_length), self._text(address, length)
        if kind == "unix":
            path = os.path.abspath(text)
            self._check(any(rule.host == _UNIX and rule.port in ("*", path) for rule in self._rules))
            made = _listen_unix(path)
            self.remove_later(made)
        else:
            host, port = _host_port(text)
            if not host:  # Go's word for all of this machine's addresses: those that were allowed
                everywhere = [rule.host for rule in self._rules if rule.host in ("0.0.0.0", "::") and rule.port in ("*", str(port))]
                host = everywhere[0] if everywhere else "127.0.0.1"
            family, sockaddr = self._look_up(kind, host, port)[0]
            self._check(any(self._may_listen(rule, host, str(sockaddr[0]), port) for rule in self._rules))
            made = _listen_tcp(family, sockaddr)
        self._add(Connection(made, self._table.stop, listens=True), result)

    def sock_dial(self, network: int, network_length: int, address: int, length: int, attempt: int, result: int) -> None:
        """Begin to connect to one of the addresses that a name has, by its place. ERANGE: there are no more. ENOENT: there is no such name."""
        kind, text = self._text(network, network_length), self._text(address, length)
        addresses: list[tuple[int, tuple[object, ...] | str]]
        if kind == "unix":
            path = os.path.abspath(text)
            self._check(any(rule.host == _UNIX and rule.port in ("*", path) for rule in self._rules))
            addresses = [(socket.AF_UNIX, path)]
        else:
            host, port = _host_port(text)
            by_name = any(rule.allows(host, port) for rule in self._rules)
            # A rule may name the address that a name stands for. Whether a name exists is nobody's business who may use no address.
            self._check(by_name or any(rule.port in ("*", str(port)) for rule in self._rules))
            addresses = [(family, sockaddr) for family, sockaddr in self._look_up(kind, host or "127.0.0.1", port)]
            self._check(by_name or all(any(rule.allows(str(sockaddr[0]), port) for rule in self._rules) for _, sockaddr in addresses))
        if attempt >= len(addresses):
            raise OSError(errno.ERANGE, "no more addresses")
        family, sockaddr = addresses[attempt]
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            prepared(made)
            number = made.connect_ex(sockaddr)
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, os.strerror(number))
            self._add(Connection(made, self._table.stop), result)
        except BaseException:
            made.close()
            raise

    def sock_connected(self, fd: int) -> None:
        """EAGAIN while it is not known yet; else what connecting has come to."""
        connection = _connection(self._table.get(fd))
        own = connection.socket
        number = own.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        try:
            own.getpeername()
        except OSError as error:
            raise OSError(errno.EAGAIN if error.errno == errno.ENOTCONN else error.errno, "not connected") from None

    def sock_address(self, fd: int, peer: int, buffer: int, size: int, done: int) -> None:
        """The network and the address, with a space between them."""
        own = _connection(self._table.get(fd))  # not only its socket: it closes that when nobody has it any more
        network = "unix" if own.socket.family == socket.AF_UNIX else "tcp"
        text = f"{network} {address_of(own.socket, peer=bool(peer))}".encode(errors="surrogateescape")[:size]
        self.memory.write(buffer, text)
        self.memory.write_u32(done, len(text))

    def remove_later(self, listener: socket.socket) -> None:
        """A Unix socket's path goes when the app does."""
        if listener.family == socket.AF_UNIX:
            self._unlink.append(listener.getsockname())

    def close(self) -> None:
        for path in self._unlink:
            _unlink_socket(path)

    def _add(self, connection: Connection, result: int) -> None:
        number = self._table.add(connection)
        try:
            self.memory.write_u32(result, number)
        except BaseException:
            self._table.remove(number)
            raise

    def _text(self, address: int, length: int) -> str:
        if length > 4096:
            raise OSError(errno.ENAMETOOLONG, "an address")
        text = self.memory.read(address, length).decode(errors="surrogateescape")
        if "\0" in text:
            raise OSError(errno.EINVAL, "a NUL in an address")
        return text

    @staticmethod
    def _check(allowed: bool) -> None:
        if not allowed:
            raise OSError(errno.EACCES, "not allowed")

    @staticmethod
    def _may_listen(rule: Rule, host: str, address: str, port: int) -> bool:
        if rule.port not in ("*", str(port)):
            return False
        if rule.host in (host.lower(), address):
            return True
        return rule.host == "*" and ipaddress.ip_address(address.partition("%")[0]).is_loopback

    def _look_up(self, kind: str, host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
        family = {"tcp": socket.AF_UNSPEC, "tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}.get(kind)
        if family is None:
            raise OSError(errno.EAFNOSUPPORT, kind)
        try:
            found: list[Any] = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:  # a name
            found = self._asked(host, port, family)
        except (UnicodeError, OverflowError):
            raise OSError(errno.ENOENT, host) from None
        return [(info[0], info[4]) for info in found]

    def _asked(self, host: str, port: int, family: int) -> list[Any]:
        """Ask the system for a name, on a thread of its own, which the end of the app does not wait for."""
        answers: queue.SimpleQueue[list[Any] | BaseException] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
            except BaseException as error:
                answers.put(error)
        threading.Thread(target=ask, name="gothreads-lookup", daemon=True).start()
        while not self._table.stop.is_set:
            try:
                answer = answers.get(timeout=_LOOKUP_SLICE)
            except queue.Empty:
                continue
            if isinstance(answer, BaseException):
                raise OSError(errno.ENOENT, host) from None
            return answer
        raise AppClosed("stopped")


def _connection(descriptor: object) -> Connection:
    if not isinstance(descriptor, Connection):
        raise OSError(errno.ENOTSOCK, "not a socket")
    return descriptor


def _host_port(text: str) -> tuple[str, int]:
    """Of Go's text; the host may be empty, which is any address of this machine's."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise OSError(errno.EINVAL, "a port")
    return host, int(port)


def _port(text: str, of: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise MisuseError(f"{of!r}: a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _listen_tcp(family: int, sockaddr: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(sockaddr[0] != "::"))
        made.bind(sockaddr)
        made.listen(_BACKLOG)
        return made
    except BaseException:
        made.close()
        raise


def _listen_unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_dead_socket(path):
            _unlink_socket(path)
        made.bind(path)
        made.listen(_BACKLOG)
        return made
    except BaseException:
        made.close()
        raise


def _is_dead_socket(path: str) -> bool:
    """What a process that was killed has left: nobody listens."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(path) == errno.ECONNREFUSED
    except OSError:
        return False


def _unlink_socket(path: str) -> None:
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    except OSError:
        pass
