"""close(drain=S): calls in flight may finish for up to S seconds, and new ones are refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads import State
from tests.support.modules import MODELS, opened
from tests.support.patient import counts, patient
from tests.support.waiting import PATIENCE, under_load, wait_until


def closing(app: gothreads.App, drain: float) -> threading.Thread:
    """Close on another thread, and return once it drains."""
    thread = threading.Thread(target=lambda: app.close(drain=drain))
    thread.start()
    wait_until(lambda: app.state is not State.RUNNING)
    return thread


def refused(call: Any) -> None:
    with pytest.raises(gothreads.AppClosed, match="takes no new calls"):
        call()


@pytest.mark.parametrize("model", MODELS)
def test_calls_in_flight_finish_and_those_that_are_queued(model: str, nothing_left: None) -> None:
    app = patient(model, instances=2 if model == "pool" else None, callers=2)
    futures = [app.submit("sleep", 50) for _ in range(6)]
    begin = time.monotonic()
    app.close(drain=60)
    assert time.monotonic() - begin < under_load(30)  # it ends with the last call, not at the deadline
    assert sorted(future.result(0) for future in futures)[-1] >= (3 if model == "pool" else 6)
    assert app.state is State.CLOSED
    assert str(app.error).endswith("the app was closed")


def test_new_calls_are_refused_meanwhile_whoever_makes_them() -> None:
    app = patient()
    inside = app.submit_request("plain")
    wait_until(lambda: counts(app)[0] == 1)
    thread = closing(app, 60)
    assert app.state is State.DRAINING
    for call in (lambda: app.exports.add(1, 2), lambda: app.submit("add", 1, 2), lambda: app.request("echo"),
                 lambda: app.submit_request("echo"),
                 lambda: app.exports.add(1, 2, timeout=1), app.handlers, lambda: list(app.map("add", [1], [2]))):
        refused(call)
    assert not inside.done()
    assert app.statistics().state == "draining"
    app.close()  # a second close() does not wait
    thread.join(PATIENCE)
    assert isinstance(inside.exception(0), gothreads.AppClosed)
    with pytest.raises(gothreads.AppClosed, match="was closed"):
        app.exports.add(1, 2)


def test_when_the_time_is_over_calls_are_ended() -> None:
    app = patient()
    inside = [app.submit("spin"), app.submit_request("plain")]
    wait_until(lambda: app._in_use == 2)
    begin = time.monotonic()
    app.close(drain=0.2)
    assert time.monotonic() - begin >= 0.2
    assert [type(future.exception(0)) for future in inside] == [gothreads.AppClosed] * 2


@pytest.mark.parametrize("model", MODELS)
def test_calls_in_flight_may_make_others(model: str) -> None:
    """They do so from a host function, and from a handler of guest.Call."""
    begun, go_on = threading.Event(), threading.Event()

    def call_again(n: int, context: gothreads.Context) -> int:
        begun.set()
        go_on.wait(PATIENCE)
        return int(context.app.request("echo", str(n)))
    app = opened("patient", model, host={"env": {"call_again": call_again}})
    inside = app.submit("again", 7)
    assert begun.wait(PATIENCE)
    thread = closing(app, 60)
    go_on.set()
    thread.join(PATIENCE)
    assert inside.result(0) == 7


def test_a_death_meanwhile_is_the_cause() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def call_again(n: int) -> int:
        begun.set()
        go_on.wait(PATIENCE)
        raise LookupError("in the middle")
    app = opened("patient", host={"env": {"call_again": call_again}})
    futures: list[Future[Any]] = [app.submit("again", 7), app.submit_request("plain")]
    assert begun.wait(PATIENCE)
    thread = closing(app, 60)
    go_on.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert [type(future.exception(PATIENCE)) for future in futures] == [gothreads.HostFunctionError] * 2
    assert app.state is State.FAILED


def test_the_stop_hook_comes_when_the_calls_have_gone() -> None:
    said: list[str] = []

    class Lines:
        def write(self, text: Any) -> None:
            said.append(bytes(text).decode().strip())
    app = opened("hooks", stdout=Lines())
    app.close(drain=10)
    assert any("stop" in line for line in said), said


def test_from_inside_a_call_it_waits_for_that_call_too() -> None:
    def call_again(n: int, context: gothreads.Context) -> int:
        context.app.close(drain=30)
        return n + 1
    app = opened("patient", host={"env": {"call_again": call_again}})
    assert app.exports.again(1) == 2
    wait_until(lambda: app.state is State.CLOSED)
    app.close()


@pytest.mark.parametrize("drain", [-1, "1", True, float("nan")])
def test_what_is_no_time_is_said_and_nothing_closes(drain: Any) -> None:
    with patient() as app:
        with pytest.raises(gothreads.MisuseError, match="drain must be a number of seconds"):
            app.close(drain=drain)
        assert app.exports.add(1, 2) == 3


@pytest.mark.parametrize("opened", [gothreads.open, gothreads.supervise])
def test_async_with_closes_without_blocking_the_loop(
        calls: Path, opened: Callable[[Path], gothreads.App | gothreads.Supervised]) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)
        ticking = asyncio.create_task(tick())
        async with opened(calls) as app:
            assert await app.call_async("add", 2, 3) == 5
            before = ticks
        assert app.state is State.CLOSED
        assert ticks > before + 1
        with pytest.raises(ZeroDivisionError):
            async with app:  # closed already
                raise ZeroDivisionError
        ticking.cancel()
    asyncio.run(main())


def test_close_async_leaves_the_loop_to_those_that_the_end_waits_for() -> None:
    """The app's handlers run on this loop, and a call in flight waits for one of them."""
    async def later(payload: bytes) -> bytes:
        await asyncio.sleep(0.05)
        return payload

    async def run() -> None:
        app = opened("talk", handlers={"later": later}, loop=asyncio.get_running_loop())
        asking = asyncio.ensure_future(app.request_async("call", "later x"))
        while not app._messages.outstanding:
            await asyncio.sleep(0.001)
        await app.close_async(drain=30)
        assert await asking == b"x"
        assert app.state is State.CLOSED
    asyncio.run(run())
