"""Handlers that stream (guest.HandleStream), called from Python (tests/modules/pipes)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import psutil
import pytest

import gothreads
from gothreads.typed import parking
from tests.support.modules import MODELS, built, opened
from tests.support.patient import given_up_inside
from tests.support.waiting import PATIENCE, wait_until

SIZE = 32 << 20
#: What may be on its way at most: a batch in Go, one in Python, a piece in the handler's writer, and one being read.
MOST_AHEAD = 1 << 20


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("pipes") as running:
        yield running


@pytest.fixture
def fresh() -> Iterator[Any]:
    with opened("pipes") as running:
        yield running


class Zeros:
    """A file of zeros."""

    def __init__(self, size: int) -> None:
        self.left, self.largest = size, 0

    def read(self, size: int) -> bytes:
        self.largest = max(self.largest, size)
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


@pytest.mark.parametrize("model", [model for model in MODELS if model != "wasi-threads"])
def test_a_handler_reads_and_writes_in_every_model(model: str) -> None:
    with opened("pipes", model=model) as app:
        with app.stream("upper", b"hello") as answer:
            assert answer.content_type == "text/plain; charset=utf-8"
            assert list(answer) == [b"HELLO"]
        assert list(app.stream("upper")) == []
        assert b"".join(app.stream("copy", io.BytesIO(b"x" * 500_000))) == b"x" * 500_000
        assert b"".join(app.stream("copy", bytearray(b"ab"))) == b"ab"
        assert b"".join(app.stream("copy", "\N{EURO SIGN}")) == b"\xe2\x82\xac"
        assert app.request("copy", b"x" * 100_000) == b"x" * 100_000  # the whole answer, of a whole payload
        assert app.request("plain", b"ab") == b"AB"
        whole, streaming = app._submit_kinds("copy", timeout=None, on_timeout="cancel").result()
        assert ("plain" in whole, "copy" in whole, "copy" in streaming) == (True, False, True)


def test_a_large_body_takes_no_memory(app: Any) -> None:
    memory, expected = psutil.Process().memory_info, hashlib.sha256()
    for _ in range(SIZE >> 16):
        expected.update(bytes(1 << 16))
    b"".join(app.stream("hash", Zeros(SIZE)))  # Go has garbage, but not more and more
    before, module, body = memory().rss, app.statistics().memory, Zeros(SIZE)
    size, digest = b"".join(app.stream("hash", body)).split()
    assert (int(size), digest.decode()) == (SIZE, expected.hexdigest())
    assert body.largest <= 256 << 10
    assert sum(map(len, app.stream("copy", Zeros(SIZE)))) == SIZE
    assert memory().rss - before < SIZE / 2
    assert app.statistics().memory - module < SIZE / 2


def test_go_waits_for_who_takes_the_answer(fresh: Any) -> None:
    with fresh.stream("flood") as answer:
        taken = 0
        for _ in range(500):
            taken += len(next(answer))
            assert fresh.exports.sent() <= taken + MOST_AHEAD
        assert fresh.exports.running() == 1
    wait_until(lambda: fresh.exports.running() == 0)


def test_a_body_is_not_read_ahead_of_go(fresh: Any) -> None:
    body = Zeros(SIZE)
    with fresh.stream("slow", body):
        wait_until(lambda: fresh.exports.got() > 1000)
        assert SIZE - body.left <= fresh.exports.got() + 100


@pytest.mark.parametrize("how", ["close", "with", "drop"])
@pytest.mark.parametrize("handler", ["wait", "flood"])
def test_who_goes_ends_the_handler(handler: str, how: str, fresh: Any) -> None:
    answer = fresh.stream(handler)
    wait_until(lambda: fresh.exports.running() == 1)
    match how:
        case "close":
            answer.close()
        case "with":
            with answer:
                pass
        case "drop":
            del answer
    wait_until(lambda: fresh.exports.left() == 1)  # with the cause that tells it why
    assert fresh.exports.running() == 0


def test_a_body_that_never_comes_ends_with_the_stream(fresh: Any) -> None:
    class Never:
        async def read(self, _size: int) -> bytes:
            await asyncio.Event().wait()
            return b""
    given_up_inside(lambda: fresh.stream("read", Never(), timeout=0.1))
    wait_until(lambda: fresh.exports.left() >= 1)


def test_errors_before_the_first_piece_are_the_call_s(app: Any) -> None:
    with pytest.raises(gothreads.GoError) as error:
        app.stream("fail early", b"what was written, and not sent")
    assert str(error.value) == "as asked"
    assert error.value.__notes__ == [f"from the handler 'fail early' of {app.loaded.name}"]
    with pytest.raises(gothreads.HandlerError, match="^as asked"):
        app.request("fail late", b"a")
    with pytest.raises(gothreads.UnknownExport, match="has no handler 'uper'. Did you mean 'upper'"):
        app.stream("uper")
    with pytest.raises(gothreads.NotCallable, match=r"'plain' takes its payload as a whole.*request\(\)"):
        app.stream("plain")
    with pytest.raises(gothreads.ArgumentError, match="a payload must be bytes, another buffer, or str, not int"):
        app.stream("copy", 5)
    with pytest.raises(gothreads.ArgumentError, match='one of text. Open it with "b"'):
        app.stream("copy", io.StringIO("x"))
    with pytest.raises(gothreads.MisuseError, match="on_timeout"):
        app.stream("copy", on_timeout="never")


def test_an_error_in_the_middle_follows_what_was_written(app: Any) -> None:
    answer = app.stream("fail late", b"abc")
    assert next(answer) == b"abc"
    with pytest.raises(gothreads.GoError, match="^as asked$"):
        next(answer)
    assert list(answer) == []


def test_what_the_body_raises_is_raised(app: Any) -> None:
    class Broken:
        def read(self, _size: int) -> bytes:
            raise OSError("the disk is gone")
    with pytest.raises(OSError, match="the disk is gone") as error:
        app.stream("hash", Broken())
    assert str(error.value) == "the disk is gone"
    assert error.value.__notes__ == ["reading: hash: body: OSError: the disk is gone"]  # what Go has added
    with pytest.raises(OSError, match="^the disk is gone$") as error:
        app.stream("copy", Broken())
    assert not hasattr(error.value, "__notes__")


def test_a_timeout_cancels_the_handler(fresh: Any) -> None:
    given_up_inside(lambda: fresh.stream("mute", timeout=0.1))
    wait_until(lambda: fresh.exports.left() >= 1 and fresh.exports.running() == 0)
    with fresh.stream("wait", timeout=60) as answer:  # for the first piece only
        assert fresh.exports.running() == 1
        assert "Go stream" in repr(answer)


@pytest.mark.parametrize("model", ["threaded", "idle"])
def test_streams_that_wait_hold_no_callers(model: str) -> None:
    """Neither before the first piece, nor after it. Whatever ends them ends all."""
    async def run(app: Any) -> None:
        answers = [await app.stream_async("wait") for _ in range(20)]
        pieces = [asyncio.ensure_future(anext(answer)) for answer in answers]
        openings = [asyncio.ensure_future(app.stream_async("mute")) for _ in range(20)]
        await asyncio.to_thread(wait_until, lambda: app.statistics().waits_for_streams == 40)
        assert await app.request_async("plain", b"ab") == b"AB"
        assert await app.call_async("running") == 40
        for one in openings[::2]:
            one.cancel()
        for answer in answers[::2]:
            answer.close()
        await asyncio.to_thread(wait_until, lambda: app.exports.left() == 20)
        await asyncio.to_thread(wait_until, lambda: app.statistics().waits_for_streams == 20)
        await asyncio.wait_for(asyncio.wait([*pieces[::2], *openings[::2]]), PATIENCE)
        app.close()
        ends = await asyncio.wait_for(asyncio.gather(*pieces, *openings, return_exceptions=True), PATIENCE)
        assert [type(end) for end in ends] == [StopAsyncIteration, gothreads.AppClosed] * 10 + [
            asyncio.CancelledError, gothreads.AppClosed] * 10
    with opened("pipes", model=model, callers=2) as app:
        asyncio.run(run(app))
    assert parking._waits == {}


def test_pieces_that_come_when_a_wait_begins_are_all_taken(app: Any) -> None:
    """About when a wait is parked (wire/stream.go): no one is forgotten there, and none comes twice."""
    async def talk(seed: int) -> None:
        loop = asyncio.get_running_loop()
        random, written = Random(seed), asyncio.Queue[bytes]()

        class Body:
            async def read(self, _size: int) -> bytes:
                return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(written.get(), loop))
        answer = await app.stream_async("events", Body())
        assert await anext(answer) == b"event: hello\ndata: 0\n\n"
        for number in range(100):
            taken = asyncio.ensure_future(anext(answer))
            await asyncio.sleep(random.uniform(0, 0.003))
            written.put_nowait(b"%d\n" % number)
            assert await asyncio.wait_for(taken, PATIENCE) == b"data: %d\n\n" % number
        written.put_nowait(b"")
        assert [piece async for piece in answer] == []

    async def run() -> None:
        await asyncio.gather(*map(talk, range(10)))
    asyncio.run(run())


def test_a_stream_that_is_given_up_before_it_begins_stops_the_module_if_told_so(fresh: Any) -> None:
    given_up_inside(lambda: fresh.stream("mute", timeout=0.1, on_timeout="stop"))
    assert fresh.state is not gothreads.State.RUNNING


def test_one_that_goes_on_after_its_timeout_is_closed_when_it_begins(fresh: Any) -> None:
    read, may_come = threading.Event(), threading.Event()

    class Late:
        def read(self, _size: int) -> bytes:
            read.set()
            may_come.wait(PATIENCE)
            return b""
    opening = fresh.submit_stream("read", Late(), timeout=0.5, on_timeout="continue")
    assert read.wait(PATIENCE)
    with pytest.raises(gothreads.CallTimeout):
        opening.result(PATIENCE)
    assert fresh.exports.running() == 1
    may_come.set()
    wait_until(lambda: fresh.exports.running() == 0 and fresh.statistics().waits_for_streams == 0)


def test_who_leaves_at_any_moment_of_an_opening_leaves_no_handler_behind(app: Any) -> None:
    """Before the call, in it, while it is parked, when it is woken, and when it is made again."""
    async def leave(seed: int) -> None:
        random = Random(seed)
        for handler in ("wait", "mute", "read") * 10:
            body = io.BytesIO(b"x") if handler == "read" else b""
            opening = asyncio.ensure_future(app.stream_async(handler, body))
            await asyncio.sleep(random.choice((0, 0.0005, 0.001, 0.002)))
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await opening).close()

    async def run() -> None:
        await asyncio.gather(*map(leave, range(10)))
    asyncio.run(run())
    wait_until(lambda: app.exports.running() == 0)
    wait_until(lambda: app.statistics().waits_for_streams == 0)


def test_a_drain_waits_for_who_waits(fresh: Any) -> None:
    said = threading.Event()

    class Body:
        def read(self, _size: int) -> bytes:
            said.wait(PATIENCE)
            return b"word\n"
    answer = fresh.stream("events", Body())
    assert next(answer) == b"event: hello\ndata: 0\n\n"
    with ThreadPoolExecutor(2) as threads:
        piece = threads.submit(next, answer, None)
        wait_until(lambda: fresh.statistics().waits_for_streams == 1)
        closing = threads.submit(fresh.close, drain=PATIENCE)
        wait_until(lambda: fresh.state is gothreads.State.DRAINING)
        assert not piece.done()
        said.set()
        assert piece.result(PATIENCE) == b"data: word\n\n"
        answer.close()
        closing.result(PATIENCE)


def test_asynchronous_code_talks_both_ways(app: Any) -> None:
    async def run() -> None:
        sent: asyncio.Queue[bytes] = asyncio.Queue()

        class Body:
            async def read(self, _size: int) -> bytes:
                return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sent.get(), loop))
        loop = asyncio.get_running_loop()
        async with await app.stream_async("events", Body()) as answer:
            assert answer.content_type == "text/event-stream"
            assert await anext(answer) == b"event: hello\ndata: 0\n\n"
            for word in (b"one\n", b"two\n"):
                sent.put_nowait(word)
                assert await anext(answer) == b"data: %b\n\n" % word.strip()
            sent.put_nowait(b"")
            assert [piece async for piece in answer] == []
        waiting = asyncio.ensure_future(app.stream_async("mute"))
        while app.exports.running() == 0:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    asyncio.run(run())
    wait_until(lambda: app.exports.running() == 0)


def test_many_at_a_time_have_their_own_bodies_and_answers(app: Any) -> None:
    def talk(number: int) -> None:
        body = bytes([number]) * (100_000 + number)
        if b"".join(app.stream("copy", io.BytesIO(body))) != body:
            wrong.append(number)
    wrong: list[int] = []
    threads = [threading.Thread(target=talk, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_goes_on_after_the_handler_has_returned_is_told_so(fresh: Any) -> None:
    assert set(b"".join(fresh.stream("late", b"x"))) <= {ord("x")}
    wait_until(lambda: fresh.exports.sent() == -1)


@pytest.mark.parametrize(("kind", "taken"), [
    ("text/plain", True), ("text/event-stream; charset=utf-8", True), ("text", False), ("/plain", False),
    ("text/", False), ("text/a\r\nSet-Cookie: a=b", False), ("text/\N{EURO SIGN}", False), ("a/" + "b" * 254, False)])
def test_a_content_type_that_no_header_can_have_is_refused(app: Any, kind: str, taken: bool) -> None:
    answer = app.stream("type", kind)
    assert answer.content_type == (kind if taken else "")
    assert (b"".join(answer) == b"<nil>") == taken


def test_a_pool_keeps_a_stream_in_its_instance() -> None:
    with opened("pipes", model="pool", instances=2) as app:
        answers = [app.stream("flood") for _ in range(5)]
        for _ in range(20):
            assert all(next(answer) for answer in answers)
        for answer in answers:
            answer.close()


def test_a_supervised_module_streams() -> None:
    with gothreads.supervise(built("pipes")) as app:
        assert b"".join(app.stream("copy", b"abc")) == b"abc"
        assert b"".join(app.submit_stream("copy", io.BytesIO(b"abc")).result()) == b"abc"
        with pytest.raises(gothreads.GoError):
            app.stream("fail early")


def test_handlers_that_stream_are_listed_with_the_others(app: Any) -> None:
    assert {"copy", "plain"} <= set(app.handlers())
    streaming = asyncio.run(app._streaming_handlers())
    assert "copy" in streaming
    assert "plain" not in streaming


def test_a_module_without_such_handlers_says_so() -> None:
    with opened("calls") as app:
        assert not app.loaded.may_stream or asyncio.run(app._streaming_handlers()) == []
        with pytest.raises(gothreads.NotCallable, match="takes its payload as a whole"):
            app.stream("upper")
        with pytest.raises(gothreads.UnknownExport):
            app.stream("nothing of that name")
