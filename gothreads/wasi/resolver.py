"""Resolves names for the module, if a rule allows it: a lookup itself discloses information to others.

"localhost" needs no lookup (RFC 6761). Lookups run on a thread of their own, for which the end of the app does not
wait.
"""

from __future__ import annotations

import errno
import ipaddress
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gothreads.errors import AppClosed
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.errnos import NotAllowed
from gothreads.wasi.network_rules import Rule, is_ip_address

T = TypeVar("T")

LOCALHOST = "localhost"

#: How often a thread that waits for a lookup, which cannot be interrupted, checks whether the app has ended. Seconds.
_LOOKUP_SLICE = 0.05
#: How many addresses are remembered for a name that a rule names: more than a name has, also if it changes.
_MOST_ADDRESSES = 256
_LOOPBACK = ("127.0.0.1", "::1")
_FAMILIES = {"ip": socket.AF_UNSPEC, "ip4": socket.AF_INET, "ip6": socket.AF_INET6, "cname": socket.AF_UNSPEC}


class Resolver:
    """Looks names up, and remembers which addresses the names of rules have. May be used from any thread."""

    def __init__(self, rules: Sequence[Rule], stop: StopEvent) -> None:
        self._hosts, self._stop = {rule.host for rule in rules}, stop
        self._lock = threading.Lock()
        self._addresses: dict[str, dict[str, None]] = {}  # a rule's name -> its latest addresses, the oldest first
        #: Called after an address has been forgotten.
        self.on_forget: Callable[[], None] = lambda: None

    def names(self, address: str) -> set[str]:
        """The names that rules have for an address."""
        with self._lock:
            names = {name for name, addresses in self._addresses.items() if address in addresses}
        return names | {LOCALHOST} if address in _LOOPBACK else names

    def look_up(self, kind: str, name: str) -> list[str]:
        """Addresses of a name ("ip", "ip4", "ip6"), its canonical name ("cname"), or the names of an address ("ptr").

        ENOENT if there is none; NotAllowed.
        """
        name = name.lower().rstrip(".")
        if kind == "ptr":
            return self._names_of(name)
        family = _FAMILIES.get(kind)
        if family is None:
            raise OSError(errno.EINVAL, "a kind of lookup")
        if name == LOCALHOST:
            return [LOCALHOST] if kind == "cname" else [one for one in _LOOPBACK if family in (0, _family(one))]
        if is_ip_address(name):
            return [name]
        if not self._hosts & {"*", name}:
            raise NotAllowed("not allowed")
        flags = socket.AI_CANONNAME if kind == "cname" else 0
        found = self._asked(name, lambda: socket.getaddrinfo(name, None, family, socket.SOCK_STREAM, 0, flags))
        addresses = list(dict.fromkeys(_text(info[4]) for info in found))
        if name in self._hosts:
            self._remember(name, addresses)
        return [info[3] for info in found[:1]] if kind == "cname" else addresses

    def _names_of(self, address: str) -> list[str]:
        if not is_ip_address(address):
            raise OSError(errno.EINVAL, "an address")
        if _is_loopback(address):
            return [LOCALHOST]
        if not self._hosts & {"*", address}:
            raise NotAllowed("not allowed")
        name, aliases, _ = self._asked(address, lambda: socket.gethostbyaddr(address))
        return [name, *aliases]

    def _remember(self, name: str, addresses: Sequence[str]) -> None:
        with self._lock:
            known = self._addresses.setdefault(name, {})
            for address in addresses:
                known.pop(address, None)
                known[address] = None
            forgotten = [*known][:-_MOST_ADDRESSES]
            for address in forgotten:
                del known[address]
        if forgotten:
            self.on_forget()

    def _asked(self, name: str, ask: Callable[[], T]) -> T:
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put((ask(), None))
            except BaseException as error:
                answers.put((None, error))
        try:
            threading.Thread(target=run, name="gothreads-lookup", daemon=True).start()
        except RuntimeError:
            raise OSError(errno.EAGAIN, "no thread is left") from None
        while not self._stop.is_set:
            try:
                answer, error = answers.get(timeout=_LOOKUP_SLICE)
            except queue.Empty:
                continue
            if error is not None:
                raise OSError(errno.ENOENT, name) from None
            result: T = answer
            return result
        raise AppClosed("stopped")


def _text(sockaddr: Any) -> str:
    return str(sockaddr[0])


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
