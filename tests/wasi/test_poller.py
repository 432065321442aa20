"""The poller in Python, with the test in the role of the module. (Programs use it, or the one in C, in all tests.)"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from gothreads.engine.settings import new_engine
from gothreads.errors import AppClosed
from gothreads.shared_memory import SharedMemory
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.descriptors import Descriptor
from gothreads.wasi.network_socket import NetworkSocket
from gothreads.wasi.poller import Poller
from gothreads.wasi.queues import Queue, QueueReader
from tests.support.waiting import wait_until

EVENTS, SPACE, READ, WRITE = 4096, 1024, 1, 2
FOREVER = (1 << 64) - 1  # -1, as it comes from the module


class Polled:
    """A poller, its table, and what a module would see of it."""

    def __init__(self) -> None:
        self._engine, self.stop = new_engine(8 << 20), StopEvent()
        self.memory, self.table = SharedMemory(self._engine, 1, 1), DescriptorTable(self.stop)
        self.poller = Poller(self.memory, self.table)

    def wait(self, nanoseconds: int = 0, most: int = 128) -> list[tuple[int, ...]]:
        count = self.poller.poll_wait(nanoseconds, EVENTS, most)
        return [struct.unpack("<III", self.memory.read(EVENTS + 12 * place, 12)) for place in range(count)]

    def connection(self) -> tuple[int, NetworkSocket, socket.socket]:
        ours, theirs = socket.socketpair()
        descriptor = NetworkSocket(ours, self.stop)
        return self.table.add(descriptor), descriptor, theirs

    def close(self) -> None:
        self.stop.set()
        self.table.close_all()
        self.poller.close()
        self.memory.close()
        self.stop.close()
        self._engine.close()


@pytest.fixture
def polled() -> Iterator[Polled]:
    made = Polled()
    yield made
    made.close()


def test_events_that_nobody_takes_are_there_once(polled: Polled) -> None:
    queue = Queue(1, 1)
    reader = QueueReader(queue, polled.stop)
    polled.poller.poll_open(polled.table.add(reader), 1000, 7)
    span = [(polled.memory.address(SPACE, 8), 8)]
    for _ in range(10_000):  # the queue is empty each time, so each put notifies the poller
        assert queue.put(b"event")
        assert reader.read(span) == 5
    assert polled.wait() == [(1000, 7, READ)]
    assert polled.wait() == []


def test_a_descriptor_that_is_ready_already_is_reported(polled: Polled) -> None:
    number, _, theirs = polled.connection()
    with theirs:
        theirs.sendall(b"x")
        polled.poller.poll_open(number, 2000, 8)
        assert polled.wait() == [(2000, 8, READ | WRITE)]
        assert polled.wait() == []  # edge-triggered
        theirs.sendall(b"y")
        assert polled.wait() == [(2000, 8, READ | WRITE)]


def test_what_was_closed_is_reported_no_more(polled: Polled) -> None:
    number, _, theirs = polled.connection()
    with theirs:
        polled.poller.poll_open(number, 2000, 8)
        polled.table.remove(number)
        assert polled.wait() == []


def test_a_file_is_always_ready_and_never_polled(polled: Polled) -> None:
    number = polled.table.add(Descriptor(os.open(__file__, os.O_RDONLY), polled.stop))
    with pytest.raises(OSError, match="never waits"):
        polled.poller.poll_open(number, 1, 1)


@pytest.mark.parametrize("how", ["event", "break", "stop", "data"])
def test_who_waits_is_woken(polled: Polled, how: str) -> None:
    number, _, theirs = polled.connection()
    polled.poller.poll_open(number, 2000, 8)
    assert polled.wait() == [(2000, 8, WRITE)]
    found: list[object] = []

    def wait() -> None:
        try:
            found.append(polled.wait(FOREVER))
        except AppClosed:
            found.append("closed")
    with theirs:
        thread = threading.Thread(target=wait)
        thread.start()
        ways: dict[str, Callable[[], None]] = {
            "event": lambda: polled.poller.notify(5, 6, READ), "break": polled.poller.poll_break,
            "stop": polled.stop.set, "data": lambda: theirs.sendall(b"x")}
        ways[how]()
        thread.join(30)
        wait_until(lambda: found)
    expected = {"event": [(5, 6, READ)], "break": [], "stop": "closed", "data": [(2000, 8, READ | WRITE)]}[how]
    if how == "event" and found == [[]]:  # woken before it has looked at what is pending: the next one finds it
        found = [polled.wait()]
    assert found == [expected]


def test_a_break_is_left_to_who_waits(polled: Polled) -> None:
    polled.poller.poll_break()
    assert polled.wait() == []
    assert polled.wait(FOREVER) == []  # returns at once
