"""The sockets of Go's package net, as system calls (build/goroot/syscall/net_gothreads.go).

What an address may be used for is decided here, for each address; the rules are in wasi/network_rules.py. A name is
looked up only if a rule names it (or has "*"), and the addresses that it stands for may then be used as the name may.

A socket that nobody outside could know of needs no rule: a listener at port 0 of this machine that no rule allows is
private (wasi/private_network.py). So programs that talk to themselves (net/http/httptest) work without any access to
the network.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import socket
import threading
from collections.abc import Sequence

from gothreads.wasi.descriptors import NONBLOCK
from gothreads.wasi.errnos import NotAllowed, wasi_errno
from gothreads.wasi.handed_listeners import HandedListeners
from gothreads.wasi.network_rules import Rule, without_links
from gothreads.wasi.network_socket import NetworkSocket, name_of
from gothreads.wasi.peers import Peers
from gothreads.wasi.private_network import FIRST_PORT, LAST_PORT, Backlog, Inbox, PrivatePorts
from gothreads.wasi.process import Process
from gothreads.wasi.resolver import Resolver
from gothreads.wasi.socket_address import SOCKADDR_SIZE, Address
from gothreads.wasi.socket_descriptor import socket_of
from gothreads.wasi.sockets import place_of_socket, unix_socket

log = logging.getLogger("gothreads")

#: By family, the types of its sockets.
_TYPES: dict[int, tuple[int, ...]] = {
    socket.AF_INET: (socket.SOCK_STREAM, socket.SOCK_DGRAM), socket.AF_INET6: (socket.SOCK_STREAM, socket.SOCK_DGRAM),
    socket.AF_UNIX: (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)}
_MOST_DATAGRAM = 65536
_BACKLOG = 4096
#: Of each family, the preferred one first: all of this machine's addresses, and loopback.
_HERE: dict[int, tuple[str, str]] = {socket.AF_INET: ("0.0.0.0", "127.0.0.1"), socket.AF_INET6: ("::", "::1")}
#: Options that a module may set: (level, option).
_OPTIONS = frozenset({
    *((socket.SOL_SOCKET, option) for option in (
        socket.SO_REUSEADDR, socket.SO_BROADCAST, socket.SO_SNDBUF, socket.SO_RCVBUF, socket.SO_KEEPALIVE,
        socket.SO_LINGER)),
    *((socket.IPPROTO_TCP, option) for option in (
        socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)),
    *((socket.IPPROTO_IP, option) for option in (socket.IP_TOS, socket.IP_TTL)),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)})
_READABLE = _OPTIONS | {(socket.SOL_SOCKET, socket.SO_TYPE), (socket.SOL_SOCKET, socket.SO_ERROR)}


class NetworkCalls:
    """The network's system calls, in the style of wasi/calls: they return nothing, or raise OSError.

    May be called from any thread.
    """

    def __init__(self, process: Process, rules: Sequence[Rule], resolver: Resolver) -> None:
        self._process, self._table, self._rules, self._resolver = process, process.table, tuple(rules), resolver
        self._changing = threading.Lock()  # held while a socket is bound, begins to listen, or connects
        self._ports = PrivatePorts[NetworkSocket]()
        self.peers = Peers()
        #: The paths of Unix datagram sockets, as the program has them, by the addresses that their peers see.
        self._unix_names: dict[str, str] = {}
        self.handed = HandedListeners(self._table)

    def use(self, peers: Peers) -> None:
        """Share what is known of addresses with C. Call it before the module runs."""
        self.peers = peers
        self._ports.on_open = self._resolver.on_forget = peers.forget

    def net_socket(self, family: int, kind: int, proto: int, result: int) -> None:
        if family not in _TYPES:
            raise OSError(errno.EAFNOSUPPORT, "a family of addresses")
        if kind not in _TYPES[family]:
            raise OSError(errno.EPROTONOSUPPORT, "a type of socket")
        if proto not in (0, socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else socket.IPPROTO_UDP):
            raise OSError(errno.EPROTONOSUPPORT, "a protocol")
        self._process.add_descriptor(NetworkSocket(socket.socket(family, kind), self._table.stop), result)

    def net_bind(self, fd: int, address: int) -> None:
        own, wanted = self._socket(fd), self._address(address)
        with self._changing:
            if own.address is not None or own.may_listen or own.local:
                raise OSError(errno.EINVAL, "bound already")
            handed = self.handed.find(wanted) if own.kind == socket.SOCK_STREAM else None
            if handed is not None and self.handed.take_over(own, handed):
                self._table.changed(fd, own)
                return
            if wanted.family == socket.AF_UNIX:
                path = without_links(wanted.host) if handed is not None else self._rule_to_bind(own, wanted).path
                self._bind_unix(own, path, wanted.host)
            elif own.kind == socket.SOCK_STREAM and not wanted.port:
                own.address = wanted  # until it listens, or connects
            elif (allowed := handed or self._listen_address(own, wanted)) is not None:
                self._bind_allowed(own, allowed)
                if wanted.is_any and not allowed.is_any and own.kind == socket.SOCK_STREAM:
                    log.info("the module listens on port %d for this machine only. For others, too: --allow-net "
                             "0.0.0.0:%d", wanted.port, wanted.port)
            else:
                self._bind_without_rule(fd, own, wanted)
            self._table.changed(fd, own)

    def _bind_unix(self, own: NetworkSocket, path: str, local: str) -> None:
        self._check_family(own, Address(socket.AF_UNIX, local))
        bound = unix_socket(path, own.kind, self._table.stop, local=local)
        if own.kind == socket.SOCK_DGRAM and bound.cleanup is not None:
            name: str = bound.socket.getsockname()
            self._unix_names[name] = local
            bound.cleanup.add(functools.partial(self._unix_names.pop, name))
        own.become(bound.socket)
        own.cleanup, own.local = bound.cleanup, local

    @staticmethod
    def _bind_allowed(own: NetworkSocket, allowed: Address) -> None:
        if allowed.family != own.socket.family:
            with socket.socket(allowed.family, own.kind) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                own.become(other)
        own.socket.bind(allowed.sockaddr)
        own.may_listen = True

    def _bind_without_rule(self, fd: int, own: NetworkSocket, wanted: Address) -> None:
        """Only at a port that the system chooses, of this machine: for a private socket, or to send from."""
        if wanted.port or not wanted.is_here:
            if wanted.is_here and (self._ports.backlog if own.kind == socket.SOCK_STREAM
                                   else self._ports.inbox)(wanted.port):
                raise OSError(errno.EADDRINUSE, "a private port")
            if own.kind == socket.SOCK_STREAM:
                self.handed.tell_mismatch(wanted)
            raise NotAllowed("not allowed")
        if wanted.is_any and any(not rule.is_unix for rule in self._rules):
            own.socket.bind(wanted.sockaddr)
            own.accepts = self._may_dial  # others may send to it, too
            self._table.changed(fd, own)
        else:
            self._make_private_datagrams(fd, own, wanted)

    def net_listen(self, fd: int, backlog: int) -> None:
        own = self._socket(fd)
        if own.kind == socket.SOCK_DGRAM:
            raise OSError(errno.EOPNOTSUPP, "a datagram socket")
        with self._changing:
            if own.address is not None and own.address.port:
                return  # one that was handed over, or private: it listens
            allowed = None if own.address is None else self._listen_address(own, own.address)
            if allowed is not None:
                own.address = None
                self._bind_allowed(own, allowed)
            if own.may_listen or own.local:
                own.socket.listen(max(1, min(backlog, _BACKLOG)))
                own.listening = True
                self._table.changed(fd, own)
            elif own.address is not None and own.address.is_here:
                own.backlog = Backlog()
                port, own.cleanup = self._ports.listen(own.backlog)
                own.replace(own.backlog.descriptor)
                own.address = own.address.with_port(port)
            else:
                raise NotAllowed("not allowed")  # the system would choose an address that other machines can reach

    def net_accept(self, fd: int, result: int, peer: int) -> None:
        listener = socket_of(self._table.get(fd))
        self._table.check_room()  # a connection that finds none waits in the listener's queue, as natively
        accepted = listener.accept()
        accepted.flags |= NONBLOCK
        name = name_of(accepted, peer=True)
        self._process.add_descriptor(accepted, result)
        self._process.memory.write(peer, name.pack())

    def net_connect(self, fd: int, address: int) -> None:
        own, wanted = self._socket(fd), self._address(address)
        with self._changing:
            if wanted.family == socket.AF_UNIX:
                self._check_family(own, wanted)
                with place_of_socket(self._unix_rule(wanted.host).path) as place:
                    own.socket.connect(place)
                own.peer = wanted.host
                return
            version = self.peers.version()
            if self._connected_privately(fd, own, wanted):
                return
            self._check_dial(wanted, version)
            self._check_family(own, wanted)
            if own.address is not None:
                own.socket.bind(own.address.sockaddr)
                own.address = None
            number = own.socket.connect_ex(wanted.sockaddr)
            own.connected, own.peer_name = True, None
            self._table.changed(fd, own)
        if number:
            raise OSError(number, os.strerror(number))

    def net_name(self, fd: int, peer: int, result: int) -> None:
        self._process.memory.write(result, name_of(socket_of(self._table.get(fd)), peer=bool(peer)).pack())

    def net_getsockopt(self, fd: int, level: int, option: int, result: int) -> None:
        own = socket_of(self._table.get(fd))
        if (level, option) not in _READABLE:
            raise OSError(errno.ENOPROTOOPT, "an option")
        if (level, option) == (socket.SOL_SOCKET, socket.SO_TYPE):
            value: int = own.kind if isinstance(own, NetworkSocket) else own.socket.type
        else:
            value = own.option(level, option)
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR) and value:
            value = wasi_errno(OSError(value, ""))
        self._process.memory.write_u32(result, value & 0xFFFFFFFF)

    def net_setsockopt(self, fd: int, level: int, option: int, value: int, size: int) -> None:
        own = socket_of(self._table.get(fd))
        if (level, option) not in _OPTIONS or size > 8:
            raise OSError(errno.ENOPROTOOPT, "an option")
        own.set_option(level, option, self._process.memory.read(value, size))

    def net_receive(self, fd: int, data: int, size: int, flags: int, sender: int, done: int, out_flags: int) -> None:
        own = self._socket(fd)
        if flags & ~(socket.MSG_PEEK | socket.MSG_TRUNC):
            raise OSError(errno.ENOTSUP, "flags")
        payload, name, out = own.receive(min(size, 1 << 20), flags & ~socket.MSG_TRUNC)
        if name is not None and name.family == socket.AF_UNIX:
            name = Address(socket.AF_UNIX, self._unix_names.get(name.host, name.host))
        elif name is not None and own.may_listen:
            self.peers.add_sender(own.name(peer=False), name)
        self._process.memory.write(data, payload)
        self._process.memory.write(sender, name.pack() if name is not None else bytes(SOCKADDR_SIZE))
        self._process.memory.write_u32(done, len(payload))
        self._process.memory.write_u32(out_flags, out & socket.MSG_TRUNC)

    def net_send(self, fd: int, data: int, size: int, flags: int, to: int, done: int) -> None:
        own = self._socket(fd)
        if flags:
            raise OSError(errno.ENOTSUP, "flags")
        if size > _MOST_DATAGRAM and own.kind == socket.SOCK_DGRAM:
            raise OSError(errno.EMSGSIZE, "a datagram")
        payload = self._process.memory.read(data, min(size, 1 << 20))
        self._process.memory.write_u32(done, self._send_to(own, payload, self._address(to)) if to
                                       else own.send(payload))

    def _send_to(self, own: NetworkSocket, payload: bytes, wanted: Address) -> int:
        wanted = wanted.in_family(own.socket.family)
        if wanted.family == socket.AF_UNIX:
            self._check_family(own, wanted)
            with place_of_socket(self._unix_rule(wanted.host).path) as place:
                return own.socket.sendto(payload, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, place)
        version = self.peers.version()
        inbox = self._ports.inbox(wanted.port) if wanted.is_here and own.kind == socket.SOCK_DGRAM else None
        if inbox is None:
            if not own.may_listen or not self.peers.has_sent(own.name(peer=False), wanted):
                self._check_dial(wanted, version)  # also for a private socket: the refusal names the option
            if own.inbox is None:
                self._check_family(own, wanted)
                return own.socket.sendto(payload, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, wanted.sockaddr)
        if inbox is None or own.inbox is None:
            raise OSError(errno.ENETUNREACH, "private sockets reach private sockets only")
        inbox.put(own.name(peer=False), payload)
        return len(payload)

    def net_shutdown(self, fd: int, how: int) -> None:
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise OSError(errno.EINVAL, "how")
        socket_of(self._table.get(fd)).socket.shutdown(how)

    def fd_dup(self, fd: int, result: int) -> None:
        original = socket_of(self._table.get(fd))
        original.taken_up()  # by net.FileListener
        self._process.add_descriptor(NetworkSocket.same_as(original), result)

    def net_lookup(self, kind: int, kind_length: int, name: int, length: int, buffer: int, size: int,
                   done: int) -> None:
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

    @staticmethod
    def _check_family(own: NetworkSocket, wanted: Address) -> None:
        if own.socket.family != wanted.family:
            raise OSError(errno.EAFNOSUPPORT, "an address of another family")

    def _check_dial(self, wanted: Address, version: int) -> None:
        """`version`: of the peers, before it was looked whether the address is private."""
        if not self._may_dial(wanted):
            raise NotAllowed("not allowed")
        self.peers.allow(wanted, version)

    def _may_dial(self, wanted: Address) -> bool:
        return any(rule.allows(name, wanted.port) for name in self._names(wanted) for rule in self._rules)

    def _listen_address(self, own: NetworkSocket, wanted: Address) -> Address | None:
        """The address to bind, if rules allow one. A program that names none gets all of the machine's, or loopback.

        (Not loopback for datagrams from any port: these are to be sent, perhaps to other machines.)
        """
        candidates = [wanted]
        if wanted.is_any:
            families = [wanted.family] if wanted.family == socket.AF_INET or _only_v6(own) else list(_HERE)
            places = (0,) if own.kind == socket.SOCK_DGRAM and not wanted.port else (0, 1)
            candidates += [Address(family, _HERE[family][place], wanted.port)
                           for place in places for family in families]
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
            if rule.is_any_unix:
                return Rule.parse(f"unix:{path}")
        raise NotAllowed("not allowed")

    def _rule_to_bind(self, own: NetworkSocket, wanted: Address) -> Rule:
        """The rule for a Unix socket's path."""
        try:
            return self._unix_rule(wanted.host)
        except NotAllowed:
            if own.kind == socket.SOCK_STREAM:
                self.handed.tell_mismatch(wanted)
            raise

    # Private sockets.

    def _make_private_datagrams(self, fd: int, own: NetworkSocket, wanted: Address) -> None:
        inbox = Inbox()
        port, own.cleanup = self._ports.receive(inbox)
        own.become(inbox.reading)
        own.inbox, own.address = inbox, wanted.with_port(port)
        self._table.changed(fd, own)

    def _connected_privately(self, fd: int, own: NetworkSocket, wanted: Address) -> bool:
        """Connect to a private socket. False if there is none at that address."""
        if not wanted.is_here:
            return False
        here = Address(wanted.family, _HERE[wanted.family][1], wanted.port) if wanted.is_any else wanted
        if own.kind == socket.SOCK_DGRAM:
            if (inbox := self._ports.inbox(wanted.port)) is None:
                return False
            if own.inbox is None:
                self._make_private_datagrams(fd, own, here)
            own.connect_to(inbox, here)
        else:
            if (backlog := self._ports.backlog(wanted.port)) is None:
                return False
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            with ours:
                peer = NetworkSocket(theirs, self._table.stop)
                # Nobody listens on the connecting side's port, so it need not be unique.
                local = here.with_port(FIRST_PORT + id(peer) // 16 % (LAST_PORT - FIRST_PORT))
                peer.address, peer.peer_address = here, local
                own.become(ours)
                own.address, own.peer_address = local, here
                backlog.put(peer)
        return True

    def _socket(self, fd: int) -> NetworkSocket:
        descriptor = self._table.get(fd)
        if not isinstance(descriptor, NetworkSocket):
            raise OSError(errno.ENOTSOCK, "not a socket of package net")
        return descriptor

    def _address(self, address: int) -> Address:
        return Address.unpack(self._process.memory.read(address, SOCKADDR_SIZE))

def _only_v6(own: NetworkSocket) -> bool:
    return own.socket.family == socket.AF_INET6 and bool(own.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
