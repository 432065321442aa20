"""Supervision: a module that ends is restarted, and every call is answered exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gothreads
from gothreads import launch
from gothreads.supervise.restarts import Restart
from tests.support.backoff import NEVER, SOON
from tests.support.modules import built
from tests.support.waiting import PATIENCE, gothreads_threads, together, under_load, wait_until

#: Calls that end the module: the export, its arguments, and the error.
FAULTS: dict[str, tuple[str, tuple[Any, ...], type[gothreads.GuestError]]] = {
    "panic": ("crash", (), gothreads.GuestPanic),
    "exit": ("exit", (3,), gothreads.GuestExit),
    "trap": ("trap", (), gothreads.GuestTrap),
    "host function": ("hostraise", (), gothreads.HostFunctionError),
}


class Plan:
    """Tells the module what to do when it starts, saves and loads: for each moment a list, then nothing special."""

    def __init__(self, **moments: list[str]) -> None:
        self.moments = moments
        self.seen: list[str] = []

    def __call__(self, payload: bytes) -> str:
        moment = payload.decode()
        self.seen.append(moment)
        plans = self.moments.get(moment, [])
        return plans.pop(0) if plans else ""


def refuse() -> None:
    raise ValueError("no")


def same(n: int) -> int:
    return n


def kept(plan: Plan | None = None, *, within: Callable[[int], int] = same, model: str = "threaded", quiet: bool = True,
         **options: Any) -> gothreads.Supervised:
    """Supervise the module `keeps`, with no output."""
    given: dict[str, Any] = {
        "backoff": SOON, "stderr": Nowhere(), "handlers": {"plan": plan} if plan else None,
        "on_restart": (lambda restart: None) if quiet else None,
        "model": model, "env": {} if model == "threaded" else {"EARLY": "1"},
        "host": {"env": {"raise": refuse, "within": within}}}
    return gothreads.supervise(built("keeps", model="threaded" if model == "threaded" else "single"), **given | options)


class Nowhere:
    def write(self, data: bytes) -> None: ...


def down(supervised: gothreads.Supervised) -> gothreads.Supervised:
    """End the module, and wait until its end has been noticed and no instance is up."""
    with contextlib.suppress(gothreads.GuestPanic):
        supervised.exports.crash()
    wait_until(lambda: (so_far := supervised.supervision()).restarts and so_far.next_try_seconds)
    return supervised


# Replacing.

@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("model", ["threaded", "single", "idle"])
def test_a_module_that_ended_is_replaced_and_who_was_in_it_gets_the_cause(
    fault: str, model: str, nothing_left: None
) -> None:
    export, args, kind = FAULTS[fault]
    with kept(model=model) as supervised:
        assert supervised.exports.add(5) == 5
        before = supervised.app
        in_flight = [supervised.submit("hang") for _ in range(3)] if model == "threaded" else []
        if in_flight:
            wait_until(lambda: supervised.statistics().callers.in_use == 3)  # type: ignore[union-attr]
        with pytest.raises(kind) as caught:
            supervised.exports[export](*args)
        assert type(caught.value) is kind
        assert [type(future.exception(PATIENCE)) for future in in_flight] == [kind] * len(in_flight)
        assert supervised.exports.add(1) == 1  # fresh memory
        assert supervised.app is not before
        so_far = supervised.supervision()
        assert (so_far.restarts, so_far.by_cause, type(so_far.last_cause)) == (1, {kind.__name__: 1}, kind)
        assert (so_far.down_seconds, so_far.next_try_seconds, supervised.error) == (None, None, None)
        assert supervised.state is gothreads.State.RUNNING
    assert supervised.wait() == 0


def test_an_end_that_no_call_has_caused_is_noticed(nothing_left: None) -> None:
    with kept() as supervised:
        supervised.exports.later(20)
        wait_until(lambda: supervised.supervision().restarts == 1)
        assert supervised.exports.double(4) == 8


def test_causes_are_counted_each_by_itself() -> None:
    with kept() as supervised:
        for fault in ("panic", "trap", "panic"):
            export, args, kind = FAULTS[fault]
            with pytest.raises(kind):
                supervised.exports[export](*args)
        assert supervised.exports.double(1) == 2  # wait until it is up: otherwise restart() would only end the pause
        supervised.restart()
        assert supervised.supervision().by_cause == {"GuestPanic": 2, "GuestTrap": 1, "restart()": 1}
        assert supervised.supervision().restarts == 4


def test_who_submits_asks_maps_or_awaits_gets_answers_of_the_next_instance(nothing_left: None) -> None:
    with kept(backoff=gothreads.Backoff(first=0.2)) as supervised:
        down(supervised)
        futures = [supervised.submit("double", n) for n in range(20)]
        requests = [supervised.submit_request("echo", str(n)) for n in range(20)]
        buffer = bytearray(b"now")
        copied, buffer[:] = supervised.submit_request("echo", buffer), b"later"
        mapped = supervised.map("double", range(5))
        assert not any(future.done() for future in futures)

        async def ask() -> tuple[int, bytes, list[str]]:
            return tuple(await asyncio.gather(supervised.call_async("double", 7),
                                              supervised.request_async("echo", "x"), supervised.handlers_async()))
        double, echo, handlers = asyncio.run(ask())
        assert (double, echo) == (14, b"x")
        assert {"echo", "save"} <= set(handlers)
        assert [future.result(PATIENCE) for future in futures] == [2 * n for n in range(20)]
        assert [future.result(PATIENCE) for future in requests] == [str(n).encode() for n in range(20)]
        assert copied.result(PATIENCE) == b"now"
        assert list(mapped) == [0, 2, 4, 6, 8]


def test_handlers_that_main_registers_are_there_for_calls_that_waited(nothing_left: None) -> None:
    with kept() as supervised:
        wait_until(lambda: "late" in supervised.handlers())
        for _ in range(3):
            assert supervised.request("late", "x") == b"x"
            with pytest.raises(gothreads.GuestPanic):
                supervised.exports.crash()


def test_an_event_waits_for_the_next_instance_unless_it_is_to_be_dropped() -> None:
    with kept(backoff=gothreads.Backoff(first=0.2)) as supervised:
        wait_until(lambda: supervised.events == ["more"])
        down(supervised)
        assert supervised.events == ["more"]
        assert supervised.signal("more", full="drop") is False
        with pytest.raises(gothreads.GuestPanic):
            supervised.signal("more", full="raise")
        assert supervised.signal("more") is True
        asyncio.run(supervised.signal_async("more"))
        wait_until(lambda: supervised.exports.add(0) == 2)


# When a module is not restarted, and when restarting stops.

def test_a_module_that_leaves_with_0_is_begun_again_only_if_always() -> None:
    with kept() as supervised:
        with pytest.raises(gothreads.GuestExit):
            supervised.exports.exit(0)
        assert supervised.wait(PATIENCE) == 0
        assert supervised.state is gothreads.State.EXITED
        with pytest.raises(gothreads.GuestExit, match="main returned, or os.Exit"):
            supervised.exports.double(1)
        assert supervised.supervision().restarts == 0
    with kept(restart="always") as supervised:
        with pytest.raises(gothreads.GuestExit):
            supervised.exports.exit(0)
        assert supervised.exports.double(1) == 2
        assert supervised.app is not None
        supervised.app.close()
        assert supervised.exports.double(1) == 2
        assert supervised.supervision().by_cause == {"GuestExit": 1, "AppClosed": 1}


def test_a_start_that_fails_is_a_restart_and_the_pauses_grow(nothing_left: None) -> None:
    told: list[Restart] = []
    plan = Plan(start=["panic", "exit", "panic", "", "exit"])
    backoff = gothreads.Backoff(first=0.01, factor=2, most=0.03, jitter=0)
    with kept(plan, backoff=backoff, on_restart=told.append) as supervised:
        assert supervised.exports.add(1) == 1
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.crash()
        assert supervised.exports.add(1) == 1
    assert [restart.pause for restart in told] == [0.01, 0.02, 0.03, 0.03, 0.03]
    assert [restart.number for restart in told] == [1, 2, 3, 4, 5]
    assert [type(restart.cause).__name__ for restart in told] == ["GuestPanic", "GuestExit", "GuestPanic",
                                                                  "GuestPanic", "GuestExit"]
    assert str(told[0]).startswith("restart 1, in 0.0 s: ")


def test_an_instance_that_ran_long_enough_begins_the_pauses_anew() -> None:
    told: list[Restart] = []
    backoff = gothreads.Backoff(first=0.01, factor=3, most=9, jitter=0, reset_after=0)
    with kept(backoff=backoff, on_restart=told.append) as supervised:
        for _ in range(3):
            with pytest.raises(gothreads.GuestPanic):
                supervised.exports.crash()
        supervised.exports.double(1)
    assert [restart.pause for restart in told] == [0.01, 0.01, 0.01]
    told.clear()
    with kept(Plan(start=["", "panic", "panic"]), backoff=backoff, on_restart=told.append) as supervised:
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.crash()
        supervised.exports.double(1)
    assert [restart.pause for restart in told] == [0.01, 0.03, 0.09], "those that did not start have not run at all"


def test_after_so_many_in_a_row_everybody_gets_the_last_cause(nothing_left: None) -> None:
    plan = Plan(start=["", *["exit"] * 9])
    with kept(plan, most_restarts=3, backoff=gothreads.Backoff(first=0.05, most=0.05)) as supervised:
        waiting = [supervised.submit("hang") for _ in range(2)]
        wait_until(lambda: supervised.statistics().callers.in_use == 2)  # type: ignore[union-attr]
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.crash()
        later = [supervised.submit("double", 1) for _ in range(2)]
        assert [type(future.exception(PATIENCE)) for future in waiting] == [gothreads.GuestPanic] * 2
        assert [type(future.exception(PATIENCE)) for future in later] == [gothreads.GuestExit] * 2
        assert supervised.wait(PATIENCE) == 3
        assert plan.seen.count("start") == 4
        with pytest.raises(gothreads.GuestExit):
            supervised.exports.double(1)
        with pytest.raises(gothreads.GuestExit):
            supervised.restart()
        assert supervised.supervision().by_cause == {"GuestPanic": 1, "GuestExit": 2}
        assert supervised.supervision().next_try_seconds is None
    with kept(Plan(start=["panic"]), most_restarts=0) as never, pytest.raises(gothreads.GuestPanic):
        never.exports.double(1)


def test_what_cannot_be_opened_at_all_is_said_at_once(tmp_path: Path, nothing_left: None) -> None:
    with pytest.raises(gothreads.ModuleError, match="there is no file"):
        gothreads.supervise(tmp_path / "missing.wasm")
    with pytest.raises(gothreads.ModuleError, match="not provided"):
        kept(host=None)
    with pytest.raises(gothreads.MisuseError, match="procs must be"):
        kept(procs=0)
    (tmp_path / "wrong.go").write_text("package main\nfunc main() { no }\n")
    with pytest.raises(gothreads.BuildError):
        gothreads.supervise(tmp_path / "wrong.go")


@pytest.mark.parametrize(("options", "said"), [
    ({"restart": "sometimes"}, 'restart must be "on-failure" or "always"'),
    ({"backoff": 3}, "backoff must be gothreads.Backoff"),
    ({"while_down": "no"}, 'while_down must be "wait" or "fail"'),
    ({"wait_timeout": 0}, "wait_timeout must be a number of seconds above 0"),
    ({"save_every": True}, "save_every must be a number of seconds above 0"),
    ({"most_restarts": -1}, "most_restarts must be at least 0"),
    ({"most_restarts": 1.5}, "most_restarts must be an int"),
    ({"on_restart": "x"}, "on_restart must be a function"),
    ({"save_every": 1, "model": "pool"}, r"save_every \(--save-every\) is not for the model"),
])
def test_wrong_options_are_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(gothreads.MisuseError, match=said):
        gothreads.supervise("app.wasm", **options)


@pytest.mark.parametrize("wrong", [
    {"first": -1}, {"factor": 0.5}, {"most": "x"}, {"jitter": 2}, {"reset_after": True}, {"first": 2, "most": 1},
    {"first": float("nan")},
])
def test_a_backoff_that_makes_no_sense_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(gothreads.MisuseError, match="Backoff"):
        gothreads.Backoff(**wrong)


@given(st.floats(0, 100), st.floats(1, 1e6), st.floats(100, 1e6), st.floats(0, 1), st.integers(0, 5000))
def test_a_pause_grows_up_to_the_most_give_or_take_the_jitter(first: float, factor: float, most: float, jitter: float,
                                                              before: int) -> None:
    backoff = gothreads.Backoff(first, factor, most, jitter)
    assert first * (1 - jitter) <= backoff.pause(before) * (1 + 1e-9) + 1e-9
    assert backoff.pause(before) <= most * (1 + jitter) * (1 + 1e-9)
    steady = gothreads.Backoff(first, factor, most, 0)
    assert steady.pause(before) <= steady.pause(before + 1)


# While the module is down.

def test_while_down_calls_fail_at_once_if_so_chosen() -> None:
    with kept(while_down="fail", backoff=NEVER) as supervised:
        down(supervised)

        async def ask() -> None:
            await supervised.call_async("double", 1)
        calls: list[Callable[[], Any]] = [
            lambda: supervised.exports.double(1), lambda: supervised.submit("double", 1),
            lambda: supervised.request("echo"),
            lambda: supervised.submit_request("echo"), lambda: asyncio.run(ask()), lambda: supervised.signal("more"),
            supervised.handlers,
            supervised.goroutines, supervised.wait_idle, lambda: supervised.memory.read(0, 1),
            lambda: list(supervised.map("double", [1]))]
        for call in calls:
            with pytest.raises(gothreads.GuestPanic):
                call()
        assert supervised.state is gothreads.State.RESTARTING
        assert isinstance(supervised.error, gothreads.GuestPanic)
        assert (supervised.app, supervised.listening, supervised.statistics().state) == (None, [], "restarting")
        so_far = supervised.supervision()
        assert so_far.down_seconds is not None
        assert so_far.next_try_seconds is not None
        assert so_far.next_try_seconds > 3000


@pytest.mark.parametrize(("bound", "gets"),
                         [("wait_timeout", gothreads.GuestPanic), ("timeout", gothreads.CallTimeout)])
def test_a_call_waits_no_longer_than_it_may_and_then_fails(bound: str, gets: type[Exception],
                                                           nothing_left: None) -> None:
    options: dict[str, Any] = {"timeout": 0.1} if bound == "timeout" else {}
    with kept(backoff=NEVER, wait_timeout=0.1 if bound == "wait_timeout" else None) as supervised:
        down(supervised)

        async def ask() -> None:
            await supervised.request_async("echo", **options)
        calls: list[Callable[[], object]] = [
            lambda: supervised.request("echo", **options),
            lambda: supervised.submit_request("echo", **options).result(PATIENCE), lambda: asyncio.run(ask())]
        for call in calls:
            begin = time.monotonic()
            with pytest.raises(gets) as raised:
                call()
            assert time.monotonic() - begin >= 0.1
            assert isinstance(raised.value if bound == "wait_timeout" else raised.value.__cause__, gothreads.GuestPanic)


def test_an_event_loop_is_never_blocked_and_who_gives_up_takes_nobody_along() -> None:
    async def run() -> tuple[int, int, bool]:
        with kept(backoff=gothreads.Backoff(first=0.3)) as supervised:
            down(supervised)
            waiting = [asyncio.create_task(supervised.call_async("double", n)) for n in range(10)]
            ticks = 0
            while ticks < 10:
                await asyncio.sleep(0.001)
                ticks += 1
            waiting[0].cancel()
            cancelled = isinstance((await asyncio.gather(waiting[0], return_exceptions=True))[0],
                                   asyncio.CancelledError)
            done = supervised.state is gothreads.State.RUNNING
            assert not done, "the loop ticked while the module was down"
            return sum(await asyncio.gather(*waiting[1:])), ticks, cancelled
    assert asyncio.run(run()) == (90, 10, True)


def test_a_call_that_waits_can_be_cancelled_and_one_that_has_begun_cannot() -> None:
    with kept(backoff=gothreads.Backoff(first=0.2)) as supervised:
        down(supervised)
        waits, begins = supervised.submit("add", 100), supervised.submit("hang")
        assert waits.cancel()
        assert wait([waits], 10).done == {waits}
        wait_until(lambda: supervised.app and supervised.statistics().callers.in_use == 1)  # type: ignore[union-attr]
        assert not begins.cancel()
        with pytest.raises(CancelledError):
            waits.result(0)
        assert supervised.exports.add(1) == 1
    assert isinstance(begins.exception(PATIENCE), gothreads.AppClosed)


def test_a_wrong_argument_is_said_while_the_module_is_down() -> None:
    with kept(backoff=NEVER) as supervised:
        down(supervised)
        for call in (lambda: supervised.exports.double("x"), lambda: supervised.submit("double"),
                     lambda: supervised.submit("doubles", 1)):
            with pytest.raises(gothreads.MisuseError):
                call()


def test_a_python_function_that_the_dead_module_has_called_may_call_the_next() -> None:
    begun, asked = threading.Event(), threading.Event()
    answers: list[int] = []

    def within(n: int) -> int:
        begun.set()
        asked.wait(PATIENCE)
        answers.append(supervised.exports.double(n))
        return 0
    with kept(within=within) as supervised:
        outer = supervised.submit("hostwithin", 21)
        assert begun.wait(PATIENCE)
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.crash()
        asked.set()
        assert isinstance(outer.exception(PATIENCE), gothreads.GuestPanic)
        wait_until(lambda: answers == [42])


# Planned restarts, and saved state.

def test_the_state_that_was_saved_last_is_loaded_before_any_call(nothing_left: None) -> None:
    with kept(save_every=0.02) as supervised:
        for n in range(1, 4):
            assert supervised.exports.add(1) == n
            begun = time.monotonic()
            wait_until(lambda: (so_far := supervised.supervision()).saved is not None
                       and time.monotonic() - so_far.saved_seconds > begun)  # type: ignore[operator]  # noqa: B023
            callers = [supervised.submit("hang") for _ in range(4)]
            with pytest.raises(gothreads.GuestPanic):
                supervised.exports.crash()
            assert supervised.exports.hasloaded()
            assert supervised.exports.add(0) == n
            assert all(isinstance(future.exception(PATIENCE), gothreads.GuestPanic) for future in callers)
        assert supervised.supervision().saved == 1


@pytest.mark.parametrize("model", ["threaded", "single", "idle"])
def test_a_planned_restart_takes_the_state_along(model: str, nothing_left: None) -> None:
    with kept(model=model) as supervised:
        before = supervised.app
        if model == "threaded":
            wait_until(lambda: "load" in supervised.handlers())
        assert supervised.exports.add(7) == 7
        supervised.restart()
        assert before is not None
        assert supervised.app is not None
        assert supervised.app is not before
        assert supervised.app.options.wasi.hints is before.options.wasi.hints  # so that none is given again
        assert supervised.exports.hasloaded()
        assert supervised.exports.add(1) == 8
        assert supervised.supervision().by_cause == {"restart()": 1}


def test_a_pool_replaces_its_instances_itself_and_carries_no_state(nothing_left: None) -> None:
    with kept(model="pool", instances=2) as supervised:
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.crash()
        assert supervised.supervision().restarts == 0
        before = supervised.app
        for _ in range(4):
            supervised.exports.add(5)
        supervised.restart()
        assert supervised.app is not before
        assert [supervised.exports.hasloaded() for _ in range(4)] == [False] * 4
        assert supervised.supervision().saved is None


def test_restarts_that_are_asked_for_at_once_are_one_or_a_few_and_all_are_answered() -> None:
    with kept() as supervised:
        wait_until(lambda: "load" in supervised.handlers())
        supervised.exports.add(5)
        together(*[supervised.restart] * 8)
        assert 1 <= supervised.supervision().restarts <= 8
        assert supervised.exports.add(0) == 5


def test_calls_in_flight_at_a_planned_restart_are_told_and_later_ones_answered() -> None:
    with kept() as supervised:
        hangs = supervised.submit("hang")
        wait_until(lambda: supervised.statistics().callers.in_use == 1)  # type: ignore[union-attr]
        supervised.restart()
        assert isinstance(hangs.exception(PATIENCE), gothreads.AppClosed)
        assert supervised.exports.double(3) == 6


@pytest.mark.parametrize("reason", ["refuse", "hang"])
def test_a_module_that_does_not_give_its_state_stays(reason: str) -> None:
    with kept(Plan(save=[reason])) as supervised:
        wait_until(lambda: "load" in supervised.handlers())
        before = supervised.app
        supervised.exports.add(3)
        with pytest.raises(gothreads.HandlerError if reason == "refuse" else TimeoutError):
            supervised.restart(timeout=0.5)
        assert supervised.exports.add(0) == 3
        assert supervised.app is before
        assert supervised.supervision().restarts == 0


def test_a_save_that_fails_is_said_and_the_state_of_before_stays(caplog: pytest.LogCaptureFixture) -> None:
    plan = Plan()
    with kept(plan, save_every=0.01) as supervised:
        supervised.exports.add(4)
        wait_until(lambda: supervised.supervision().saved)
        plan.moments["save"] = ["refuse"] * 1000
        wait_until(lambda: "its state is not saved" in caplog.text)
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.crash()
        assert supervised.exports.hasloaded()


@pytest.mark.parametrize("how", ["refuse", "panic"])
def test_a_state_that_does_not_load_is_dropped_when_the_module_starts_without(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with kept(Plan(load=[how])) as supervised:
        wait_until(lambda: "load" in supervised.handlers())
        supervised.exports.add(9)
        with pytest.raises((gothreads.HandlerError, gothreads.GuestPanic)):
            supervised.restart()
        assert supervised.exports.add(1) == 1
        assert not supervised.exports.hasloaded()
        assert "the state (1 bytes) is dropped" in caplog.text
        assert supervised.supervision().saved is None
        assert supervised.supervision().by_cause == {"restart()": 1,
                                                     {"refuse": "HandlerError", "panic": "GuestPanic"}[how]: 1}


def test_a_state_is_not_to_blame_when_the_module_does_not_start_without_it_either() -> None:
    with kept(Plan(start=["", "", "panic"], load=["panic"])) as supervised:
        wait_until(lambda: "load" in supervised.handlers())
        supervised.exports.add(9)
        with pytest.raises(gothreads.GuestPanic):
            supervised.restart()
        assert supervised.exports.add(1) == 10


def test_restart_while_down_waits_no_longer() -> None:
    with kept(backoff=NEVER) as supervised:
        down(supervised)
        supervised.restart(timeout=20)
        assert supervised.exports.double(1) == 2


def test_a_port_of_the_systems_choice_stays_the_same() -> None:
    with kept(listen=["127.0.0.1:0"]) as supervised:
        (before,) = supervised.listening
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.crash()
        supervised.exports.double(1)
        assert supervised.listening == [before]


# close().

def test_close_during_the_pause_is_prompt_and_who_waits_is_told(nothing_left: None) -> None:
    supervised = down(kept(backoff=NEVER))
    waiting = [supervised.submit("double", n) for n in range(3)]
    begin = time.monotonic()
    together(*[supervised.close] * 3)
    assert time.monotonic() - begin < under_load(3)
    assert [type(future.exception(0)) for future in waiting] == [gothreads.AppClosed] * 3
    assert (supervised.wait(), supervised.state) == (0, gothreads.State.CLOSED)
    supervised.close()
    with pytest.raises(gothreads.AppClosed):
        supervised.exports.double(1)


@pytest.mark.parametrize("moment", ["start", "load"])
def test_close_while_a_fresh_instance_does_not_come_up(moment: str, nothing_left: None) -> None:
    plan = Plan(**({"start": ["", "hang"]} if moment == "start" else {"load": ["hang"]}))
    supervised = kept(plan, save_every=0.01)
    wait_until(lambda: supervised.supervision().saved)
    with pytest.raises(gothreads.GuestPanic):
        supervised.exports.crash()
    waiting = supervised.submit("double", 1)
    wait_until(lambda: plan.seen.count(moment) == (2 if moment == "start" else 1))
    begin = time.monotonic()
    supervised.close()
    assert time.monotonic() - begin < under_load(3)
    assert isinstance(waiting.exception(0), gothreads.AppClosed)


def test_close_from_on_restart_and_what_else_it_may_do(nothing_left: None) -> None:
    did: list[object] = []

    def told(restart: Restart) -> None:
        for call in (supervised.restart, lambda: supervised.exports.double(1)):
            try:
                did.append(call())
            except gothreads.GothreadsError as error:
                did.append(type(error))
        supervised.close()
    supervised = kept(on_restart=told)
    with pytest.raises(gothreads.GuestPanic):
        supervised.exports.crash()
    assert supervised.wait(PATIENCE) == 0
    wait_until(lambda: not gothreads_threads())
    assert did == [gothreads.MisuseError, gothreads.GuestPanic]


def test_an_on_restart_that_fails_is_said_and_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    def told(_restart: Restart) -> None:
        raise SystemExit("no")
    with kept(on_restart=told) as supervised:
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.crash()
        assert supervised.exports.double(1) == 2
    assert "on_restart failed" in caplog.text


def test_without_on_restart_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gothreads"), kept(quiet=False) as supervised:
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.crash()
        supervised.exports.double(1)
    name = supervised.loaded.name
    said, = (record.getMessage() for record in caplog.records if "restart 1" in record.getMessage())
    assert said.startswith(f"{name}: restart 1, in 0.0 s: the module has ended: panic: crashed")


def test_close_from_a_python_function_that_the_module_has_called(nothing_left: None) -> None:
    def within(n: int) -> int:
        supervised.close()
        return n
    supervised = kept(within=within)
    with pytest.raises(gothreads.AppClosed):
        supervised.exports.hostwithin(1)
    wait_until(lambda: not gothreads_threads())
    assert supervised.state is gothreads.State.CLOSED


def test_a_child_of_fork_is_told_and_a_process_ends_with_what_it_left_open() -> None:
    program = textwrap.dedent("""
        import os, gothreads, tests.supervise.test_supervise as t
        up, fell = t.kept(restart="always"), t.down(t.kept(backoff=t.NEVER))
        child = os.fork()
        if child == 0:
            for supervised in (up, fell):
                try:
                    supervised.exports.double(1)
                except gothreads.AppForked:
                    supervised.close()
                else:
                    os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert up.exports.double(1) == 2
        print("fine")
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE,
                          check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


@pytest.mark.long
@pytest.mark.parametrize("where", ["in a call", "waiting"])
def test_ctrl_c_ends_a_call_and_a_wait(where: str) -> None:
    program = textwrap.dedent(f"""
        import gothreads, tests.supervise.test_supervise as t
        with t.kept(backoff=t.NEVER) as supervised:
            if {where == "waiting"}:
                t.down(supervised)
            print("now", flush=True)
            supervised.exports.hang()
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - begin < under_load(10)
    assert process.returncode == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")


# Everything at once.

class Hammer:
    """Run callers of every kind while the module fails in every way and is restarted."""

    def __init__(self, seed: int, seconds: float, *, close: bool) -> None:
        self.choose, self.seconds, self.close = random.Random(seed), seconds, close
        self.over = threading.Event()
        self.counts: dict[str, int] = {}
        self.lock = threading.Lock()
        self.supervised = kept(save_every=0.02, backoff=gothreads.Backoff(first=0.001, most=0.01))

    def run(self) -> dict[str, int]:
        """Returns how often each outcome occurred: a right answer, or an error by its name.

        Each call has exactly one.
        """
        try:
            together(self.fail, self.batch, self.coroutines, lambda: self.call(self.supervised.exports.double),
                     lambda: self.call(lambda n: 2 * int(self.supervised.request("echo", str(n)))))
            if not self.close:
                assert self.supervised.exports.double(5) == 10
        finally:
            self.over.set()
            self.supervised.close()
        return self.counts

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def call(self, how: Callable[[int], int]) -> None:
        n = 0
        while not self.over.is_set():
            n += 1
            try:
                answer = how(n)
            except gothreads.GuestError as error:
                self.count(type(error).__name__)
            except gothreads.AppClosed:
                self.count("AppClosed")
            else:
                assert answer == 2 * n, f"{answer} for {n}"
                self.count("right")

    def batch(self) -> None:
        while not self.over.is_set():
            futures = []
            for n in range(10):
                try:
                    futures.append((n, self.supervised.submit("double", n)))
                except (gothreads.GuestError, gothreads.AppClosed) as error:
                    self.count(type(error).__name__)
            assert not wait([future for _, future in futures], 60).not_done, "a call does not come back"
            for n, future in futures:
                failed = future.exception()
                assert future.result() == 2 * n if failed is None else isinstance(failed, gothreads.GuestError
                                                                                  | gothreads.AppClosed), failed
                self.count("right" if failed is None else type(failed).__name__)

    def coroutines(self) -> None:
        async def one(n: int) -> int:
            return int(await self.supervised.call_async("double", n))

        async def run() -> None:
            while not self.over.is_set():
                for n, answer in enumerate(await asyncio.gather(*(one(n) for n in range(10)), return_exceptions=True)):
                    assert answer == 2 * n or isinstance(answer, gothreads.GuestError | gothreads.AppClosed), answer
                    self.count("right" if isinstance(answer, int) else type(answer).__name__)
        asyncio.run(run())

    def fail(self) -> None:
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            what = self.choose.choice([*FAULTS, "restart", "count"])
            with contextlib.suppress(gothreads.GuestError, gothreads.AppClosed, gothreads.HandlerError):
                if what == "restart":
                    self.supervised.restart()
                elif what == "count":
                    self.supervised.exports.add(1)
                else:
                    export, args, _ = FAULTS[what]
                    self.supervised.exports[export](*args)
        if self.close:
            self.supervised.close()
        self.over.set()


@pytest.mark.long
@pytest.mark.parametrize("close", [False, True])
def test_under_load_every_call_is_answered_rightly_or_fails_once(close: bool, nothing_left: None) -> None:
    counts = Hammer(random.randrange(1 << 30), 1.5, close=close).run()
    assert counts.get("right", 0) > 0
    assert sum(counts.values()) > counts["right"], "some have met an end"


def test_closing_at_any_moment_of_a_restart_leaves_nothing(nothing_left: None) -> None:
    choose = random.Random(1)
    for _ in range(15):
        supervised = kept(backoff=gothreads.Backoff(first=0, most=0), save_every=0.005)
        futures: list[Future[Any]] = []
        with contextlib.suppress(gothreads.GuestError):
            supervised.exports.crash()
        with contextlib.suppress(gothreads.GothreadsError):
            futures += [supervised.submit("double", 1) for _ in range(3)]
        time.sleep(choose.random() * 0.04)  # not a wait: to close at an arbitrary moment
        supervised.close()
        for future in futures:
            assert isinstance(future.exception(PATIENCE), gothreads.GothreadsError) or future.result() == 2


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "single", "idle", "pool"])
def test_an_app_may_be_closed_while_it_is_started(model: str, nothing_left: None) -> None:
    choose = random.Random(2)
    loaded = launch.find(built("keeps", model="threaded" if model == "threaded" else "single"), model=model)
    for _ in range(15):
        app = launch.make(loaded, model=model, stderr=Nowhere(), host={"env": {"raise": refuse, "within": same}})

        def start(app: gothreads.App = app) -> None:
            with contextlib.suppress(gothreads.AppClosed):
                launch.started(app)

        def close(app: gothreads.App = app) -> None:
            time.sleep(choose.random() * 0.02)
            app.close()
        together(start, close)
        assert app.state is gothreads.State.CLOSED
    app = launch.make(loaded, model=model, stderr=Nowhere(), host={"env": {"raise": refuse, "within": same}})
    app.close()
    with pytest.raises(gothreads.AppClosed):
        launch.started(app)


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "single", "idle", "pool"])
def test_nothing_is_freed_while_an_app_is_started_that_was_closed(model: str, nothing_left: None) -> None:
    loaded = launch.find(built("keeps", model="threaded" if model == "threaded" else "single"), model=model)
    app = launch.make(loaded, model=model, stderr=Nowhere(), host={"env": {"raise": refuse, "within": same}})
    closer, start = threading.Thread(target=app.close), app._start

    def closed_first() -> None:
        closer.start()
        wait_until(lambda: app.state is gothreads.State.ENDING)
        assert not app._left.wait(0.3), "it would be freed now"
        start()
    app._start = closed_first  # type: ignore[method-assign]  # close at exactly this moment
    with pytest.raises(gothreads.AppClosed):
        launch.started(app)
    closer.join(PATIENCE)
    assert not closer.is_alive()


# The public interface.

def test_it_is_called_like_an_app() -> None:
    own = {"start", "when_ended"}  # the start and end of a single instance
    missing = {name for name in dir(gothreads.App)
               if not name.startswith("_")} - own - set(dir(gothreads.Supervised)) - {"loaded", "options", "exports"}
    assert missing == set()
    with kept() as supervised:
        assert set(supervised.exports) == {"add", "crash", "double", "exit", "hang", "hasloaded", "hostraise",
                                           "hostwithin", "later", "trap", "start"}
        assert str(supervised.exports.add.signature) == "add(n: int64) -> int64"
        assert supervised.options.callers == 64
        assert supervised.loaded.name in repr(supervised)
        assert len(supervised.goroutines(20)) > 1
        supervised.wait_idle(20)
        assert supervised.memory.read(0, 4)
        assert supervised.statistics().state == "running"


def test_supervise_takes_what_open_takes() -> None:
    of_open = set(inspect.signature(gothreads.open).parameters) - {"path"}
    assert set(launch.OpenOptions.__annotations__) == of_open
    own = {"restart", "backoff", "while_down", "wait_timeout", "most_restarts", "save_every", "on_restart"}
    assert set(inspect.signature(gothreads.supervise).parameters) - {"path"} == of_open | own
