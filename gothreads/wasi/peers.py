"""The addresses that a module may use without another look at the rules (wasi/network_rules.py).

These are the senders of datagrams to the module's sockets: those that listen may answer them, without a rule. With the
C extension, they also are the addresses that the rules are known to allow (csrc/peers.c, wasi/native_io.py).

May be used from any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from gothreads.wasi.socket_address import Address


class Peers:
    """Senders are pairs of a socket's own address and the sender's, as a firewall keeps them.

    The rules may say something else when a name's address is forgotten, or a private port is opened: `forget` is to be
    called after that. Whoever asks them reads the version before.
    """

    #: How many senders are remembered, of all sockets. The oldest are forgotten first.
    most = 16384

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._senders: OrderedDict[tuple[Address, Address], None] = OrderedDict()  # guarded by _lock

    def add_sender(self, own: Address, sender: Address) -> None:
        with self._lock:
            self._senders[own, sender] = None
            self._senders.move_to_end((own, sender))
            if len(self._senders) > self.most:
                self._senders.popitem(last=False)

    def has_sent(self, own: Address, sender: Address) -> bool:
        with self._lock:
            return (own, sender) in self._senders

    def version(self) -> int:
        return 0

    def allow(self, address: Address, version: int) -> None:
        """The rules allow to connect and to send to an address, unless they have changed since the version was read."""

    def forget(self) -> None:
        """The rules may say something else."""
