"""The module's network access: address rules, listeners handed to it, the calls behind guest.Listen and guest.Dial.

Everything is denied unless a rule allows it. A rule is HOST:PORT or unix:PATH; HOST may be a name, an address or "*";
PORT may be "*". A name is looked up only if a rule names it or has "*", since a lookup itself discloses information to
others. ("localhost" is an exception: it needs no lookup.) Listening on an address that other machines can reach needs
a rule with that exact address ("0.0.0.0:80").

Paths of Unix sockets are resolved when the rule is made. Later lookups follow no links, since the module may be able to
create links.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import queue
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gothreads.errors import AppClosed, GothreadsError, MisuseError
from gothreads.files import reason
from gothreads.shared_memory import BoundedMemory
from gothreads.sync.stop_event import StopEvent
from gothreads.text import cut, shown
from gothreads.wasi.calls import hand_out
from gothreads.wasi.descriptors import Cleanup, DescriptorTable, SocketDescriptor, prepared, socket_of
from gothreads.wasi.errnos import NotAllowed
from gothreads.wasi.openat import PLACE

UNIX = "unix:"
LOCALHOST = "localhost"
_EVERYWHERE = ("0.0.0.0", "::")
_BACKLOG = 4096  # the system reduces it to its own maximum
#: How often a thread that waits for a lookup, which cannot be interrupted, checks whether the app has ended. Seconds.
_LOOKUP_SLICE = 0.05


@dataclass(frozen=True)
class Rule:
    """An address that --allow-net allows. `path`: a Unix socket's path with links resolved."""

    host: str
    port: str
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parse HOST:PORT or unix:PATH. MisuseError if the text is not a rule."""
        if text.startswith(UNIX) and text != UNIX:
            path = _unix_path(text)
            return cls(UNIX, path, _real(path))
        host, port = split(text, f"{text!r} is not an address that can be allowed: it must be HOST:PORT (each may be *) or unix:PATH")
        if port != "*":
            _port(port, text)
        return cls(host.lower(), port)

    def is_for(self, port: int) -> bool:
        return self.host != UNIX and self.port in ("*", str(port))

    def allows(self, host: str, port: int) -> bool:
        """Whether the rule allows dialling host:port.

        A rule for listening on all addresses does not: to a dialler, 0.0.0.0 is this machine.
        """
        return self.host not in _EVERYWHERE and self.is_for(port) and self.host in ("*", host.lower())


def _unix_path(text: str) -> str:
    """The absolute path in unix:PATH. MisuseError if it is not valid."""
    path = text.removeprefix(UNIX)
    if "\0" in path or any("\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff" for letter in path):
        raise MisuseError(f"{cut(text)} is not an address: the path of a Unix socket has no NUL, and is Unicode")
    return os.path.abspath(path)


def split(text: str, wrong: str) -> tuple[str, str]:
    """Split HOST:PORT or [HOST]:PORT in two. MisuseError(wrong) if it has neither form."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise MisuseError(wrong)
    if not colon or not host or not port:
        raise MisuseError(wrong)
    return host, port


def listen(address: str, stop: StopEvent) -> SocketDescriptor:
    """Open a listening socket to hand to a module. MisuseError: the address is invalid; GothreadsError: it failed."""
    try:
        if address.startswith(UNIX) and address != UNIX:
            path = _unix_path(address)
            return unix_listener(_real(path), stop, local=path)
        host, port = split(address, f"{address!r} is not an address to listen on: it must be HOST:PORT, such as 127.0.0.1:8080 or 0.0.0.0:8080, or unix:PATH")
        number = _port(port, address)
        families = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return SocketDescriptor(_listen_tcp(families[0][0], families[0][4]), stop)
    except (OSError, UnicodeError) as error:
        hint = ""
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            hint = ". Another process has it" + ("" if address.startswith(UNIX) else "; choose another port, or 0 for any")
        raise GothreadsError(f"cannot listen on {shown(address)}: {reason(error) if isinstance(error, OSError) else error}{hint}") from None


def address_of(connection: SocketDescriptor, *, peer: bool = False) -> str:
    """A socket's address in Go's notation: 127.0.0.1:80, [::1]:80, or a Unix socket's path."""
    if connection.socket.family == socket.AF_UNIX:
        return connection.peer if peer else connection.local
    host, port, *_ = (connection.peer_name or connection.socket.getpeername()) if peer else connection.socket.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SocketCalls:
    """The functions that gothreads/guest imports, in the style of WasiCalls: they return nothing, or raise OSError.

    `memory` is set before the module runs. May be called from any thread.
    """

    memory: BoundedMemory

    def __init__(self, table: DescriptorTable, rules: Sequence[Rule]) -> None:
        self._table, self._rules = table, tuple(rules)

    def sock_listen(self, network: int, network_length: int, address: int, length: int, result: int) -> None:
        kind, text = self._text(network, network_length), self._text(address, length)
        if kind == "unix":
            listener = unix_listener(self._unix_rule(text).path, self._table.stop, local=text)
        else:
            host, port = _host_port(text)
            if not host:  # in Go this means all of the machine's addresses; here, those that are allowed
                everywhere = {"tcp4": _EVERYWHERE[:1], "tcp6": _EVERYWHERE[1:]}.get(kind, _EVERYWHERE)
                host = next((rule.host for rule in self._rules if rule.host in everywhere and rule.is_for(port)), _here(kind))
            if not is_address(host) and host.lower() != LOCALHOST:
                self._check(any(rule.host == host.lower() and rule.is_for(port) for rule in self._rules))
            found = self._look_up(kind, host, port)
            allowed = [(family, sockaddr) for family, sockaddr in found
                       if any(rule.is_for(port) and self._may_listen(rule, host, str(sockaddr[0])) for rule in self._rules)]
            self._check(bool(allowed))
            family, sockaddr = min(allowed, key=lambda one: one[0] != socket.AF_INET)  # like Go, prefer IPv4
            listener = SocketDescriptor(_listen_tcp(family, sockaddr, only_v6=kind == "tcp6"), self._table.stop)
        hand_out(self._table, self.memory, listener, result)

    def sock_dial(self, network: int, network_length: int, address: int, length: int, attempt: int, result: int) -> None:
        """Begin to connect to a name's address number `attempt`, counting from 0.

        ERANGE if the name has no more addresses, ENOENT if there is no such name.
        """
        kind, text = self._text(network, network_length), self._text(address, length)
        if kind == "unix":
            rule = self._unix_rule(text)
            if attempt:
                raise OSError(errno.ERANGE, "no more addresses")
            with place_of_socket(rule.path) as place:
                made = _connecting(socket.AF_UNIX, place)
            hand_out(self._table, self.memory, SocketDescriptor(made, self._table.stop, peer=text), result)
            return
        host, port = _host_port(text)
        host = host or _here(kind)
        by_name = any(rule.allows(host, port) for rule in self._rules)
        self._check(by_name or is_address(host) or (host.lower() == LOCALHOST and any(rule.is_for(port) for rule in self._rules)))
        addresses = [one for one in self._look_up(kind, host, port) if by_name or any(rule.allows(str(one[1][0]), port) for rule in self._rules)]
        self._check(bool(addresses))
        if attempt >= len(addresses):
            raise OSError(errno.ERANGE, "no more addresses")
        hand_out(self._table, self.memory, SocketDescriptor(_connecting(*addresses[attempt]), self._table.stop), result)

    def sock_connected(self, fd: int) -> None:
        """Return if the socket is connected. EAGAIN while it is still connecting; otherwise the error of connecting."""
        connection = socket_of(self._table.get(fd))
        own = connection.socket
        number = own.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        try:
            own.getpeername()
        except OSError as error:
            raise OSError(errno.EAGAIN if error.errno == errno.ENOTCONN else error.errno, "not connected") from None

    def sock_address(self, fd: int, peer: int, buffer: int, size: int, done: int) -> None:
        """Write the network and the address, separated by a space, to the module's buffer."""
        own = socket_of(self._table.get(fd))  # keep a reference to the descriptor: its finaliser closes the socket
        network = "unix" if own.socket.family == socket.AF_UNIX else "tcp"
        text = f"{network} {address_of(own, peer=bool(peer))}".encode(errors="surrogateescape")[:size]
        self.memory.write(buffer, text)
        self.memory.write_u32(done, len(text))

    def _text(self, address: int, length: int) -> str:
        if length > 4096:
            raise OSError(errno.ENAMETOOLONG, "an address")
        text = self.memory.read(address, length).decode(errors="surrogateescape")
        if "\0" in text:
            raise OSError(errno.EINVAL, "a NUL in an address")
        return text

    def _unix_rule(self, text: str) -> Rule:
        path = os.path.abspath(text)
        for rule in self._rules:
            if rule.host == UNIX and path in (rule.port, rule.path):
                return rule
        raise NotAllowed("not allowed")

    @staticmethod
    def _check(allowed: bool) -> None:
        if not allowed:
            raise NotAllowed("not allowed")

    @staticmethod
    def _may_listen(rule: Rule, host: str, address: str) -> bool:
        return rule.host in (host.lower(), address) or (rule.host == "*" and ipaddress.ip_address(address.partition("%")[0]).is_loopback)

    def _look_up(self, kind: str, host: str, port: int) -> list[tuple[int, Any]]:
        family = {"tcp": socket.AF_UNSPEC, "tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}.get(kind)
        if family is None:
            raise OSError(errno.EAFNOSUPPORT, kind)
        if host.lower() == LOCALHOST:  # always loopback, without a lookup (RFC 6761)
            here = [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
            return [one for one in here if family in (socket.AF_UNSPEC, one[0])]
        try:
            found: list[Any] = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:  # a name
            found = self._asked(host, port, family)
        except (UnicodeError, OverflowError):
            raise OSError(errno.ENOENT, host) from None
        return [(info[0], info[4]) for info in found]

    def _asked(self, host: str, port: int, family: int) -> list[Any]:
        """Look a name up on a separate thread, for which the end of the app does not wait."""
        answers: queue.SimpleQueue[list[Any] | BaseException] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
            except BaseException as error:
                answers.put(error)
        try:
            threading.Thread(target=ask, name="gothreads-lookup", daemon=True).start()
        except RuntimeError:
            raise OSError(errno.EAGAIN, "no thread is left") from None
        while not self._table.stop.is_set:
            try:
                answer = answers.get(timeout=_LOOKUP_SLICE)
            except queue.Empty:
                continue
            if isinstance(answer, BaseException):
                raise OSError(errno.ENOENT, host) from None
            return answer
        raise AppClosed("stopped")


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
        return True
    except ValueError:
        return False


def _host_port(text: str) -> tuple[str, int]:
    """Split an address in Go's notation. An empty host means any address of this machine."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise OSError(errno.EINVAL, "a port")
    return host, int(port)


def _here(kind: str) -> str:
    return "::1" if kind == "tcp6" else "127.0.0.1"


def _port(text: str, of: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise MisuseError(f"{of!r}: a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _connecting(family: int, sockaddr: Any) -> socket.socket:
    """A non-blocking socket that has begun to connect."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)  # noqa: FBT003  (its only form)
        number = prepared(made).connect_ex(sockaddr)
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
        return made
    except BaseException:
        made.close()
        raise


def _listen_tcp(family: int, sockaddr: Any, *, only_v6: bool = False) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_v6 or sockaddr[0] != "::"))
        made.bind(sockaddr)
        made.listen(_BACKLOG)
        return made
    except BaseException:
        made.close()
        raise


def unix_listener(path: str, stop: StopEvent, *, local: str) -> SocketDescriptor:
    """Listen on a path without links, which is removed with the listener. `local`: the path as it was given."""
    listener = SocketDescriptor(_listen_unix(path), stop, local=local)
    _remove_with(listener, path)
    return listener


def _listen_unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _folder_of(path) as (folder, name):
            _remove_if_dead(folder, name)
            try:
                made.bind(f"/proc/self/fd/{folder}/{name}")
            except OSError as error:
                if error.errno is None:  # Python's error for a path that is too long
                    raise OSError(errno.ENAMETOOLONG, str(error)) from None
                raise
        made.listen(_BACKLOG)
        return made
    except BaseException:
        made.close()
        raise


def _remove_with(listener: SocketDescriptor, path: str) -> None:
    """Remove a Unix socket's path when the listener is closed, as Go does."""
    try:
        made = os.lstat(path)
    except OSError:  # removed already
        return

    def remove() -> None:
        with contextlib.suppress(OSError), _folder_of(path) as (folder, name):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):  # not another socket that has replaced it
                os.unlink(name, dir_fd=folder)
    listener.cleanup = Cleanup(remove)


def _remove_if_dead(folder: int, name: str) -> None:
    """Remove a socket on which no process listens, such as one left behind by a killed process."""
    try:
        if stat.S_ISSOCK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                # A process that listens but does not accept is alive.
                probe.setblocking(False)  # noqa: FBT003  (its only form)
                if probe.connect_ex(f"/proc/self/fd/{folder}/{name}") == errno.ECONNREFUSED:
                    os.unlink(name, dir_fd=folder)
    except OSError:
        pass  # bind reports what is wrong


# Paths without symbolic links.

def _real(path: str) -> str:
    """The path with links resolved in its folders, but not in its last part."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


@contextlib.contextmanager
def _folder_of(path: str) -> Iterator[tuple[int, str]]:
    """Context: a descriptor of the folder that contains a path without links, and the path's last part.

    OSError if there is a link in the folders after all.
    """
    folder = os.open("/", PLACE | os.O_DIRECTORY)
    try:
        *above, name = path.strip("/").split("/")
        for part in above:
            inner = os.open(part, PLACE | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder, name
    finally:
        os.close(folder)


@contextlib.contextmanager
def place_of_socket(path: str) -> Iterator[str]:
    """Context: a path through /proc, valid in the context, to the socket at a path without links.

    ECONNREFUSED if it is something else.
    """
    with _folder_of(path) as (folder, name):
        place = os.open(name, PLACE | os.O_NOFOLLOW, dir_fd=folder)
    try:
        if not stat.S_ISSOCK(os.fstat(place).st_mode):
            raise OSError(errno.ECONNREFUSED, "not a socket")
        yield f"/proc/self/fd/{place}"
    finally:
        os.close(place)
