"""Subscriptions to descriptors, kept from one poll_oneoff to the next.

Stock Go's scheduler passes all its subscriptions in each turn, and most are those of the turn before. So they are kept
in an epoll, and a turn costs what has changed, and what is ready. A subscription is known by its bytes.

Invariant: at `wait`, each kept subscription's descriptor is registered, and was open under its number at `change`.
Descriptors are referred to weakly, so that a socket is closed as soon as the module closes it; the system then forgets
it. A later subscription with the same bytes, to another descriptor with its number, is a new one: the table counts what
it has removed, and after a removal `change` looks at all that is kept.
"""

from __future__ import annotations

import contextlib
import select
import struct
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field

from gothreads.sync.stop_event import LONGEST
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.descriptors import Descriptor

#: A subscription: its bytes, in a tuple, as iter_unpack returns them.
Chunk = tuple[bytes]
chunks = struct.Struct("48s").iter_unpack


@dataclass(eq=False)
class _Registered:
    """A host descriptor in the epoll, and the subscriptions to it: what each wants (poll(2) events)."""

    number: int
    owner: weakref.ref[Descriptor]
    wanted: dict[Chunk, int] = field(default_factory=dict)

    @property
    def mask(self) -> int:
        mask = 0
        for events in self.wanted.values():
            mask |= events
        return mask


class KeptPoll:
    """Subscriptions in an epoll. One thread at a time may use it. OSError if the system has no epoll left."""

    def __init__(self, table: DescriptorTable) -> None:
        self._table, self._stop = table, table.stop
        self._removals = table.removals
        self._epoll = select.epoll()
        self._epoll.register(self._stop.descriptor, select.EPOLLIN)
        self._hosts: dict[int, _Registered] = {}
        self._kept: dict[Chunk, int] = {}  # with the host descriptor

    def change(self, wanted: set[Chunk]) -> set[Chunk]:
        """Keep only those of the subscriptions that are wanted; returns those that are new."""
        if self._removals != (removals := self._table.removals):
            self._removals = removals
            for host, found in list(self._hosts.items()):
                owner = found.owner()
                if owner is None or not self._table.is_open(found.number, owner):
                    self._forget(host)
        for chunk in self._kept.keys() - wanted:
            self._drop(chunk)
        return wanted - self._kept.keys()

    def add(self, chunk: Chunk, number: int, descriptor: Descriptor, host: int, events: int) -> bool:
        """Keep a subscription. False if the system cannot wait for the descriptor, which is then always ready."""
        found = self._hosts.get(host)
        if found is None or found.owner() is not descriptor:
            self._forget(host)  # closed since `change`
            found = self._hosts[host] = _Registered(number, weakref.ref(descriptor))
        found.wanted[chunk] = events
        self._kept[chunk] = host
        try:
            self._epoll.register(host, found.mask)
        except FileExistsError:
            self._epoll.modify(host, found.mask)
        except PermissionError:  # a regular file
            self._forget(host)
            return False
        return True

    def wait(self, seconds: float | None) -> Iterable[tuple[Chunk, int, int]]:
        """Wait, and return the subscriptions whose descriptors have events: what they want, and what there is.

        Raises AppClosed when the app has ended.
        """
        ready = self._epoll.poll(None if seconds is None else max(0, min(seconds, LONGEST)))
        self._stop.check()
        return [(chunk, wanted, events) for host, events in ready if host in self._hosts
                for chunk, wanted in self._hosts[host].wanted.items()]

    def polled(self) -> tuple[dict[int, int], list[Descriptor]]:
        """The host descriptors with their poll(2) events, and their owners."""
        owners = {host: owner for host, found in self._hosts.items() if (owner := found.owner()) is not None}
        return {host: self._hosts[host].mask for host in owners}, list(owners.values())

    def close(self) -> None:
        self._epoll.close()

    def _drop(self, chunk: Chunk) -> None:
        host = self._kept[chunk]
        found = self._hosts[host]
        if len(found.wanted) == 1:
            self._forget(host)
            return
        del self._kept[chunk], found.wanted[chunk]
        with contextlib.suppress(OSError):  # closed meanwhile
            self._epoll.modify(host, found.mask)

    def _forget(self, host: int) -> None:
        found = self._hosts.pop(host, None)
        if found is not None:
            for chunk in found.wanted:
                del self._kept[chunk]
            if found.owner() is not None:
                with contextlib.suppress(OSError):  # closed meanwhile, or not registered
                    self._epoll.unregister(host)
