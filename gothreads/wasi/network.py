"""The sockets of Go's package net, as system calls (build/goroot/syscall/net_gothreads.go).

What an address may be used for is decided here, for each address; the rules are in wasi/sockets.py. A name is looked
up only if a rule names it (or has "*"), and the addresses that it stands for may then be used as the name may.

A socket that nobody outside could know of needs no rule: a listener on port 0 of this machine's own addresses that no
rule allows is *private*. It exists in this module only: its connections are socket pairs, its datagrams go through one.
So programs that talk to themselves (net/http/httptest) work without any access to the network.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import ipaddress
import os
import select
import socket
import struct
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gothreads.shared_memory import buffer
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptors import NONBLOCK, Span
from gothreads.wasi.errnos import NotAllowed, wasi_errno
from gothreads.wasi.network_rules import Rule
from gothreads.wasi.process import Process
from gothreads.wasi.resolver import Resolver
from gothreads.wasi.socket_descriptor import Cleanup, SocketDescriptor, prepared, socket_of
from gothreads.wasi.sockets import place_of_socket, unix_listener

#: An address as Go writes and reads it: family, port, zone, address, length of the path, path.
_SOCKADDR = struct.Struct("<HHI16sI108s")
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_TYPES = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
_MOST_DATAGRAM = 65536
_BACKLOG = 4096
#: Of each family, the preferred one first: all of this machine's addresses, and loopback.
_HERE = {socket.AF_INET: ("0.0.0.0", "127.0.0.1"), socket.AF_INET6: ("::", "::1")}
#: Ports of private sockets, as Linux chooses them.
_FIRST_PORT, _LAST_PORT = 32768, 60999
#: Options that a module may set: (level, option).
_OPTIONS = frozenset({
    *((socket.SOL_SOCKET, option) for option in (
        socket.SO_REUSEADDR, socket.SO_BROADCAST, socket.SO_SNDBUF, socket.SO_RCVBUF, socket.SO_KEEPALIVE, socket.SO_LINGER)),
    *((socket.IPPROTO_TCP, option) for option in (
        socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)),
    *((socket.IPPROTO_IP, option) for option in (socket.IP_TOS, socket.IP_TTL)),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)})
_READABLE = _OPTIONS | {(socket.SOL_SOCKET, socket.SO_TYPE), (socket.SOL_SOCKET, socket.SO_ERROR)}


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

    @property
    def is_here(self) -> bool:
        """Whether it is loopback, or any address of this machine."""
        return self.family != socket.AF_UNIX and ((ip := ipaddress.ip_address(self.plain)).is_loopback or ip.is_unspecified)

    @property
    def is_any(self) -> bool:
        return self.family != socket.AF_UNIX and ipaddress.ip_address(self.plain).is_unspecified

    def with_port(self, port: int) -> Address:
        return Address(self.family, self.host, port, self.zone)


class _Inbox:
    """Datagrams for a private socket: a pair of sockets, of which the reading one is the socket's descriptor."""

    def __init__(self) -> None:
        self.reading, self.writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.writing.setblocking(False)  # noqa: FBT003  (its only form)

    def put(self, sender: Address, payload: bytes) -> None:
        """Deliver a datagram, or lose it if there is no room, as UDP may."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.writing.send(sender.pack() + payload)


class NetworkSocket(SocketDescriptor):
    """A socket of package net. Its host descriptor may be replaced (dup2) until it listens or is connected."""

    def __init__(self, made: socket.socket, stop: StopEvent) -> None:
        super().__init__(made, stop)
        self.kind = made.type
        # What NetworkSocket.direct needs is set before a table has it.
        #: The addresses of a private socket, or those before the system knows them.
        self.own: Address | None = None
        self.remote: Address | None = None
        self.backlog: _Backlog | None = None  # of a private listener
        self.inbox: _Inbox | None = None  # of a private datagram socket
        self.deliver: Callable[[bytes], None] | None = None  # of a connected one: sends a datagram to its peer
        self.filtered = False  # whether datagrams are only taken from where the module may send to

    @property
    def direct(self) -> bool:
        return self.inbox is None and super().direct

    def replace(self, descriptor: int) -> None:
        """Make the host descriptor refer to what `descriptor` does."""
        os.dup2(descriptor, self.fd, inheritable=False)
        os.set_blocking(self.fd, False)

    def become(self, other: socket.socket) -> None:
        """Be another descriptor of that socket."""
        self.replace(other.fileno())
        self.socket.detach()
        self.socket = socket.socket(other.family, other.type, fileno=self.fd)

    @classmethod
    def same_as(cls, other: SocketDescriptor) -> NetworkSocket:
        """Another descriptor of the same socket."""
        made = cls(other.socket.dup(), other._stop)
        made.local, made.peer, made.peer_name, made.cleanup = other.local, other.peer, other.peer_name, other.cleanup
        made.flags = other.flags
        if isinstance(other, NetworkSocket):
            made.kind, made.own, made.remote, made.filtered = other.kind, other.own, other.remote, other.filtered
            made.backlog, made.inbox, made.deliver = other.backlog, other.inbox, other.deliver
        return made

    def name(self, *, peer: bool) -> Address:
        """ENOTCONN if there is no peer."""
        known = self.remote if peer else self.own
        if known is not None:
            return known
        if self.socket.family == socket.AF_UNIX:
            return Address(socket.AF_UNIX, self.peer if peer else self.local)
        if peer and self.peer_name is not None:
            return Address.of(self.socket.family, self.peer_name)
        return Address.of(self.socket.family, self.socket.getpeername() if peer else self.socket.getsockname())

    def accept(self) -> SocketDescriptor:
        while True:
            try:
                if self.backlog is not None:
                    return self.backlog.take()
                made, name = self.socket.accept()
                accepted = NetworkSocket(made, self._stop)
                accepted.local, accepted.peer_name = self.local, name
                return accepted
            except BlockingIOError:
                if self.flags & NONBLOCK:
                    raise
                self._stop.wait({self.fd: select.POLLIN})

    def read(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if self.inbox is None:
            return super().read(spans, offset)
        address, size = spans[0] if spans else (0, 0)
        payload, _, _ = self.receive(size, 0)
        ctypes.memmove(address, payload, len(payload))
        return len(payload)

    def write(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if self.inbox is None:
            return super().write(spans, offset)
        if self.deliver is None:
            raise OSError(errno.EDESTADDRREQ, "not connected")
        payload = b"".join(bytes(buffer(*span)) for span in spans)
        self.deliver(payload)
        return len(payload)

    def receive(self, size: int, flags: int) -> tuple[bytes, Address | None, int]:
        """A datagram, or bytes of a stream; where it is from; the flags of recvmsg."""
        while True:
            try:
                if self.inbox is not None:
                    data = self.socket.recv(_SOCKADDR.size + _MOST_DATAGRAM, flags)
                    payload = data[_SOCKADDR.size:]
                    cut = socket.MSG_TRUNC if len(payload) > size else 0
                    return payload[:size], Address.unpack(data[:_SOCKADDR.size]), cut
                data, _, out, name = self.socket.recvmsg(size, 0, flags)
                if self.socket.family == socket.AF_UNIX or not name:
                    return data, None, out
                return data, Address.of(self.socket.family, name), out
            except BlockingIOError:
                if self.flags & NONBLOCK:
                    raise
                self._stop.wait({self.fd: select.POLLIN})


class _Backlog:
    """Connections to a private listener that it has yet to accept.

    Its descriptor is an eventfd (EFD_SEMAPHORE) that counts them: a connection is in the deque before it is counted.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: deque[NetworkSocket] = deque()

    def put(self, connection: NetworkSocket) -> None:
        if len(self._waiting) >= _BACKLOG:
            raise OSError(errno.ECONNREFUSED, "the listener accepts no connections")
        self._waiting.append(connection)
        os.eventfd_write(self.descriptor, 1)

    def take(self) -> NetworkSocket:
        os.eventfd_read(self.descriptor)
        return self._waiting.popleft()

    def __del__(self) -> None:
        os.close(self.descriptor)


@dataclass
class _PrivatePorts:
    """The module's private ports. May be used from any thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _taken: dict[tuple[int, int], _Backlog | _Inbox] = field(default_factory=dict)  # (type, port)
    _next: Iterator[int] = field(default_factory=lambda: iter(()))

    def open(self, kind: int, what: _Backlog | _Inbox) -> tuple[int, Cleanup]:
        """A free port, and what frees it."""
        with self._lock:
            for _ in range(_LAST_PORT - _FIRST_PORT + 1):
                port = next(self._next, None)
                if port is None:
                    self._next = iter(range(_FIRST_PORT, _LAST_PORT + 1))
                    port = next(self._next)
                if (kind, port) not in self._taken:
                    self._taken[kind, port] = what
                    return port, Cleanup(functools.partial(self._close, kind, port))
        raise OSError(errno.EADDRINUSE, "no private port is left")

    def find(self, kind: int, port: int) -> _Backlog | _Inbox | None:
        return self._taken.get((kind, port))

    def _close(self, kind: int, port: int) -> None:
        with self._lock:
            self._taken.pop((kind, port), None)


class NetworkCalls:
    """The network's system calls, in the style of wasi/calls: they return nothing, or raise OSError.

    May be called from any thread.
    """

    def __init__(self, process: Process, rules: Sequence[Rule], resolver: Resolver) -> None:
        self._process, self._table, self._rules, self._resolver = process, process.table, tuple(rules), resolver
        self._ports = _PrivatePorts()
        #: Listeners that were handed over, which a program may also open by their port; until they are closed.
        self.handed: weakref.WeakSet[SocketDescriptor] = weakref.WeakSet()

    def net_socket(self, family: int, kind: int, proto: int, result: int) -> None:
        if family not in _FAMILIES:
            raise OSError(errno.EAFNOSUPPORT, "a family of addresses")
        if kind not in _TYPES or (family == socket.AF_UNIX and kind != socket.SOCK_STREAM):
            raise OSError(errno.EPROTONOSUPPORT, "a type of socket")
        if proto not in (0, socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else socket.IPPROTO_UDP):
            raise OSError(errno.EPROTONOSUPPORT, "a protocol")
        self._process.add_descriptor(NetworkSocket(socket.socket(family, kind), self._table.stop), result)

    def net_bind(self, fd: int, address: int) -> None:
        own, wanted = self._socket(fd), self._address(address)
        if own.own is not None or own.backlog is not None or own.local:
            raise OSError(errno.EINVAL, "bound already")
        if wanted.family == socket.AF_UNIX:
            rule = self._unix_rule(wanted.host)
            listener = unix_listener(rule.path, self._table.stop, local=wanted.host)
            own.become(listener.socket)
            own.cleanup, own.local = listener.cleanup, wanted.host
        elif own.kind == socket.SOCK_STREAM and (handed := self._handed_for(wanted)) is not None:
            own.become(handed.socket)
            own.own = Address.of(handed.socket.family, handed.socket.getsockname())
            # The handed descriptor stays open. When the program closes its own, clients are refused, as natively.
            own.cleanup = Cleanup(functools.partial(_stop_listening, handed.socket))
        elif (allowed := self._listen_address(wanted, only_v6=_only_v6(own))) is not None:
            if allowed.family != own.socket.family:
                with socket.socket(allowed.family, own.kind) as other:
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    own.become(other)
            own.socket.bind(allowed.sockaddr)
        elif wanted.port or not wanted.is_here:
            if wanted.is_here and self._ports.find(own.kind, wanted.port) is not None:
                raise OSError(errno.EADDRINUSE, "a private port")
            raise NotAllowed("not allowed")
        elif own.kind == socket.SOCK_STREAM:
            own.own = wanted  # until it listens, privately, or connects
        elif wanted.is_any and any(not rule.is_unix for rule in self._rules):
            own.socket.bind(wanted.sockaddr)
            own.filtered = True
        else:
            self._make_private_datagrams(fd, own, wanted)

    def net_listen(self, fd: int, backlog: int) -> None:
        own = self._socket(fd)
        if own.kind != socket.SOCK_STREAM:
            raise OSError(errno.EOPNOTSUPP, "a datagram socket")
        if own.local or own.backlog is not None:
            return  # a Unix socket or a private one: it listens
        if own.own is None or own.own.port:  # the second: it was handed over
            if own.own is None and own.socket.getsockname()[1] == 0:
                raise NotAllowed("not allowed")  # the system would choose an address that other machines can reach
            own.socket.listen(max(1, min(backlog, _BACKLOG)))
            return
        own.backlog = _Backlog()
        port, own.cleanup = self._ports.open(socket.SOCK_STREAM, own.backlog)
        own.replace(own.backlog.descriptor)
        own.own = own.own.with_port(port)

    def net_accept(self, fd: int, result: int, peer: int) -> None:
        listener = socket_of(self._table.get(fd))
        accepted = listener.accept()
        accepted.flags |= NONBLOCK
        name = self._name_of(accepted, peer=True)
        self._process.add_descriptor(accepted, result)
        self._process.memory.write(peer, name.pack())

    def net_connect(self, fd: int, address: int) -> None:
        own, wanted = self._socket(fd), self._address(address)
        if wanted.family == socket.AF_UNIX:
            rule = self._unix_rule(wanted.host)
            with place_of_socket(rule.path) as place:
                own.socket.connect(place)
            own.peer = wanted.host
            return
        private = self._ports.find(own.kind, wanted.port) if wanted.is_here else None
        if private is not None:
            self._connect_privately(fd, own, wanted, private)
            return
        self._check_dial(wanted)
        if own.own is not None:
            own.socket.bind(own.own.sockaddr)
            own.own = None
        number = prepared(own.socket).connect_ex(wanted.sockaddr)
        if number:
            raise OSError(number, os.strerror(number))

    def net_name(self, fd: int, peer: int, result: int) -> None:
        self._process.memory.write(result, self._name_of(socket_of(self._table.get(fd)), peer=bool(peer)).pack())

    def net_getsockopt(self, fd: int, level: int, option: int, result: int) -> None:
        own = socket_of(self._table.get(fd))
        if (level, option) not in _READABLE:
            raise OSError(errno.ENOPROTOOPT, "an option")
        if (level, option) == (socket.SOL_SOCKET, socket.SO_TYPE):
            value: int = own.kind if isinstance(own, NetworkSocket) else own.socket.type
        elif _is_private(own):
            value = 0
        else:
            value = own.socket.getsockopt(level, option)
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR) and value:
            value = wasi_errno(OSError(value, ""))
        self._process.memory.write_u32(result, value & 0xFFFFFFFF)

    def net_setsockopt(self, fd: int, level: int, option: int, value: int, size: int) -> None:
        own = socket_of(self._table.get(fd))
        if (level, option) not in _OPTIONS or size > 8:
            raise OSError(errno.ENOPROTOOPT, "an option")
        data = self._process.memory.read(value, size)
        if not _is_private(own):
            own.socket.setsockopt(level, option, data)

    def net_receive(self, fd: int, data: int, size: int, flags: int, sender: int, done: int, out_flags: int) -> None:
        own = socket_of(self._table.get(fd))
        if flags & ~(socket.MSG_PEEK | socket.MSG_TRUNC):
            raise OSError(errno.ENOTSUP, "flags")
        if not isinstance(own, NetworkSocket):
            raise OSError(errno.EOPNOTSUPP, "a stream")
        while True:
            payload, name, out = own.receive(min(size, 1 << 20), flags)
            if not own.filtered or name is None or self._may_dial(name):
                break
        self._process.memory.write(data, payload)
        self._process.memory.write(sender, name.pack() if name is not None else bytes(_SOCKADDR.size))
        self._process.memory.write_u32(done, len(payload))
        self._process.memory.write_u32(out_flags, out & socket.MSG_TRUNC)

    def net_send(self, fd: int, data: int, size: int, flags: int, to: int, done: int) -> None:
        own = self._socket(fd)
        if flags:
            raise OSError(errno.ENOTSUP, "flags")
        if size > _MOST_DATAGRAM and own.kind == socket.SOCK_DGRAM:
            raise OSError(errno.EMSGSIZE, "a datagram")
        payload = self._process.memory.read(data, min(size, 1 << 20))
        if not to:
            if own.deliver is not None:
                own.deliver(payload)
                sent = len(payload)
            else:
                sent = own.socket.send(payload, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        else:
            wanted = self._address(to)
            private = self._ports.find(own.kind, wanted.port) if wanted.is_here else None
            if own.inbox is not None or isinstance(private, _Inbox):
                if not isinstance(private, _Inbox):
                    self._check_dial(wanted)
                    raise OSError(errno.ENETUNREACH, "a private socket reaches private sockets only")
                if own.inbox is None:
                    raise OSError(errno.ENETUNREACH, "a private socket is reached from private sockets only")
                private.put(own.name(peer=False), payload)
                sent = len(payload)
            else:
                self._check_dial(wanted)
                sent = own.socket.sendto(payload, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, wanted.sockaddr)
        self._process.memory.write_u32(done, sent)

    def net_shutdown(self, fd: int, how: int) -> None:
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise OSError(errno.EINVAL, "how")
        socket_of(self._table.get(fd)).socket.shutdown(how)

    def fd_dup(self, fd: int, result: int) -> None:
        self._process.add_descriptor(NetworkSocket.same_as(socket_of(self._table.get(fd))), result)

    def net_lookup(self, kind: int, kind_length: int, name: int, length: int, buffer: int, size: int, done: int) -> None:
        if length > 4096 or kind_length > 16:
            raise OSError(errno.ENAMETOOLONG, "a name")
        what = self._process.memory.read(kind, kind_length).decode(errors="replace")
        asked = self._process.memory.read(name, length).decode(errors="replace")
        lines = self._resolver.look_up(what, asked)
        text = b""
        for line in lines:
            more = line.encode() + b"\n"
            if len(text) + len(more) > size:
                break
            text += more
        self._process.memory.write(buffer, text)
        self._process.memory.write_u32(done, len(text))

    # What is allowed.

    def _check_dial(self, wanted: Address) -> None:
        if not self._may_dial(wanted):
            raise NotAllowed("not allowed")

    def _may_dial(self, wanted: Address) -> bool:
        return any(rule.allows(name, wanted.port) for name in self._names(wanted) for rule in self._rules)

    def _listen_address(self, wanted: Address, *, only_v6: bool) -> Address | None:
        """The address to bind, if rules allow one. A program that names none gets all of the machine's, or loopback."""
        candidates = [wanted]
        if wanted.is_any:
            families = [socket.AF_INET6] if only_v6 else [socket.AF_INET] if wanted.family == socket.AF_INET else list(_HERE)
            candidates += [Address(family, _HERE[family][place], wanted.port) for place in (0, 1) for family in families]
        return next((one for one in candidates if self._may_listen(one)), None)

    def _may_listen(self, wanted: Address) -> bool:
        return any(rule.allows_listening(name, wanted.plain, wanted.port)
                   for name in self._names(wanted) for rule in self._rules)

    def _names(self, address: Address) -> set[str]:
        """The address, and the names that rules have for it."""
        return {address.plain, address.host, *self._resolver.names(address.plain)}

    def _unix_rule(self, path: str) -> Rule:
        path = os.path.abspath(path)
        for rule in self._rules:
            if rule.is_unix and path in (rule.port, rule.path):
                return rule
        raise NotAllowed("not allowed")

    def _handed_for(self, wanted: Address) -> SocketDescriptor | None:
        """The listener that was handed over for this port, on this address or if the program names none."""
        for listener in self.handed:
            if listener.socket.family != socket.AF_UNIX:
                host, port, *_ = listener.socket.getsockname()
                if port == wanted.port != 0 and (wanted.is_any or host == wanted.plain):
                    return listener
        return None

    # Private sockets.

    def _make_private_datagrams(self, fd: int, own: NetworkSocket, wanted: Address) -> None:
        inbox = _Inbox()
        port, own.cleanup = self._ports.open(socket.SOCK_DGRAM, inbox)
        own.become(inbox.reading)
        own.inbox, own.own = inbox, wanted.with_port(port)
        self._table.changed(fd, own)

    def _connect_privately(self, fd: int, own: NetworkSocket, wanted: Address, to: _Backlog | _Inbox) -> None:
        if wanted.is_any:
            wanted = Address(wanted.family, "::1" if wanted.family == socket.AF_INET6 else "127.0.0.1", wanted.port)
        if isinstance(to, _Inbox):
            if own.inbox is None:
                self._make_private_datagrams(fd, own, wanted)
            sender = own.name(peer=False)
            own.remote, own.deliver = wanted, lambda payload: to.put(sender, payload)
            return
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with here:
            peer = NetworkSocket(there, self._table.stop)
            # Nobody listens on the connecting side's port, so it need not be unique.
            local = wanted.with_port(_FIRST_PORT + id(peer) // 16 % (_LAST_PORT - _FIRST_PORT))
            peer.own, peer.remote = wanted, local
            own.become(here)
            own.own, own.remote = local, wanted
            to.put(peer)

    def _socket(self, fd: int) -> NetworkSocket:
        descriptor = self._table.get(fd)
        if not isinstance(descriptor, NetworkSocket):
            raise OSError(errno.ENOTSOCK, "not a socket of package net")
        return descriptor

    def _address(self, address: int) -> Address:
        return Address.unpack(self._process.memory.read(address, _SOCKADDR.size))

    @staticmethod
    def _name_of(own: SocketDescriptor, *, peer: bool) -> Address:
        if isinstance(own, NetworkSocket):
            return own.name(peer=peer)
        if own.socket.family == socket.AF_UNIX:
            return Address(socket.AF_UNIX, own.peer if peer else own.local)
        name = (own.peer_name or own.socket.getpeername()) if peer else own.socket.getsockname()
        return Address.of(own.socket.family, name)


def _stop_listening(listener: socket.socket) -> None:
    """Refuse clients, until `listen` is called again. (The system keeps the address, if its port was not chosen.)"""
    with contextlib.suppress(OSError):  # it is closed: the app has ended
        listener.shutdown(socket.SHUT_RD)


def _only_v6(own: NetworkSocket) -> bool:
    return own.socket.family == socket.AF_INET6 and bool(own.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def _is_private(own: SocketDescriptor) -> bool:
    return isinstance(own, NetworkSocket) and (own.own is not None or own.backlog is not None or own.inbox is not None)
