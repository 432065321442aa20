"""Descriptors of package net's sockets."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
from collections.abc import Callable, Sequence

from gothreads.shared_memory import buffer
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptors import NONBLOCK, Span
from gothreads.wasi.private_network import Backlog, Inbox
from gothreads.wasi.socket_address import Address
from gothreads.wasi.socket_descriptor import SocketDescriptor

_INT = 4  # the size of most options' values


def name_of(own: SocketDescriptor, *, peer: bool) -> Address:
    """The address of a socket, or of its peer. ENOTCONN if there is no peer."""
    if isinstance(own, NetworkSocket):
        return own.name(peer=peer)
    if own.socket.family == socket.AF_UNIX:
        return Address(socket.AF_UNIX, own.peer if peer else own.local)
    name = (own.peer_name or own.socket.getpeername()) if peer else own.socket.getsockname()
    return Address.of(own.socket.family, name)


class NetworkSocket(SocketDescriptor):
    """A socket of package net. Its host descriptor may be replaced (dup2) until it listens or is connected."""

    def __init__(self, made: socket.socket, stop: StopEvent) -> None:
        super().__init__(made, stop)
        self.kind = made.type
        #: Addresses that the system does not know: of private sockets, and of one that is bound later.
        self.address: Address | None = None
        self.peer_address: Address | None = None
        self.may_listen = False  # a rule allows the address that it is bound to
        self.listening = self.connected = False  # by the system; or it is about to be connected
        self.backlog: Backlog[NetworkSocket] | None = None  # of a private listener
        self.inbox: Inbox | None = None  # of a private datagram socket
        #: Of a private socket: the options that the system cannot set. They have no effect.
        self.options: dict[tuple[int, int], bytes] = {}
        self.deliver: Callable[[bytes], None] | None = None  # of a connected one: sends a datagram to its peer
        #: Whether a datagram from this address is taken; None: all are.
        self.accepts: Callable[[Address], bool] | None = None

    @property
    def direct(self) -> bool:
        return self.inbox is None and self.accepts is None and super().direct

    @property
    def accepts_directly(self) -> bool:
        """Whether accepting is a call of accept that never waits, so that C may serve it."""
        return self.listening and self.backlog is None and self.direct and self.socket.family != socket.AF_UNIX

    @property
    def is_plain(self) -> bool:
        """Whether it is a connection to elsewhere, so that its names and options are the system's."""
        return self.connected and not self.is_private and self.peer_address is None and (
            self.socket.family != socket.AF_UNIX)

    @property
    def answers(self) -> bool:
        """Whether it receives datagrams, and may answer whoever has sent them."""
        return self.kind == socket.SOCK_DGRAM and self.may_listen and self.direct and (
            self.socket.family != socket.AF_UNIX)

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
    def claimed(cls, made: socket.socket, stop: StopEvent, *, connected: bool) -> NetworkSocket:
        """A socket that C has made, or accepted."""
        claimed = cls(made, stop)
        claimed.connected = connected
        if connected:
            with contextlib.suppress(OSError):  # the peer has gone, or has not answered yet
                claimed.peer_name = made.getpeername()
        return claimed

    @classmethod
    def same_as(cls, other: SocketDescriptor) -> NetworkSocket:
        """Another descriptor of the same socket."""
        made = cls(other.socket.dup(), other._stop)
        made.local, made.peer, made.peer_name, made.cleanup = other.local, other.peer, other.peer_name, other.cleanup
        made.flags = other.flags
        if isinstance(other, NetworkSocket):
            made.kind, made.address, made.peer_address = other.kind, other.address, other.peer_address
            made.may_listen, made.accepts = other.may_listen, other.accepts
            made.listening, made.connected = other.listening, other.connected
            made.backlog, made.inbox, made.deliver = other.backlog, other.inbox, other.deliver
            made.options = other.options
        return made

    def name(self, *, peer: bool) -> Address:
        """ENOTCONN if there is no peer."""
        known = self.peer_address if peer else self.address
        if known is not None:
            return known
        if self.socket.family == socket.AF_UNIX:
            return Address(socket.AF_UNIX, self.peer if peer else self.local)
        if peer and self.peer_name is not None:
            return Address.of(self.socket.family, self.peer_name)
        return Address.of(self.socket.family, self.socket.getpeername() if peer else self.socket.getsockname())

    def option(self, level: int, option: int) -> int:
        if self._system_has(level):
            return super().option(level, option)
        return int.from_bytes(self.options.get((level, option), b"")[:_INT], "little")

    def set_option(self, level: int, option: int, value: bytes) -> None:
        if self._system_has(level):
            super().set_option(level, option, value)
        elif len(value) < _INT:
            raise OSError(errno.EINVAL, "too short a value")
        else:
            self.options[level, option] = value

    def _system_has(self, level: int) -> bool:
        """Whether there are such options: a private listener is an eventfd, and a private connection has no TCP."""
        return self.backlog is None and (
            level == socket.SOL_SOCKET or not self.is_private or self.socket.family != socket.AF_UNIX)

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
        if self.inbox is None and self.accepts is None:
            return super().read(spans, offset)
        address, size = spans[0] if spans else (0, 0)
        payload, _, _ = self.receive(size, 0)
        ctypes.memmove(address, payload, len(payload))
        return len(payload)

    def write(self, spans: Sequence[Span], offset: int | None = None) -> int:
        if self.inbox is None:
            return super().write(spans, offset)
        return self.send(b"".join(bytes(buffer(*span)) for span in spans))

    def send(self, payload: bytes) -> int:
        """Send to the peer; returns how many bytes were sent."""
        if self.inbox is None:
            return self.socket.send(payload, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self.deliver is None:
            raise OSError(errno.EDESTADDRREQ, "not connected")
        self.deliver(payload)
        return len(payload)

    def connect_to(self, inbox: Inbox, address: Address) -> None:
        """Send to a private socket from now on. This one is private, too."""
        sender = self.name(peer=False)
        self.peer_address, self.deliver = address, lambda payload: inbox.put(sender, payload)

    def receive(self, size: int, flags: int) -> tuple[bytes, Address | None, int]:
        """A datagram, or bytes of a stream; where it is from; the flags of recvmsg."""
        while True:
            try:
                payload, sender, out = self._receive(size, flags)
            except BlockingIOError:
                if self.flags & NONBLOCK:
                    raise
                self._stop.wait({self.fd: select.POLLIN})
                continue
            if sender is None or self.accepts is None or self.accepts(sender):
                return payload, sender, out
            if flags & socket.MSG_PEEK:  # the next call would find it again
                self._receive(0, flags & ~socket.MSG_PEEK)

    def _receive(self, size: int, flags: int) -> tuple[bytes, Address | None, int]:
        if self.inbox is not None:
            payload, sender = self.inbox.take(self.socket, flags)
            return payload[:size], sender, socket.MSG_TRUNC if len(payload) > size else 0
        payload, _, out, name = self.socket.recvmsg(size, 0, flags)
        if not name:
            return payload, None, out
        return payload, Address.of(self.socket.family, name), out

    @property
    def is_private(self) -> bool:
        return self.address is not None or self.backlog is not None or self.inbox is not None
