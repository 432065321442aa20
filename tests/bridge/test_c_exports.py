"""Modules from other languages than Go: plain exports, and bytes through malloc and free."""

from __future__ import annotations

import array
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

import gothreads
from gothreads.bridge.c_exports import Allocator, CExport
from gothreads.errors import ModuleError
from gothreads.runtime.module_file import check_module
from gothreads.wasm.binary import FuncType
from tests.support.command_line import command, finished
from tests.support.modules import native
from tests.support.waiting import PATIENCE, one_in_one_waiting, together
from tests.support.wat import wat

I32, I64, F64 = b"\x7f", b"\x7e", b"\x7c"


@pytest.fixture(params=["single", "pool"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_hand_written_module_without_a_memory_is_called(tmp_path: Path, model: str) -> None:
    module = wat(tmp_path,
                 '(module (func (export "add") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1))))')
    with gothreads.open(module, model=model) as app:
        assert app.model == model
        assert app.exports.add(1 << 40, -1) == (1 << 40) - 1
        assert list(app.map("add", range(20), range(20))) == list(range(0, 40, 2))
        assert app.statistics().memory == 0
        with pytest.raises(gothreads.ArgumentError, match="cannot be str, which takes the place of two i32"):
            app.exports.add("x")


def test_a_module_with_a_memory_that_it_does_not_export_is_called(tmp_path: Path) -> None:
    with gothreads.open(
        wat(
            tmp_path,
            """(module (memory 1) (func (export "put") (param i32) (i32.store (i32.const 8) (local.get 0)))
                                         (func (export "get") (result i32) (i32.load (i32.const 8))))""",
        )
    ) as app:
        app.exports.put(-5)
        assert app.exports.get() == -5
        with pytest.raises(gothreads.MemoryAccessError):
            app.memory.read(8, 4)


def test_numbers_of_all_types_go_in_and_out() -> None:
    with gothreads.open(native("strings.c")) as app:
        assert app.model == "single"
        assert app.exports.add(2, -3) == -1
        assert app.exports.add_float(0.25, 0.5) == 0.75
        assert app.exports.initialized() == 1, "_initialize has run"
        with pytest.raises(gothreads.ArgumentError,
                           match=r"add takes 2 arguments, 1 given: add\(arg0: i32, arg1: i32\) -> i32; a str or bytes "
                                 r"takes"):
            app.exports.add(1)
        with pytest.raises(gothreads.ArgumentError,
                           match=r"add takes 2 arguments, 2 given: .*; a str or bytes takes the place of two i32$"):
            app.exports.add("x", 1)
        with pytest.raises(gothreads.ArgumentError,
                           match=r"add_float takes 2 arguments, 0 given: add_float\(arg0: f64, arg1: f32\) -> f64$"):
            app.exports.add_float()
        with pytest.raises(gothreads.ArgumentError,
                           match=r"add: argument 'arg1' must be an int from -2147483648 to 2147483647 \(i32\): got "
                                 r"1\.5$"):
            app.exports.add(1, 1.5)


def test_bytes_go_in_and_out_and_nothing_of_them_is_left(model: str) -> None:
    with gothreads.open(native("strings.c"), model=model, instances=1 if model == "pool" else None) as app:
        assert app.exports.upper.bytes(b"hello") == b"HELLO"
        assert app.exports.upper.bytes("grüße") == "GRüßE".encode()
        assert app.exports.upper.bytes(bytearray(b"a\0b")) == b"A\0B"
        assert app.exports.upper.bytes(array.array("B", b"array")) == b"ARRAY"
        assert app.exports.upper.bytes("") == b""
        with pytest.raises(gothreads.ArgumentError, match=r"upper takes its arguments in order, not by name \(arg0\)"):
            app.exports.upper.bytes(arg0="x")
        assert app.exports.join.bytes("x", 3, memoryview(b"ab")) == b"xababab"
        assert app.exports.length("four") == 4
        assert app.exports.length("") == 0
        assert app.exports.upper.bytes(b"z" * 3_000_000) == b"Z" * 3_000_000
        assert app.exports.nothing.bytes() == b""
        assert app.exports.live() == 0


def test_a_free_that_takes_the_length_gets_it() -> None:
    with gothreads.open(native("strings.zig")) as app:
        for text in ("", "a", "stressed", "x" * 100_000):
            assert app.exports.reverse.bytes(text) == text[::-1].encode()
        assert app.exports.live_bytes() == 0


def test_bytes_of_many_threads_do_not_meet() -> None:
    with gothreads.open(native("strings.c")) as app:
        def work(letter: str) -> bool:
            return all(app.exports.upper.bytes(letter * n) == letter.upper().encode() * n for n in range(100))
        assert together(*(lambda letter=letter: work(letter) for letter in "abcdefgh")) == [True] * 8
        assert app.exports.live() == 0


def test_a_pool_gives_a_fresh_instance_for_one_that_ended() -> None:
    with gothreads.open(native("strings.zig"), model="pool", instances=1) as app:
        assert [app.exports.count() for _ in range(3)] == [1, 2, 3]
        with pytest.raises(gothreads.GuestTrap, match="out of bounds"):
            app.exports.reverse(-1, 5)
        assert app.exports.count() == 1


@pytest.mark.parametrize(("export", "said"), [
    ("outside",
     r"outside returned 0xfffffff000000001, which is not bytes \(address << 32 \| length\): 1 bytes at address "
     r"0xfffffff0 are outside"),
    ("too_long", "too_long returned 0x400ffffffff, which is not bytes"),
])
def test_a_result_that_is_not_in_the_memory_is_an_error(export: str, said: str) -> None:
    with gothreads.open(native("strings.c")) as app:
        with pytest.raises(gothreads.MemoryAccessError, match=said):
            app.exports[export].bytes()
        assert app.exports.add(1, 1) == 2


def test_a_result_in_an_argument_is_not_freed_twice(tmp_path: Path) -> None:
    """A result within an argument's memory, such as from a conversion in place, is freed only with the argument."""
    module = wat(tmp_path, """(module (memory (export "memory") 1) (global $frees (mut i32) (i32.const 0))
      (func (export "malloc") (param i32) (result i32) (i32.const 1024))
      (func (export "free") (param i32) (global.set $frees (i32.add (global.get $frees) (i32.const 1))))
      (func (export "frees") (result i32) (global.get $frees))
      (func (export "rest") (param i32 i32) (result i64)
        (i64.or (i64.shl (i64.extend_i32_u (i32.add (local.get 0) (i32.const 1))) (i64.const 32))
                (i64.extend_i32_u (i32.sub (local.get 1) (i32.const 1))))))""")
    with gothreads.open(module) as app:
        assert app.exports.rest.bytes("hello") == b"ello"
        assert app.exports.frees() == 1


@pytest.mark.parametrize(("malloc", "said"), [
    ("(i32.const 0)", "5 bytes are too many for the module: its malloc has no room"),
    ("(i32.const -16)", "the module's malloc returned memory that the module does not have"),
])
def test_a_malloc_that_fails_or_lies_is_an_error_of_the_call(tmp_path: Path, malloc: str, said: str) -> None:
    module = wat(
        tmp_path,
        f"""(module (memory (export "memory") 1) (func (export "malloc") (param i32) (result i32) {malloc})
      (func (export "free") (param i32)) (func (export "f") (param i32 i32)) (func (export "g") (result i32) (i32.const 1)))""",
    )
    with gothreads.open(module) as app:
        with pytest.raises(gothreads.MisuseError, match=said):
            app.exports.f("hello")
        assert app.exports.g() == 1


def test_a_trap_in_malloc_or_free_ends_the_module(tmp_path: Path) -> None:
    for malloc, free in (("unreachable", ""), ("(i32.const 64)", "unreachable")):
        module = wat(tmp_path,
                     f"""(module (memory (export "memory") 1) (func (export "malloc") (param i32) (result i32) {malloc})
          (func (export "free") (param i32) {free}) (func (export "f") (param i32 i32)))""")
        with gothreads.open(module) as app:
            for _ in range(2):
                with pytest.raises(gothreads.GuestTrap, match="unreachable"):
                    app.exports.f("hello")


@pytest.mark.parametrize("exports", [
    "",
    '(func (export "malloc") (param i32) (result i32) (i32.const 64))',
    '(func (export "malloc") (param i64) (result i32) (i32.const 64)) (func (export "free") (param i32))',
    '(func (export "malloc") (param i32) (result i32) (i32.const 64)) (func (export "free") (param i32) (result i32) '
    '(i32.const 0))',
])
def test_without_malloc_and_free_it_is_said_what_is_missing(tmp_path: Path, exports: str) -> None:
    module = wat(
        tmp_path,
        f"""(module (memory (export "memory") 1) {exports} (func (export "f") (param i32 i32) (result i64) (i64.const 0)))""",
    )
    with gothreads.open(module) as app:
        with pytest.raises(
            gothreads.ArgumentError,
            match=r"argument 1 cannot be bytes: the module exports no malloc\(i32\) i32 and free\(i32\)",
        ):
            app.exports.f(b"x")
        with pytest.raises(gothreads.NotCallable, match="the module exports no malloc"):
            app.exports.f.bytes(0, 0)
        assert app.exports.f(0, 0) == 0


def test_bytes_of_an_export_that_returns_none_are_refused(calls_single: Path) -> None:
    with gothreads.open(native("strings.c")) as app, pytest.raises(gothreads.NotCallable,
                                                                   match=r"add does not return bytes, which would be "
                                                                         r"one i64"):
        app.exports.add.bytes(1, 2)
    with gothreads.open(calls_single) as app, pytest.raises(gothreads.NotCallable,
                                                            match=r"In Go, register a handler: guest\.Handle"):
        app.exports.add.bytes(1, 2)


def test_a_trap_ends_the_module_and_in_a_pool_only_its_instance() -> None:
    with gothreads.open(native("strings.c")) as app:
        with pytest.raises(gothreads.GuestTrap, match="unreachable"):
            app.exports.crash()
        with pytest.raises(gothreads.GuestTrap):
            app.exports.add(1, 1)
    with gothreads.open(native("strings.c"), model="pool", instances=2) as app:
        with pytest.raises(gothreads.GuestTrap):
            app.exports.crash()
        assert app.exports.upper.bytes("ab") == b"AB"


def test_close_ends_a_call_that_runs() -> None:
    app = gothreads.open(native("strings.c"))
    futures = one_in_one_waiting(app, partial(app.submit, "spin"), partial(app.submit, "upper", "x"))
    app.close()
    assert all(isinstance(future.exception(PATIENCE), gothreads.AppClosed) for future in futures)


def test_memory_is_limited() -> None:
    with gothreads.open(native("strings.c"), limits=gothreads.Limits(memory=20 << 20)) as app:
        assert app.exports.upper.bytes(b"a" * 100_000) == b"A" * 100_000
        with pytest.raises(gothreads.ArgumentError,
                           match="8,000,000 bytes are too many for the module: its malloc has no room for them"):
            app.exports.length(b"a" * 8_000_000)
        assert app.exports.length("abc") == 3
        assert app.exports.live() == 0


def test_a_program_runs_and_takes_no_calls(tmp_path: Path) -> None:
    module = wat(
        tmp_path,
        """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32))) (memory (export "memory") 1)
        (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00")
        (func (export "f")) (func (export "_start") (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))) (call $exit (i32.const 7))))""",
    )
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as source, gothreads.open(module, stdin=source) as app:
        with pytest.raises(gothreads.NotCallable, match="takes no calls while main runs. Link it as a library"):
            app.exports.f()
        os.close(write)
        assert app.wait(PATIENCE) == 7
    assert finished("run", module)[0] == 7
    code, out, err = finished("call", module, "f")
    assert (code, out) == (1, "") or code == 7, err  # a race between the call and the exit


@pytest.mark.parametrize(("text", "said"), [
    ('(module (import "wasi_snapshot_preview1" "fd_fly" (func)) (func (export "g")))',
     "imports wasi_snapshot_preview1.fd_fly, which is not in WASI preview 1"),
    ('(module (func (export "g") (drop (i32.const 1) (i64.add))))', "not a valid WebAssembly module"),
    ('(module (memory 1000) (func (export "g")))', "cannot instantiate the module"),
])
def test_what_cannot_be_run_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ModuleError, match=said) as raised:
        gothreads.open(wat(tmp_path, text), limits=gothreads.Limits(memory=1 << 20))
    assert "\n" not in str(raised.value)


UNCALLABLE = """(module (import "env" "f" (func $f (param i64))) (memory (export "memory") 1) (memory (export "other") 1)
    (table (export "table") 1 funcref) (global (export "global") i32 (i32.const 1))
    (func (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
    (func (export "vector") (param v128)) (func (export "vectors") (result v128) (v128.const i64x2 0 0))
    (func (export "reference") (param externref i32)) (func (export "function") (result funcref) (ref.null func))
    (func (export "plain")))"""


@pytest.mark.long
def test_what_is_exported_and_cannot_be_called_says_why(tmp_path: Path, model: str) -> None:
    reasons = {"two": r"returns 2 values, and a call can return one: \(\) -> \(i32 i32\)",
               "vector": "takes or returns v128, for which Python has no values",
               "vectors": "v128", "reference": "externref, for which", "function": "funcref",
               "memory": r"a memory, not a function \(see App\.memory\)",
               "other": "a memory", "table": "a table, not a function", "global": "a global, not a function"}
    module = wat(tmp_path, UNCALLABLE)
    host: dict[str, Any] = {"env": {"f": lambda number: None}}
    with gothreads.open(module, model=model, host=host) as app:
        assert list(app.exports) == ["plain"]
        for name, why in reasons.items():
            assert not hasattr(app.exports, name)
            for ask in (app.exports.__getitem__, partial(getattr, app.exports), app.submit):
                with pytest.raises(gothreads.UnknownExport, match=f"export {name} cannot be called: it .*{why}"):
                    ask(name)
        with pytest.raises(gothreads.UnknownExport, match="the module has no export 'none'; it has: plain"):
            _ = app.exports.none
    code, said, _ = finished("inspect", module)
    assert code == 0
    assert said.count("cannot be called: ") == len(reasons) - 1
    assert "cannot be called: two: it returns 2 values" in said
    assert json.loads(finished("inspect", module, "--json")[1])["uncallable"].keys() == reasons.keys()
    (tmp_path / "host.py").write_text("import gothreads\nhost = gothreads.Host()\n@host.function('env')\ndef f(n: int) "
                                      "-> None: ...\n")
    code, _, said = finished("call", "--python", tmp_path / "host.py", module, "two")
    assert (code, "export two cannot be called: it returns 2 values" in said) == (1, True)


START_SECTIONS = [
    ("(func $s unreachable) (start $s)", "`unreachable` instruction"),
    ("(func $s (drop (i32.div_u (i32.const 1) (i32.const 0)))) (start $s)", "integer divide by zero"),
    ("(func $s (call $s)) (start $s)", "stack exhausted"),
    ('(data (i32.const 65536) "x")', "out of bounds memory access"),
]


@pytest.mark.parametrize(("text", "said"), START_SECTIONS)
@pytest.mark.parametrize("memory", ['(memory 1)', '(import "env" "memory" (memory 1 1 shared))'])
def test_a_trap_before_anything_is_called_is_a_trap_in_all_models(tmp_path: Path, model: str, memory: str, text: str,
                                                                  said: str) -> None:
    if "shared" in memory:
        model = "threaded"
    with pytest.raises(gothreads.GuestTrap, match=said) as raised:
        gothreads.open(wat(tmp_path, f'(module {memory} {text} (func (export "g")))'), model=model)
    assert raised.value.code == 134


def test_what_a_python_function_raises_in_the_start_section_is_the_cause(tmp_path: Path, model: str) -> None:
    def fail() -> None:
        raise ValueError("no")
    module = wat(tmp_path, '(module (import "env" "fail" (func $f)) (start $f) (func (export "g")))')
    with pytest.raises(gothreads.HostFunctionError, match="ValueError: no"):
        gothreads.open(module, model=model, host={"env": {"fail": fail}})


def test_python_functions_are_imported_and_may_call_back(tmp_path: Path, model: str) -> None:
    with pytest.raises(ModuleError, match=r"env\.f is missing"):
        gothreads.open(wat(tmp_path, '(module (import "env" "f" (func)) (func (export "g")))'), model=model)

    def down(number: int, context: gothreads.Context) -> int:
        return context.app.exports.f(number - 1) if number else 0
    module = wat(tmp_path, """(module (import "env" "down" (func $down (param i32) (result i32)))
        (func (export "f") (param i32) (result i32) (i32.add (call $down (local.get 0)) (local.get 0))))""")
    with gothreads.open(module, host={"env": {"down": down}}, model=model, instances=12 if model == "pool"
                        else None) as app:
        assert together(*(lambda: app.exports.f(10) for _ in range(1 if model == "pool" else 4)))[0] == 55
        assert app.submit("f", 10).result(PATIENCE) == 55


def test_a_trap_below_a_python_function_ends_the_module(tmp_path: Path) -> None:
    module = wat(
        tmp_path,
        """(module (import "env" "back" (func $back)) (func (export "f") (call $back)) (func (export "crash") unreachable))""",
    )

    def back(context: gothreads.Context) -> None:
        context.app.exports.crash()
    with gothreads.open(module, host={"env": {"back": back}}) as app:
        for _ in range(2):
            with pytest.raises(gothreads.GuestTrap, match="`unreachable` instruction"):
                app.exports.f()


def test_a_recursion_through_python_ends_in_a_trap_or_an_error_and_not_the_process(tmp_path: Path) -> None:
    module = wat(tmp_path, """(module (import "env" "back" (func $back)) (func (export "f") (call $back)))""")

    def back(context: gothreads.Context) -> None:
        context.app.exports.f()
    with gothreads.open(module, host={"env": {"back": back}}) as app, pytest.raises(gothreads.GuestError):
        app.exports.f()


def test_a_model_that_it_has_not_is_refused() -> None:
    for wanted in ("threaded", "idle"):
        with pytest.raises(ModuleError,
                           match=r"was not built from Go, and has no threads, so it is run as single or pool"):
            gothreads.open(native("strings.c"), model=wanted)


def test_what_only_go_has_is_refused(model: str) -> None:
    module = native("strings.c")
    with gothreads.open(module, model=model) as app:
        for ask, what in ((app.goroutines, "goroutines"), (app.wait_idle, "goroutines"),
                          (lambda: app.request("f"), "handlers"),
                          (lambda: app.submit_request("f"), "handlers"), (lambda: app.signal("f"), "events")):
            with pytest.raises(gothreads.NotCallable, match=f"the module was not built from Go, so it has no {what}"):
                ask()
        assert app.handlers() == []
        assert app.exports.add(1, 2) == 3
    with pytest.raises(gothreads.MisuseError,
                       match=r"handlers are given \(f\), but the module was not built from Go, so it calls none"):
        gothreads.open(module, model=model, handlers={"f": print})


@pytest.mark.parametrize("argv",
                         [["call", "PROGRAM", "add", "1"], ["serve", "--port", "0", "PROGRAM"],
                          ["call", "--model", "pool", "PROGRAM", "add"]])
def test_a_program_is_not_run_where_it_was_to_be_called(tmp_path: Path, argv: list[str]) -> None:
    program = wat(tmp_path, '(module (import "env" "told" (func $told)) (func (export "_start") (call $told)))')
    (tmp_path / "host.py").write_text("import gothreads\nhost = gothreads.Host()\n@host.function('env')\ndef told(): "
                                      "print('it runs')\n")
    code, out, err = command(argv[0], "--python", tmp_path / "host.py",
                             *(program if a == "PROGRAM" else a for a in argv[1:]))
    assert (code, out, err) == (1, "",
                                f"gothreads: {program} is a program, which takes no calls. Run it: gothreads run "
                                f"{program}\n")


def test_time_begins_once_for_all_clocks(tmp_path: Path) -> None:
    """WASI's absolute times, as in poll_oneoff, refer to the clock that clock_time_get reads."""
    module = wat(
        tmp_path,
        """(module (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (memory (export "memory") 1) (func (export "now") (param i32) (result i64)
          (if (call $time (local.get 0) (i64.const 1) (i32.const 8)) (then (return (i64.const -1)))) (i64.load (i32.const 8))))""",
    )
    with gothreads.open(module) as app:
        assert 0 < app.exports.now(1) <= app.exports.now(1)
        assert app.exports.now(0) > 1_700_000_000 * 10 ** 9
        assert app.exports.now(2) > 0
        assert app.exports.now(4) == -1


def test_exports_with_several_results_or_vectors_are_left_out(tmp_path: Path) -> None:
    loaded = check_module(
        "app.wasm",
        bytes(
            wasmtime.wat2wasm("""(module (func (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
        (func (export "vector") (param v128)) (func (export "gt_one") (result i32) (i32.const 1)))""")
        ),
    )
    assert [e.name for e in loaded.exports] == ["gt_one"]
    assert loaded.foreign
    assert loaded.memory is None


# Arguments from the command line.

@pytest.mark.parametrize(("params", "texts", "parsed"), [
    (I32 * 2, ("hello",), ("hello",)),
    (I32 * 2, ("7", "8"), (7, 8)),
    (I32 * 3, ("hello", "5"), ("hello", 5)),
    (I32 * 3, ("5", "hello"), (5, "hello")),
    (I32 * 3, ("5", "6"), ("5", 6)),
    (I32 * 5, ("a", "b", "0x10"), ("a", "b", 16)),
    (I32 * 5, ("a", "3", "b"), ("a", 3, "b")),
    (F64 + I32 * 2 + I64, ("1.5", "7", "-1"), (1.5, "7", -1)),
    (I32 * 4, ("1", "x", "2"), (1, "x", 2)),
    (b"", (), ()),
])
def test_a_text_stands_for_two_numbers_where_there_are_fewer(params: bytes, texts: tuple[str, ...],
                                                             parsed: tuple[object, ...]) -> None:
    assert CExport("f", FuncType(params, b""), Allocator(False)).parse(texts) == parsed


@pytest.mark.parametrize(("params", "texts"),
                         [(I32 * 3, ("x",)), (I64 * 2, ("x",)), (I32 + F64 + I32, ("1", "2")), (I32 * 3, ("x", "y")),
                          (I32, ())])
def test_texts_that_do_not_fit_are_refused(params: bytes, texts: tuple[str, ...]) -> None:
    with pytest.raises(gothreads.ArgumentError,
                       match="do not fit; each is a number, or a text that takes the place of two i32"):
        CExport("f", FuncType(params, b""), Allocator(False)).parse(texts)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([*"abc", *range(3)]), max_size=12))
def test_texts_with_letters_are_put_where_they_were(values: list[object]) -> None:
    export = CExport("f", FuncType(b"".join(I32 * (1 + isinstance(value, str)) for value in values), b""),
                     Allocator(False))
    assert export.parse(tuple(map(str, values))) == tuple(values)


def test_strings_on_the_command_line() -> None:
    module = native("strings.c")
    assert command("call", "--bytes", module, "upper", "hello") == (0, "HELLO", "")
    assert command("call", "--bytes", "--json", module, "join", "a", "2", "bc") == (0, '"abcbc"\n', "")
    assert command("call", module, "length", "hello") == (0, "5\n", "")
    assert command("call", module, "add", "2", "3") == (0, "5\n", "")
    assert command("call", "--model", "pool", "--bytes", native("strings.zig"), "reverse", "abc") == (0, "cba", "")


@pytest.mark.parametrize(("argv", "said"), [
    (["--bytes", "MODULE", "add", "1", "2"], "add does not return bytes"),
    (["MODULE", "add", "1", "2", "3"], "add: the arguments (3) do not fit"),
    (["MODULE", "add_float", "x"], "add_float: the arguments (1) do not fit"),
    (["MODULE", "nope"], "has no export or handler 'nope'; it has: add,"),
    (["--bytes", "MODULE", "outside"], "outside returned 0xfffffff000000001, which is not bytes"),
    (["--model", "threaded", "MODULE", "add", "1", "2"], "no threads, so it is run as single or pool"),
])
def test_what_is_wrong_on_the_command_line_is_one_line(argv: list[str], said: str) -> None:
    code, out, err = command("call", *(native("strings.c") if a == "MODULE" else a for a in argv))
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1


def test_inspect_tells_what_it_is(tmp_path: Path) -> None:
    code, out, err = command("inspect", native("strings.c"))
    assert (code, err) == (0, "")
    assert "single, c-shared, not built by gothreads" in out
    assert "  upper(arg0: i32, arg1: i32) -> i64\n" in out
    code, out, err = command("inspect", wat(tmp_path, '(module (func (export "f")))'))
    assert (code, err) == (0, "")
    assert "memory: none\nexports:\n  f()\nimports: none\n" in out
    assert command("inspect", "--json", wat(tmp_path, '(module (func (export "f")))'))[0] == 0


def test_run_says_that_there_is_no_main() -> None:
    code, out, err = command("run", native("strings.c"))
    assert (code, out) == (1, "")
    assert "has no main (_start), so there is nothing to run. Call its exports: gothreads call" in err


def test_output_of_c_goes_where_it_is_told(tmp_path: Path) -> None:
    module = wat(
        tmp_path,
        """(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 16) "hello\\n") (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00")
        (func (export "greet") (result i32) (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))""",
    )
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as target, gothreads.open(module, stdout=target) as app:
        assert app.exports.greet() == 0
    with os.fdopen(read, "rb") as source:
        assert source.read() == b"hello\n"
