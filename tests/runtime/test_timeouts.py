"""Calls that their callers give up: when that happens, what the caller gets, and what happens to the call."""

from __future__ import annotations

import asyncio
import random
import re
import threading
import time
from concurrent.futures import CancelledError, Future, wait
from contextlib import closing
from functools import partial
from typing import Any

import pytest

import gothreads
from gothreads.sync.deadlines import Deadlines
from tests.support.modules import MODELS, opened
from tests.support.patient import counts, given_up_inside, inside, patient
from tests.support.waiting import PATIENCE, together, wait_until


@pytest.mark.parametrize("model", MODELS)
def test_a_call_in_time_is_none_the_different(model: str, nothing_left: None) -> None:
    with patient(model) as app:
        assert app.exports.add(1, 2, timeout=30) == 3
        assert app.submit("add", 1, 2, timeout=30).result() == 3
        assert list(app.map("add", range(5), range(5), timeout=30)) == [0, 2, 4, 6, 8]
        assert app.request("echo", "x", timeout=30) == b"x"
        assert app.submit_request("echo", "x", timeout=30).result() == b"x"
        assert asyncio.run(app.call_async("add", 1, 2, timeout=30)) == 3
        assert asyncio.run(app.request_async("echo", "x", timeout=30)) == b"x"
        with pytest.raises(gothreads.UnknownExport):
            app.request("nobody", timeout=30)


def test_after_the_timeout_the_caller_goes_and_the_call_goes_on() -> None:
    with patient() as app:
        calls: list[Any] = [lambda: app.exports.sleep(300, timeout=0.05),
                            lambda: app.submit("sleep", 300, timeout=0.05).result(),
                            lambda: asyncio.run(app.call_async("sleep", 300, timeout=0.05)),
                            lambda: list(app.map("sleep", [300, 300], timeout=0.05))]
        for call in calls:
            begin = time.monotonic()
            given_up_inside(call)
            assert time.monotonic() - begin >= 0.045
        wait_until(lambda: counts(app)[0] == 0)
        assert counts(app)[2] >= len(calls)
        assert app.state is gothreads.State.RUNNING


@pytest.mark.parametrize("model", MODELS)
def test_the_context_of_a_handler_is_cancelled(model: str) -> None:
    with patient(model, instances=1 if model == "pool" else None) as app:
        assert ("the request to wait has not come back within 0.05 s; its context is cancelled; without one, it goes on"
                ) in given_up_inside(lambda: app.request("wait", timeout=0.05))
        wait_until(lambda: counts(app) == (0, 1, 0))
        given_up_inside(lambda: app.submit_request("wait", timeout=0.05).result())
        wait_until(lambda: counts(app) == (0, 2, 0))
        given_up_inside(lambda: asyncio.run(app.request_async("wait", timeout=0.05)))
        wait_until(lambda: counts(app) == (0, 3, 0))
        assert app.request("echo", "x") == b"x"  # the next context is not cancelled


@pytest.mark.parametrize("model", MODELS)
def test_a_context_has_the_deadline_of_its_call(model: str) -> None:
    with patient(model, instances=1 if model == "pool" else None) as app:
        for payload in ("", "with a request inside"):
            told, left = app.request("left", payload, timeout=3600).split()
            assert told == b"true"
            assert 3600 - PATIENCE < float(left) <= 3600
            told, left = asyncio.run(app.request_async("left", payload, timeout=86400, on_timeout="stop")).split()
            assert told == b"true"
            assert 86400 - PATIENCE < float(left) <= 86400
        told, left = app.request("left", timeout=float("inf")).split()
        assert told == b"true"
        assert float(left) > 3_000_000_000
        # Not where nothing is cancelled, and not that of an earlier request.
        assert app.request("left", timeout=3600, on_timeout="continue").startswith(b"false")
        assert app.request("left").startswith(b"false")


@pytest.mark.parametrize("model", MODELS)
def test_the_error_of_a_context_says_whether_the_deadline_has_passed(model: str) -> None:
    with patient(model, instances=1 if model == "pool" else None) as app:
        for _ in range(10):  # the handler answers when its context ends: whichever clock is first, the call is late
            given_up_inside(lambda: app.request("wait", timeout=0.02))
            wait_until(lambda: counts(app)[0] == 0)
            assert app.request("why") == b"context deadline exceeded"
        cancelled = app.submit_request("wait", timeout=3600)
        wait_until(lambda: inside() == 1)
        assert cancelled.cancel()
        wait_until(lambda: app.request("why") == b"context canceled")


def test_a_call_that_comes_back_at_its_deadline_is_late_also_where_it_would_be_stopped() -> None:
    with patient() as app:
        error = given_up_inside(lambda: app.request("wait", timeout=0.02, on_timeout="stop"))
        ended = "within 0.02 s; the module was ended" in error
        assert ended or "within 0.02 s; it came back then" in error
        assert (app.state is gothreads.State.RUNNING) != ended


def test_one_without_a_context_goes_on() -> None:
    with patient() as app:
        with pytest.raises(gothreads.CallTimeout):
            app.request("plain", timeout=0.05)
        with pytest.raises(gothreads.CallTimeout, match=r"within 0\.05 s; it goes on until it returns$"):
            app.request("wait", timeout=0.05, on_timeout="continue")
        assert counts(app) == (2, 0, 0)
        app.request("release")
        wait_until(lambda: counts(app) == (0, 0, 1))


def test_a_call_that_goes_on_after_its_timeout_is_logged_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    def said() -> list[str]:
        return [re.sub(r"\d+\.\d s", "N s", record.getMessage()) for record in caplog.records]
    with patient() as app:
        name = app.loaded.name
        for handler in ("wait", "plain"):  # the first one has a context, and returns in time
            with pytest.raises(gothreads.CallTimeout):
                app.request(handler, timeout=0.05)
        wait_until(said)
        assert said() == [f"{name}: the request to plain is still in the module N s after its timeout, and goes on. "
                          'on_timeout="stop" (serve: --on-timeout stop) would end the module']
        app.request("release")
        wait_until(lambda: len(said()) == 2)
        assert said()[1:] == [f"{name}: the request to plain is over, N s after its timeout"]


@pytest.mark.parametrize("export", ["spin", "sleep"])
@pytest.mark.parametrize("model", ["threaded", "single", "idle"])
def test_the_module_is_stopped_and_all_others_are_told(model: str, export: str) -> None:
    with patient(model) as app:
        others = [app.submit("sleep", 3_600_000) for _ in range(3)] if model == "threaded" else []
        said = given_up_inside(lambda: app.exports[export](*([3_600_000] if export == "sleep" else []), timeout=0.05,
                                                           on_timeout="stop"))
        assert said.endswith("within 0.05 s; the module was ended")
        for other in others:
            error = other.exception(PATIENCE)
            assert isinstance(error, gothreads.LimitExceeded)
            assert f"the call of {export} was given up" in str(error)
        with pytest.raises(gothreads.LimitExceeded):
            app.exports.add(1, 2)
        assert app.exit == 124
        with pytest.raises(gothreads.LimitExceeded):
            app.wait(PATIENCE)
        assert app.state is gothreads.State.FAILED


def test_whoever_hears_of_a_timeout_finds_the_module_stopped() -> None:
    with patient() as app:
        found: list[object] = []
        call = app.submit("sleep", 60_000, timeout=0.05, on_timeout="stop")
        call.add_done_callback(lambda _: found.append(app.error))
        assert isinstance(call.exception(PATIENCE), gothreads.CallTimeout)
        wait_until(lambda: found)
        assert isinstance(found[0], gothreads.LimitExceeded)


@pytest.mark.parametrize("export", ["spin", "sleep"])
def test_of_a_pool_only_the_instance_is_stopped(export: str) -> None:
    with patient("pool", instances=3) as app:
        others = [app.submit_request("plain") for _ in range(2)]
        for n in range(3):
            wait_until(lambda n=n: (app.statistics().pool.replaced, app._in_use) == (n, 2))  # type: ignore[misc,union-attr]
            assert app.exports.add(1, 2) == 3  # by a fresh instance
            stopped = app.submit(export, *([3_600_000] if export == "sleep" else []), timeout=3600, on_timeout="stop")
            wait_until(lambda: inside() == 3)
            assert stopped.cancel()
        wait_until(lambda: (app.statistics().pool.replaced, app._in_use) == (3, 2))  # type: ignore[union-attr]
        assert not any(other.done() for other in others)  # they keep running
        with pytest.raises(gothreads.CallTimeout):
            app.exports.spin(timeout=0.05, on_timeout="stop")
        assert app.exports.add(1, 2) == 3


def test_a_call_that_has_not_begun_never_does() -> None:
    with patient(callers=1) as app:
        first = app.submit_request("wait")
        wait_until(lambda: inside() == 1)
        for on_timeout in ("continue", "stop"):
            with pytest.raises(gothreads.CallTimeout, match="the call of sleep has not begun within 0.02 s: all 1 "
                               "callers are in use. Raise `callers` \\(--callers\\)"):
                app.exports.sleep(0, timeout=0.02, on_timeout=on_timeout)
        with pytest.raises(gothreads.CallTimeout):
            app.request("plain", timeout=0.02)
        first.cancel()
        assert counts(app) == (0, 1, 0)
        with pytest.raises(CancelledError):
            first.result()


@pytest.mark.parametrize(("model", "why"), [
    ("single", "the model single runs one call at a time, and another is running"),
    ("pool", r"all 1 instances are in use. Raise `instances` \(--instances\), or make fewer calls at once")])
def test_a_call_that_has_not_begun_says_what_it_waited_for(model: str, why: str) -> None:
    with patient(model, instances=1 if model == "pool" else None) as app:
        first = app.submit("sleep", 3_600_000, timeout=3600, on_timeout="stop")
        wait_until(lambda: app._in_use == 1)
        with pytest.raises(gothreads.CallTimeout, match=f"has not begun within 0.02 s: {why}"):
            app.exports.add(1, 2, timeout=0.02)
        first.cancel()


def test_callers_timeout_counts_for_calls_on_other_threads_too() -> None:
    with patient(callers=1, callers_timeout=0.05) as app:
        first = app.submit_request("wait")
        while app.statistics().callers.in_use == 0:  # type: ignore[union-attr]
            if first.done():  # on a loaded machine it may begin too late, too
                first = app.submit_request("wait")
            time.sleep(0.001)
        assert isinstance(app.submit("add", 1, 2).exception(PATIENCE), gothreads.CallersBusy)
        assert isinstance(app.submit_request("echo").exception(PATIENCE), gothreads.CallersBusy)
        assert isinstance(app.submit_request("echo", timeout=30).exception(PATIENCE), gothreads.CallersBusy)
        time.sleep(0.1)
        assert not first.done()  # it has begun, so callers_timeout no longer applies
        first.cancel()
        wait_until(lambda: app.statistics().callers.in_use == 0)  # type: ignore[union-attr]
        assert counts(app) == (0, 1, 0)


def test_to_cancel_a_future_or_a_task_is_to_give_up() -> None:
    async def cancelled() -> None:
        task = asyncio.ensure_future(app.request_async("wait"))
        while counts_now()[0] < 1:  # the loop is not blocked
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await app.request_async("wait")

    def counts_now() -> tuple[int, int, int]:
        return counts(app)
    with patient() as app:
        future = app.submit_request("wait")
        wait_until(lambda: counts(app)[0] == 1)
        assert future.cancel()
        assert wait([future], 5).done == {future}
        wait_until(lambda: counts(app) == (0, 1, 0))
        asyncio.run(cancelled())
        wait_until(lambda: counts(app) == (0, 3, 0))

        async def stopped() -> None:
            async with asyncio.timeout(0.05):
                await app.call_async("spin", on_timeout="stop")
        with pytest.raises(TimeoutError):
            asyncio.run(stopped())
        with pytest.raises(gothreads.LimitExceeded):
            app.exports.add(1, 2)


@pytest.mark.parametrize("model", MODELS)
def test_a_call_inside_anothers_time(model: str) -> None:
    """In stock Go the inner request uses the slot of the outer one. The outer one is cancelled all the same."""
    with patient(model, instances=1 if model == "pool" else None) as app:
        future = app.submit_request("nested")
        if model == "threaded":
            wait_until(lambda: counts(app)[0] == 1)
        else:
            wait_until(lambda: inside() == 1)
        future.cancel()
        wait_until(lambda: counts(app) == (0, 1, 0))


@pytest.mark.parametrize("model", MODELS)
def test_a_host_function_may_set_a_time_where_its_call_is_in_another_instance(model: str) -> None:
    errors: list[BaseException] = []

    def call_again(n: int, context: gothreads.Context) -> int:
        try:
            return int(context.app.request("wait", timeout=0.05) or n)
        except gothreads.GothreadsError as error:
            errors.append(error)
            return n
    with opened("patient", model, host={"env": {"call_again": call_again}}) as app:
        assert app.exports.again(5) == 5
        assert [type(error) for error in errors] == [gothreads.CallTimeout if model == "threaded"
                                                     else gothreads.MisuseError]
        assert app.exports.add(1, 2) == 3


def test_the_end_of_the_app_comes_before_any_timeout() -> None:
    with patient() as app:
        futures = [app.submit("sleep", 3_600_000, timeout=3600), app.submit_request("wait", timeout=3600)]
        wait_until(lambda: counts(app)[0] == 2)
        with pytest.raises(gothreads.GuestPanic):
            app.request("panic", timeout=3600)
        assert [type(future.exception(PATIENCE)) for future in futures] == [gothreads.GuestPanic] * 2


@pytest.mark.parametrize(("options", "said"), [
    ({"timeout": -1}, "timeout must be"), ({"timeout": "1"}, "timeout must be"),
    ({"timeout": True}, "timeout must be"), ({"timeout": float("nan")}, "timeout"),
    ({"timeout": 1, "on_timeout": "kill"}, "on_timeout must be"), ({"on_timeout": "kill"}, "on_timeout must be"),
    ({"timeout": 1, "on_timeout": "cancel"}, "an export has no context"),
])
def test_what_cannot_be_meant_is_said(options: dict[str, Any], said: str) -> None:
    with patient() as app:
        for call in (lambda: app.exports.add(1, 2, **options), lambda: app.submit("add", 1, 2, **options),
                     lambda: asyncio.run(app.call_async("add", 1, 2, **options)),
                     lambda: app.map("add", [1], [2], **options)):
            with pytest.raises(gothreads.MisuseError, match=said):
                call()
        if options.get("on_timeout") != "cancel":
            with pytest.raises(gothreads.MisuseError, match=said):
                app.request("echo", **options)
        with pytest.raises(gothreads.ArgumentError, match="no parameter 'c'"):
            app.exports.add(1, 2, timeout=1, c=3)


def test_every_call_is_accounted_for_when_times_are_about_as_long_as_calls() -> None:
    """Each call is either answered, or its caller gets CallTimeout and its handler a cancelled context."""
    answered: list[str] = []
    timed_out: list[str] = []

    def call(seed: int) -> None:
        draw = random.Random(seed)
        for n in range(60):
            text = f"{seed} {n}"
            try:
                assert app.request("echo" if n % 2 else "wait", text, timeout=draw.uniform(0, 0.004)) == text.encode()
                answered.append(text)
            except gothreads.CallTimeout:
                timed_out.append(text)
    with patient(callers=4) as app:
        together(*(partial(call, seed) for seed in range(8)))
        wait_until(lambda: app.statistics().callers.in_use == 0)  # type: ignore[union-attr]
        waiting, cancelled, _ = counts(app)
        assert waiting == 0
        assert len(answered) + len(timed_out) == 8 * 60
        assert len(timed_out) >= 8 * 30  # all calls of `wait`
        assert cancelled <= len(timed_out)
        assert app.request("echo", "x") == b"x"


# The clock.

def test_deadlines_fire_in_order_once_and_not_when_cancelled() -> None:
    fired: list[str] = []
    with closing(Deadlines()) as deadlines:  # a thread that stays would fail the tests after this one
        late = deadlines.after(0.06, lambda: fired.append("late"))
        second = deadlines.after(0.04, lambda: fired.append("second"))
        first = deadlines.after(0.02, lambda: fired.append("first"))
        never = deadlines.after(0.03, lambda: fired.append("never"))
        assert never.cancel()
        assert not never.cancel()
        wait_until(lambda: len(fired) == 3)
        # On a loaded machine this thread may stand still for longer than these times are apart.
        due = {"first": first.when, "second": second.when, "late": late.when}
        assert fired == sorted(due, key=due.__getitem__)
        assert not late.cancel()
    deadlines.after(0, lambda: fired.append("closed"))
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "gothreads-deadlines"])
    assert len(fired) == 3


def test_deadlines_that_are_cancelled_are_let_go_of() -> None:
    deadlines = Deadlines()
    for _ in range(10_000):
        deadlines.cancel(deadlines.after(3600, lambda: None))
    assert len(deadlines._heap) < 200
    deadlines.close()


def test_deadlines_survive_what_raises(caplog: pytest.LogCaptureFixture) -> None:
    deadlines = Deadlines()
    fired: Future[None] = Future()

    def fails() -> None:
        raise ValueError("in a deadline")
    deadlines.after(0, fails)
    deadlines.after(0.01, lambda: fired.set_result(None))
    fired.result(PATIENCE)
    deadlines.close()
    assert "in a deadline" in caplog.text
