"""The tree of errors: one base, all of it picklable, each message whole."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from gothreads import errors
from gothreads.errors import Frame, GothreadsError, GuestError, UnknownExport, again, shown_frames, unknown

CLASSES = sorted((c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, BaseException)),
                 key=lambda c: c.__name__)


def examples(kind: type[GothreadsError]) -> list[GothreadsError]:
    found = [kind("what happened")]
    if issubclass(kind, GuestError):
        found.append(kind("what happened", 7, "last words\n", [Frame("main.f", 0x20)]))
    if issubclass(kind, errors.CompileError):
        found.append(kind("no", "./main.go:3:1: syntax error\n"))
    if issubclass(kind, UnknownExport):
        found.append(kind("no such export", ["add", "sub"]))
    return found


def test_every_error_is_in_the_one_tree_and_in_its_picture() -> None:
    assert CLASSES
    for kind in CLASSES:
        assert issubclass(kind, GothreadsError), kind
        assert issubclass(kind, Exception), kind
        assert kind.__name__ in (errors.__doc__ or ""), f"{kind.__name__} is not in the module's tree"


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_that_was_pickled_or_copied_says_and_holds_the_same(kind: type[GothreadsError]) -> None:
    for error in examples(kind):
        again = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
        for other in [*again, copy.copy(error), copy.deepcopy(error)]:
            assert type(other) is kind
            assert str(other) == str(error)
            assert other.args == error.args
            assert vars(other) == vars(error)


def test_the_repr_of_a_modules_failure_is_one_line_with_its_place() -> None:
    frames = [Frame("panic", -1, "/go/src/runtime/panic.go", 770), Frame("main.fail", -1, "/app/main.go", 16)]
    panic = errors.GuestPanic("panic: x", 2, "panic: x\n\ngoroutine 1 [running]:\n" * 100, frames)
    assert repr(panic) == "GuestPanic('panic: x, at main.go:16', code=2)"
    assert repr(errors.LimitExceeded("too long", 124)) == "LimitExceeded('too long', code=124)"


def test_an_unknown_export_is_what_getattr_and_look_ups_expect() -> None:
    error = unknown("export", "sbu", ["add", "sub"])
    assert isinstance(error, AttributeError)
    assert isinstance(error, KeyError)
    assert str(error) == "the module has no export 'sbu'. Did you mean 'sub'? It has: add, sub"
    assert error.known == ("add", "sub")
    assert str(unknown("handler", "x", [])) == "the module has no handler 'x'; it has: none"


@pytest.mark.parametrize(("kind", "builtins"), [
    (errors.ArgumentError, (TypeError, ValueError)),
    (errors.MemoryAccessError, (IndexError,)),
])
def test_misuse_is_also_what_python_would_raise(kind: type[GothreadsError],
                                                builtins: tuple[type[Exception], ...]) -> None:
    assert issubclass(kind, errors.MisuseError)
    assert issubclass(kind, builtins)


def test_advice_about_a_limit_names_the_option_of_the_command_line_too() -> None:
    sources = Path(errors.__file__).parent.rglob("*.py")
    advice = [(path.name, found) for path in sources
              for found in re.finditer(r"Limits\((\w+)=\.\.\.\)", re.sub(r'"\s*\n\s*f?"', "", path.read_text()))]
    assert len(advice) > 4
    for name, found in advice:
        assert re.search(rf"--(limit {found[1]}=|memory )\w+, in Python $", found.string[:found.start()]), (name, found[0])


def test_a_guest_error_says_the_last_words_and_the_frames() -> None:
    frames = [Frame("main.boom", 0x1A2B), Frame("main.main", 0x10)]
    error = GuestError("the module trapped: unreachable", 134, "line one\nline two\n", frames)
    assert str(error) == (
        "the module trapped: unreachable\n"
        "WebAssembly frames, innermost first:\n"
        "    main.boom (+0x1a2b)\n"
        "    main.main (+0x10)\n"
        "the module's last words on stderr:\n"
        "    line one\n"
        "    line two")
    assert (error.code, error.stderr, error.frames) == (134, "line one\nline two\n", tuple(frames))


def test_a_guest_error_does_not_repeat_what_the_module_has_printed() -> None:
    error = GuestError("the module has ended: panic: x", 2, "panic: x\n", [Frame("main.main", 0x10)])
    error.printed = True
    for one in (error, again(error), pickle.loads(pickle.dumps(error))):
        assert str(one) == "the module has ended: panic: x\nWebAssembly frames, innermost first:\n    main.main (+0x10)"
        assert one.stderr == "panic: x\n"


@pytest.mark.parametrize(("module", "kind", "left"), [
    ("gothreads.runtime.calls", errors.CallTimeout, False), ("gothreads.runtime.calls", errors.InternalError, True),
    ("program", errors.CallTimeout, True), ("threading_and_more", errors.CallTimeout, True)])
def test_frames_are_dropped_if_all_are_gothreads_own_but_for_bugs(module: str, kind: type[GothreadsError],
                                                                  left: bool) -> None:
    source = """
def fail(future):
    try:
        future.result()
    except Exception as error:
        drop_frames(error)
        return error
"""
    names: dict[str, Any] = {"__name__": module, "drop_frames": errors.drop_frames}
    exec(source, names)
    future: Future[None] = Future()
    future.set_exception(kind("it failed"))
    error = names["fail"](future)
    assert (error.__traceback__ is not None) == left


def test_frames_of_the_library_and_the_runtime_are_counted() -> None:
    library = Frame("strings.Repeat", -1, "/go/src/strings/strings.go", 9)
    own = Frame("example.com/x.(*T).f", -1, "/home/me/x/t.go", 3)
    generated = Frame("main.init.0.func1", -1, "/app/zz_gothreads_export.go", 9)
    plumbing = Frame("wasm_pc_f_loop", 7)
    assert shown_frames([library, library, own, own, generated, plumbing]) == [
        "… 2 of Go's library or runtime", str(own), str(own), "… 2 of Go's library or runtime"]
    assert shown_frames([library, plumbing]) == ["strings.Repeat (/go/src/strings/strings.go:9)", "wasm_pc_f_loop (+0x7)"]
    assert shown_frames([]) == []


def test_a_guest_error_without_words_or_frames_is_its_message() -> None:
    assert str(GuestError("main returned", 0, " \n")) == "main returned"


def test_a_guest_error_with_many_frames_shows_the_innermost() -> None:
    said = str(GuestError("overflow", frames=[Frame(f"main.f{i}", i) for i in range(10_000)]))
    assert "main.f0 " in said
    assert "main.f19 " in said
    assert "main.f20 " not in said


def test_a_compile_error_says_its_message_and_holds_the_output() -> None:
    error = errors.CompileError("app: go build failed", "./main.go:1:1: no\n")
    assert str(error) == "app: go build failed\n./main.go:1:1: no"
    assert error.message == "app: go build failed"
    assert error.output == "./main.go:1:1: no\n"
