"""Modules with wasi-threads (C): their threads run in parallel and between calls, and all of them end with the app."""

from __future__ import annotations

import gc
import io
import os
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

import gothreads
from gothreads.errors import ModuleError
from gothreads.runtime.models.wasi_threads import LAST_THREAD, ThreadNumbers
from tests.support.command_line import command, finished
from tests.support.modules import native
from tests.support.waiting import (
    PATIENCE,
    few_threads,
    one_in_one_waiting,
    raises_within,
    together,
    under_load,
    wait_until,
)
from tests.support.wat import wat

ROUNDS = 50


@pytest.fixture
def opened() -> Callable[..., gothreads.App]:
    return lambda **options: gothreads.open(native("threads.c"), **options)


Opened = Callable[..., gothreads.App]


def test_threads_of_the_module_add_under_atomics_and_a_mutex(opened: Opened) -> None:
    with opened() as app:
        assert app.model == "threaded"
        for done in range(1, ROUNDS + 1):
            assert app.exports.start_adders(8, 200) == 8
            app.exports.join()
            assert app.exports.counter() == app.exports.guarded() == done * 8 * 200
        threads = app.statistics().threads
        assert threads is not None
        assert threads.started == ROUNDS * 8


def test_threads_wait_on_each_other(opened: Opened) -> None:
    with opened() as app:
        for _ in range(ROUNDS):
            assert app.exports["pass"](4, 100) == 100


def test_threads_run_on_between_calls(opened: Opened) -> None:
    with opened() as app:
        assert app.exports.start_adders(2, 2000) == 2
        wait_until(lambda: app.exports.running() == 0)
        assert app.exports.counter() == 4000


def test_threads_start_threads(opened: Opened) -> None:
    for _ in range(10):
        with opened() as app:
            assert app.exports.tree(6) == 2 ** 7 - 1


def test_each_thread_has_variables_of_its_own(opened: Opened) -> None:
    with opened() as app:
        for _ in range(ROUNDS):
            assert app.exports.thread_locals(8) == 0


def test_time_does_not_go_back_from_thread_to_thread(opened: Opened) -> None:
    with opened() as app:
        assert app.exports.times(4, 500) == 0


def test_calls_come_one_at_a_time_from_any_thread(opened: Opened) -> None:
    with opened() as app:
        assert together(*(lambda: [app.exports.plus(n, 1) for n in range(100)]
                          for _ in range(8))) == [list(range(1, 101))] * 8
        assert list(app.map("plus", range(50), range(50))) == list(range(0, 100, 2))
        assert app.statistics().calls == 850


def test_all_threads_write_to_the_same_stream(opened: Opened) -> None:
    out = io.BytesIO()
    with opened(stdout=out) as app:
        app.exports.print_all(20)
    assert sorted(out.getvalue().split()) == [bytes([97 + n] * 3) for n in range(20)]


def test_waits_have_the_results_that_they_had(opened: Opened) -> None:
    with opened() as app:
        assert app.exports.wait_for_other() == 1
        begin = time.monotonic()
        assert app.exports.wait_nanoseconds(20_000_000) == 2
        assert 0.02 <= time.monotonic() - begin < under_load(5)


def test_threads_above_the_limit_are_refused_and_places_come_free(opened: Opened) -> None:
    with opened(limits=gothreads.Limits(threads=10)) as app:
        numbers = [app.exports.start_parked(0) for _ in range(12)]
        assert numbers[10:] == [-1, -1]
        assert len(set(numbers[:10])) == 10
        assert all(0 < n <= LAST_THREAD for n in numbers[:10])
    with opened(limits=gothreads.Limits(threads=10)) as app:
        for _ in range(ROUNDS):
            assert app.exports.start_adders(10, 1) == 10
            app.exports.join()
            wait_until(lambda: app.statistics().threads.running == 0)  # type: ignore[union-attr]


def test_numbers_of_threads_begin_again_and_none_is_used_twice() -> None:
    numbers = ThreadNumbers()
    assert [numbers.take() for _ in range(3)] == [1, 2, 3]
    numbers.give(2)
    numbers._last = LAST_THREAD - 1
    assert [numbers.take() for _ in range(3)] == [LAST_THREAD, 2, 4]


# The end.

#: Kinds of threads that do not end by themselves: the export that starts one, and its arguments.
START: dict[str, tuple[str, tuple[int, ...]]] = {
    "parked": ("start_parked", (0,)), "parked at 64 bits": ("start_parked", (1,)),
    "waiting in a loop": ("start_parked", (2,)),
    "spinning": ("start_spinner", ()), "sleeping": ("start_sleeper", ()), "reading": ("start_reader", ()),
}


def start(app: gothreads.App, *, reading: bool = True) -> int:
    """Start a thread of every kind in START; return how many."""
    kinds = [kind for name, kind in START.items() if reading or name != "reading"]
    for export, args in kinds:
        assert app.exports[export](*args) > 0
    wait_until(lambda: app.exports.there() == len(kinds))
    return len(kinds)


@pytest.mark.parametrize("kind", START)
def test_close_ends_a_thread_that_does_not_end_by_itself(opened: Opened, kind: str) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as source, os.fdopen(write, "wb"):
        for _ in range(5):
            app = opened(stdin=source)
            export, args = START[kind]
            app.exports[export](*args)
            wait_until(lambda app=app: app.exports.there())  # type: ignore[misc]
            begin = time.monotonic()
            app.close()
            assert time.monotonic() - begin < under_load(0.5)
            assert app.statistics().threads.running == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(("export", "args"),
                         [("park", (0,)), ("park", (1,)), ("park", (2,)), ("spin", ()), ("sleep", (3600,)),
                          ("join", ())])
def test_close_ends_a_call_and_those_that_wait_for_their_turn(opened: Opened, export: str,
                                                              args: tuple[int, ...]) -> None:
    app = opened()
    app.exports.start_adders(1, 1_000_000_000)  # for join
    futures = one_in_one_waiting(app, partial(app.submit, export, *args), partial(app.submit, "plus", 1, 1))
    begin = time.monotonic()
    app.close()
    assert time.monotonic() - begin < under_load(0.5)
    assert all(isinstance(future.exception(PATIENCE), gothreads.AppClosed) for future in futures)
    with pytest.raises(gothreads.AppClosed):
        app.exports.plus(1, 1)


@pytest.mark.long
def test_close_in_the_middle_of_everything_fifty_times(opened: Opened) -> None:
    took = []
    for moment in range(ROUNDS):
        app = opened()
        start(app, reading=False)
        app.exports.start_adders(4, 1_000_000_000)
        future = app.submit("pass", 4, 1_000_000_000)
        if moment % 2:
            wait_until(lambda app=app: app.statistics().threads.running == 13)  # type: ignore[misc]
        begin = time.monotonic()
        app.close()
        took.append(time.monotonic() - begin)
        assert isinstance(future.exception(PATIENCE), gothreads.AppClosed)
    assert statistics.median(took) < under_load(0.1)
    assert max(took) < under_load(2)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("gothreads-m")])


ENDS = [(-1, gothreads.GuestTrap, "`unreachable` instruction", 134), (3, gothreads.GuestExit, "exit code 3", 3),
        (0, gothreads.GuestExit, "ended", 0)]


@pytest.mark.parametrize(("code", "kind", "said", "exit_code"), ENDS)
def test_a_trap_or_an_exit_in_a_call_ends_all(opened: Opened, code: int, kind: type[gothreads.GuestError], said: str,
                                              exit_code: int) -> None:
    with opened() as app:
        start(app, reading=False)
        with pytest.raises(kind, match=said):
            app.exports.end(code)
        wait_until(lambda: app.state in (gothreads.State.EXITED, gothreads.State.FAILED))
        assert app.statistics().threads.running == 0  # type: ignore[union-attr]
        assert app.exit == exit_code


@pytest.mark.long
def test_two_hundred_runs_leave_no_threads_memory_or_descriptors(opened: Opened) -> None:
    process = psutil.Process()

    def run() -> None:
        with opened(stdin=b"") as app:
            assert app.exports.start_adders(4, 10) == 4
            app.exports.start_parked(0)

    def settle() -> tuple[int, int, int]:
        wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("gothreads-")
                                and t.name != "gothreads-interrupt"])
        gc.collect()
        return process.num_threads(), process.num_fds(), process.memory_info().rss
    for _ in range(40):
        run()
    threads, descriptors, memory = settle()
    for _ in range(200):
        run()
    few_threads(process, threads)
    _, descriptors_after, memory_after = settle()
    assert descriptors_after <= descriptors
    assert memory_after - memory < 4 << 20, f"{(memory_after - memory) / 200:.0f} bytes a run"


# What is supported, and what is not.

def test_memory_is_limited_by_the_host_and_by_the_module(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(ModuleError, match="Raise it .--memory"):
        opened(limits=gothreads.Limits(memory=1 << 20))
    module = wat(tmp_path, """(module (import "a" "b" (memory 1 4 shared))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))""")
    for limit, most in ((2, 2), (4, 4), (8, 4)):
        with gothreads.open(module, limits=gothreads.Limits(memory=limit << 16)) as app:
            assert app.exports.grow(most - 1) == 1
            assert app.exports.grow(1) == -1
            assert app.statistics().memory == most << 16


def test_a_module_that_starts_no_threads_needs_none_of_their_plumbing(tmp_path: Path) -> None:
    module = wat(tmp_path,
                 '(module (import "env" "memory" (memory 1 1 shared)) (func (export "add") (param i32) (result i32) '
                           '(i32.add (local.get 0) (i32.atomic.rmw.add (i32.const 8) (local.get 0)))))')
    with gothreads.open(module) as app:
        assert app.model == "threaded"
        assert [app.exports.add(n) for n in (1, 2, 3)] == [1, 3, 6]


def test_python_functions_are_called_by_all_threads_and_may_call_back(tmp_path: Path) -> None:
    module = wat(
        tmp_path,
        """(module (import "env" "memory" (memory 1 1 shared)) (import "env" "from" (func $from (param i32) (result i32)))
        (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
        (func (export "wasi_thread_start") (param i32 i32)
          (drop (i32.atomic.rmw.add (i32.const 64) (call $from (local.get 1)))))
        (func (export "start_one") (param i32) (result i32) (call $spawn (local.get 0)))
        (func (export "sum") (result i32) (i32.atomic.load (i32.const 64)))
        (func (export "here") (param i32) (result i32) (call $from (local.get 0)))
        (func (export "plus") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))""",
    )

    def plus(number: int, context: gothreads.Context) -> int:
        return context.app.exports.plus(number)  # type: ignore[no-any-return]
    with gothreads.open(module, host={"env": {"from": plus}}) as app:
        assert app.exports.here(5) == 6
        for number in range(20):
            assert app.exports.start_one(number) > 0
        wait_until(lambda: app.exports.sum() == sum(range(20)) + 20)


def test_lifecycle_hooks_are_called(tmp_path: Path) -> None:
    module = wat(tmp_path, """(module (import "env" "memory" (memory 1 1 shared))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (func $say (param i32) (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (i32.const 1))
          (i32.store8 (i32.const 97) (i32.const 97)) (i32.store8 (i32.const 98) (i32.const 98))
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
        (func (export "start") (call $say (i32.const 97))) (func (export "stop") (call $say (i32.const 98))))""")
    out = io.BytesIO()
    with gothreads.open(module, stdout=out):
        assert out.getvalue() == b"a"
    assert out.getvalue() == b"ab"


@pytest.mark.parametrize(("text", "said"), [
    ('(module (import "env" "m" (memory 1 1 shared)) (import "env" "f" (func)) (func (export "g")))',
     r"env\.f is missing"),
    ('(module (import "gothreads" "notes" (memory 1 1 shared)) (func (export "g")))',
     "imports gothreads.notes, a name that is reserved"),
    ('(module (import "env" "m" (memory 1 1 shared)) (func (export "gt_note")))',
     "exports gt_note, names that are reserved"),
    ('(module (import "env" "m" (memory 1 1 shared)) (func (export "g") (i32.atomic.store 1 (i32.const 0) (i32.const '
     '1))))', "unknown memory 1"),
    ('(module (import "env" "m" (memory 1 1 shared)) (func (export "g") (global.set 0 (i32.const 1))))',
     "unknown global"),
    ('(module (import "env" "m" (memory 1 1 shared)) (func $s unreachable) (start $s) (func (export "g")))',
     "`unreachable` instruction"),
])
def test_what_cannot_be_run_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(gothreads.GothreadsError, match=said):
        gothreads.open(wat(tmp_path, text))


def test_what_only_go_has_is_refused(opened: Opened) -> None:
    with opened() as app:
        for call in (lambda: app.request("x"), lambda: app.signal("x"), app.goroutines, app.wait_idle):
            with pytest.raises(gothreads.NotCallable, match="was not built from Go, so it has no"):
                call()
        assert app.handlers() == []
    with pytest.raises(gothreads.MisuseError, match=r"the limit on threads \(5,000\) must be at most 4,094"):
        opened(limits=gothreads.Limits(threads=5000))
    for model in ("single", "idle", "pool"):
        with pytest.raises(ModuleError, match="has wasi-threads, so it is run as threaded"):
            opened(model=model)


# A program.

@pytest.mark.long
def test_a_program_ends_when_main_returns_and_its_threads_with_it() -> None:
    for _ in range(ROUNDS):
        out = io.BytesIO()
        with gothreads.open(native("program.c"), stdout=out) as app:
            assert app.wait(PATIENCE) == 0
            assert app.statistics().threads.running == 0  # type: ignore[union-attr]
        lines = out.getvalue().splitlines()
        assert sorted(lines[:-1]) == [b"thread %d" % n for n in range(8)]
        assert lines[-1] == b"all have finished"


def test_a_program_takes_no_calls(tmp_path: Path) -> None:
    module = wat(tmp_path, """(module (import "env" "memory" (memory 1 1 shared)) (func (export "f"))
        (func (export "_start") (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))""")
    with gothreads.open(module) as app, raises_within(gothreads.NotCallable, 1):
        app.exports.f()


def test_threads_on_the_command_line() -> None:
    code, out, err = finished("run", native("program.c"))
    assert (code, out.splitlines()[-1], err) == (0, "all have finished", "")
    assert command("call", native("threads.c"), "tree", 4) == (0, "31\n", "")
    assert command("call", native("threads.c"), "thread_locals", 10) == (0, "0\n", "")
    assert command("call", native("threads.c"), "end", 5)[0] == 5
    code, out, err = command("call", native("threads.c"), "end", "--", -1)
    assert (code, out) == (134, "")
    assert "`unreachable` instruction" in err
    code, out, err = command("inspect", native("threads.c"))
    assert (code, err) == (0, "")
    assert "threaded, c-shared, not built by gothreads" in out
    assert "start_adders(arg0: i32, arg1: i32) -> i32" in out
    assert "wasi_thread_start" not in out
