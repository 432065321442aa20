"""Awkward moments in a pool: an instance that has ended does not hold up the others, and its state is never reused."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import gothreads
from gothreads.runtime.models.pool import PoolApp
from gothreads.runtime.models.pool_member import PoolMember
from gothreads.runtime.wasi_environment import WasiEnvironment
from tests.support.bad_ends import elsewhere, leaves
from tests.support.modules import opened
from tests.support.parking import Parking
from tests.support.waiting import PATIENCE, under_load, wait_until

pytestmark = pytest.mark.usefixtures("nothing_left")


def nested(*, started: Any = lambda: None, again: Any = lambda n: n, **options: Any) -> gothreads.App:
    return opened("nested", "pool", host={"env": {"started": started, "again": again}},
                  **({"stderr": io.BytesIO(), "instances": 1} | options))


# An instance that has ended, and its replacement.

def test_calls_that_are_waited_for_at_the_end_get_an_instance_though_one_has_ended() -> None:
    park = Parking()
    app = opened("talk", "pool", instances=1, handlers={"park": park}, stderr=io.BytesIO())
    parked = app.submit_request("call", "park")
    wait_until(lambda: park.parked)
    dies = app.submit_request("die", "panic words")
    wait_until(lambda: app.statistics().pool.waiting == 1)  # type: ignore[union-attr]
    last = app.submit("bump")
    wait_until(lambda: app.statistics().pool.waiting == 2)  # type: ignore[union-attr]
    closing = threading.Thread(target=lambda: app.close(drain=8))
    closing.start()
    wait_until(lambda: app.state is gothreads.State.DRAINING)
    park.parked[0].set_result(b"reply")
    closing.join(PATIENCE)
    assert parked.result(0) == b"reply"
    assert isinstance(dies.exception(0), gothreads.GuestPanic)
    assert last.result(0) == 1


def test_a_call_that_has_ended_does_not_wait_for_the_next_instance() -> None:
    starts: list[int] = []
    go_on = threading.Event()

    def started() -> None:
        starts.append(1)
        if len(starts) > 2:
            go_on.wait(PATIENCE)
    with nested(instances=2, started=started) as app:
        try:
            assert isinstance(app.submit("panics").exception(PATIENCE), gothreads.GuestPanic)
            assert elsewhere(lambda: app.exports.add(1, 2)).result(PATIENCE) == 3  # in the other instance
        finally:
            go_on.set()
        assert app.statistics().pool.replaced == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("use", [
    pytest.param(lambda app: app.exports.add(1, 2, timeout=1), id="timeout"),
    pytest.param(lambda app: app.exports.add(1, 2, on_timeout="stop"), id="stop"),
    pytest.param(lambda app: app.goroutines(), id="goroutines"),
    pytest.param(lambda app: app.wait_idle(1), id="wait_idle")])
def test_an_instance_that_starts_in_the_place_of_another_is_not_waited_for_by_what_it_calls(use: Any) -> None:
    seen: list[object] = []
    apps: list[gothreads.App] = []

    def started() -> None:
        for app in apps:
            try:
                seen.append(use(app))
            except gothreads.GothreadsError as error:
                seen.append(type(error))
    with nested(started=started, callers=1) as app:
        apps.append(app)
        assert isinstance(app.submit("panics").exception(PATIENCE), gothreads.GuestPanic)
        assert app.submit("add", 3, 4).result(PATIENCE) == 7
        assert seen == [gothreads.NotCallable]


def test_a_reply_whose_callback_exits_does_not_cost_the_place_of_the_instance(caplog: pytest.LogCaptureFixture) -> None:
    def never(_payload: bytes) -> Future[bytes]:
        reply: Future[bytes] = Future()
        reply.add_done_callback(leaves)
        return reply
    with opened("talk", "pool", instances=1, handlers={"never": never}, stderr=io.BytesIO()) as app:
        with pytest.raises(gothreads.CallTimeout):
            app.request("call", "never", timeout=0.2, on_timeout="stop")
        assert app.submit("bump").result(PATIENCE) == 1
        pool = app.statistics().pool
        assert pool is not None
        assert (pool.total, pool.replaced) == (1, 1)
    caplog.clear()


@pytest.mark.parametrize("how", ["traps", "panics"])
def test_nobody_gets_what_a_nested_call_has_left_in_the_middle_of_something(how: str) -> None:
    """The Python function in between swallows the error, and calls again."""
    errors: list[BaseException | None] = []

    def again(n: int) -> int:
        for name in (how, "count", "count", "add"):
            try:
                errors.append(None)
                app.exports[name](*((1, 2) if name == "add" else ()))
            except gothreads.GuestError as error:
                errors[-1] = error
        return n
    with nested(again=again) as app:
        kind = gothreads.GuestTrap if how == "traps" else gothreads.GuestPanic
        with pytest.raises(kind):
            elsewhere(lambda: app.exports.outer(5)).result(PATIENCE)
        assert [type(error) for error in errors] == [kind] * 4
        assert app.exports.count() == 1  # a fresh instance
        assert app.state is gothreads.State.RUNNING


# Standard input.

@contextlib.contextmanager
def silent() -> Iterator[Any]:
    """Standard input on which nothing ever arrives."""
    read, write = os.pipe()
    try:
        with os.fdopen(read, "rb") as stdin:
            yield stdin
    finally:
        os.close(write)


def test_a_call_that_reads_standard_input_can_be_stopped_without_the_app() -> None:
    with silent() as stdin, nested(stdin=stdin) as app:
        with pytest.raises(gothreads.CallTimeout):
            app.exports.read(timeout=0.2, on_timeout="stop")
        assert app.submit("add", 1, 2).result(PATIENCE) == 3


def test_a_call_that_waits_to_read_behind_another_can_be_stopped_too() -> None:
    with silent() as stdin, nested(instances=2, stdin=stdin) as app:
        first = app.submit("read")
        wait_until(lambda: len(app._in_python) == 1)
        with pytest.raises(gothreads.CallTimeout):
            app.exports.read(timeout=0.2, on_timeout="stop")
        assert app.submit("add", 1, 2).result(PATIENCE) == 3
        assert not first.done()
        begin = time.monotonic()
        app.close()
        assert time.monotonic() - begin < under_load(3)
        assert isinstance(first.exception(PATIENCE), gothreads.AppClosed)


# Operations on all free instances.

def test_an_instance_that_never_becomes_idle_keeps_the_others_from_nobody() -> None:
    with opened("talk", "pool", instances=3) as app:
        app.exports.spin()
        with pytest.raises(TimeoutError, match="not every goroutine waits"):
            app.wait_idle(0.3)
        assert [app.submit("bump").result(PATIENCE) for _ in range(3)]
        assert app.statistics().pool.in_use == 1  # type: ignore[union-attr]  # the unfinished wait_idle


def test_who_asks_all_instances_takes_none_when_the_app_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asks, ended, over = threading.Event(), threading.Event(), threading.Event()
    close_members, of_all_free, use = PoolApp._close_members, PoolApp._of_all_free, PoolApp._use
    used: list[PoolMember] = []

    def closes(app: PoolApp) -> None:
        ended.set()
        over.wait(PATIENCE)
        close_members(app)

    def asks_late(app: PoolApp, work: Any, failed: Any = None) -> Any:
        if failed is not None:  # the hook stop
            return of_all_free(app, work, failed)
        asks.set()
        ended.wait(PATIENCE)
        try:
            return of_all_free(app, work)
        finally:
            over.set()

    def uses(app: PoolApp, member: PoolMember, work: Any) -> Any:
        used.append(member)
        return use(app, member, work)
    monkeypatch.setattr(PoolApp, "_close_members", closes)
    app = opened("calls", "pool", instances=2)
    monkeypatch.setattr(PoolApp, "_of_all_free", asks_late)
    monkeypatch.setattr(PoolApp, "_use", uses)
    told = elsewhere(app.goroutines)
    assert asks.wait(PATIENCE)
    app.close()
    assert isinstance(told.exception(PATIENCE), gothreads.AppClosed)
    assert not used


def test_to_stop_an_instance_that_was_just_closed_writes_to_nobodys_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, close = WasiEnvironment.stop, PoolMember.close
    closes, stopping, closed = threading.Event(), threading.Event(), threading.Event()
    pipes: list[tuple[int, int]] = []

    def stops(environment: WasiEnvironment) -> None:
        if environment is first and not stopping.is_set():
            stopping.set()
            closed.wait(PATIENCE)  # the end of the app has found the instance, but has not stopped it yet
        stop(environment)

    def close_at_last(member: PoolMember) -> None:
        if member.environment is first:
            closes.set()
            stopping.wait(PATIENCE)
        close(member)
        if member.environment is first:
            pipes.extend(os.pipe() for _ in range(4))  # other files, which get the same numbers
            closed.set()
    app = opened("calls", "pool", instances=1, stderr=io.BytesIO())
    first = app._environments[0]
    number = first.stopped._write
    monkeypatch.setattr(WasiEnvironment, "stop", stops)
    monkeypatch.setattr(PoolMember, "close", close_at_last)
    call = app.submit("panics")
    assert closes.wait(PATIENCE)
    app.close()
    assert isinstance(call.exception(PATIENCE), gothreads.GuestPanic | gothreads.AppClosed)
    assert number in {end for pipe in pipes for end in pipe}
    for read, write in pipes:
        os.close(write)
        assert os.read(read, 10) == b""
        os.close(read)
