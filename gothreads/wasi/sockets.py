"""The module's network access: listeners handed to it, and the calls behind guest.Listen and guest.Dial.

Everything is denied unless a rule (wasi/network_rules.py) allows it. A name is looked up only if a rule names it or has
"*", since a lookup itself discloses information to others. ("localhost" is an exception: it needs no lookup.)
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import queue
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from gothreads.errors import AppClosed, GothreadsError
from gothreads.files import reason
from gothreads.sync.stop_event import StopEvent
from gothreads.text import shown
from gothreads.wasi import inherited
from gothreads.wasi.errnos import NotAllowed
from gothreads.wasi.network_rules import (
    EVERYWHERE,
    Rule,
    dialled_address,
    host_and_port,
    inherited_descriptor,
    is_ip_address,
    is_localhost,
    is_unix,
    port_number,
    unix_path,
    without_links,
)
from gothreads.wasi.openat import PLACE
from gothreads.wasi.process import Process
from gothreads.wasi.socket_descriptor import Cleanup, SocketDescriptor, prepared, socket_of

_BACKLOG = 4096  # the system reduces it to its own maximum
#: How often a thread that waits for a lookup, which cannot be interrupted, checks whether the app has ended. Seconds.
_LOOKUP_SLICE = 0.05


def listen(address: str, stop: StopEvent) -> SocketDescriptor:
    """Open a listening socket to hand to a module. MisuseError: the address is invalid; GothreadsError: it failed."""
    if (number := inherited_descriptor(address)) is not None:
        made = inherited.listener(number, f"--listen {address}")
        return SocketDescriptor(made, stop, local=inherited.path_of(made))
    try:
        if is_unix(address):
            path = unix_path(address)
            return unix_listener(without_links(path), stop, local=path)
        host, port = host_and_port(address)
        number = port_number(port, address)
        families = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return SocketDescriptor(_listen_tcp(families[0][0], families[0][4]), stop)
    except (OSError, UnicodeError) as error:
        hint = ""
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            hint = ". Another process has it" + ("" if is_unix(address) else "; choose another port, or 0 for any")
        why = reason(error) if isinstance(error, OSError) else error
        raise GothreadsError(f"cannot listen on {shown(address)} (--listen): {why}{hint}") from None


def address_of(connection: SocketDescriptor, *, peer: bool = False) -> str:
    """A socket's address in Go's notation: 127.0.0.1:80, [::1]:80, or a Unix socket's path."""
    if connection.socket.family == socket.AF_UNIX:
        return connection.peer if peer else connection.local
    name = (connection.peer_name or connection.socket.getpeername()) if peer else connection.socket.getsockname()
    host, port, *_ = name
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SocketCalls:
    """The functions that gothreads/guest imports, in the style of wasi/calls: they return nothing, or raise OSError.

    May be called from any thread.
    """

    def __init__(self, process: Process, rules: Sequence[Rule]) -> None:
        self._process, self._table, self._rules = process, process.table, tuple(rules)

    def sock_listen(self, network: int, network_length: int, address: int, length: int, result: int) -> None:
        kind, text = self._text(network, network_length), self._text(address, length)
        if kind == "unix":
            listener = unix_listener(self._unix_rule(text).path, self._table.stop, local=text)
        else:
            host, port = dialled_address(text)
            if not host:  # in Go this means all of the machine's addresses; here, those that are allowed
                everywhere = {"tcp4": EVERYWHERE[:1], "tcp6": EVERYWHERE[1:]}.get(kind, EVERYWHERE)
                host = next((rule.host for rule in self._rules if rule.host in everywhere and rule.is_for(port)),
                            _loopback(kind))
            if not is_ip_address(host) and not is_localhost(host):
                self._check(any(rule.host == host.lower() and rule.is_for(port) for rule in self._rules))
            found = self._look_up(kind, host, port)
            allowed = [(family, sockaddr) for family, sockaddr in found
                       if any(rule.allows_listening(host, str(sockaddr[0]), port) for rule in self._rules)]
            self._check(bool(allowed))
            family, sockaddr = min(allowed, key=lambda one: one[0] != socket.AF_INET)  # like Go, prefer IPv4
            listener = SocketDescriptor(_listen_tcp(family, sockaddr, only_v6=kind == "tcp6"), self._table.stop)
        self._process.add_descriptor(listener, result)

    def sock_dial(self, network: int, network_length: int, address: int, length: int, attempt: int,
                  result: int) -> None:
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
            self._process.add_descriptor(SocketDescriptor(made, self._table.stop, peer=text), result)
            return
        host, port = dialled_address(text)
        host = host or _loopback(kind)
        by_name = any(rule.allows(host, port) for rule in self._rules)
        is_local = is_localhost(host) and any(rule.is_for(port) for rule in self._rules)
        self._check(by_name or is_ip_address(host) or is_local)
        addresses = [(family, sockaddr) for family, sockaddr in self._look_up(kind, host, port)
                     if by_name or any(rule.allows(str(sockaddr[0]), port) for rule in self._rules)]
        self._check(bool(addresses))
        if attempt >= len(addresses):
            raise OSError(errno.ERANGE, "no more addresses")
        connection = SocketDescriptor(_connecting(*addresses[attempt]), self._table.stop)
        self._process.add_descriptor(connection, result)

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
        self._process.memory.write(buffer, text)
        self._process.memory.write_u32(done, len(text))

    def _text(self, address: int, length: int) -> str:
        if length > 4096:
            raise OSError(errno.ENAMETOOLONG, "an address")
        text = self._process.memory.read(address, length).decode(errors="surrogateescape")
        if "\0" in text:
            raise OSError(errno.EINVAL, "a NUL in an address")
        return text

    def _unix_rule(self, text: str) -> Rule:
        path = os.path.abspath(text)
        for rule in self._rules:
            if rule.is_unix and path in (rule.port, rule.path):
                return rule
        raise NotAllowed("not allowed")

    @staticmethod
    def _check(allowed: bool) -> None:
        if not allowed:
            raise NotAllowed("not allowed")

    def _look_up(self, kind: str, host: str, port: int) -> list[tuple[int, Any]]:
        family = {"tcp": socket.AF_UNSPEC, "tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}.get(kind)
        if family is None:
            raise OSError(errno.EAFNOSUPPORT, kind)
        if is_localhost(host):  # always loopback, without a lookup (RFC 6761)
            here = [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
            return [one for one in here if family in (socket.AF_UNSPEC, one[0])]
        try:
            found: list[Any] = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:  # a name
            found = self._ask_resolver(host, port, family)
        except (UnicodeError, OverflowError):
            raise OSError(errno.ENOENT, host) from None
        return [(info[0], info[4]) for info in found]

    def _ask_resolver(self, host: str, port: int, family: int) -> list[Any]:
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


def _loopback(kind: str) -> str:
    return "::1" if kind == "tcp6" else "127.0.0.1"


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
    listener = unix_socket(path, socket.SOCK_STREAM, stop, local=local)
    listener.socket.listen(_BACKLOG)
    return listener


def unix_socket(path: str, kind: int, stop: StopEvent, *, local: str) -> SocketDescriptor:
    """A socket that is bound to a path without links, which is removed with it. `local`: the path as it was given."""
    made = SocketDescriptor(socket.socket(socket.AF_UNIX, kind), stop, local=local)
    with _folder_of(path) as (folder, name):
        if kind == socket.SOCK_DGRAM:
            # Others answer to its address (getsockname), which leads through a descriptor of the folder. So that one
            # stays open as long as the socket. It also makes the address like no other one.
            folder = os.dup(folder)
            made.cleanup = Cleanup(functools.partial(os.close, folder))
        else:
            _remove_if_dead(folder, name)
        _bind_unix(made.socket, f"/proc/{os.getpid()}/fd/{folder}/{name}")
    _remove_with(made, path)
    return made


def _bind_unix(made: socket.socket, path: str) -> None:
    try:
        made.bind(path)
    except OSError as error:
        if error.errno is None:  # Python's error for a path that is too long
            raise OSError(errno.ENAMETOOLONG, str(error)) from None
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
    listener.cleanup = listener.cleanup or Cleanup()
    listener.cleanup.add(remove)


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
