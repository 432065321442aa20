"""Which addresses have sent datagrams to a module's sockets: those that listen may answer them, without a rule.

May be used from any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from gothreads.wasi.socket_address import Address


class Senders:
    """Pairs of a socket's own address and a sender's, as a firewall keeps them. The oldest are forgotten first."""

    #: How many are remembered, of all sockets.
    most = 16384

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pairs: OrderedDict[tuple[Address, Address], None] = OrderedDict()  # guarded by _lock

    def add(self, own: Address, sender: Address) -> None:
        with self._lock:
            self._pairs[own, sender] = None
            self._pairs.move_to_end((own, sender))
            if len(self._pairs) > self.most:
                self._pairs.popitem(last=False)

    def __contains__(self, pair: tuple[Address, Address]) -> bool:
        with self._lock:
            return pair in self._pairs
