"""Files that lie: they say they were built by gothreads, and do what they like with the host's calls (tests/hostile_files.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads import AppClosed
from gothreads.errors import ModuleError
from tests.conftest import wait_until
from tests.hostile_files import liar, reply

FOREVER = "(drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1)))"


def test_threads_that_wait_where_gothreads_puts_no_wait_are_ended(tmp_path: Path) -> None:
    waits = FOREVER * 100  # one behind the other, without a call or a loop between them, at which code that runs is ended
    spawn = '(import "gothreads" "thread_spawn" (func $spawn (param i32) (result i32)))'
    module = liar(tmp_path, "threaded", imports=spawn, main="(drop (call $spawn (i32.const 1)))" * 20, thread=waits,
                  more=f'(func (export "wait") {waits})')
    with gothreads.open(module, procs=1) as app:
        calls = [app.submit("wait") for _ in range(4)]
        wait_until(lambda: len(app._notes.addresses()) == 1)  # type: ignore[attr-defined]
        wait_until(lambda: app.statistics().threads.running == 20)  # type: ignore[union-attr]
    for one in calls:
        with pytest.raises(AppClosed):
            one.result(10)
    assert app.wait(10) == 0


SPAWN = '(import "gothreads" "thread_spawn" (func $spawn (param i32) (result i32)))'
CLOCK = '(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))'
CALL = '(import "wasi_snapshot_preview1" "fd_advise" (func $call (param i32 i64 i64 i32) (result i32)))'


@pytest.mark.parametrize(("imports", "thread"), [
    (SPAWN, "(loop (drop (call $spawn (i32.const 1))) (br 0))"),
    (SPAWN, "(drop (call $spawn (i32.const 1)))"),  # and ends
    (CLOCK, "(loop (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 512))) (br 0))"),
    (CALL, "(loop (drop (call $call (i32.const 1) (i64.const 0) (i64.const 0) (i32.const 0))) (br 0))"),
    ("", f"(loop {FOREVER} (br 0))"),
    ("", "(loop (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const 1000))) (br 0))"),
    ("", "(loop (drop (memory.atomic.notify (i32.const 64) (i32.const -1))) (br 0))"),
], ids=["spawns", "spawns and ends", "asks for the time", "calls", "waits again", "waits a little", "notifies"])
def test_what_goes_on_while_it_is_ended_is_ended(tmp_path: Path, imports: str, thread: str) -> None:
    main = "(drop (call $spawn (i32.const 1)))" * 8
    module = liar(tmp_path, "threaded", imports=imports if imports == SPAWN else SPAWN + imports, main=main, thread=thread)
    with gothreads.open(module, procs=1, limits=gothreads.Limits(threads=50)) as app:
        wait_until(lambda: app.statistics().threads.started > 8)  # type: ignore[union-attr]
    assert app.wait(10) == 0
    assert app.state is gothreads.State.CLOSED


@pytest.mark.parametrize(("model", "parts", "said"), [
    ("single", {"more": "(memory 1 1 shared)"}, "threads and more than one memory"),
    ("threaded", {"more": "(memory 1)"}, "threads and more than one memory"),
    ("threaded", {"imports": '(import "env" "other" (memory 1 1 shared))'}, "threads and more than one memory"),
    ("threaded", {"imports": '(import "gothreads" "notes" (memory 4 4 shared))'}, "threads and more than one memory"),
])
def test_a_memory_in_which_nobody_could_be_found_is_refused(tmp_path: Path, model: str, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(ModuleError, match=said):
        gothreads.open(liar(tmp_path, model, **parts))


GROWS = """(table $t 1 funcref) (func (export "grow_table") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0)))"""


@pytest.mark.parametrize("model", ["single", "threaded"])
def test_tables_are_limited(tmp_path: Path, model: str) -> None:
    with gothreads.open(liar(tmp_path, model, more=GROWS), procs=1) as app:
        assert app.exports.grow_table(1000) == 1
        assert app.exports.grow_table(100_000_000) == -1


def test_memories_are_limited_together(tmp_path: Path) -> None:
    more = '(memory $b 1) (memory $c 1) (func (export "grow") (param i32) (result i32) (memory.grow $b (local.get 0)))'
    with gothreads.open(liar(tmp_path, "single", more=more), limits=gothreads.Limits(memory=3 << 20)) as app:
        assert app.exports.grow(20) == -1
        assert app.exports.grow(15) == 1
        assert app.exports.grow(1) == -1


def test_what_exceptions_carry_is_limited(tmp_path: Path) -> None:
    """They lie in a heap of the engine's, here 96 bytes each."""
    numbers = "(i64.const 1)" * 8
    keeps = f"""(tag $t (param {'i64 ' * 8})) (table $kept 1 exnref)
      (func (export "keep") (param $most i32) (local $i i32) (drop (table.grow $kept (ref.null exn) (local.get $most)))
        (loop $more (table.set $kept (local.get $i)
          (block $caught (result exnref) (try_table (catch_all_ref $caught) (throw $t {numbers})) unreachable))
          (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $most)))))"""
    with gothreads.open(liar(tmp_path, "threaded", more=keeps), procs=1) as app:
        app.exports.keep(100_000)
        with pytest.raises(gothreads.GuestTrap, match="GC heap out of memory"):
            app.exports.keep(900_000)
