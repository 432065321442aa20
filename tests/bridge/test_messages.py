"""guest.Call and guest.Notify: the module calls Python by name, without a waiting thread (tests/modules/talk)."""

from __future__ import annotations

import array
import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import random
import re
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import gothreads
from gothreads.bridge import messages
from gothreads.runtime.payloads import Payload
from tests.support.modules import MODELS, built, opened
from tests.support.waiting import PATIENCE, gothreads_threads, together, under_load, wait_until

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.filterwarnings("error")]


async def drained() -> None:
    """Let the tasks that the end of an app has cancelled run to their end."""
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


@contextlib.contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A separate event loop, running on a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(drained(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        assert asyncio.all_tasks(loop) == set()
        loop.close()


@pytest.fixture(params=["own", "given"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop | None]:
    """An event loop, or None for the app's own."""
    if request.param == "own":
        yield None
    else:
        with running_loop() as given:
            yield given


def bracketed(payload: bytes) -> bytes:
    return b"<" + payload + b">"


async def bracketed_later(payload: bytes) -> bytes:
    await asyncio.sleep(0.001)
    return bracketed(payload)


class Awaited:
    """An awaitable that is neither a coroutine nor a future."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def __await__(self) -> Generator[Any, None, bytes]:
        yield from asyncio.sleep(0.001).__await__()
        return bracketed(self._payload)


class Object:
    def method(self, payload: bytes) -> bytes:
        return bracketed(payload)

    async def coroutine(self, payload: bytes) -> bytes:
        return await bracketed_later(payload)


class Called:
    async def __call__(self, payload: bytes) -> bytes:
        return await bracketed_later(payload)


def with_start(start: bytes, payload: bytes) -> bytes:
    return start + payload + b">"


async def with_start_later(start: bytes, payload: bytes) -> bytes:
    await asyncio.sleep(0.001)
    return with_start(start, payload)


def future_now(payload: bytes) -> Future[bytes]:
    done: Future[bytes] = Future()
    done.set_result(bracketed(payload))
    return done


class Loops:
    """Handlers that use the event loop on which coroutines run."""

    loop: asyncio.AbstractEventLoop

    async def tell(self, _payload: bytes) -> None:
        self.loop = asyncio.get_running_loop()

    def future(self, payload: bytes) -> asyncio.Future[bytes]:
        made: asyncio.Future[bytes] = self.loop.create_future()
        self.loop.call_soon_threadsafe(self.loop.call_later, 0.001, made.set_result, bracketed(payload))
        return made

    def task(self, payload: bytes) -> Future[bytes]:
        return asyncio.run_coroutine_threadsafe(bracketed_later(payload), self.loop)


@pytest.mark.parametrize("model", MODELS)
def test_every_kind_of_handler(model: str, loop: asyncio.AbstractEventLoop | None) -> None:
    loops = Loops()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        handlers: dict[str, Callable[[bytes], Any]] = {
            "function": bracketed, "lambda": lambda p: bracketed(p), "method": Object().method,
            "partial": functools.partial(with_start, b"<"),
            "future": lambda p: pool.submit(bracketed, p), "done": future_now, "asyncio": loops.future,
            "task": loops.task,
            "coroutine": bracketed_later, "coroutine-method": Object().coroutine,
            "coroutine-partial": functools.partial(with_start_later, b"<"),
            "coroutine-returned": lambda p: bracketed_later(p), "called": Called(),
            "called-partial": functools.partial(Called()), "awaitable": Awaited,
        }
        with opened("talk", model, handlers={**handlers, "tell": loops.tell}, loop=loop) as app:
            app.request("call", "tell")
            assert {name: app.request("call", f"{name} x {name}")
                    for name in handlers} == {name: f"<x {name}>".encode() for name in handlers}
            assert loop is None or loops.loop is loop


@pytest.mark.parametrize("reply", [b"\0\xff", "näher", None, bytearray(b"ab"), memoryview(b"abcdef")[::2],
                                   array.array("H", [1, 2]), b"", ""])
def test_what_a_reply_may_be(reply: Payload | None) -> None:
    async def later(_payload: bytes) -> object:
        return reply
    with opened("talk", handlers={"now": lambda _p: reply, "later": later}) as app:
        wanted = b"" if reply is None else reply.encode() if isinstance(reply, str) else bytes(reply)
        assert app.request("call", "now") == app.request("call", "later") == wanted


def released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


@pytest.mark.parametrize(("reply", "said"),
                         [(5, "TypeError: the handler returned int; a reply is bytes, another buffer, str or None"),
                          ("\udcff", "UnicodeEncodeError"),
                                             (released(), "ValueError: operation forbidden"),
                                             ([b"x"], "TypeError: the handler returned list")])
def test_what_a_reply_may_not_be_is_an_error_of_the_handlers(reply: object, said: str) -> None:
    async def later(_payload: bytes) -> object:
        return reply

    def future(_payload: bytes) -> Future[object]:
        done: Future[object] = Future()
        done.set_result(reply)
        return done
    with opened("talk", handlers={"now": lambda _p: reply, "later": later, "future": future}) as app:
        for name in ("now", "later", "future"):
            assert app.request("kind", name).decode().startswith(f"raised: {name}: {said}")


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("error", "said"),
                         [(ValueError("bad"), "ValueError: bad"), (KeyError("k"), "KeyError: 'k'"),
                          (Unsayable(), "Unsayable"),
                                             (SystemExit(3), "SystemExit: 3"),
                                             (KeyboardInterrupt(), "KeyboardInterrupt: "),
                                             (ValueError("\udcff"), "ValueError: ?")])
def test_what_a_handler_raises_is_an_error_in_go_and_the_next_call_works(
    model: str, error: BaseException, said: str
) -> None:
    def now(_payload: bytes) -> None:
        raise error

    async def later(_payload: bytes) -> None:
        await asyncio.sleep(0)
        raise error

    def future(_payload: bytes) -> Future[None]:
        done: Future[None] = Future()
        done.set_exception(error)
        return done
    with opened("talk", model, handlers={"now": now, "later": later, "future": future, "fine": bracketed_later}) as app:
        for name in ("now", "later", "future"):
            assert app.request("kind", name).decode() == f"raised: {name}: {said}"
        assert app.request("call", "fine x") == b"<x>"


async def _nothing() -> None: ...
async def _two(payload: bytes, other: int) -> None: ...
def _context_by_name(payload: bytes, *, context: gothreads.Context) -> None: ...


@pytest.mark.parametrize("handler", [lambda: None, _nothing, _two, lambda payload, *, needed: None, _context_by_name])
def test_a_handler_that_does_not_take_the_payload_is_refused_before_anything_runs(handler: Callable[..., Any]) -> None:
    with pytest.raises(gothreads.MisuseError,
                       match=r"the handler 'h' must take the payload and, optionally, a second parameter that is "
                                                  r"annotated gothreads\.Context; it is .*:\d+\)$"):
        opened("talk", handlers={"h": handler})


def test_handlers_may_take_more_that_has_defaults_and_built_in_functions_are_taken() -> None:
    def context(payload: bytes, context: gothreads.Context) -> bytes:
        return payload + context.app.model.encode()
    handlers: dict[str, Callable[..., Any]] = {"more": lambda payload, more=b"!": payload + more,
                                               "any": lambda *args: args[0] * len(args), "context": context,
                                               "upper": bytes.upper}
    with opened("talk", handlers=handlers) as app:
        assert [app.request("call", f"{name} x") for name in handlers] == [b"x!", b"x", b"xthreaded", b"X"]


def test_a_future_of_another_loop_is_awaited_there() -> None:
    def made(payload: bytes) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = other.create_future()
        other.call_soon_threadsafe(future.set_result, bracketed(payload))
        return future
    with running_loop() as other, opened("talk", handlers={"future": made}) as app:
        assert app.request("call", "future x") == b"<x>"
        assert "gothreads-loop" not in gothreads_threads()


@pytest.mark.parametrize("model", MODELS)
def test_an_unknown_handler_is_go_s_errnohandler(model: str) -> None:
    with opened("talk", model) as app:
        assert app.request("kind", "nope") == b"no handler: handler nope: the host has no such handler"
        with pytest.raises(gothreads.HandlerError, match="handler nope: the host has no such handler"):
            app.request("notify", "nope x")


@pytest.mark.parametrize("wrong", [{"": len}, {5: len}, {"x": 5}, [("x", len)], 5])
def test_handlers_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(gothreads.MisuseError, match="handler"):
        opened("talk", handlers=wrong)


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "single"])
@pytest.mark.parametrize("size", [0, 1, 64 << 10, 5_000_000, 64 << 20])
def test_payloads_of_all_sizes_arrive_whole_both_ways(model: str, size: int) -> None:
    seen = []

    def now(payload: bytes) -> bytes:
        seen.append(payload)
        return payload[::-1]

    async def later(payload: bytes) -> memoryview:
        return memoryview(now(payload))
    with opened("talk", model, handlers={"now": now, "later": later}) as app:
        for name in ("now", "later"):
            there, back, length, error = app.request("sized", f"{name} {size}").decode().split()
            payload = seen.pop()
            assert (int(there), int(back), int(length), error) == (zlib.crc32(payload), zlib.crc32(payload[::-1]),
                                                                   len(payload), "<nil>")
            assert len(payload) == size


class Parked:
    """Handlers whose replies the test controls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: list[tuple[bytes, Callable[[bytes], object]]] = []

    def future(self, payload: bytes) -> Future[bytes]:
        made: Future[bytes] = Future()
        with self._lock:
            self.waiting.append((payload, made.set_result))
        return made

    async def coroutine(self, payload: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        made = loop.create_future()
        with self._lock:
            self.waiting.append((payload, lambda reply: loop.call_soon_threadsafe(made.set_result, reply)))
        return bytes(await made)

    def release(self) -> None:
        """Send all replies in random order, from four threads."""
        with self._lock:
            waiting, self.waiting = self.waiting, []
        random.shuffle(waiting)

        def some(part: int) -> None:
            for payload, reply in waiting[part::4]:
                reply(payload)
        together(*(lambda part=part: some(part) for part in range(4)))


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["future", "coroutine"])
def test_ten_thousand_calls_wait_at_the_same_time_without_a_thread(model: str, kind: str) -> None:
    parked = Parked()
    with opened("talk", model, procs=2, callers=4, handlers={"park": getattr(parked, kind)}) as app:
        def threads() -> int:
            return len(gothreads_threads())
        few = app.submit_request("echoes", "100 park")
        wait_until(lambda: len(parked.waiting) == 100)
        with_few = threads()
        parked.release()
        assert few.result(PATIENCE) == b"100"
        many = app.submit_request("echoes", "10000 park")
        wait_until(lambda: len(parked.waiting) == 10_000)
        assert app._messages.outstanding == 10_000
        assert threads() <= with_few + 4  # a few for Go's garbage collector; none per call
        if model == "threaded":
            statistics = app.statistics()
            assert statistics.threads is not None
            assert statistics.threads.running <= 2 + 6
            assert statistics.go is not None
            assert statistics.go.waiting >= 10_000
            app.request("collect")
        assert not many.done()
        parked.release()
        assert many.result(PATIENCE) == b"10000"
        wait_until(lambda: app._messages.outstanding == 0)


def test_more_calls_than_can_be_under_way_are_refused_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MOST_CALLS", 1000)
    parked = Parked()
    with opened("talk", handlers={"park": parked.future}) as app:
        many = app.submit_request("echoes", "1000 park")
        wait_until(lambda: len(parked.waiting) == 1000)
        assert app.request("echoes", "100 park") == b"0"  # all refused before any of the 1000 makes room for one
        assert app.request("kind", "park").startswith(b"busy: handler park: too many calls of the host at a time")
        parked.release()
        assert many.result(PATIENCE) == b"1000"
        assert app.request("kind", "park-not").startswith(b"no handler")


def heap(app: gothreads.App) -> tuple[int, int]:
    objects, goroutines = app.request("heap").split()
    return int(objects), int(goroutines)


class Patient:
    """Handlers that never reply, and record how they end."""

    def __init__(self) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()
        self.future_made: Future[bytes] = Future()
        self.task: asyncio.Task[Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.release = threading.Event()

    async def coroutine(self, _payload: bytes) -> None:
        self.task, self.loop = asyncio.current_task(), asyncio.get_running_loop()
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def future(self, _payload: bytes) -> Future[bytes]:
        self.future_made.add_done_callback(lambda done: self.cancelled.set() if done.cancelled() else None)
        self.begun.set()
        return self.future_made

    def function(self, _payload: bytes) -> bytes:
        self.begun.set()
        assert self.release.wait(PATIENCE)
        return b"too late"


@pytest.mark.parametrize("model", ["threaded", "idle"])
@pytest.mark.parametrize("kind", ["coroutine", "future"])
def test_go_cancels_what_runs_in_python(model: str, kind: str, loop: asyncio.AbstractEventLoop | None) -> None:
    patient = Patient()
    with opened("talk", model, handlers={"patient": getattr(patient, kind)}, loop=loop) as app:
        app.request("begin", "1 patient x")
        assert patient.begun.wait(PATIENCE)
        app.request("cancel", "1")
        assert app.request("await", "1") == b"cancelled: context canceled "
        assert patient.cancelled.wait(PATIENCE)
        wait_until(lambda: app._messages.outstanding == 0)


def test_a_deadline_of_go_s_cancels_too() -> None:
    patient = Patient()
    with opened("talk", handlers={"patient": patient.coroutine}) as app:
        assert app.request("impatient", "patient") == b"context deadline exceeded"
        assert patient.cancelled.wait(PATIENCE)


def test_a_function_that_has_not_begun_never_does_when_go_cancels_it_and_one_that_runs_goes_on() -> None:
    patient = Patient()
    ran: list[bytes] = []
    contexts: list[gothreads.Context] = []

    def told(context_payload: bytes, context: gothreads.Context) -> bytes:
        contexts.append(context)
        return patient.function(context_payload)
    with opened("talk", callers=1, handlers={"patient": told, "other": ran.append}) as app:
        app.request("begin", "1 patient x")
        assert patient.begun.wait(PATIENCE)
        app.request("begin", "2 other x")  # waits for a thread
        app.request("begin", "3 other y")
        wait_until(lambda: app._messages.outstanding == 3)
        app.request("cancel", "2")
        assert app.request("await", "2") == b"cancelled: context canceled "
        assert not contexts[0].cancelled.is_set()
        app.request("cancel", "1")
        assert app.request("await", "1") == b"cancelled: context canceled "
        assert contexts[0].cancelled.is_set()
        assert ran == []
        patient.release.set()
        assert app.request("await", "3") == b"none "
        assert ran == [b"y"]


def cancel_task(patient: Patient) -> None:
    assert patient.loop is not None
    assert patient.task is not None
    patient.loop.call_soon_threadsafe(patient.task.cancel)


@pytest.mark.parametrize(("kind", "cancel"),
                         [("coroutine", cancel_task), ("future", lambda patient: patient.future_made.cancel())])
def test_python_cancels_and_go_gets_context_canceled(kind: str, cancel: Callable[[Patient], object],
                                                     loop: asyncio.AbstractEventLoop | None) -> None:
    patient = Patient()
    with opened("talk", handlers={"patient": getattr(patient, kind)}, loop=loop) as app:
        waiting = app.submit_request("kind", "patient")
        assert patient.begun.wait(PATIENCE)
        cancel(patient)
        assert waiting.result(PATIENCE) == b"cancelled: handler patient: context canceled"


@pytest.mark.parametrize("error", [asyncio.CancelledError, concurrent.futures.CancelledError])
def test_raising_a_cancelled_error_is_context_canceled_too(error: type[BaseException]) -> None:
    def now(_payload: bytes) -> None:
        raise error

    async def later(_payload: bytes) -> None:
        raise error
    with opened("talk", handlers={"now": now, "later": later}) as app:
        for name in ("now", "later"):
            assert app.request("kind", name).decode() == f"cancelled: handler {name}: context canceled"


class Racing:
    """Handlers that reply within 2 ms, while Go cancels within the same time. Counts how the calls end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begun = self.replied = self.cancelled = 0
        self.pool = concurrent.futures.ThreadPoolExecutor(4)

    def _count(self, begun: int = 0, replied: int = 0, cancelled: int = 0) -> None:
        with self._lock:
            self.begun += begun
            self.replied += replied
            self.cancelled += cancelled

    async def coroutine(self, payload: bytes) -> bytes:
        self._count(begun=1)
        try:
            await asyncio.sleep(random.random() * 0.002)
        except asyncio.CancelledError:
            self._count(cancelled=1)
            raise
        self._count(replied=1)
        return payload

    def function(self, payload: bytes) -> bytes:
        self._count(begun=1)
        time.sleep(random.random() * 0.0005)
        self._count(replied=1)
        return payload

    @staticmethod
    def _late(payload: bytes) -> bytes:
        time.sleep(random.random() * 0.0005)
        return payload

    def future(self, payload: bytes) -> Future[bytes]:
        self._count(begun=1)
        made = self.pool.submit(self._late, payload)
        made.add_done_callback(lambda done: self._count(cancelled=1) if done.cancelled() else self._count(replied=1))
        return made

    async def itself(self, payload: bytes) -> bytes:
        """Sometimes cancelled by Python too."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(random.random() * 0.004, task.cancel)
        return await self.coroutine(payload)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["coroutine", "function", "future", "itself"])
def test_replies_and_cancellations_race_ten_thousand_times_and_each_call_ends_once(kind: str) -> None:
    racing = Racing()
    with racing.pool, opened("talk", handlers={"racing": getattr(racing, kind)}) as app:
        app.request("race", "1600 racing")  # warm-up: buffers and stacks reach their final size
        before = heap(app)
        replied, cancelled, wrong = map(int, app.request("race", "10000 racing").split())
        assert (replied + cancelled, wrong) == (10_000, 0)
        assert replied > 100
        assert cancelled > 100
        wait_until(lambda: app._messages.outstanding == 0)
        wait_until(lambda: racing.begun == racing.replied + racing.cancelled)
        calls = app._environment.calls  # type: ignore[attr-defined]
        wait_until(lambda: (calls._count, calls._size) == (0, 0))
        wait_until(lambda: heap(app)[1] <= before[1])
        assert heap(app)[0] < before[0] + 2_000  # a leak in Go would be at least one object per call


@pytest.mark.parametrize("model", MODELS)
def test_notify_does_not_wait_and_what_fails_is_logged(model: str, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[bytes] = []
    release = threading.Event()

    def slow(payload: bytes) -> bytes:
        assert release.wait(PATIENCE)
        seen.append(payload)
        return b"nobody gets this"

    async def bad(payload: bytes) -> None:
        raise ValueError(f"no {payload.decode()}")

    async def gone(_payload: bytes) -> None:
        raise asyncio.CancelledError
    with opened("talk", model, handlers={"slow": slow, "bad": bad, "gone": gone}) as app:
        assert app.request("notify", "slow 1") == b""
        assert app.request("notify", "slow 2") == b""
        assert seen == []
        release.set()
        wait_until(lambda: sorted(seen) == [b"1", b"2"])
        app.request("notify", "bad luck")
        app.request("notify", "gone x")
        wait_until(lambda: len(caplog.records) == 2)
        failed, gone_said = sorted(record.getMessage() for record in caplog.records)
        assert re.fullmatch(rf"the handler bad, which guest.Notify called, failed: ValueError: no luck "
                            rf"\({re.escape(__file__)}, line \d+\)", failed)
        assert gone_said == "the handler gone, which guest.Notify called, failed: cancelled"
        wait_until(lambda: app._messages.outstanding == 0)
    caplog.clear()


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["coroutine", "future", "function"])
def test_close_with_a_thousand_calls_outstanding_is_prompt(model: str, kind: str,
                                                           loop: asyncio.AbstractEventLoop | None) -> None:
    parked, release = Parked(), threading.Event()
    handlers: dict[str, Callable[[bytes], Any]] = {"coroutine": parked.coroutine, "future": parked.future,
                                                   "function": lambda _p: release.wait(PATIENCE)}
    app = opened("talk", model, handlers={"park": handlers[kind]}, loop=loop)
    waiting = app.submit_request("echoes", "1000 park")
    wait_until(lambda: app._messages.outstanding == 1000)
    begin = time.monotonic()
    app.close()
    assert time.monotonic() - begin < under_load(0.5)
    assert isinstance(waiting.exception(under_load(1)), gothreads.AppClosed)
    assert app._messages.outstanding == 0
    release.set()


async def stubborn(_payload: bytes) -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


async def tidy(_payload: bytes) -> None:
    tidying.set()
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.1)
        tidied.set()


tidying, tidied = threading.Event(), threading.Event()


@pytest.mark.parametrize("model", ["threaded", "single"])
def test_coroutines_may_clean_up_when_the_app_closes(model: str) -> None:
    tidying.clear()
    tidied.clear()
    app = opened("talk", model, handlers={"tidy": tidy})
    app.submit_request("call", "tidy")
    assert tidying.wait(PATIENCE)  # a coroutine cancelled before it has begun would have nothing to clean up
    app.close()
    assert tidied.is_set()


def test_a_coroutine_that_ignores_its_cancellation_is_dropped_after_a_second(caplog: pytest.LogCaptureFixture) -> None:
    app = opened("talk", handlers={"stubborn": stubborn})
    waiting = app.submit_request("call", "stubborn")
    wait_until(lambda: app._messages.outstanding == 1)
    begin = time.monotonic()
    app.close()
    assert 0.9 < time.monotonic() - begin < under_load(1.6)
    assert isinstance(waiting.exception(under_load(1)), gothreads.AppClosed)
    assert [r.getMessage().partition("<")[0]
            for r in caplog.records] == ["a coroutine still runs 1 s after it was cancelled, and is abandoned: "]
    caplog.clear()


@pytest.mark.parametrize("how", ["function", "coroutine", "callback"])
@pytest.mark.parametrize("model", MODELS)
def test_a_handler_may_close_the_app(model: str, how: str, loop: asyncio.AbstractEventLoop | None) -> None:
    took: list[float] = []

    def close() -> None:
        begin = time.monotonic()
        app.close()
        took.append(time.monotonic() - begin)

    def function(_payload: bytes) -> None:
        close()

    async def coroutine(_payload: bytes) -> None:
        close()

    def callback(_payload: bytes) -> Future[None]:
        made: Future[None] = Future()
        made.add_done_callback(lambda _done: close())
        threading.Timer(0.01, made.set_result, (None,)).start()
        return made
    app = opened("talk", model,
                 handlers={"close": {"function": function, "coroutine": coroutine, "callback": callback}[how]},
                 loop=loop)
    with pytest.raises(gothreads.AppClosed):
        app.submit_request("call", "close").result(PATIENCE)
    wait_until(lambda: took)
    assert took[0] < under_load(0.5)
    app.close()
    assert app.state is gothreads.State.CLOSED


def test_an_app_may_live_on_the_loop_of_its_handlers() -> None:
    """A coroutine of the loop opens, uses and closes the app."""
    async def main() -> None:
        with opened("talk", handlers={"later": bracketed_later, "patient": Patient().coroutine},
                    loop=asyncio.get_running_loop()) as app:
            assert await app.request_async("call", "later x") == b"<x>"
            waiting = asyncio.ensure_future(app.request_async("call", "patient"))
            while app._messages.outstanding != 1:
                await asyncio.sleep(0.001)
        with pytest.raises(gothreads.AppClosed):
            await waiting
    asyncio.run(main())


def test_a_loop_that_was_closed_before_the_app() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    parked = Parked()
    with opened("talk",
                handlers={"park": parked.future, "later": bracketed_later, "returned": lambda p: bracketed_later(p)},
                loop=loop) as app:
        assert app.request("call", "later x") == b"<x>"
        app.request("begin", "1 later x")
        app.request("await", "1")
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        app.submit_request("call", "later x")  # the loop is not running
        wait_until(lambda: app._messages.outstanding == 1)
        loop.run_until_complete(asyncio.sleep(0.01))
        wait_until(lambda: app._messages.outstanding == 0)
        loop.close()
        for name in ("later", "returned"):
            assert app.request("kind",
                               name).decode() == f"raised: {name}: AppClosed: the event loop for handlers is closed"


def test_a_loop_that_is_closed_with_calls_outstanding_logs_nothing() -> None:
    patient = Patient()
    loop = asyncio.new_event_loop()
    with opened("talk", handlers={"patient": patient.coroutine}, loop=loop) as app:
        app.submit_request("call", "patient")
        wait_until(lambda: app._messages.outstanding == 1)
        loop.run_until_complete(asyncio.sleep(0.01))
        assert patient.begun.is_set()
        assert patient.task is not None
        # asyncio's warning about the pending task would be the fault of the loop's owner.
        patient.task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()


def test_a_handler_may_call_exports_and_handlers_of_the_same_app() -> None:
    def down(payload: bytes) -> bytes:
        n = int(payload)
        return b"bottom" if n == 0 else app.request("call", f"down {n - 1}")
    with opened("talk", handlers={"down": down}) as app:
        assert app.request("call", "down 10") == b"bottom"


@pytest.mark.parametrize("model", ["single", "pool", "idle"])
def test_goroutines_of_one_call_wait_at_the_same_time_in_stock_go(model: str) -> None:
    barrier = threading.Barrier(20)

    def meet(payload: bytes) -> bytes:
        barrier.wait(PATIENCE)
        return payload
    with opened("talk", model, handlers={"meet": meet}) as app:
        assert app.request("echoes", "20 meet") == b"20"


@pytest.mark.long
def test_no_thread_for_a_handler_is_an_error_in_go() -> None:
    """In a separate process, with a memory limit that leaves no room for another stack."""
    program = """
        import gothreads, psutil, resource, sys
        stack = 64 << 20
        limits = gothreads.Limits(stack=stack)
        # procs=1: with more, Go's runtime may start a thread at any time, too.
        with gothreads.open(sys.argv[1], handlers={"now": len}, procs=1, limits=limits) as app:
            app.submit_request("seen").result()
            app.goroutines()
            resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + stack // 2,) * 2)
            print(app.submit_request("kind", "now").result(60).decode())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(built("talk"))], capture_output=True,
                          text=True, timeout=PATIENCE)
    assert done.stdout == "raised: now: CallersBusy: the system has no thread left for the call\n", done.stderr


@pytest.mark.long
def test_a_call_that_the_host_has_yet_to_answer_is_no_stall() -> None:
    stalls: list[gothreads.Stall] = []
    parked = Parked()
    with opened("talk", handlers={"park": parked.future}, stall_timeout=0.1, on_stall=stalls.append) as app:
        waiting = app.submit_request("call", "park x")
        wait_until(lambda: parked.waiting)
        looked = time.monotonic()
        wait_until(lambda: time.monotonic() - looked > 1.0)  # ten times stall_timeout
        assert stalls == []
        app.submit_request("hang")
        looked = time.monotonic()
        wait_until(lambda: time.monotonic() - looked > 0.5)
        assert stalls == []
        parked.release()
        assert waiting.result(PATIENCE) == b"x"
        wait_until(lambda: stalls)  # the remaining call waits for nothing that could still happen
        assert len(stalls[0].calls) == 1


def test_the_log_has_what_a_handler_raised_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    def bad(_payload: bytes) -> None:
        raise ValueError("why")
    with caplog.at_level(logging.DEBUG, "gothreads"), opened("talk", handlers={"bad": bad}) as app:
        app.request("kind", "bad")
        assert [r.exc_info[1].args for r in caplog.records if r.exc_info and r.exc_info[1]] == [("why",)]
    caplog.clear()
    with caplog.at_level(logging.INFO, "gothreads"), opened("talk", handlers={"bad": bad}) as app:
        app.request("kind", "bad")
        line = bad.__code__.co_firstlineno + 1
        assert [record.getMessage()
                for record in caplog.records] == [f"the handler bad raised ValueError: why ({__file__}, line {line})"]
    caplog.clear()


