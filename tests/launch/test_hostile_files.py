"""Files that lie: they say they were built by gothreads, and do what they like with the host's calls
(tests/hostile_files.py).
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads import AppClosed
from gothreads.cli.main import main
from gothreads.errors import ModuleError
from gothreads.launch import open_loaded
from gothreads.runtime import process
from gothreads.runtime.module_file import load
from tests.support.hostile_files import liar, reply, string
from tests.support.waiting import PATIENCE, wait_until


def by_command(module: Path, **options: Any) -> gothreads.App:
    """Open a module as commands do: the main thread never runs its code."""
    return open_loaded(load(module), main_calls=False, **options)


#: The two ways in which running code is ended (StopCheck): how a file is opened, and what it says of itself.
Ended = tuple[Callable[..., gothreads.App], dict[str, Any]]
both_ways = pytest.mark.parametrize("ended", [(gothreads.open, {}), (by_command, {"options": {"optimize": True}})],
                                    ids=["epochs", "flag"])
FOREVER = "(drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1)))"


@both_ways
def test_threads_that_wait_where_gothreads_puts_no_wait_are_ended(tmp_path: Path, ended: Ended) -> None:
    # one behind the other, without a call or a loop between them, at which code that runs is ended
    waits = FOREVER * 100
    spawn = '(import "gothreads" "thread_spawn" (func $spawn (param i32) (result i32)))'
    opened, fields = ended
    module = liar(tmp_path, "threaded", fields, imports=spawn, main="(drop (call $spawn (i32.const 1)))" * 20,
                  thread=waits, more=f'(func (export "wait") {waits})')
    with opened(module, procs=1) as app:
        calls = [app.submit("wait") for _ in range(4)]
        wait_until(lambda: len(app._notes.addresses()) == 1)  # type: ignore[attr-defined]
        wait_until(lambda: app.statistics().threads.running == 20)  # type: ignore[union-attr]
    for one in calls:
        with pytest.raises(AppClosed):
            one.result(PATIENCE)
    assert app.wait(PATIENCE) == 0


SPAWN = '(import "gothreads" "thread_spawn" (func $spawn (param i32) (result i32)))'
CLOCK = '(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))'
CALL = '(import "wasi_snapshot_preview1" "fd_advise" (func $call (param i32 i64 i64 i32) (result i32)))'


@both_ways
@pytest.mark.parametrize(("imports", "thread"), [
    (SPAWN, "(loop (drop (call $spawn (i32.const 1))) (br 0))"),
    (SPAWN, "(drop (call $spawn (i32.const 1)))"),  # and ends
    (CLOCK, "(loop (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 512))) (br 0))"),
    (CALL, "(loop (drop (call $call (i32.const 1) (i64.const 0) (i64.const 0) (i32.const 0))) (br 0))"),
    ("", f"(loop {FOREVER} (br 0))"),
    ("", "(loop (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const 1000))) (br 0))"),
    ("", "(loop (drop (memory.atomic.notify (i32.const 64) (i32.const -1))) (br 0))"),
], ids=["spawns", "spawns and ends", "asks for the time", "calls", "waits again", "waits a little", "notifies"])
def test_what_goes_on_while_it_is_ended_is_ended(tmp_path: Path, imports: str, thread: str, ended: Ended) -> None:
    opened, fields = ended
    main = "(drop (call $spawn (i32.const 1)))" * 8
    module = liar(tmp_path, "threaded", fields, imports=imports if imports == SPAWN else SPAWN + imports, main=main,
                  thread=thread)
    with opened(module, procs=1, limits=gothreads.Limits(threads=50)) as app:
        wait_until(lambda: app.statistics().threads.started > 8)  # type: ignore[union-attr]
    assert app.wait(PATIENCE) == 0
    assert app.state is gothreads.State.CLOSED


@both_ways
@pytest.mark.parametrize("does", [FOREVER, "(loop (br 0))", "unreachable"], ids=["waits", "spins", "traps"])
@pytest.mark.parametrize("part", ["memory", "setup", "main", "attach", "detach"])
def test_what_never_comes_back_from_the_hosts_own_calls_is_ended(tmp_path: Path, part: str, does: str,
                                                                 ended: Ended) -> None:
    """The host calls these on threads of its own; `open` has no limit on time, but a signal gets through to it."""
    opened, fields = ended
    module = liar(tmp_path, "threaded", {"handlers": False, **fields}, more='(func (export "f"))', **{part: does})
    before = process.apps()

    def opening() -> None:
        with contextlib.suppress(gothreads.GothreadsError):
            opened(module, procs=1)
    thread = threading.Thread(target=opening, daemon=True)
    thread.start()
    wait_until(lambda: process.apps() - before)
    (app,) = process.apps() - before
    assert isinstance(app, gothreads.App)
    if part in ("attach", "detach"):
        thread.join(PATIENCE)
        calls = [app.submit("f") for _ in range(1 if does == "unreachable" else 10)]
        if part == "detach":
            for call in calls:
                call.result(PATIENCE)
            app._submit(app._cache.trim)  # type: ignore[attr-defined]
        wait_until(lambda: app.error if does == "unreachable" else app._cache._attaching.locked())  # type: ignore[attr-defined]
    app.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert app.state in (gothreads.State.CLOSED, gothreads.State.FAILED)
    if part == "attach":
        for call in calls:
            with pytest.raises(gothreads.GuestTrap if does == "unreachable" else AppClosed):
                call.result(PATIENCE)


@pytest.mark.parametrize(("model", "parts", "said"), [
    ("single", {"more": "(memory 1 1 shared)"}, "threads and more than one memory"),
    ("threaded", {"more": "(memory 1)"}, "threads and more than one memory"),
    ("threaded", {"imports": '(import "env" "other" (memory 1 1 shared))'}, "threads and more than one memory"),
    ("threaded", {"imports": '(import "gothreads" "notes" (memory 4 4 shared))'}, "threads and more than one memory"),
])
def test_a_memory_in_which_nobody_could_be_found_is_refused(tmp_path: Path, model: str, parts: dict[str, Any],
                                                            said: str) -> None:
    with pytest.raises(ModuleError, match=said):
        gothreads.open(liar(tmp_path, model, **parts))


@pytest.mark.parametrize("model", ["single", "idle", "pool"])
def test_where_nothing_needs_threads_the_engine_has_none(tmp_path: Path, model: str) -> None:
    module = liar(tmp_path, "single", more='(func (export "f") (i32.atomic.store (i32.const 0) (i32.const 1)))')
    with pytest.raises(ModuleError, match="threads support is not enabled"):
        gothreads.open(module, model=model)


GROWS = ("""(table $t 1 funcref) (func (export "grow_table") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0)))""")


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


# What it answers.

OUTSIDE, HUGE = 0x7FFF0000, -1  # an address, and a length of almost 4 GiB


@pytest.mark.parametrize("model", ["single", "threaded"])
@pytest.mark.parametrize(("parts", "kind", "said"), [
    ({"slot": -4}, gothreads.MemoryAccessError, "the module's answer is not in its memory"),
    ({"slot": OUTSIDE}, gothreads.MemoryAccessError, "the module's answer is not in its memory"),
    ({"buffer": OUTSIDE}, gothreads.MemoryAccessError, "the module allocated 5 bytes outside its memory"),
    ({"buffer": -1}, gothreads.MemoryAccessError, "the module allocated 5 bytes outside its memory"),
    ({"request": reply(0, OUTSIDE, 4)}, gothreads.MemoryAccessError, "the module's answer is not in its memory"),
    ({"request": reply(0, 4 * 65536 - 3, 4)}, gothreads.MemoryAccessError, "the module's answer is not in its memory"),
    ({"request": reply(0, 0, HUGE)}, gothreads.HandlerError,
     "the module's answer has 4,294,967,295 bytes; at most 2,147,418,112"),
    ({"request": reply(0, -1, 1 << 30)}, gothreads.MemoryAccessError, "the module's answer is not in its memory"),
    ({"request": reply(6, 0, 0)}, gothreads.HandlerError, "status 6, which is not defined"),
    ({"request": reply(-1, OUTSIDE, 0)}, gothreads.HandlerError, "status 4294967295, which is not defined"),
])
def test_an_answer_is_checked_before_it_is_believed(tmp_path: Path, model: str, parts: dict[str, Any],
                                                    kind: type[Exception], said: str) -> None:
    with gothreads.open(liar(tmp_path, model, {"handlers": False}, **parts), procs=1) as app:
        for _ in range(2):
            with pytest.raises(kind, match=re.escape(said)):
                app.request("f", "1234")
        assert app.state is gothreads.State.RUNNING


MANY = 20 << 20


@pytest.mark.parametrize("model", ["single", "threaded"])
def test_a_list_of_handlers_without_end_is_refused(tmp_path: Path, model: str) -> None:
    names = f"(drop (memory.grow (i32.const 400))) (memory.fill (i32.const 8192) (i32.const 10) (i32.const {MANY}))"
    module = liar(tmp_path, model, {"handlers": False}, handlers=names + reply(0, 8192, MANY),
                  request=names + reply(2, 8192, MANY))
    with gothreads.open(module, procs=1) as app:
        for ask in (app.handlers, lambda: app.request("x")):
            with pytest.raises(gothreads.HandlerError,
                               match="the module's list of handlers has 20,971,520 bytes; at most 1,048,576"):
                ask()


def test_what_go_says_of_itself_is_text_whatever_it_is(tmp_path: Path) -> None:
    good = "goroutine 7 [running\x1b[31m, locked\x9b2J]:\nmain.f(\x1b]0;title\x07)\r\tfile:1"
    texts = [good, f"goroutine {'9' * 5000} [x]:\nmain.f()", "goroutine 1 [x]", "goroutine -1 [x]:\n",
             "goroutine \u0661 [x]:\ny", "\n\n\n\n", "x" * 1000]
    stacks = "\n\n".join(texts).encode() + b"\xff\xfe"
    module = liar(tmp_path, "threaded", more=f"(data (i32.const 8192) {string(stacks)})",
                  stacks=reply(0, 8192, len(stacks)))
    with gothreads.open(module, procs=1) as app:
        (found,) = app.goroutines(10)
        assert (found.id, found.state) == (7, "running\\x1b[31m, locked\\x9b2J")
        assert str(found).splitlines() == ["goroutine 7 [running\\x1b[31m, locked\\x9b2J]:",
                                           "main.f(\\x1b]0;title\\x07)\\r\tfile:1"]


@pytest.mark.parametrize("counted", ["(i32.const -1)", "(i32.const 0)"])
def test_statistics_of_nonsense_are_numbers_and_nothing_waits_for_them(tmp_path: Path, counted: str) -> None:
    counts = f"(memory.fill (i32.const 0) {counted} (i32.const 8192))"
    with gothreads.open(liar(tmp_path, "threaded", counts=counts), procs=1, stall_timeout=0.05) as app:
        go = app.statistics().go
        assert go is not None
        assert go.heap in (0, 2**64 - 1)
        with contextlib.suppress(TimeoutError):
            app.wait_idle(0.2)
        assert app.state is gothreads.State.RUNNING


def test_a_clock_of_nonsense_is_its_own(tmp_path: Path) -> None:
    with gothreads.open(liar(tmp_path, "threaded", clock=-(2**63)), procs=1) as app:
        assert app.handlers() == []


# What it says of itself, for people.

EVIL = "evil\x1b]0;owned\x07\x1b[2Jname\r\u202ee\u2028gothreads: all is well"


def test_names_are_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = f"{EVIL}\nplain"
    more = f'(data (i32.const 8192) {string(names)}) (func (export {string(EVIL)}) (result i32) (i32.const 1))'
    module = liar(tmp_path, "single", more=more, handlers=reply(0, 8192, len(names.encode())),
                  request=reply(2, 8192, len(names.encode())))
    for argv in (["inspect", module], ["call", module, "nothing"], ["call", module, EVIL, "x"]):
        main(list(map(str, argv)))
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "evil\\x1b]0;owned\\x07\\x1b[2Jname\\r\\u202ee\\u2028gothreads" in text
        assert not set(text) - {"\n"} & set(map(chr, [*range(32), *range(127, 160), 0x202E, 0x2028]))
    with gothreads.open(module) as app:
        for wrong in (lambda: app.exports.nothing, lambda: app.request("nothing")):
            with pytest.raises(gothreads.UnknownExport) as raised:
                wrong()
            assert str(raised.value).isprintable()
        assert repr(app.exports).isprintable()


@pytest.mark.parametrize("field", ["name", "go", "position"])
def test_a_signature_that_is_more_than_a_line_is_refused(tmp_path: Path, field: str) -> None:
    signature: dict[str, Any] = {"name": "f", "go": "func f()", "function": "f", "package": "main", "doc": "",
                                 "params": [], "result": None, "position": ""}
    for letter in "\n\r\x1b\u2028":
        with pytest.raises(ModuleError, match=f"'{field}' must be") as raised:
            gothreads.open(liar(tmp_path, "single", {"exports": [signature | {field: f"a{letter}b"}]}))
        assert str(raised.value).isprintable()


def test_last_words_are_shown_as_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = f"{EVIL}\npanic: \x1b[31mred"
    write = ('(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))'
             '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))')
    length = len(words.encode())
    more = f"""(data (i32.const 8192) {string(words)}) (func (export "end")
      (i32.store (i32.const 512) (i32.const 8192)) (i32.store (i32.const 516) (i32.const {length}))
      (drop (call $write (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 520))) (call $exit (i32.const 2)))"""
    with gothreads.open(liar(tmp_path, "single", imports=write, more=more),
                        stderr=io.BytesIO()) as app, pytest.raises(gothreads.GuestPanic) as raised:
        app.exports.end()
    assert not set(str(raised.value)) & {"\x1b", "\r", "\x07", "\u202e", "\u2028"}
    assert raised.value.stderr == words  # as it was


def test_what_a_handler_says_of_a_call_that_nobody_waits_for_is_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "\r\nWARNING root: \x1b[31mforged"
    notify = '(import "gothreads" "msg_notify" (func $notify (param i32 i32 i32 i32) (result i32)))'
    module = liar(tmp_path, "single", imports=notify, more=f'(data (i32.const 8192) {string("f" + text)})',
                  main=f"(drop (call $notify (i32.const 8192) (i32.const 1) (i32.const 8193) (i32.const {len(text)})))")

    def fails(payload: bytes) -> None:
        raise ValueError(payload.decode())
    with gothreads.open(module, handlers={"f": fails}):
        wait_until(lambda: [record for record in caplog.records if record.levelname == "WARNING"])
    said = caplog.records[-1].getMessage()
    assert said.startswith("the handler f, which guest.Notify called, failed: ValueError: \\r\\nWARNING root: "
                           "\\x1b[31mforged (")
    assert said.isprintable()
