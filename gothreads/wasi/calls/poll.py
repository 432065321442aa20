"""poll_oneoff: waiting for timers and descriptors."""

from __future__ import annotations

import errno
import select
import struct
import time
from typing import NamedTuple

from gothreads.wasi.descriptors import Descriptor
from gothreads.wasi.errnos import wasi_errno
from gothreads.wasi.idle import Idle
from gothreads.wasi.process import Process
from gothreads.wasi.standard_streams import StandardStream

_MOST_SUBSCRIPTIONS = 1 << 16
_CLOCK, _READ, _WRITE = 0, 1, 2  # WASI's eventtype
_ABSOLUTE = 1  # a flag of a timer
_MONOTONIC = 1  # the number of a clock
_POLL_EVENTS = {_READ: select.POLLIN, _WRITE: select.POLLOUT}
#: Events of poll(2) that occur whether or not they were asked for.
_ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL

_subscription = struct.Struct("<QBxxxxxxxIxxxxQQHxxxxxx")
_event = struct.Struct("<QHBxxxxxQHxxxxxx")


class _Interest(NamedTuple):
    """A subscription to a descriptor. `number`: the descriptor's, in the module or (while waiting) on the host."""

    userdata: int
    kind: int
    number: int


class PollCalls:
    """Functions that wait."""

    def __init__(self, process: Process) -> None:
        self._process, self._table = process, process.table

    def poll_oneoff(self, subscriptions: int, events: int, count: int, done: int) -> None:
        """Wait until one of the subscribed timers has expired, or one of the subscribed descriptors is ready."""
        if not 0 < count <= _MOST_SUBSCRIPTIONS:
            raise OSError(errno.EINVAL, "number of subscriptions")
        memory = self._process.memory
        timers: list[tuple[float, int]] = []
        interests: list[_Interest] = []
        copied = memory.read(subscriptions, _subscription.size * count)
        for userdata, kind, first, timeout, _precision, flags in _subscription.iter_unpack(copied):
            if kind == _CLOCK:
                if flags & _ABSOLUTE:
                    timeout = max(0, timeout - (time.monotonic_ns() if first == _MONOTONIC else time.time_ns()))
                timers.append((timeout / 1e9, userdata))
            elif kind in _POLL_EVENTS:
                interests.append(_Interest(userdata, kind, first))
            else:
                raise OSError(errno.EINVAL, "unknown type of event")
        seconds, expired = min(timers, default=(None, 0))
        occurred = self._wait(interests, seconds) if interests else None
        if occurred is None:
            assert seconds is not None
            self._table.stop.sleep(seconds)
        if not occurred:
            occurred = [_event.pack(expired, 0, _CLOCK, 0, 0)]
        memory.write(events, b"".join(occurred))
        memory.write_u32(done, len(occurred))

    def _wait(self, interests: list[_Interest], seconds: float | None) -> list[bytes]:
        """Wait, and return the events that occurred; an empty list on timeout."""
        occurred: list[bytes] = []
        polled: dict[int, int] = {}
        waiting: list[_Interest] = []
        idle: list[tuple[int, Idle]] = []
        owners: list[Descriptor] = []  # keeps the host's descriptors open during the wait
        for userdata, kind, number in interests:
            try:
                descriptor = self._table.get(number)
            except OSError as error:
                occurred.append(_event.pack(userdata, wasi_errno(error), kind, 0, 0))
                continue
            if isinstance(descriptor, Idle):
                idle.append((userdata, descriptor))
                continue
            host = _host_descriptor(descriptor)
            if host < 0:
                occurred.append(_event.pack(userdata, 0, kind, 1, 0))
                continue
            owners.append(descriptor)
            polled[host] = polled.get(host, 0) | _POLL_EVENTS[kind]
            waiting.append(_Interest(userdata, kind, host))
        ready = dict(self._table.stop.wait(polled, 0 if occurred or idle else seconds))
        for userdata, kind, host in waiting:
            events = ready.get(host, 0)
            if events & (_POLL_EVENTS[kind] | _ENDED):
                occurred.append(_event.pack(userdata, 0, kind, 1, 1 if events & select.POLLHUP else 0))
        if not occurred and seconds != 0:
            for userdata, one in idle:
                one.reach(seconds, polled, owners)
                occurred.append(_event.pack(userdata, 0, _READ, 1, 0))
        return occurred


def _host_descriptor(descriptor: Descriptor) -> int:
    """The host's descriptor to wait for; -1 if the descriptor is always ready."""
    if isinstance(descriptor, StandardStream) and descriptor.inherited == 0:
        return 0
    return descriptor.fd if descriptor.may_wait else -1
