"""poll_oneoff with many subscriptions, which are kept from one call to the next: the same events as with few."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import struct
from collections.abc import Iterator

import pytest

from gothreads.engine.settings import new_engine
from gothreads.errors import AppClosed
from gothreads.shared_memory import SharedMemory
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.calls import poll
from gothreads.wasi.calls.poll import PollCalls
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.descriptors import Descriptor
from gothreads.wasi.errnos import wasi_errno
from gothreads.wasi.idle import Idle
from gothreads.wasi.process import Process
from gothreads.wasi.socket_descriptor import SocketDescriptor, socket_of

SUBSCRIPTIONS, EVENTS, DONE, MANY = 4096, 131072, 8, 200
SUBSCRIPTION, EVENT = struct.Struct("<QBxxxxxxxIxxxxQQHxxxxxx"), struct.Struct("<QHBxxxxxQHxxxxxx")
READ, WRITE = 1, 2
BAD = wasi_errno(OSError(errno.EBADF, ""))
NOW, LATER = SUBSCRIPTION.pack(0, 0, 1, 0, 0, 0), SUBSCRIPTION.pack(0, 0, 1, 3600 * 10**9, 0, 0)


class Table(DescriptorTable):
    """Counts how often a number was looked up."""

    looked_up = 0

    def get(self, number: int) -> Descriptor:
        self.looked_up += 1
        return super().get(number)


class Module:
    """A module's table, and its poll_oneoff."""

    def __init__(self) -> None:
        self._engine, self.stop = new_engine(8 << 20), StopEvent()
        self.table = Table(self.stop)
        self._process = Process(self.table)
        self._process.memory = self._memory = SharedMemory(self._engine, 4, 4)
        self.calls = PollCalls(self._process)
        self.peers: dict[int, socket.socket] = {}

    def connection(self) -> int:
        ours, theirs = socket.socketpair()
        number = self.table.add(SocketDescriptor(ours, self.stop))
        self.peers[number] = theirs
        return number

    def poll(self, wanted: list[bytes]) -> list[tuple[int, int, int, int]]:
        """The events, sorted: userdata, errno, type, flags."""
        self._memory.write(SUBSCRIPTIONS, b"".join(wanted))
        self.calls.poll_oneoff(SUBSCRIPTIONS, EVENTS, len(wanted), DONE)
        data = self._memory.read(EVENTS, EVENT.size * self._memory.read_u32(DONE))
        return sorted((userdata, number, kind, flags) for userdata, number, kind, _, flags in EVENT.iter_unpack(data))

    def close(self) -> None:
        self.stop.set()
        for peer in self.peers.values():
            peer.close()
        self.table.close_all()
        self.calls.close()
        self._memory.close()
        self.stop.close()
        self._engine.close()


@pytest.fixture
def module() -> Iterator[Module]:
    made = Module()
    yield made
    made.close()


def reads(number: int, userdata: int | None = None) -> bytes:
    return SUBSCRIPTION.pack(number if userdata is None else userdata, READ, number, 0, 0, 0)


def test_what_is_kept_is_not_looked_at_again(module: Module) -> None:
    numbers = [module.connection() for _ in range(MANY)]
    wanted = [NOW, *map(reads, numbers)]
    assert module.poll(wanted) == [(0, 0, 0, 0)]
    assert module.table.looked_up == MANY
    module.peers[numbers[7]].send(b"x")
    assert module.poll([LATER, *wanted[1:]]) == [(numbers[7], 0, READ, 0)]
    assert module.poll([LATER, *reversed(wanted[1:])]) == [(numbers[7], 0, READ, 0)]
    assert module.poll([NOW, *wanted[1:8], *wanted[9:]]) == [(0, 0, 0, 0)]  # it is not wanted any more
    assert module.table.looked_up == MANY


def test_a_socket_whose_subscription_is_kept_is_closed_at_once(module: Module) -> None:
    numbers = [module.connection() for _ in range(MANY)]
    module.poll([NOW, *map(reads, numbers)])
    module.table.remove(numbers[3])
    module.peers[numbers[3]].setblocking(False)
    assert module.peers[numbers[3]].recv(1) == b""


def test_the_same_subscription_is_to_the_socket_that_has_the_number_now(module: Module) -> None:
    numbers = [module.connection() for _ in range(MANY)]
    wanted = [NOW, *map(reads, numbers)]
    module.poll(wanted)
    module.table.remove(numbers[3])
    assert module.poll(wanted) == [(numbers[3], BAD, READ, 0)]
    assert module.connection() == numbers[3]
    module.peers[numbers[3]].send(b"x")
    assert module.poll([LATER, *wanted[1:]]) == [(numbers[3], 0, READ, 0)]
    module.table.remove(numbers[4])
    assert module.connection() == numbers[4]  # this time without a poll in between
    module.peers[numbers[4]].send(b"x")
    assert module.poll([LATER, *wanted[1:]]) == [(numbers[3], 0, READ, 0), (numbers[4], 0, READ, 0)]
    module.table.move(numbers[5], numbers[3])
    module.peers[numbers[5]].send(b"x")
    assert module.poll([LATER, *wanted[1:]]) == [
        (numbers[3], 0, READ, 0), (numbers[4], 0, READ, 0), (numbers[5], BAD, READ, 0)]


def test_an_idle_module_is_told_what_it_waits_for(module: Module) -> None:
    numbers = [module.connection() for _ in range(MANY)]
    idle = Idle(module.stop)
    wanted = [reads(module.table.add(idle), 1), *map(reads, numbers)]
    for _ in range(2):  # new, and kept
        assert module.poll(wanted) == [(1, 0, READ, 0)]
        assert len(idle.waits.descriptors) == len(idle.waits.owners) == MANY
    module.peers[numbers[0]].send(b"x")
    assert module.poll(wanted) == [(numbers[0], 0, READ, 0)]


def test_the_end_of_the_app_ends_a_wait(module: Module) -> None:
    wanted = [LATER, *(reads(module.connection()) for _ in range(MANY))]
    module.stop.set()
    with pytest.raises(AppClosed):
        module.poll(wanted)


def test_any_changes_give_the_same_events_as_without_keeping(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = random.Random(1)
    open_numbers = [module.connection() for _ in range(40)]
    file = os.open(__file__, os.O_RDONLY)
    always = module.table.add(Descriptor(file, module.stop))
    subscribed: set[tuple[int, int]] = set()
    for _ in range(400):
        for _ in range(choose.randrange(6)):
            number = choose.choice(open_numbers)
            match choose.randrange(8):
                case 0 if len(open_numbers) > 30:
                    module.table.remove(number)
                    module.peers.pop(number).close()
                    open_numbers.remove(number)
                case 1 | 2 if len(open_numbers) < 60:
                    open_numbers.append(module.connection())
                case 3:
                    with contextlib.suppress(BrokenPipeError):  # it was shut down
                        module.peers[number].send(b"x")
                case 4:
                    with contextlib.suppress(BlockingIOError):
                        socket_of(module.table.get(number)).socket.recv(100)
                case 5:
                    module.peers[number].shutdown(socket.SHUT_WR)
                case _:
                    subscribed ^= {(choose.choice(open_numbers), choose.choice((READ, READ, WRITE)))}
        subscribed |= {(number, READ) for number in choose.sample(open_numbers, 20)}
        wanted = [SUBSCRIPTION.pack(number << 2 | kind, kind, number, 0, 0, 0) for number, kind in subscribed]
        if choose.randrange(10) == 0:
            wanted.append(reads(always))
        choose.shuffle(wanted)
        kept = module.poll([NOW, *wanted])
        with monkeypatch.context() as patch:
            patch.setattr(poll, "_MANY", 1 << 20)
            assert kept == module.poll([NOW, *wanted])
        subscribed -= {(number, kind) for number, kind in subscribed if number not in open_numbers}
