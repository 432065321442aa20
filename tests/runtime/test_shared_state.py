"""What several threads change at the same time stays whole, also where no lock of Python's orders their steps.

Some of these can fail in a free-threaded build of Python only: docs/ARCHITECTURE.md, "What is assumed of Python".
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

import gothreads
from gothreads.runtime import process
from gothreads.runtime.models.threaded import ThreadedApp
from gothreads.sync.stop_event import StopEvent
from gothreads.typed.streams import Stream
from gothreads.wasi import listings
from gothreads.wasi.descriptors import Descriptor, FileType
from gothreads.wasi.streams import TAIL, Tail
from tests.support.waiting import together

TIMES = 2000


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    """With the GIL, threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def while_others(change: Callable[[], object], look: Callable[[], object]) -> None:
    """Look, again and again, while three threads make changes."""
    over = threading.Event()

    def changes() -> None:
        while not over.is_set():
            change()

    def looks() -> None:
        try:
            for _ in range(TIMES):
                look()
        finally:
            over.set()
    together(looks, changes, changes, changes)


def test_the_callers_in_use_are_counted_while_others_call(calls: Path) -> None:
    with gothreads.open(calls, callers=8) as app:
        assert isinstance(app, ThreadedApp)

        def look() -> None:
            assert len(app._cache.in_flight()) <= 8
            assert 0 <= app._cache.in_use <= 8
        while_others(lambda: app.exports.add(1, 1), look)
        assert (app._cache.in_flight(), app._cache.in_use) == ({}, 0)


def test_apps_are_listed_while_others_come_and_go() -> None:
    class App:
        _left_open = False

        def close(self) -> None: ...

        def _forked(self) -> None: ...
    register, stays = process._Register(), App()
    register.add(stays)

    def look() -> None:
        assert stays in register.all()
    while_others(lambda: register.add(App()), look)
    assert register.all() == [stays]


def test_listings_are_kept_while_others_drop_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "_MOST_ENTRIES", 100)
    kept, stop, folder = listings.Listings(), StopEvent(), os.open(tmp_path, os.O_RDONLY)
    listing = [(b"x", 1, FileType.REGULAR_FILE)] * 40

    def new() -> Descriptor:
        descriptor = Descriptor(os.dup(folder), stop)
        kept.keep(descriptor, listing)
        return descriptor
    while_others(new, new)
    first, second, third = new(), new(), new()
    assert [len(one.listing) for one in (first, second, third)] == [0, 40, 40]
    os.close(folder)
    stop.close()


def test_the_end_of_an_output_is_read_while_it_is_written() -> None:
    tail, over, written = Tail(), threading.Event(), b"x" * 999 + b"\n"
    tail.add(written)

    def writes() -> None:
        while not over.is_set():
            tail.add(written)

    def reads() -> None:
        try:
            for _ in range(TIMES):
                assert len(tail.text) <= 2 * TAIL
        finally:
            over.set()
    together(writes, reads, reads)
    assert tail.text.endswith("x\n")


class Items:
    """An endless source of batches."""

    stopped = 0

    def next(self) -> tuple[list[int], bool]:
        return [1, 2], False

    def submit(self) -> Future[tuple[list[int], bool]]:
        raise NotImplementedError

    def stop(self) -> None:
        self.stopped += 1


def test_a_batch_that_comes_while_another_thread_closes_the_stream_does_not_open_it_again() -> None:
    source = Items()
    stream = Stream(source)
    closer = threading.Thread(target=stream.close)

    class Closed(deque[int]):
        def extend(self, items: object) -> None:  # the moment between the look at `_over` and what depends on it
            closer.start()
            closer.join(0.2)
            super().extend(items)  # type: ignore[arg-type]
    stream._items = Closed()
    next(stream, None)
    closer.join()
    assert (list(stream), source.stopped) == ([], 1)
