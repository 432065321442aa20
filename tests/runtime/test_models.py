"""The four models behind one interface: what they share, and what idle and pool promise (tests/modules/talk, hooks)."""

from __future__ import annotations

import asyncio
import collections
import io
import re
import socket
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import gothreads
from tests.support.modules import MODELS, built, opened
from tests.support.parking import Parking
from tests.support.waiting import PATIENCE, raises_within, together, under_load, wait_until

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.filterwarnings("error")]

STOCK = ["single", "idle", "pool"]


def alone(model: str) -> dict[str, Any]:
    """Return options for a single instance, so that a call sees the state that another has left."""
    return {"instances": 1} if model == "pool" else {}


@pytest.mark.parametrize("model", STOCK)
def test_stock_go_has_one_proc_whatever_the_environment_says(model: str) -> None:
    with opened("calls", model, env={"GOMAXPROCS": "2"}, **alone(model)) as app:
        assert app.exports.procs() == 1


@pytest.mark.parametrize("model", MODELS)
def test_the_same_program_runs_in_every_model(model: str) -> None:
    async def slow(payload: bytes) -> bytes:
        await asyncio.sleep(0.01)
        return payload.upper()

    async def asynchronously() -> tuple[object, bytes, list[str]]:
        await app.signal_async("text", "two")
        return await app.call_async("bump"), await app.request_async("call", "slow b"), await app.handlers_async()
    with opened("talk", model, handlers={"slow": slow}, **alone(model)) as app:
        assert (app.model, app.state, app.error, app.exit) == (model, gothreads.State.RUNNING, None, None)
        assert repr(app).endswith(f"{model} running>")
        assert (app.exports.bump(), app.submit("bump").result(PATIENCE), list(app.map("ticked"))) == (1, 2, [])
        assert app.request("call", "slow a") == b"A"
        assert app.submit_request("call", "slow a").result(PATIENCE) == b"A"
        assert app.signal("text", "one")
        assert asyncio.run(asynchronously())[:2] == (3, b"B")
        assert {"call", "notify"} <= set(app.handlers())
        app.wait_idle(10)
        assert app.request("kept") == b"one,two"
        assert app.events == ["number", "text"]
        app.exports.begin(100)
        app.wait_idle(10)
        assert app.exports.ticked() == 100
        statistics = app.statistics()
        assert (statistics.model, statistics.state) == (model, "running")
        assert statistics.calls >= 9
        assert statistics.memory > 1 << 20
        assert any("main.numbers" in goroutine.stack for goroutine in app.goroutines(10))
        with pytest.raises(gothreads.HandlerError, match="failed: x"):
            app.request("fail", "x")
        with pytest.raises(gothreads.UnknownExport):
            app.request("nope")
        with pytest.raises(gothreads.ArgumentError):
            app.exports.begin("many")
    assert app.state is gothreads.State.CLOSED
    for call in (lambda: app.exports.bump(), lambda: app.request("seen"), lambda: app.submit("bump"),
                 lambda: app.signal("text"),
                 lambda: app.wait_idle(1), lambda: app.goroutines(1), lambda: app.handlers()):
        with raises_within(gothreads.AppClosed, 1):
            call()
    assert app.statistics().state == "closed"


@pytest.mark.parametrize("model", MODELS)
def test_statistics_count_calls_in_progress_and_read_well(model: str) -> None:
    park = Parking()
    with opened("talk", model, handlers={"park": park}, **alone(model)) as app:
        waiting = app.submit_request("call", "park x")
        wait_until(lambda: park.parked)
        assert app.statistics().calls_in_progress == 1
        park.parked[0].set_result(b"")
        waiting.result(PATIENCE)
        wait_until(lambda: app.statistics().calls_in_progress == 0)
        text = str(app.statistics())
        assert text.startswith(f"app:      {model}, running, for ")
        assert re.search(r"^calls:    \d+ returned, 0 in progress; made in ", text, re.MULTILINE)
        assert ("callers:" in text, "pool:" in text) == (model == "threaded", model == "pool")
        assert not re.search("Statistics|None|_", text), text


@pytest.mark.parametrize("model", MODELS)
def test_dir_lists_what_programs_may_use(model: str) -> None:
    with opened("talk", model, **alone(model)) as app:
        names = [name for name in dir(app) if not name.startswith("__")]
        assert {"exports", "request", "close", "statistics", "state", "error", "wait", "options"} <= set(names)
        assert not {name for name in names if name.startswith("_")}
        assert not {"start", "trim", "own_clock", "build_model", "has_many_instances", "configuration"} & set(names)


# Until idle.

@pytest.mark.parametrize("model", MODELS)
def test_wait_idle_returns_when_all_goroutines_wait_whatever_for(model: str) -> None:
    parked: list[Future[bytes]] = []

    def park(_payload: bytes) -> Future[bytes]:
        parked.append(Future())
        return parked[-1]
    with opened("talk", model, handlers={"park": park}, **alone(model)) as app:
        app.exports.begin(5_000)
        app.exports.later(3_600_000)  # a timer
        app.request("begin", "1 park x")  # a reply
        app.wait_idle(20)
        assert app.exports.ticked() == 5_000
        wait_until(lambda: len(parked) == 1)
        together(*(lambda: app.wait_idle(20) for _ in range(4)))
        parked[0].set_result(b"reply")
        assert app.request("await", "1") == b"none reply"


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_wait_idle_gives_up_on_a_goroutine_that_never_waits(model: str) -> None:
    with opened("talk", model, **alone(model)) as app:
        if model == "idle":  # the call itself waits until the module is idle
            spinning = app.submit("spin")
            with pytest.raises(TimeoutError):
                spinning.result(0.3)
        else:
            app.exports.spin()
            with pytest.raises(TimeoutError, match="not every goroutine waits after 0.3 s"):
                app.wait_idle(0.3)
        if model == "threaded":
            assert app.exports.bump() == 1
        begin = time.monotonic()
    assert time.monotonic() - begin < under_load(0.5)


@pytest.mark.parametrize("model", MODELS)
def test_in_stock_go_a_program_that_expects_signals_never_waits(model: str) -> None:
    with opened("talk", model, **alone(model)) as app:
        expecting = app.submit("expect_signals")
        if model == "threaded":
            expecting.result(PATIENCE)
            app.wait_idle(PATIENCE)
        elif model == "idle":
            with pytest.raises(TimeoutError):
                expecting.result(0.3)
        else:
            expecting.result(PATIENCE)
            with pytest.raises(TimeoutError, match="not every goroutine waits"):
                app.wait_idle(0.3)


@pytest.mark.parametrize("model", MODELS)
def test_close_ends_wait_idle(model: str) -> None:
    app = opened("talk", model, **alone(model))
    spinning = app.submit("spin")
    if model != "idle":
        spinning.result(PATIENCE)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            app.wait_idle()
        except BaseException as error:
            errors.append(error)
    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)  # usually it waits by now; the test holds either way
    app.close()
    thread.join(under_load(1))
    assert [type(error) for error in errors] == [gothreads.AppClosed]


def test_wait_idle_passes_over_calls_that_wait() -> None:
    with opened("talk") as app:
        hanging = app.submit_request("hang")
        wait_until(lambda: app.statistics().callers.in_use == 1)  # type: ignore[union-attr]
        app.wait_idle(10)
        assert not hanging.done()


# idle: goroutines run between calls, though it is stock Go.

class Told:
    """A handler that records its payloads."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def __call__(self, payload: bytes) -> bytes:
        self.said.append(payload)
        return payload


def test_what_a_call_begins_is_done_when_it_returns_even_if_that_is_an_error() -> None:
    with opened("talk", "idle") as app:
        app.exports.begin(1000)
        assert app.request("ticks") == b"1000"
        with pytest.raises(gothreads.HandlerError):
            app.request("fail", "x")
        time.sleep(0.05)  # nobody calls
        assert app.request("ticks") == b"1010"


def test_timers_wake_an_idle_module_in_time_and_in_order() -> None:
    told = Told()
    with opened("talk", "idle", handlers={"told": told}) as app:
        begin = time.monotonic()
        for ms in (200, 20, 100):
            app.request("after", f"{ms} told")
        wait_until(lambda: len(told.said) == 3)
        assert 0.2 <= time.monotonic() - begin < under_load(2)
        assert told.said == [b"after 20", b"after 100", b"after 200"]


def test_events_and_replies_wake_an_idle_module() -> None:
    told = Told()

    async def slow(payload: bytes) -> None:
        await asyncio.sleep(0.001)
        told(payload)
    with opened("talk", "idle", handlers={"got": told, "meet": lambda _p: None, "slow": slow}) as app:
        app.request("forward", "news")
        for n in range(50):
            app.signal("news", str(n))
            wait_until(lambda: len(told.said) == n + 1)  # noqa: B023
        told.said.clear()
        app.request("chain", "50 slow")
        wait_until(lambda: len(told.said) == 51)
        assert told.said == [str(n).encode() for n in range(50)] + [b"done"]


def test_peers_wake_an_idle_module() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with opened("talk", "idle", allow_net=[address], listen=["127.0.0.1:0"]) as app:
            dialled = app.submit_request("echo", address)
            first = server.accept()[0]
            dialled.result(PATIENCE)
            app.request("echo")
            host, port = app.listening[0].rsplit(":", 1)
            peers = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(2)]
            with first, peers[0] as second, peers[1] as third:
                for n in range(50):
                    for peer in (first, second, third):
                        peer.settimeout(PATIENCE)
                        peer.sendall(b"%d" % n)
                        assert peer.recv(100) == b"%d" % n


def test_an_idle_module_takes_no_processor() -> None:
    told = Told()
    with opened("talk", "idle", handlers={"told": told, "park": lambda _p: Future()}) as app:
        app.request("after", "3600000 told")
        app.request("begin", "1 park x")
        app.request("seen")
        app.wait_idle(10)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1


def test_calls_queue_while_an_idle_module_runs_and_close_ends_it() -> None:
    with opened("talk", "idle") as app:
        spinning = app.submit("spin")
        call = app.submit("bump")
        with pytest.raises(TimeoutError):
            call.result(0.2)
        begin = time.monotonic()
        app.close()
        assert time.monotonic() - begin < under_load(0.5)
        assert isinstance(call.exception(under_load(1)), gothreads.AppClosed)
        assert isinstance(spinning.exception(under_load(1)), gothreads.AppClosed)


@pytest.mark.parametrize("model", ["threaded", "idle"])
def test_a_module_that_ends_while_nobody_calls_says_why(model: str) -> None:
    with opened("talk", model, stderr=io.BytesIO()) as app:
        app.exports.dieLater(10)
        with raises_within(gothreads.GuestTrap, 10):
            app.wait(PATIENCE)
        assert app.state is gothreads.State.FAILED
        assert "out of bounds memory access" in str(app.error)
        for call in (lambda: app.exports.bump(), lambda: app.signal("text"), lambda: app.wait_idle(1)):
            with pytest.raises(gothreads.GuestTrap, match="out of bounds memory access"):
                call()


# pool: instances share nothing.

def test_as_many_calls_are_in_a_pool_at_once_as_it_has_instances() -> None:
    barrier = threading.Barrier(8)

    def meet(_payload: bytes) -> None:
        barrier.wait(PATIENCE)
    with opened("talk", "pool", instances=8, handlers={"meet": meet}) as app:
        together(*(lambda: app.request("call", "meet") for _ in range(8)))
        pool = app.statistics().pool
        assert pool is not None
        assert (pool.limit, pool.total, pool.idle, pool.in_use, pool.waiting, pool.replaced) == (8, 8, 8, 0, 0, 0)


def test_instances_have_a_state_of_their_own() -> None:
    with opened("talk", "pool", instances=3) as app:
        seen = together(*(lambda: [app.exports.bump() for _ in range(50)] for _ in range(8)))
        counts = collections.Counter(n for part in seen for n in part)  # type: ignore[attr-defined]
        assert sum(counts.values()) == 400
        assert counts[1] <= 3
        assert all(counts[n] >= counts[n + 1] for n in counts)  # up to three instances, which count from 1 without gaps
        with pytest.raises(gothreads.NotCallable, match="each of the 3 instances has a memory of its own"):
            _ = app.memory


@pytest.mark.parametrize(("how", "kind", "said"),
                         [("panic", gothreads.GuestPanic, "as told"), ("exit", gothreads.GuestExit, "exit code 3"),
                                                   ("trap", gothreads.GuestTrap, "out of bounds memory access")])
def test_an_instance_that_ends_is_replaced_and_takes_only_its_own_call(how: str, kind: type[gothreads.GuestError],
                                                                       said: str) -> None:
    park = Parking()
    with opened("talk", "pool", instances=2, handlers={"park": park}, stderr=io.BytesIO()) as app:
        other = app.submit_request("call", "park")
        wait_until(lambda: park.parked)
        assert app.exports.bump() == 1
        for _ in range(5):
            with pytest.raises(kind, match=said):
                app.request("die", f"{how} last words")
            assert app.exports.bump() == 1  # a fresh instance
        assert (app.state, app.error) == (gothreads.State.RUNNING, None)
        park.parked[0].set_result(b"still here")
        assert other.result(PATIENCE) == b"still here"
        pool = app.statistics().pool
        assert pool is not None
        assert (pool.total, pool.idle, pool.replaced) == (2, 2, 5)


def test_what_an_error_quotes_is_what_its_own_instance_wrote() -> None:
    out = io.BytesIO()
    with opened("talk", "pool", instances=4, stderr=out) as app:
        def die(n: int) -> str:
            with pytest.raises(gothreads.GuestPanic) as caught:
                app.request("die", f"panic words of {n}.")
            return caught.value.stderr
        said = together(*(lambda n=n: die(n) for n in range(20)))
        for n, words in enumerate(said):
            assert isinstance(words, str)
            assert f"words of {n}." in words
            assert words.count("words of") == 1
        assert out.getvalue().count(b"words of") == 20


def test_a_call_that_finds_all_instances_busy_gives_up_after_the_timeout() -> None:
    park = Parking()
    with opened("talk", "pool", instances=2, callers_timeout=0.05, handlers={"park": park}) as app:
        calls = [app.submit_request("call", "park") for _ in range(2)]
        wait_until(lambda: len(park.parked) == 2)
        with pytest.raises(gothreads.CallersBusy, match="all 2 instances are in use, and none came free within 0.05 s"):
            app.exports.bump()
        for future in park.parked:
            future.set_result(b"go on")
        assert [call.result(PATIENCE) for call in calls] == [b"go on"] * 2
        assert app.exports.bump() >= 1


def test_close_ends_calls_in_a_pool_and_those_that_wait_for_an_instance() -> None:
    park = Parking()
    app = opened("talk", "pool", instances=3, handlers={"park": park})
    calls = [app.submit_request("call", "park") for _ in range(2)]
    wait_until(lambda: len(park.parked) == 2)
    app.exports.spin()
    running = app.submit_request("call", "park")
    wait_until(lambda: len(park.parked) == 3)
    waiting = [app.submit("bump") for _ in range(5)]
    wait_until(lambda: app.statistics().pool.waiting == 5)  # type: ignore[union-attr]
    pool = app.statistics().pool
    assert pool is not None
    assert (pool.total, pool.idle, pool.in_use) == (3, 0, 3)
    begin = time.monotonic()
    app.close()
    assert time.monotonic() - begin < under_load(0.5)
    assert all(isinstance(call.exception(under_load(1)), gothreads.AppClosed) for call in [*calls, running, *waiting])
    assert all(future.cancelled() for future in park.parked)


def test_calls_of_the_host_end_with_the_instance_that_made_them() -> None:
    park = Parking()
    with opened("talk", "pool", instances=1, handlers={"park": park}, stderr=io.BytesIO()) as app:
        app.request("begin", "1 park x")
        app.wait_idle(10)
        wait_until(lambda: park.parked)
        with pytest.raises(gothreads.GuestPanic):
            app.request("die", "panic")
        wait_until(lambda: park.parked[0].cancelled())
        assert app._messages.outstanding == 0
        assert app.exports.bump() == 1


def test_a_pool_that_cannot_replace_an_instance_ends_with_the_cause() -> None:
    park, starts = Parking(), []

    def may(_payload: bytes) -> None:
        starts.append(1)
        if len(starts) > 2:
            raise ValueError("no more")
    with opened("hooks", "pool", instances=2, handlers={"may": may, "park": park}, env={"FAIL": "ask"},
                stdout=io.BytesIO(), stderr=io.BytesIO()) as app:
        other = app.submit_request("call", "park")
        wait_until(lambda: park.parked)
        with pytest.raises(gothreads.GuestPanic):
            app.exports.crash()
        assert app.state is gothreads.State.RUNNING
        with pytest.raises(gothreads.GuestPanic, match="may not start"):  # the call that needs the instance creates it
            app.exports.count()
        with raises_within(gothreads.GuestPanic, 5):
            other.result(PATIENCE)
        assert "may not start: handler may: ValueError: no more" in str(app.error)


@pytest.mark.long
def test_what_a_pool_cannot_do_is_said_before_anything_runs() -> None:
    with pytest.raises(gothreads.MisuseError, match=r"listen \(--listen\) needs a module that keeps running"):
        opened("talk", "pool", listen=["127.0.0.1:0"])
    for model in ("threaded", "single", "idle"):
        with pytest.raises(gothreads.MisuseError, match=r'instances \(--instances\) are for the model "pool"'):
            opened("talk", model, instances=2)
    for wrong in (0, -1):
        with pytest.raises(gothreads.MisuseError, match="instances must be at least 1"):
            opened("talk", "pool", instances=wrong)
    with pytest.raises(gothreads.NotCallable, match="takes no calls. Build it with --buildmode c-shared"):
        gothreads.open(built("talk", model="single", buildmode="exe"), model="pool")


@pytest.mark.parametrize("model", STOCK)
def test_a_file_for_stock_go_opens_in_three_models_and_not_as_threaded(model: str, tmp_path: Path) -> None:
    file = tmp_path / "talk.wasm"
    file.write_bytes(built("talk", model="single").read_bytes())
    with gothreads.open(file, model=model) as app:
        assert app.exports.bump() == 1
    with pytest.raises(gothreads.ModuleError, match="was built for the model single, not threaded"):
        gothreads.open(file, model="threaded")


def test_an_unknown_model_is_said() -> None:
    with pytest.raises(gothreads.MisuseError,
                       match="there is no model 'fast'; there are: threaded, single, idle, pool"):
        gothreads.open(built("talk"), model="fast")
