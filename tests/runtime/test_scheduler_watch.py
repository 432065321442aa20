"""Watching Go's scheduler: which goroutine runs on which thread."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections.abc import Iterator

import pytest

import gothreads
from gothreads.engine import extension
from gothreads.engine.settings import StopCheck, new_engine
from gothreads.runtime.inspector import SchedulerWords
from gothreads.runtime.scheduler_watch import _RUN, CALL, LEAST_NS, MOST_NS, SCHEDULER, Run, SchedulerWatch
from gothreads.shared_memory import SharedMemory
from tests.support.modules import MODELS, opened
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(extension.compiled is None, reason=f"without C: {extension.missing}")
#: Where `Scheduler` puts things.
WORDS = SchedulerWords(allp=64, p_m=8, m_id=16, m_curg=24, g_id=8, g_status=20, g_start=32)
RUNNABLE, RUNNING, SYSCALL, SCAN = 1, 2, 3, 0x1000


def watch_of(app: gothreads.App) -> SchedulerWatch:
    assert app._scheduler_watch is not None
    return app._scheduler_watch


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    engine = new_engine(1 << 20, stop_check=StopCheck.EPOCH)
    made = SharedMemory(engine, 1, 2)
    yield made
    made.close()
    engine.close()


class Scheduler:
    """Words as Go's scheduler has them."""

    def __init__(self, memory: SharedMemory) -> None:
        self.memory, self._next = memory, 4096

    def new(self) -> int:
        self._next += 64
        return self._next

    def procs(self, *ps: int) -> None:
        self.memory.write_u64(WORDS.allp, 1024)
        self.memory.write_u64(WORDS.allp + 8, len(ps))
        for place, p in enumerate(ps):
            self.memory.write_u64(1024 + 8 * place, p)

    def p(self, m: int) -> int:
        self.memory.write_u64((p := self.new()) + WORDS.p_m, m)
        return p

    def m(self, number: int, g: int) -> int:
        m = self.new()
        self.memory.write_u64(m + WORDS.m_id, number)
        self.memory.write_u64(m + WORDS.m_curg, g)
        return m

    def g(self, number: int, status: int, start: int = 0) -> int:
        g = self.new()
        self.memory.write_u64(g + WORDS.g_id, number)
        self.memory.write_u32(g + WORDS.g_status, status)
        self.memory.write_u64(g + WORDS.g_start, start)
        return g


def look(memory: SharedMemory, words: tuple[int, ...] = WORDS, looks: int = 3,
         interval: int = 1000) -> list[tuple[int, ...]]:
    """(M, goroutine, start, P) of each run that was seen."""
    _, found = extension.compiled.scheduler_runs(*memory.pointers, words, interval, looks, bytearray(1))
    runs = list(_RUN.iter_unpack(found))
    assert all(begin < end for *_, begin, end, _ in runs)
    return [run[:4] for run in runs]


# Reading the words.

def test_what_runs_is_seen_and_what_does_not_is_not(memory: SharedMemory) -> None:
    go = Scheduler(memory)
    assert look(memory) == []
    go.procs(go.p(go.m(3, go.g(42, RUNNING, 7 << 16))), go.p(go.m(4, go.g(43, SYSCALL))), go.p(0), 0,
             go.p(go.m(5, go.g(44, RUNNING | SCAN))), go.p(go.m(6, 0)), go.p(go.m(7, go.g(45, RUNNABLE))))
    seen = set(look(memory))
    assert seen == {(3, 42, 7 << 16, 0), (5, 44, 0, 4), (6, 0, 0, 5)}


def test_a_goroutine_that_runs_on_is_one_run(memory: SharedMemory) -> None:
    go = Scheduler(memory)
    go.procs(go.p(go.m(3, go.g(42, RUNNING))))
    begun, found = extension.compiled.scheduler_runs(*memory.pointers, WORDS, 1_000_000, 20, bytearray(1))
    runs = list(_RUN.iter_unpack(found))
    # Together they are no longer than the looks took, and gaps of more than two intervals divide them.
    assert sum(end - begin for *_, begin, end, _ in runs) <= runs[-1][5] - runs[0][4]
    assert all(later[4] - earlier[5] >= 1000 - 1 for earlier, later in itertools.pairwise(runs))
    assert begun > 0


def test_so_many_processors_are_looked_at_and_no_more(memory: SharedMemory) -> None:
    go = Scheduler(memory)
    p = go.p(go.m(1, go.g(1, RUNNING)))
    go.procs(*[p] * 300)
    assert {place for *_, place in look(memory, looks=1)} == set(range(256))
    memory.write_u64(WORDS.allp + 8, (1 << 64) - 1)  # and the array's end is the memory's
    assert len(look(memory, looks=1)) <= 256


def test_whatever_is_in_the_memory_nothing_outside_it_is_read(memory: SharedMemory) -> None:
    """A hostile module: words that point anywhere, at the memory's end above all."""
    chance = random.Random(1)

    def anything() -> int:
        size = memory.size
        return chance.choice((0, 8, size - 8, size - 4, size - 1, size, size + 8, (1 << 32) - 8, (1 << 64) - 8,
                              (1 << 64) - 1, chance.randrange(size), chance.randrange(size // 8) * 8,
                              chance.getrandbits(64)))
    for _ in range(300):
        for at in range(0, 4096, 8):
            memory.write_u64(at, anything())
        for at in range(memory.size - 256, memory.size, 8):
            memory.write_u64(at, anything())
        if memory.size == 1 << 16 and chance.random() < 0.01:
            memory.grow(1)
        words = tuple(anything() if chance.random() < 0.3 else chance.randrange(64) * 8 for _ in WORDS)
        assert len(look(memory, words)) <= 3 * 256


def test_a_look_ends_when_it_is_told_to(memory: SharedMemory) -> None:
    stop = bytearray(1)
    ended = threading.Event()

    def watch() -> None:
        extension.compiled.scheduler_runs(*memory.pointers, WORDS, 1_000_000, 10_000, stop)
        ended.set()
    threading.Thread(target=watch).start()
    stop[0] = 1
    wait_until(ended.is_set, 9.0)  # not the ten seconds
    with pytest.raises(ValueError, match="at most 10 s"):
        extension.compiled.scheduler_runs(*memory.pointers, WORDS, 1_000_000, 10_001, stop)
    with pytest.raises(ValueError, match="at most 10 s"):
        extension.compiled.scheduler_runs(*memory.pointers, WORDS, 1_000_000, (1 << 64) - 1, stop)


# Modules.

def until(app: gothreads.App, function: str) -> Run:
    """The next run of a function whose name begins so."""
    found: list[Run] = []

    def is_seen() -> bool:
        seen = watch_of(app).runs(0.02)
        assert all(seen.begin <= run.begin < run.end for run in seen.runs)
        found.extend(run for run in seen.runs if run.function.startswith(function))
        return bool(found)
    wait_until(is_seen)
    return found[0]


def test_calls_and_goroutines_are_seen_with_their_names(app: gothreads.App) -> None:
    app.submit("spin")
    first = until(app, CALL)
    assert first.goroutine > 0
    again = until(app, CALL)
    assert (again.m, again.goroutine) == (first.m, first.goroutine)  # a call stays on its thread
    app.exports.collect(True)
    collecting = until(app, "main.collect.func1")
    assert collecting.goroutine not in (0, first.goroutine)
    assert until(app, SCHEDULER).goroutine == 0
    until(app, "runtime.gcBgMark")  # the collector's workers


def test_what_waits_is_not_seen(app: gothreads.App) -> None:
    app.submit("hang")
    hangs: set[int] = set()

    def waits() -> bool:
        hangs.update(each.id for each in app.goroutines() if "main.hang" in each.stack and "select" in each.state)
        return bool(hangs)
    wait_until(waits)
    seen = watch_of(app).runs(0.2)
    assert hangs.isdisjoint(run.goroutine for run in seen.runs)


def test_the_end_of_an_app_ends_the_look(app: gothreads.App) -> None:
    watch_of(app).runs(0.0)
    app.submit("spin")
    errors: list[gothreads.GothreadsError] = []

    def watch() -> None:
        with contextlib.suppress(TimeoutError):
            try:
                while True:
                    watch_of(app).runs(1.0)
            except gothreads.GothreadsError as error:
                errors.append(error)
    threads = [threading.Thread(target=watch) for _ in range(3)]
    for thread in threads:
        thread.start()
    app.close()
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [gothreads.AppClosed] * 3


def test_an_app_that_was_never_watched_cannot_be_after_its_end(app: gothreads.App) -> None:
    app.close()
    with pytest.raises(gothreads.AppClosed, match="the app has ended"):
        watch_of(app).runs(0.1)


def test_it_looks_less_often_while_very_much_goes_on(app: gothreads.App) -> None:
    watch = watch_of(app)
    for _ in range(10):
        watch._pace(100_000)
    assert watch.runs(0.02).interval == MOST_NS / 1e9
    for _ in range(10):
        watch._pace(10)
    assert watch.runs(0.02).interval == LEAST_NS / 1e9


def test_what_cannot_be_watched_says_why(app: gothreads.App) -> None:
    watch = SchedulerWatch(app._inspector, app.memory, is_there=False)  # type: ignore[attr-defined, arg-type]
    assert watch.missing == "the module was built by an earlier gothreads. Build it again: gothreads build"
    with pytest.raises(gothreads.GothreadsError, match="earlier gothreads"):
        watch.runs(0.1)
    assert watch_of(app).missing is None


@pytest.mark.parametrize("model", [model for model in MODELS if model not in ("threaded", "wasi-threads")])
def test_other_models_have_nothing_to_watch(model: str) -> None:
    with opened("calls", model=model) as app:
        assert app._scheduler_watch is None
