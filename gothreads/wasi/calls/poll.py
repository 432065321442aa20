"""poll_oneoff: waiting for timers and descriptors."""

from __future__ import annotations

import contextlib
import errno
import select
import struct
import threading
import time
from typing import NamedTuple

from gothreads.wasi.descriptors import Descriptor
from gothreads.wasi.errnos import wasi_errno
from gothreads.wasi.idle import Idle
from gothreads.wasi.kept_poll import KeptPoll, chunks
from gothreads.wasi.process import Process
from gothreads.wasi.simulation import Simulation
from gothreads.wasi.standard_streams import StandardStream

_MOST_SUBSCRIPTIONS = 1 << 16
#: From so many subscriptions on, they are kept from one call to the next.
_MANY = 16
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

    def __init__(self, process: Process, simulation: Simulation | None = None) -> None:
        self._process, self._table, self._simulation = process, process.table, simulation
        self._turn = threading.Lock()  # guards _kept; a thread that does not get it at once does without
        self._kept: KeptPoll | None = None

    def close(self) -> None:
        """Free everything. No thread may be in a call."""
        if self._kept is not None:
            self._kept.close()

    def poll_oneoff(self, subscriptions: int, events: int, count: int, done: int) -> None:
        """Wait until one of the subscribed timers has expired, or one of the subscribed descriptors is ready."""
        if not 0 < count <= _MOST_SUBSCRIPTIONS:
            raise OSError(errno.EINVAL, "number of subscriptions")
        memory = self._process.memory
        timers: list[tuple[float, int]] = []
        interests: list[_Interest] = []
        copied = memory.read(subscriptions, _subscription.size * count)
        if count >= _MANY and self._simulation is None and self._turn.acquire(blocking=False):
            try:
                if (kept := self._keeping()) is not None:
                    self._write(events, done, self._poll_kept(kept, copied))
                    return
            finally:
                self._turn.release()
        for userdata, kind, first, timeout, _precision, flags in _subscription.iter_unpack(copied):
            if kind == _CLOCK:
                timers.append((_seconds(first, timeout, flags), userdata))
            elif kind in _POLL_EVENTS:
                interests.append(_Interest(userdata, kind, first))
            else:
                raise OSError(errno.EINVAL, "unknown type of event")
        seconds, expired = min(timers, default=(None, 0))
        simulated = self._simulation is not None and seconds is not None
        occurred = self._wait(interests, 0 if simulated else seconds) if interests else []
        if not occurred and seconds is not None:
            if self._simulation is not None:
                self._table.stop.check()
                self._simulation.sleep(seconds)
            elif not interests:
                self._table.stop.sleep(seconds)
        if not occurred:
            occurred = [_event.pack(expired, 0, _CLOCK, 0, 0)]
        self._write(events, done, occurred)

    def _write(self, events: int, done: int, occurred: list[bytes]) -> None:
        self._process.memory.write(events, b"".join(occurred))
        self._process.memory.write_u32(done, len(occurred))

    def _keeping(self) -> KeptPoll | None:
        """None if there is no descriptor left for an epoll."""
        if self._kept is None:
            with contextlib.suppress(OSError):
                self._kept = KeptPoll(self._table)
        return self._kept

    def _poll_kept(self, kept: KeptPoll, copied: bytes) -> list[bytes]:
        """Wait for many subscriptions, of which most are those of the previous call; return the events."""
        timers: list[tuple[float, int]] = []
        occurred: list[bytes] = []
        idle: list[tuple[int, Idle]] = []
        for chunk in kept.change(set(chunks(copied))):
            userdata, kind, first, timeout, _precision, flags = _subscription.unpack(chunk[0])
            if kind == _CLOCK:
                timers.append((_seconds(first, timeout, flags), userdata))
                continue
            if kind not in _POLL_EVENTS:
                raise OSError(errno.EINVAL, "unknown type of event")
            if (descriptor := self._look_up(_Interest(userdata, kind, first), occurred, idle)) is None:
                continue
            host = _host_descriptor(descriptor)
            if host < 0 or not kept.add(chunk, first, descriptor, host, _POLL_EVENTS[kind]):
                occurred.append(_event.pack(userdata, 0, kind, 1, 0))
        seconds, expired = min(timers, default=(None, 0))
        for chunk, wanted, found in kept.wait(0 if occurred or idle else seconds):
            if found & (wanted | _ENDED):
                userdata, kind, *_ = _subscription.unpack(chunk[0])
                occurred.append(_event.pack(userdata, 0, kind, 1, 1 if found & select.POLLHUP else 0))
        if not occurred and seconds != 0:
            for userdata, one in idle:
                one.reach(seconds, *kept.polled())
                occurred.append(_event.pack(userdata, 0, _READ, 1, 0))
        return occurred or [_event.pack(expired, 0, _CLOCK, 0, 0)]

    def _look_up(self, interest: _Interest, occurred: list[bytes], idle: list[tuple[int, Idle]]) -> Descriptor | None:
        """The descriptor to wait for. None if it is not open (an event that occurred), or is Idle (added to those)."""
        try:
            descriptor = self._table.get(interest.number)
        except OSError as error:
            occurred.append(_event.pack(interest.userdata, wasi_errno(error), interest.kind, 0, 0))
            return None
        if isinstance(descriptor, Idle):
            idle.append((interest.userdata, descriptor))
            return None
        return descriptor

    def _wait(self, interests: list[_Interest], seconds: float | None) -> list[bytes]:
        """Wait, and return the events that occurred; an empty list on timeout."""
        occurred: list[bytes] = []
        polled: dict[int, int] = {}
        waiting: list[_Interest] = []
        idle: list[tuple[int, Idle]] = []
        owners: list[Descriptor] = []  # keeps the host's descriptors open during the wait
        for interest in interests:
            userdata, kind, _number = interest
            if (descriptor := self._look_up(interest, occurred, idle)) is None:
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


def _seconds(clock: int, timeout: int, flags: int) -> float:
    """How long a timer has to wait."""
    if flags & _ABSOLUTE:
        timeout = max(0, timeout - (time.monotonic_ns() if clock == _MONOTONIC else time.time_ns()))
    return timeout / 1e9


def _host_descriptor(descriptor: Descriptor) -> int:
    """The host's descriptor to wait for; -1 if the descriptor is always ready."""
    if isinstance(descriptor, StandardStream) and descriptor.inherited == 0:
        return 0
    return descriptor.fd if descriptor.may_wait else -1
