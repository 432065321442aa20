"""The poller's ring of events in the module's memory, with the test in the role of the module."""

from __future__ import annotations

import struct
import threading

import pytest

from gothreads.engine.settings import new_engine
from gothreads.shared_memory import SharedMemory
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.poller import Poller
from gothreads.wasi.queues import Queue, QueueReader

HEAD, TAIL, WAKE, PLACES, SPACE, EVENTS, SIZE = 64, 68, 72, 80, 1024, 4096, 40


@pytest.mark.parametrize("told", [1, 16])
def test_a_module_that_does_not_look_at_its_ring_loses_nothing_and_fills_only_the_ring(told: int) -> None:
    engine, stop = new_engine(8 << 20), StopEvent()
    memory, table, queue = SharedMemory(engine, 1, 1), DescriptorTable(stop), Queue(1, 1)
    poller = Poller(memory, table)
    memory.write(PLACES, struct.pack("<IIIII", HEAD, TAIL, WAKE, EVENTS, SIZE))
    poller.poll_start(PLACES)
    reader = QueueReader(queue, stop)
    number = table.add(reader)
    for place in range(told):
        poller.poll_open(number, 1000 + place, 7)
    span = [(memory.address(SPACE, 8), 8)]
    for _ in range(10_000):  # the queue is empty each time, so each put notifies the poller
        assert queue.put(b"event")
        assert reader.read(span) == 5
    found: list[tuple[int, ...]] = []
    while memory.load_u32(HEAD) != memory.load_u32(TAIL) or any(thread.name == "gothreads-poller-late" for thread in threading.enumerate()):
        for at in range(memory.load_u32(HEAD), memory.load_u32(TAIL)):
            found.append(struct.unpack("<III", memory.read(EVENTS + at % SIZE * 12, 12)))
            memory.store_u32(HEAD, at + 1)
    assert len(found) <= SIZE + told
    assert sorted(found[-told:]) == [(1000 + place, 7, 1) for place in range(told)]
    stop.set()
    poller.close()
    memory.close()
    stop.close()
    engine.close()
