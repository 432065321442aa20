"""Iterators and channels that Go functions return (tests/modules/typed)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gothreads
from tests.support.modules import MODELS, built, opened
from tests.support.patient import given_up_inside
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("typed") as running:
        yield running


@pytest.fixture
def fresh() -> Iterator[Any]:
    """An app in which no other test's iterators are stopped."""
    with opened("typed") as running:
        yield running


@pytest.mark.parametrize("model", [model for model in MODELS if model != "wasi-threads"])
def test_items_are_those_of_go_in_order(model: str) -> None:
    app: Any
    with opened("typed", model=model) as app:
        assert list(app.count(0)) == []
        assert list(app.count(3)) == [0, 1, 2]
        assert list(app.count(5000)) == list(range(5000))
        assert list(app.enumerate(["a", "b"])) == [(0, "a"), (1, "b")]
        assert [each.degree for each in app.receive(3000, False)] == list(range(3000))
        rows = list(app.rows(5, 20_000))
        assert [(len(row), row[-1]) for row in rows] == [(20_000, number) for number in range(5)]
        with app.count(-1) as numbers:
            assert list(itertools.islice(numbers, 3)) == [0, 1, 2]
            assert app.add(1, 2) == 3  # other calls go on
        with pytest.raises(StopIteration):
            next(numbers)


def test_an_iterator_of_a_pool_stays_with_its_instance() -> None:
    app: Any
    with opened("typed", model="pool", instances=2) as app:
        iterators = [app.count(-1) for _ in range(5)]  # more than there are instances
        for number in range(50):
            assert [next(each) for each in iterators] == [number] * 5
            assert app.add(number, 1) == number + 1
        for each in iterators:
            each.close()
        assert list(app.count(3)) == [0, 1, 2]


def test_threads_call_a_pool_while_others_iterate() -> None:
    app: Any
    with opened("typed", model="pool", instances=2) as app:
        def iterate(_: int) -> list[int]:
            return list(app.count(5000))

        def add(number: int) -> list[int]:
            return [app.add(number, each) for each in range(500)]
        with ThreadPoolExecutor(8) as threads:
            iterated, added = threads.map(iterate, range(8)), threads.map(add, range(8))
            assert list(iterated) == [list(range(5000))] * 8
            assert list(added) == [list(range(number, number + 500)) for number in range(8)]


def test_an_iterator_ends_with_its_instance_in_a_pool() -> None:
    app: Any
    with opened("typed", model="pool", instances=1) as app:
        numbers = app.count(-1)
        assert next(numbers) == 0
        with pytest.raises(gothreads.GuestExit):
            app.functions.exit(3)
        with pytest.raises(gothreads.GuestError, match="the instance that returned this iterator has ended$"):
            for _ in numbers:
                pass
        assert list(numbers) == []
        assert list(app.count(3)) == [0, 1, 2]


def test_a_busy_instance_of_a_pool_is_waited_for_as_long_as_calls_wait() -> None:
    app: Any
    with opened("typed", model="pool", instances=1) as app:
        numbers = app.count(3)
        while "was ended" not in given_up_inside(lambda: app.pause(600, timeout=0.1, on_timeout="stop")):
            pass  # its context has ended first, and it has come back
        with pytest.raises(gothreads.GuestError, match="has ended$"):
            next(numbers)
    with opened("typed", model="pool", instances=1, callers_timeout=0.2) as app:
        numbers = app.count(3)
        paused = app.submit("pause", 600)
        wait_until(lambda: app.statistics().pool.in_use == 1)
        with pytest.raises(gothreads.CallersBusy, match="^the instance that returned this iterator was in another call"):
            next(numbers)
        paused.cancel()


def test_an_iterator_of_a_supervised_module_stays_with_its_instance() -> None:
    app: Any
    with gothreads.supervise(built("typed")) as app:
        assert list(app.count(3)) == [0, 1, 2]
        numbers = app.count(-1)
        assert next(numbers) == 0
        with pytest.raises(gothreads.GuestExit):
            app.functions.exit(3)
        wait_until(lambda: app.state is gothreads.State.RUNNING)
        with pytest.raises(gothreads.GothreadsError):
            for _ in numbers:
                pass
        assert list(app.count(3)) == [0, 1, 2]


def test_go_is_ahead_by_two_batches_at_most(fresh: Any) -> None:
    before, _ = fresh.yielded()
    numbers = fresh.count(-1)
    assert fresh.yielded()[0] == before  # not asked yet
    assert next(numbers) == 0
    assert fresh.yielded()[0] - before <= 3  # one here, and a batch of two
    for count in range(1, 3000):
        assert next(numbers) == count
    assert fresh.yielded()[0] - before <= 3000 + 2 * 1024
    numbers.close()


@pytest.mark.parametrize("how", ["close", "with", "drop"])
def test_closing_and_dropping_stop_go(fresh: Any, how: str) -> None:
    before = fresh.yielded()[1]
    numbers = fresh.count(-1)
    assert next(numbers) == 0
    match how:
        case "close":
            numbers.close()
            numbers.close()
        case "with":
            with numbers:
                pass
        case "drop":
            del numbers
    wait_until(lambda: fresh.yielded()[1] == before + 1)


def test_closing_cancels_the_context(fresh: Any) -> None:
    before = fresh.yielded()[1]
    with fresh.receive(2, True) as options:
        assert [next(options).degree, next(options).degree] == [0, 1]
        assert fresh.yielded()[1] == before
    wait_until(lambda: fresh.yielded()[1] == before + 1)


def test_closing_ends_a_wait_for_the_next_item(app: Any) -> None:
    options = app.receive(0, True)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(list(options)))
    waiting.start()
    options.close()
    waiting.join()
    assert found == [[]]


def test_errors_end_an_iterator_after_its_items(app: Any) -> None:
    words = app.scan("a", "b", "", "c")
    assert [next(words), next(words)] == ["a", "b"]
    with pytest.raises(app.types.ParseError, match="^line 2: empty$") as error:
        next(words)
    assert error.value.line == 2
    assert list(words) == []
    with pytest.raises(app.types.ErrOther):
        app.receive(-1, False)
    with pytest.raises(gothreads.GoError, match="an `any` holds a chan int"):
        list(app.odd_items())
    with pytest.raises(gothreads.ArgumentError, match="^count: n: expected int, got str$"):
        app.count("x")


def test_asynchronous_iteration(app: Any) -> None:
    async def run() -> None:
        numbers = await app.count_async(5000)
        assert [number async for number in numbers] == list(range(5000))
        async with await app.count_async(-1) as endless:
            assert await anext(endless) == 0
        with pytest.raises(StopAsyncIteration):
            await anext(endless)
        words = app.scan("a", "")
        assert await anext(words) == "a"
        with pytest.raises(app.types.ParseError):
            await anext(words)
    asyncio.run(run())


def test_cancelling_a_wait_closes_the_iterator(fresh: Any) -> None:
    before = fresh.yielded()[1]

    async def run() -> None:
        options = await fresh.receive_async(0, True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(options)
        assert [each async for each in options] == []
    asyncio.run(run())
    wait_until(lambda: fresh.yielded()[1] == before + 1)


@pytest.mark.parametrize("model", ["threaded", "pool"])
def test_waits_that_are_cancelled_hold_no_callers(model: str) -> None:
    app: Any
    with opened("typed", model=model, callers=2, **({"instances": 2} if model == "pool" else {})) as app:
        def calls(statistics: gothreads.AppStatistics) -> int:
            return statistics.calls_in_progress + statistics.waits_for_streams

        async def run() -> None:
            streams = [await app.receive_async(0, True) for _ in range(5)]
            waits = [asyncio.ensure_future(anext(stream)) for stream in streams]
            await asyncio.to_thread(wait_until, lambda: calls(app.statistics()))
            for wait in waits:
                wait.cancel()
            assert [type(each) for each in await asyncio.gather(*waits, return_exceptions=True)] == [
                asyncio.CancelledError] * 5
            assert await app.add_async(2, 3) == 5
        asyncio.run(run())
        if model == "threaded":
            wait_until(lambda: app.yielded()[1] == 5)


def test_threads_that_wait_for_items_hold_no_callers() -> None:
    app: Any
    with opened("typed", callers=2) as app:
        before = app.yielded()[1]
        streams = [app.receive(0, True) for _ in range(20)]
        with ThreadPoolExecutor(len(streams)) as threads:
            waits = [threads.submit(next, stream, None) for stream in streams]
            wait_until(lambda: app.statistics().waits_for_streams == len(streams))
            assert "20 wait for a stream of Go's" in str(app.statistics())
            assert app.add(2, 3) == 5
            for stream in streams:
                stream.close()
            assert [wait.result(PATIENCE) for wait in waits] == [None] * len(streams)
        wait_until(lambda: app.yielded()[1] == before + len(streams))
        assert app.statistics().waits_for_streams == 0


def test_threads_share_an_iterator(app: Any) -> None:
    numbers = app.count(20_000)
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(list(numbers))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(itertools.chain(*found)) == list(range(20_000))


def test_iterators_are_described(app: Any) -> None:
    assert str(inspect.signature(app.count)) == "(n: int) -> Stream[int]"
    assert str(inspect.signature(app.enumerate)) == "(words: list[str]) -> Stream[tuple[int, str]]"
    assert repr(app.count(0)) == "<Go iterator>"


def test_items_as_json(app: Any) -> None:
    stream = app.receive.submit_json([2, False], {}).result(60)
    assert [json.loads(item)["degree"] for item in stream] == [0, 1]

    async def run() -> None:
        stream = app.enumerate.submit_json([["a", "b", "c"]], {}).result(60)
        batches = [await stream.batch(), await stream.batch(), await stream.batch()]
        assert batches == [[b'[0,"a"]'], [b'[1,"b"]', b'[2,"c"]'], []]
    asyncio.run(run())


def test_go_refuses_damaged_requests_for_items(app: Any) -> None:
    call = app._caller.call

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(["next", "close"]), st.binary(max_size=12))
    def check(what: str, message: bytes) -> None:
        with contextlib.suppress(gothreads.HandlerError):
            call(f"gothreads:stream {what}", message)
    check()
    assert call("gothreads:stream next", b"\x92\xcd\xff\xff\x00") == b"\x92\x90\xc3"  # no such iterator: no items, the last
    assert list(app.count(3)) == [0, 1, 2]


def test_an_iterator_outlives_its_app() -> None:
    app: Any
    with opened("typed") as app:
        numbers = app.count(-1)
        assert next(numbers) == 0
    with pytest.raises(gothreads.AppClosed):
        for _ in numbers:
            pass
    numbers.close()
