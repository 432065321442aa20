"""Listeners that the host opens and hands over, as systemd does.

The program takes one up by its number (guest.Listener), or by listening at its address with package net.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.network_rules import listening_address
from gothreads.wasi.network_socket import NetworkSocket, name_of
from gothreads.wasi.socket_address import Address
from gothreads.wasi.socket_descriptor import SocketDescriptor, socket_of
from gothreads.wasi.sockets import listen

log = logging.getLogger("gothreads")


class OpenListener(NamedTuple):
    """A listener for one instance. `text`: its address as it was given. `kept`: another descriptor of it."""

    text: str
    own: SocketDescriptor
    kept: SocketDescriptor | None


class Listeners:
    """The listeners for a module, at these addresses. Used by one thread at a time.

    keep: they stay open from one instance of the module to the next, until `close`: meanwhile connections wait in the
    system's queue.
    """

    def __init__(self, texts: Sequence[str], *, keep: bool = False) -> None:
        self._texts, self._keeps = tuple(texts), keep
        self._kept: list[SocketDescriptor] = []

    def open(self, stop: StopEvent) -> list[OpenListener]:
        """Listeners to hand to an instance, with its own `stop`. Raises as `listen`, if they are not open already."""
        made = self._kept or [listen(listening_address(text), stop) for text in self._texts]
        if not self._keeps:
            return [OpenListener(text, own, None) for text, own in zip(self._texts, made, strict=True)]
        self._kept = made
        return [OpenListener(text, _duplicate(kept, stop), kept)
                for text, kept in zip(self._texts, made, strict=True)]

    def close(self) -> None:
        """Close them, as far as no instance has them."""
        self._kept = []


def _duplicate(listener: SocketDescriptor, stop: StopEvent) -> SocketDescriptor:
    made = SocketDescriptor(listener.socket.dup(), stop, local=listener.local)
    made.cleanup = listener.cleanup
    return made


@dataclass
class _Handed:
    """One listener.

    number: its descriptor's. kept: another descriptor of it, which the host keeps. taken: the socket that became it.
    """

    number: int
    kept: SocketDescriptor | None
    taken: weakref.ref[NetworkSocket] | None = None


class HandedListeners:
    """The listeners of one module, by their addresses."""

    def __init__(self, table: DescriptorTable) -> None:
        self._table = table
        self._handed: dict[Address, _Handed] = {}
        self._mismatch_told = False

    def add(self, number: int, listener: OpenListener) -> None:
        """Let the program listen at this listener's address, too. Call it before the module runs.

        The first time it gets this listener, unless it has taken it by its number already. If the host keeps it open,
        it gets it again after it has closed it.
        """
        self._handed[name_of(listener.own, peer=False)] = _Handed(number, listener.kept)

    def clear(self) -> None:
        """Forget the listeners, which closes those that nobody else keeps."""
        self._handed = {}

    def find(self, wanted: Address) -> Address | None:
        """The address of a listener for this port, on this address or any."""
        for address in self._handed:
            if wanted.family == socket.AF_UNIX:
                if address.family == socket.AF_UNIX and address.host == os.path.abspath(wanted.host):
                    return address
            elif address.family != socket.AF_UNIX and address.port == wanted.port \
                    and (wanted.is_any or address.plain == wanted.plain):
                return address
        return None

    def take_over(self, own: NetworkSocket, address: Address) -> bool:
        """Make a socket the listener at that address, whose number is then free. False: the program has it already."""
        handed = self._handed[address]
        listener = self._not_taken(handed.number, address)
        found = listener or (handed.kept if handed.taken is None or handed.taken() is None else None)
        if found is None:
            return False
        own.become(found.socket)
        own.cleanup, own.local, own.listening = found.cleanup, found.local, True
        own.address = None if own.local else address
        handed.taken = weakref.ref(own)
        if listener is not None:
            listener.taken_up()
            with contextlib.suppress(OSError):  # the program has closed the number meanwhile
                self._table.remove(handed.number)
        return True

    def tell_mismatch(self, wanted: Address) -> None:
        """Log, once, that the program wants to listen elsewhere, if no one has taken up a listener."""
        waiting = [str(address) for address, handed in self._handed.items()
                   if self._not_taken(handed.number, address) is not None]
        if waiting and not self._mismatch_told:
            self._mismatch_told = True
            log.warning("the program wants to listen on %s, but listen (--listen) is %s. Let them agree: --listen %s, "
                        "or tell the program the other address", wanted, ", ".join(waiting), wanted)

    def _not_taken(self, number: int, address: Address) -> SocketDescriptor | None:
        """The listener, unless the number was closed or is another descriptor's."""
        with contextlib.suppress(OSError):
            listener = socket_of(self._table.get(number))
            return listener if name_of(listener, peer=False) == address else None
        return None
