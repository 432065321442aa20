"""Awkward moments: ends, threads that the system cannot start, and callbacks at the end of a call. Nothing hangs."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.callback_m import IDLE_SECONDS, CallbackM
from gothreads.engine import ffi
from gothreads.engine.callers import IdleCallers
from gothreads.errors import hides_frames
from gothreads.runtime import own_code
from gothreads.runtime.lifecycle import Lifecycle
from gothreads.supervise.current_instance import SupervisedInstance
from tests.support.backoff import NEVER
from tests.support.bad_ends import elsewhere, leaves
from tests.support.modules import built, opened
from tests.support.waiting import PATIENCE, under_load, wait_until


def no_threads_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the system fail to start threads of that name."""
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith(name):
            raise RuntimeError("can't start new thread")
        real(thread)
    monkeypatch.setattr(threading.Thread, "start", start)


# Callbacks at the end of a call.

def test_after_a_timeout_whose_callback_exits_other_timeouts_fire(caplog: pytest.LogCaptureFixture,
                                                                  nothing_left: None) -> None:
    with opened("calls") as app:
        first = app.submit("hang", timeout=0.3)
        first.add_done_callback(leaves)
        assert isinstance(first.exception(PATIENCE), gothreads.CallTimeout)
        wait_until(lambda: any(record.exc_info and record.exc_info[0] is SystemExit for record in caplog.records))
        with pytest.raises(gothreads.CallTimeout):
            app.submit("hang", timeout=0.05).result(PATIENCE)
    caplog.clear()


def test_calls_that_are_abandoned_are_all_told_though_a_callback_exits(caplog: pytest.LogCaptureFixture,
                                                                       nothing_left: None) -> None:
    inside: list[int] = []
    go_on = threading.Event()

    def call_again(n: int) -> int:
        inside.append(n)
        go_on.wait(PATIENCE)
        return n
    app = opened("patient", host={"env": {"call_again": call_again}})
    calls = [app.submit("again", n) for n in range(4)]
    for call in calls:
        call.add_done_callback(leaves)
    wait_until(lambda: len(inside) == 4)
    app.close()
    assert all(isinstance(call.exception(PATIENCE), gothreads.AppClosed) for call in calls)
    go_on.set()
    assert app.wait(PATIENCE) == 0
    app.close()  # wait() did not wait until everything was freed
    assert app.state is gothreads.State.CLOSED
    caplog.clear()


def test_a_callback_that_blocks_takes_no_thread_from_other_calls(nothing_left: None) -> None:
    begin, entered, go_on = threading.Event(), threading.Event(), threading.Event()

    def call_again(n: int) -> int:
        begin.wait(PATIENCE)
        return n

    def block(_call: Future[Any]) -> None:
        entered.set()
        go_on.wait(PATIENCE)
    with opened("patient", host={"env": {"call_again": call_again}}) as app:
        try:
            app.submit("again", 1).add_done_callback(block)
            begin.set()
            assert entered.wait(PATIENCE)
            assert app.submit("add", 3, 4).result(PATIENCE) == 7
        finally:
            go_on.set()


def test_who_waits_for_an_instance_is_told_though_anothers_callback_exits(
    caplog: pytest.LogCaptureFixture, nothing_left: None
) -> None:
    supervised = gothreads.supervise(built("calls"), stderr=io.BytesIO(), backoff=NEVER,
                                     on_restart=lambda restart: None)
    with pytest.raises(gothreads.GuestPanic):
        supervised.exports.panics()
    wait_until(lambda: supervised._instance.up is None and supervised._down)
    exits, other = supervised.submit("add", 1, 2), supervised.submit("add", 1, 2)
    exits.add_done_callback(leaves)
    blocked = elsewhere(lambda: supervised.exports.add(3, 4))
    wait_until(lambda: len(supervised._instance.after._waiting) == 3)
    supervised.close()
    for waited in (exits, other, blocked):
        assert isinstance(waited.exception(PATIENCE), gothreads.AppClosed)
    caplog.clear()


# Ends.

def test_output_that_cannot_be_flushed_does_not_keep_an_app_from_its_end(
    caplog: pytest.LogCaptureFixture, nothing_left: None
) -> None:
    class Out(io.BytesIO):
        def flush(self) -> None:
            raise RuntimeError("no flush")
    app = opened("calls", stdout=Out())
    assert app.exports.add(1, 2) == 3
    app.close()
    assert app.state is gothreads.State.CLOSED
    assert app.wait(0) == 0
    caplog.clear()


def test_an_app_that_a_timeout_stops_ends_though_there_is_no_thread_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that gives up a call cannot wait for the call to leave: the call would be waiting for that thread."""
    tried: list[int] = []

    def none_left(*_: object) -> int:
        tried.append(1)
        raise RuntimeError("can't start new thread")
    with opened("calls") as app:
        with monkeypatch.context() as patch:
            patch.setattr("gothreads.runtime.ending._thread.start_new_thread", none_left)
            call = app.submit("spin", timeout=0.2, on_timeout="stop")
            assert isinstance(call.exception(PATIENCE), gothreads.CallTimeout)
            wait_until(lambda: tried)
            with pytest.raises(gothreads.LimitExceeded):
                app.wait(PATIENCE)
        assert app.state is gothreads.State.FAILED


@pytest.mark.parametrize("model", ["single", "idle", "pool"])
def test_the_limit_of_time_holds_while_packages_are_initialised(model: str, nothing_left: None) -> None:
    host = {"env": {"started": lambda: None, "again": lambda n: n}}
    with pytest.raises(gothreads.LimitExceeded, match="it has run for 0.3 s"):
        elsewhere(lambda: opened("nested", model, host=host, env={"SPIN": "1"},
                                 limits=gothreads.Limits(seconds=0.3))).result(PATIENCE)


def test_a_handler_that_drains_the_app_does_not_wait_for_its_own_call(nothing_left: None) -> None:
    took: list[float] = []

    def drain(_payload: bytes) -> bytes:
        begin = time.monotonic()
        app.close(drain=5)
        took.append(time.monotonic() - begin)
        return b"done"
    app = opened("talk", handlers={"drain": drain})
    assert app.request("call", "drain") == b"done"
    assert took[0] < under_load(2)
    wait_until(lambda: app.state is gothreads.State.CLOSED)
    app.close()


# Threads that the system cannot start.

@pytest.mark.parametrize("how", ["call", "submit"])
def test_a_call_whose_time_cannot_be_kept_is_not_made(how: str, monkeypatch: pytest.MonkeyPatch,
                                                      nothing_left: None) -> None:
    with opened("calls") as app:
        with monkeypatch.context() as patch:
            no_threads_named("gothreads-deadlines", patch)
            with pytest.raises(gothreads.CallersBusy, match="no thread left to keep a call's time with"):
                app.exports.count(timeout=1) if how == "call" else app.submit("count", timeout=1)
        wait_until(lambda: app._call_threads.pending == 0)
        assert app.exports.count() == 1


def test_a_nested_call_that_finds_no_thread_is_not_waited_for_at_the_end(
    monkeypatch: pytest.MonkeyPatch, nothing_left: None
) -> None:
    def call_again(n: int, context: gothreads.Context) -> int:
        with monkeypatch.context() as patch:
            no_threads_named("", patch)
            with pytest.raises(gothreads.CallersBusy):
                context.app.exports.add(n, 1)
        return 7
    with opened("patient", host={"env": {"call_again": call_again}}) as app:
        assert app.exports.again(5) == 7
        assert app._nested.pending == 0
        begin = time.monotonic()
        app.close(drain=5)
        assert time.monotonic() - begin < under_load(3)


# Callers.

class Idle(IdleCallers):
    """Idle callers. One that was taken out for inspection is put back when the test sets `go_on`."""

    def __init__(self, cache: object) -> None:
        super().__init__(cache, None, 0, IDLE_SECONDS, 0, 0)
        self.taken_out, self.go_on = threading.Event(), threading.Event()

    def appendleft(self, caller: CallbackM) -> None:
        self.taken_out.set()
        self.go_on.wait(PATIENCE)
        super().appendleft(caller)


def test_a_caller_that_was_looked_at_goes_to_who_has_looked_for_one_meanwhile(nothing_left: None) -> None:
    with opened("calls", callers=2) as app:
        cache = app._cache  # type: ignore[attr-defined]
        for caller in [cache.acquire() for _ in range(2)]:
            cache.release(caller)
        idle = Idle(cache)
        for caller in cache._idle:
            idle.append(caller)
        cache._idle = cache._wait_queue.counts = idle
        trimming = threading.Thread(target=lambda: cache.trim(3600))
        trimming.start()
        try:
            assert idle.taken_out.wait(PATIENCE)
            app.submit("hang")
            wait_until(lambda: not idle)
            call = app.submit("add", 3, 4)
            wait_until(lambda: cache._wait_queue.counts.waiting == 1)
        finally:
            idle.go_on.set()
        assert call.result(PATIENCE) == 7
        trimming.join(PATIENCE)


@pytest.mark.long
@pytest.mark.parametrize("callers", [1, 2])
def test_nobody_attaches_to_what_has_trapped_while_somebody_attached(callers: int, monkeypatch: pytest.MonkeyPatch,
                                                                     nothing_left: None) -> None:
    attach, trapped = CallbackM.attach, Lifecycle._trapped
    first, other = threading.Event(), threading.Event()
    causes: list[str] = []

    def attach_or_trap(caller: CallbackM) -> None:
        if first.is_set():
            other.set()
            return attach(caller)
        first.set()
        cache = app._cache  # type: ignore[attr-defined]
        # another waits for its place, or to attach
        wait_until(lambda: cache._wait_queue.counts.waiting + cache._total == 2)
        raise ffi.Trapped(ffi.Trap("attaching has trapped"))

    def slowly(life: Lifecycle, error: ffi.Trapped) -> None:
        if "attaching" in error.trap.message:
            other.wait(0.3)  # the app has not ended yet: another call would get in now if it could
        causes.append(error.trap.message)
        trapped(life, error)
    with opened("calls", callers=callers) as app:
        app.trim()  # type: ignore[attr-defined]
        monkeypatch.setattr(CallbackM, "attach", attach_or_trap)
        monkeypatch.setattr(app._cache, "_trapped", lambda error: slowly(app, error))  # type: ignore[attr-defined]
        monkeypatch.setattr(Lifecycle, "_trapped", slowly)
        one = elsewhere(lambda: app.exports.add(1, 2))
        assert first.wait(PATIENCE)
        two = elsewhere(lambda: app.exports.add(3, 4))
        for call in (one, two):
            assert isinstance(call.exception(PATIENCE), gothreads.GuestTrap)
        assert not other.is_set()
        assert "attaching has trapped" in str(app.error)


# Supervision.

@pytest.mark.parametrize("options", [{"drain": -1}, {"drain": "5"}, {"dreain": 5}])
def test_a_restart_that_is_not_meant_so_is_said_and_changes_nothing(options: dict[str, Any],
                                                                    nothing_left: None) -> None:
    with gothreads.supervise(built("calls"), on_restart=lambda restart: None) as supervised:
        with pytest.raises(gothreads.MisuseError, match="drain"):
            supervised.restart(10, **options)
        assert supervised.exports.count() == 1
        assert supervised.exports.count() == 2
        assert supervised.error is None


def test_an_event_that_may_be_dropped_does_not_wait_for_the_next_instance(
    monkeypatch: pytest.MonkeyPatch, nothing_left: None
) -> None:
    look: Any = vars(SupervisedInstance)["up"].fget
    looks: list[int] = []

    def up(instance: SupervisedInstance) -> gothreads.App | None:
        found: gothreads.App | None = look(instance)
        if not looks:  # it goes down just after the look
            looks.append(1)
            assert found is not None
            assert isinstance(found.submit("panics").exception(PATIENCE), gothreads.GuestPanic)
            wait_until(lambda: supervised._down)
        return found
    with gothreads.supervise(built("calls"), stderr=io.BytesIO(), backoff=NEVER,
                             on_restart=lambda restart: None) as supervised:
        monkeypatch.setattr(SupervisedInstance, "up", property(up))
        told = elsewhere(lambda: supervised.signal("x", b"y", full="drop"))
        assert isinstance(told.exception(PATIENCE), gothreads.GuestPanic)
    assert looks


def test_an_open_that_fails_is_no_signal_handler_in_gothreads_code() -> None:
    """So the close() in it waits until all is freed."""
    def close() -> bool:
        return own_code.is_interrupted()
    assert not hides_frames(lambda: close())()


@pytest.mark.usefixtures("nothing_left")
def test_close_in_a_signal_handler_frees_an_app_that_has_ended(calls: Path) -> None:
    for _ in range(5):
        app = gothreads.open(calls, stderr=io.BytesIO())
        with pytest.raises(gothreads.GuestPanic):
            app.exports.panics()
        assert app.wait(PATIENCE) == 2
        time.sleep(0.01)  # nearly always, the sweep is over then: it does not free what nobody has closed yet
        # As if a handler ran while this thread was in such a module.
        exec("app.close()", {"__name__": "gothreads.runtime.calls", "app": app})
