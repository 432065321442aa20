"""Calls in C (gothreads/csrc): they have the same results as those in Python, and leave uncommon cases to Python.

All other tests use C if it was built. The tests here compare the two, cover the corner cases of C, and run a part of
the other tests without C.
"""

from __future__ import annotations

import gc
import inspect
import io
import math
import os
import pydoc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gothreads
from gothreads.bridge.exports import Function
from gothreads.engine import extension, stack
from tests.support.interrupted_program import python
from tests.support.modules import ROOT, built, opened
from tests.support.waiting import PATIENCE, together, under_load, wait_until

pytestmark = pytest.mark.skipif(extension.compiled is None, reason=f"without C: {extension.missing}")

KINDS = ["int32s", "uint32s", "int64s", "uint64s", "float32s", "float64s", "bools", "uintptrs"]
LIMITS = [edge + near for bits in (31, 32, 63, 64) for edge in (1 << bits, -(1 << bits)) for near in (-1, 0, 1)]


class Whole(int):
    """A subclass of int."""


class Real(float):
    """A subclass of float."""


class Index:
    def __index__(self) -> int:
        return 7


VALUES = (
    st.integers(-(1 << 70), 1 << 70)
    | st.integers(-100, 100)
    | st.sampled_from(LIMITS)
    | st.floats()
    | st.floats(width=32)
    | st.booleans()
    | st.sampled_from([None, "1", b"1", Whole(3), Real(2.5), Index(), 3.4028234663852886e38, 3.4028235677973366e38, 1j])
)


def in_python(export: Any) -> Function:
    """Return the Python function that C calls in uncommon cases."""
    function: Function = export.__call__.__self__
    assert type(function) is Function
    assert type(export) is not Function
    return function


def outcome(call: Callable[[], Any]) -> object:
    """Return the outcome of a call for comparison: with its type, as True == 1, and with NaN equal to itself."""
    try:
        value = call()
    except Exception as error:
        return type(error), str(error)
    return (
        type(value),
        "nan" if isinstance(value, float) and math.isnan(value) else value,
        math.copysign(1, value) if isinstance(value, float) else 0,
    )


@settings(deadline=None, max_examples=600)
@given(kind=st.sampled_from(KINDS), values=st.lists(VALUES, min_size=1, max_size=1) | st.lists(VALUES, max_size=3))
def test_every_value_comes_to_the_same_in_c_and_in_python(shared: gothreads.App, kind: str, values: list[Any]) -> None:
    export = shared.exports[kind]
    assert outcome(lambda: export(*values)) == outcome(lambda: in_python(export)(*values))


@pytest.fixture(scope="module")
def shared() -> Iterator[gothreads.App]:
    """One app, shared by all tests."""
    with opened("calls") as app:
        yield app


def test_a_function_in_c_looks_like_one_in_python(shared: gothreads.App) -> None:
    add, plain = shared.exports.add, in_python(shared.exports.add)
    assert isinstance(add, Function)
    assert (repr(add), add.__doc__, add.__name__, add.signature) == (repr(plain), plain.__doc__, plain.__name__,
                                                                     plain.signature)
    for function in (add, plain):
        assert pydoc.plain(pydoc.render_doc(function)).endswith(
            "\n\nadd(a: int, b: int) -> int\n    func add(a, b int32) int32\n")
        assert type("Sums", (), {"add": function})().add(2, 3) == 5
    with pytest.raises(gothreads.ArgumentError, match="no parameter 'c'"):
        add(1, c=2)
    assert add(b=1, a=2) == add(1, b=2) == 3
    assert add(1, 2, timeout=10) == 3


def test_calls_are_counted_and_leave_their_callers_at_rest() -> None:
    with opened("calls", callers=4) as app:
        before = app.statistics().calls
        together(*[lambda: [app.exports.add(1, n) for n in range(5000)]] * 8)
        statistics = app.statistics()
        assert statistics.calls - before == 40_000
        assert statistics.callers is not None
        assert (statistics.callers.in_use, statistics.callers.waiting) == (0, 0)
        assert statistics.callers.total <= 4


def test_who_waits_for_a_caller_is_woken_by_a_call_in_c() -> None:
    """There is one caller. The thread that uses it is in C; a thread that comes meanwhile waits in Python."""
    with opened("calls", callers=1) as app:
        begin, sleeping, over = threading.Event(), threading.Event(), threading.Event()

        def sleeps() -> None:
            app.exports.sleep(0)  # a thread's first call takes the path in Python
            begin.set()
            while not over.is_set():  # not 20 times: the other may come too late for one, on a busy machine
                sleeping.set()
                app.exports.sleep(20)
                time.sleep(0.01)

        def others() -> None:
            begin.wait()
            for _ in range(20):
                sleeping.wait()
                wait_until(lambda: app._in_use)
                assert app.exports.add(2, 3) == 5
                sleeping.clear()
            over.set()
        together(sleeps, others)


@pytest.mark.long
@pytest.mark.parametrize("how", ["close", "exits", "panics"])
def test_the_end_meets_calls_in_c(how: str) -> None:
    for _ in range(10):
        with opened("calls", stderr=io.BytesIO()) as app:
            def calls(app: gothreads.App = app) -> type[BaseException]:
                try:
                    while True:
                        assert app.exports.add(20, 3) == 23
                except gothreads.GothreadsError as error:
                    return type(error)

            def ends(app: gothreads.App = app) -> None:
                time.sleep(0.02)
                if how == "close":
                    app.close()
                else:
                    with pytest.raises(gothreads.GuestError):
                        app.exports[how](*[3] * (how == "exits"))
            found = set(together(*[calls] * 4, ends)) - {None}
            assert found == {{"close": gothreads.AppClosed, "exits": gothreads.GuestExit,
                              "panics": gothreads.GuestPanic}[how]}
            assert app.statistics().callers.in_use == 0  # type: ignore[union-attr]


def test_a_draining_app_takes_no_calls_in_c_either() -> None:
    with opened("calls") as app:
        together(*[lambda: app.exports.sleep(50)] * 3)
        for caller in app._cache.idle:  # type: ignore[attr-defined]
            caller.function("add", "ii", "i")
        slow = app.submit("sleep", 300)
        wait_until(lambda: app._in_use)
        closing = threading.Thread(target=lambda: app.close(drain=10))
        closing.start()
        wait_until(lambda: app.state is gothreads.State.DRAINING)
        for _ in range(3):  # after a while, the first call takes the path in Python
            with pytest.raises(gothreads.AppClosed):
                app.exports.add(1, 2)
        slow.result(PATIENCE)
        closing.join()


@pytest.mark.long
def test_ctrl_c_between_short_calls_ends_nothing() -> None:
    """All calls of the main thread share one record: the watcher must not end a later call than Ctrl-C came in."""
    assert python("""
        with gothreads.open(sys.argv[1]) as app:
            interrupts = calls = 0
            begin = time.monotonic()
            kill(0.2), kill(0.7), kill(1.2)
            while time.monotonic() - begin < 1.8:
                try:
                    while time.monotonic() - begin < 1.8:
                        assert app.exports.add(calls, 1) == calls + 1
                        calls += 1
                except KeyboardInterrupt:
                    interrupts += 1
            print(interrupts, calls > 1000, app.state.value)
    """, built("calls")) == "3 True running\n"


def test_ctrl_c_ends_a_call_in_c_that_does_not_come_back() -> None:
    assert python("""
        with gothreads.open(sys.argv[1]) as app:
            app.exports.add(1, 2)
            app.exports.hang
            from tests.support.waiting import under_load
            threading.Thread(target=app.exports.sleep, args=(1,)).start()
            kill(0.3)
            begin = time.monotonic()
            try:
                app.exports.hang()
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - begin < under_load(2), app.state.value != "running")
    """, built("calls")) == "interrupted True True\n"


@pytest.mark.long
def test_a_trap_at_the_end_of_pythons_stack_is_the_end_or_does_not_come() -> None:
    """Handling a trap needs some of the stack: a call that would leave too little is not made."""
    outcomes = set()
    for depth in (*range(sys.getrecursionlimit() - 170, sys.getrecursionlimit() - 20, 10),
                  *range(sys.getrecursionlimit() - 20, sys.getrecursionlimit())):
        with opened("faults", stderr=io.BytesIO(),
                    host={"env": dict.fromkeys(["block", "raises", "close"], lambda: None)}) as app:
            trap_if = app.exports.trap_if
            for _ in range(3):
                trap_if(False)

            def deep(more: int, trap_if: Any = trap_if) -> None:
                if more:
                    deep(more - 1)
                else:
                    trap_if(True)
            try:
                deep(depth - len(inspect.stack(0)))
            except RecursionError:
                outcomes.add("none")
                assert app.state is gothreads.State.RUNNING
                trap_if(False)
                assert app._in_use == 0
            except gothreads.GuestTrap:
                outcomes.add("trap")
                assert app.error is not None
            begin = time.monotonic()
            app.close()
            assert time.monotonic() - begin < under_load(2)
    assert outcomes == {"none", "trap"}


def test_what_puts_a_caller_back_counts_as_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Putting a caller back may run Go, to close an old one. Python code that this runs must know that it is inside."""
    seen = []
    with opened("calls") as app:
        cache = app._cache  # type: ignore[attr-defined]
        together(*[lambda: app.exports.sleep(30)] * 2)
        for caller in cache.idle:
            caller.function("add", "ii", "i")
        app.exports.add(1, 2)
        monkeypatch.setattr("gothreads.bridge.buffers.Buffers.close", lambda buffers: seen.append(stack.inside.depth))
        next(iter(cache.idle)).since -= 100
        app.exports.add(1, 2)
        assert seen == [1]
        assert stack.inside.depth == 0
        assert cache.statistics().total == 1


def test_a_thread_that_is_inside_calls_in_python() -> None:
    seen: list[int] = []

    def call_again(n: int, context: gothreads.Context) -> int:
        seen.append(stack.inside.depth)
        return int(context.app.exports.again(n - 1)) if n > 1 else 1
    with opened("patient", host={"env": {"call_again": call_again}}) as app:
        together(*[lambda: [app.exports.again(1) for _ in range(3)]] * 4)  # so that several callers are idle
        assert [app.exports.again(1) for _ in range(3)] == [1] * 3
        seen.clear()
        assert app.exports.again(3) == 1
    assert set(seen) == {1}
    assert stack.inside.depth == 0


def test_faulthandler_that_is_turned_on_later_is_noticed_before_a_call_in_c() -> None:
    assert python("""
        import faulthandler, io
        host = {"env": dict.fromkeys(["block", "raises", "close"], lambda: None)}
        with gothreads.open(sys.argv[1], stderr=io.BytesIO(), host=host) as app:
            for _ in range(3):
                app.exports.trap_if(False)
            faulthandler.enable()
            try:
                app.exports.trap_if(True)
            except gothreads.GuestError as error:
                print(type(error).__name__)
    """, built("faults")).strip() == "GuestTrap"


REQUESTS = [b"", b"x", b"x" * 63, b"\0\xff" * 32, b"y" * 65_530, b"z" * 65_536, b"z" * 65_537, b"w" * 1_000_000]


@pytest.mark.parametrize("payload", REQUESTS, ids=lambda payload: str(len(payload)))
def test_requests_come_back_whole(payload: bytes) -> None:
    with opened("calls") as app:
        for _ in range(4):
            assert app.request("echo", payload) == payload
        answers = together(*[lambda: [app.request("echo", payload) == payload for _ in range(50)]] * 4)
        assert answers == [[True] * 50] * 4


@pytest.mark.long
def test_the_end_meets_requests_whose_answers_are_given_back() -> None:
    """Large replies are freed by calling an export, and that call may be the one that the end interrupts."""
    for _ in range(30):
        with opened("calls") as app:
            def requests(app: gothreads.App = app) -> type[BaseException]:
                try:
                    while True:
                        assert len(app.request("echo", bytes(70_000))) == 70_000
                except gothreads.GothreadsError as error:
                    return type(error)

            def closes(app: gothreads.App = app) -> None:
                time.sleep(0.02)
                app.close()
            assert set(together(*[requests] * 6, closes)) - {None} == {gothreads.AppClosed}


def test_requests_that_fail_say_why_as_pythons_do() -> None:
    with opened("calls") as app:
        for _ in range(3):
            with pytest.raises(gothreads.HandlerError):
                app.request("fail", b"as asked")
            with pytest.raises(gothreads.UnknownExport, match="ech0"):
                app.request("ech0", b"")
            with pytest.raises(gothreads.MisuseError):
                app.request("\ud800", b"")
            assert app.request("upper", "text") == b"TEXT"
            assert app.request("upper", bytearray(b"text")) == b"TEXT"


def test_calls_in_c_leak_nothing(shared: gothreads.App) -> None:
    app = shared
    process = psutil.Process()

    def round_(times: int) -> None:
        for n in range(times):
            app.exports.add(n, 1)
            app.exports.float64s(n + 0.5)
            app.exports.int64s(1 << 40)
            app.request("echo", b"some bytes")
            with pytest.raises(gothreads.ArgumentError):
                app.exports.add(1 << 40, 1)
    round_(300)
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), process.memory_info().rss
    round_(3000)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 500
    assert process.memory_info().rss - memory < 16 << 20


#: The tests that are run without C too, in a process of their own. .ci/run runs all tests without C.
_WITHOUT = ["bridge/test_exports.py", "test_api.py", "test_callback_m.py", "sync/test_wait_queue.py"]


@pytest.mark.long
@pytest.mark.parametrize("name", _WITHOUT)
def test_a_part_of_the_tests_passes_without_c(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider",
                           str(ROOT / "tests" / name)], cwd=ROOT,
                          env=os.environ | {"GOTHREADS_FAST": "0"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
