"""Exceptions and signals at awkward moments: nothing is lost, nothing hangs, no answer is wrong."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

import gothreads
from gothreads.engine.call_threads import CallThreads
from gothreads.errors import CallersBusy
from gothreads.sync.stop_event import StopEvent
from gothreads.wasi.descriptor_table import DescriptorTable
from gothreads.wasi.queues import Queue, QueueReader
from tests.support.interrupted_program import python
from tests.support.modules import MODELS, built, opened
from tests.support.patient import patient
from tests.support.waiting import PATIENCE, raises_within, under_load, wait_until

# Python's stack.


@pytest.mark.parametrize("model", ["threaded", "single"])
def test_at_the_end_of_pythons_stack_a_call_is_right_or_a_recursion_error(model: str) -> None:
    """If there were no room for a host function's frames, Go would silently get its own argument as the result."""
    def call_again(n: int) -> int:
        return 10 * n
    with opened("patient", model, host={"env": {"call_again": call_again}}) as app:
        app.exports.again(1)

        def deep(more: int) -> int:
            return deep(more - 1) if more else int(app.exports.again(7))
        outcomes = set()
        for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit(), 3):
            try:
                outcomes.add(deep(depth))
            except RecursionError:
                outcomes.add(-1)
        assert outcomes <= {70, -1}
        assert -1 in outcomes
        assert app.exports.again(7) == 70  # the app has not ended


@pytest.mark.parametrize("model", [pytest.param(model, marks=[pytest.mark.long] if model == "threaded" else [])
                                   for model in MODELS])
def test_python_and_go_that_call_each_other_without_end_are_told_so(model: str) -> None:
    def call_again(n: int, context: gothreads.Context) -> int:
        return int(context.app.exports.again(n + 1))
    limits = gothreads.Limits(threads=16)
    with opened("patient", model, host={"env": {"call_again": call_again}}, callers=4, limits=limits
                if model == "threaded" else None,
                **({"instances": 1} if model == "pool" else {})) as app, pytest.raises(gothreads.GuestError) as caught:
        app.exports.again(0)
    assert isinstance(caught.value, gothreads.HostFunctionError | gothreads.GuestTrap)


# Signals.

@pytest.mark.long
def test_ctrl_c_in_signal_loses_no_event() -> None:
    assert python("""
        with gothreads.open(sys.argv[1], event_queue=1 << 20) as app:
            sent = interrupts = 0
            while interrupts < 150:
                try:
                    kill(random.uniform(0, 0.002))
                    while True:
                        app.signal("text", b"x", full="drop")
                except KeyboardInterrupt:
                    interrupts += 1
                deadline = time.monotonic() + 60
                while len(app._messages.events("text")):
                    assert time.monotonic() < deadline, f"after {interrupts} interrupts events lie in the queue"
                    time.sleep(0.001)
            print("ok")
    """, built("talk")) == "ok\n"


@pytest.mark.long
def test_ctrl_c_in_close_leaves_an_app_that_closes() -> None:
    assert python("""
        from tests.support.waiting import under_load
        for n in range(60):
            app = gothreads.open(sys.argv[1])
            try:
                kill(random.uniform(0, 0.003))
                app.close()
                time.sleep(0.1)
            except KeyboardInterrupt:
                pass
            begin = time.monotonic()
            app.close()
            assert time.monotonic() - begin < under_load(4), (n, app.state)
            assert app.state is gothreads.State.CLOSED
        print("ok")
    """, built("calls")) == "ok\n"


@pytest.mark.long
@pytest.mark.parametrize("use",
                         ["app.submit('count')", "app.exports.count()", "app.statistics()",
                          "app.signal('x', b'', full='drop')",
                                 "app.exports.count(timeout=5)", "app.handlers()", "app.goroutines()"])
def test_a_signal_handler_may_close_the_app_whatever_it_interrupts(use: str) -> None:
    assert python(f"""
        import faulthandler
        for n in range(12):
            app = gothreads.open(sys.argv[1], callers=8)
            took = []
            def handler(*_):
                begin = time.monotonic()
                app.close()
                took.append(time.monotonic() - begin)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.005, 0.02))
            faulthandler.dump_traceback_later(90, exit=True)
            try:
                while not took:
                    {use}
            except gothreads.AppClosed:
                pass
            while not took:
                time.sleep(0.001)
            assert took[0] < 3, took
            app.close()
            assert app.state is gothreads.State.CLOSED
        print("ok")
    """, built("hooks")).splitlines()[-1] == "ok"


def test_close_in_the_middle_of_close_returns() -> None:
    assert python("""
        app = gothreads.open(sys.argv[1])
        blocked = app.submit("hang")
        closed = []
        signal.signal(signal.SIGALRM, lambda *_: (app.close(), closed.append(1)))
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        app.close()
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert app.state is gothreads.State.CLOSED
        print("ok")
    """, built("calls")) == "ok\n"


# Callbacks at the end of a call.

def test_what_is_done_at_a_calls_end_may_wait_for_another_call() -> None:
    with patient(callers=4) as app:
        done: Future[int] = Future()
        app.submit("sleep", 20).add_done_callback(
            lambda first: done.set_result(first.result() + app.submit("add", 3, 4).result())
        )
        assert done.result(PATIENCE) == 8
        nested: Future[int] = Future()

        def again(left: int) -> None:
            """Each callback waits for the next."""
            if left:
                inner: Future[int] = Future()

                def then(call: Future[Any]) -> None:
                    again(left - 1)
                    inner.set_result(call.result())
                app.submit("add", left, 0).add_done_callback(then)
                inner.result(PATIENCE)
            else:
                nested.set_result(0)
        again(8)
        assert nested.result(PATIENCE) == 0
        wait_until(lambda: app._call_threads.pending == 0)
        assert app._call_threads._lent == 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("timed", [{}, {"timeout": 20}])
def test_what_is_done_at_a_calls_end_may_wait_for_a_call_that_is_queued(model: str, timed: dict[str, Any]) -> None:
    """The call is queued before the first one ends, so at that time no other thread seemed necessary."""
    with patient(model, **({"instances": 1} if model == "pool" else {"callers": 1})) as app:
        told: Future[int] = Future()
        first, second = app.submit("sleep", 100, **timed), app.submit("add", 3, 4, **timed)
        first.add_done_callback(lambda _: told.set_result(second.result(PATIENCE)))
        assert told.result(PATIENCE) == 7
        wait_until(lambda: app._call_threads.pending == 0)
        assert app._call_threads._lent == 0


def test_asyncio_needs_no_thread_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with patient(callers=2) as app:
        started: list[bool] = []
        real = app._call_threads._started

        def count() -> bool:
            started.append(real())
            return started[-1]
        monkeypatch.setattr(app._call_threads, "_started", count)
        async def many() -> list[int]:
            return list(await asyncio.gather(*[app.call_async("add", n, 1) for n in range(200)]))
        assert asyncio.run(many()) == [n + 1 for n in range(200)]
        assert len(started) <= 2


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
def test_what_is_done_at_a_calls_end_may_raise(error: type[BaseException]) -> None:
    def fail(_call: Future[Any]) -> None:
        raise error
    with patient(callers=1) as app:
        for _ in range(3):
            app.submit("sleep", 1).add_done_callback(fail)
        assert app.submit("add", 1, 2).result(PATIENCE) == 3


def test_what_is_done_at_a_calls_end_may_close_the_app() -> None:
    app = opened("hooks")
    closed: Future[float] = Future()

    def close(_call: Future[Any]) -> None:
        begin = time.monotonic()
        app.close()
        closed.set_result(time.monotonic() - begin)
    app.submit_request("nothing").add_done_callback(close)
    assert closed.result(PATIENCE) < under_load(4)
    wait_until(lambda: app.state is gothreads.State.CLOSED)


# Threads that the system cannot start.

def test_jobs_for_which_there_is_no_thread_are_refused_without_a_word_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "gothreads-call":
            raise RuntimeError("can't start new thread")
        real(thread)
    monkeypatch.setattr(threading.Thread, "start", start)
    workers = CallThreads(2, 1 << 20)
    told: list[BaseException | None] = []
    cancelled: Future[Any] = Future()
    cancelled.cancel()
    waiting: Future[Any] = Future()
    waiting.add_done_callback(lambda call: told.append(workers.submit(lambda: 3).exception(PATIENCE)))
    for future in (cancelled, waiting):  # jobs of other threads, which saw that a thread was about to start
        workers._jobs.put((future, lambda: 1))
        workers._open.add(future)
        workers._pending += 1
    assert isinstance(workers.submit(lambda: 2).exception(PATIENCE), CallersBusy)
    assert isinstance(waiting.exception(PATIENCE), CallersBusy)
    with pytest.raises(CancelledError):
        cancelled.result(0)
    assert [type(error) for error in told] == [CallersBusy]
    assert workers.pending == 0


def test_an_end_that_finds_no_thread_is_made_good_for_by_whoever_comes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def call_again(n: int) -> int:
        raise LookupError("the end")
    with opened("patient", host={"env": {"call_again": call_again}}) as app:
        with monkeypatch.context() as patch:
            def none_left(*_: object) -> int:
                raise RuntimeError("can't start new thread")
            patch.setattr("gothreads.runtime.ending._thread.start_new_thread", none_left)
            call = app.submit("again", 1)
            wait_until(lambda: app.error is not None)
        with pytest.raises(gothreads.HostFunctionError):
            app.wait(PATIENCE)
        assert isinstance(call.exception(PATIENCE), gothreads.HostFunctionError)


# Turns, queues, streams.

@pytest.mark.parametrize("model", ["single", "idle"])
def test_who_waits_for_a_turn_is_told_of_the_end_though_the_one_in_does_not_come_back(model: str) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def call_again(n: int) -> int:
        inside.set()
        go_on.wait(PATIENCE)
        return n
    app = opened("patient", model, host={"env": {"call_again": call_again}})
    first = app.submit("again", 1)
    assert inside.wait(PATIENCE)
    second = app.submit("add", 1, 2)
    wait_until(lambda: app._in_use == 2)
    closing = threading.Thread(target=app.close)
    closing.start()
    with raises_within(gothreads.AppClosed, 2):
        second.result(PATIENCE)
    go_on.set()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    # The first call may just have finished.
    assert first.exception(PATIENCE) is None or isinstance(first.exception(), gothreads.AppClosed)


@pytest.mark.parametrize("model", ["single", "idle", "pool"])
def test_to_wait_for_ones_own_call_is_refused(model: str) -> None:
    def call_again(n: int, context: gothreads.Context) -> int:
        with pytest.raises(gothreads.MisuseError, match="cannot go on before it is over"):
            context.app.wait_idle()
        return n
    with opened("patient", model, host={"env": {"call_again": call_again}}) as app:
        assert app.exports.again(3) == 3


def test_a_wait_for_idle_that_was_given_up_runs_nothing_later() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def call_again(n: int) -> int:
        inside.set()
        go_on.wait(PATIENCE)
        return n
    with opened("patient", "single", host={"env": {"call_again": call_again}}) as app:
        first = app.submit("again", 1)
        assert inside.wait(PATIENCE)
        with pytest.raises(TimeoutError, match="not every goroutine waits"):
            app.wait_idle(0.05)
        before = app.signal("never", b"x")
        go_on.set()
        assert before
        assert first.result(PATIENCE) == 1
        wait_until(lambda: app._call_threads.pending == 0)
        assert app._environment.calls.idle is None  # type: ignore[attr-defined]  # the module has not opened it


def test_a_reader_that_goes_is_not_written_to() -> None:
    """Its descriptor's number may belong to another file by then.

    A weak reference would not do: it stays valid until after the object has closed the descriptor.
    """
    queue, stop = Queue(1 << 30, 1 << 40), StopEvent()
    table = DescriptorTable(stop)
    over = time.monotonic() + 1.0
    failed: list[BaseException] = []

    def come_and_go() -> None:
        while time.monotonic() < over:
            table.remove(table.add(QueueReader(queue, stop)))

    def put() -> None:
        try:
            while time.monotonic() < over:
                queue.put(b"x")
                with queue.lock:
                    queue.frames.clear()
        except OSError as error:
            failed.append(error)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for work in (come_and_go, come_and_go, put, put)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failed
    assert not queue.readers
    stop.close()


@pytest.mark.parametrize("model", ["threaded", "pool"])
def test_what_is_one_write_stays_together_whichever_instance_writes(model: str) -> None:
    out = python(
        """
        host = {"env": {"call_again": lambda n: n}}
        with gothreads.open(sys.argv[1], model=sys.argv[2], host=host, instances=2 if sys.argv[2] == "pool" else None) as app:
            list(app.map("shout", [1, 2], [40, 40]))
    """,
        built("patient", model="threaded" if model == "threaded" else "single"),
        model,
    )
    lines = out.splitlines()
    assert len(lines) == 80
    assert {(len(line), len(set(line))) for line in lines} == {(40_000, 1)}


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "pool"])
def test_an_app_that_ctrl_c_has_ended_is_not_kept(model: str) -> None:
    """The thread that watches for Ctrl-C must not keep it alive, with all its errors and their descriptors."""
    assert python("""
        import gc, weakref
        app = gothreads.open(sys.argv[1], model=sys.argv[2])
        kill(0.2)
        try:
            app.exports.hang() if sys.argv[2] == "threaded" else app.exports.spin()
        except KeyboardInterrupt:
            app.close()
        kept = weakref.ref(app)
        del app
        deadline = time.monotonic() + 5
        while kept() is not None and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        print(kept() is None)
    """, built("calls", model="threaded" if model == "threaded" else "single"), model) == "True\n"
