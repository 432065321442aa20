"""The frames of traps and panics have the files and lines of the Go program."""

from __future__ import annotations

import io
import os
import pickle
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.engine.ffi import TrapFrame
from gothreads.engine.settings import StopCheck
from gothreads.runtime.module_file import load
from gothreads.runtime.trap_frames import TrapFrames
from gothreads.wasm.parsing import function_names, parse
from gothreads.wasm.pclntab import LineTable, go_version
from tests.support.modules import MODULES, built
from tests.support.waiting import under_load

FILE = "lines/main.go"
SOURCE = (MODULES / "lines" / "main.go").read_text().splitlines()
TRAPS: dict[str, tuple[Callable[[Any], object], tuple[str, ...]]] = {
    "export": (lambda app: app.exports.filled(True), ("load", "add", "fill", "filled")),
    "handler": (lambda app: app.request("fill", b"trap"), ("load", "add", "fill", "handler")),
    "resumed": (lambda app: app.request("resumed", b"trap"), ("load", "add", "fill")),
    "goroutine": (lambda app: app.request("goroutine", b"trap"), ("load", "add", "fill", "goroutine")),
    "typed function": (lambda app: app.typed("a trap"), ("load", "add", "fill", "typed")),
    "assembly": (lambda app: app.exports.divides(), ("divides",)),
}
FUNCTIONS = {"load": "main.load", "add": "main.(*shelf).add", "fill": "main.fill", "filled": "main.filled",
             "typed": "main.Typed", "divides": "main.divides", "handler": "main.init.0.func1",
             "goroutine": "main.init.0.func3.1"}


def line_of(mark: str) -> int:
    (line,) = (number for number, text in enumerate(SOURCE, 1) if text.endswith(f"// {mark}"))
    return line


def trapped(app: gothreads.App, call: Callable[[Any], object]) -> gothreads.GuestError:
    with app, pytest.raises(gothreads.GuestTrap) as caught:
        call(app)
    return caught.value


def own(error: gothreads.GuestError) -> list[tuple[str, int]]:
    """The functions and lines of main.go."""
    assert all(frame.file.endswith(FILE) for frame in error.frames if frame.own and not frame.file.endswith(".s"))
    return [(frame.function, frame.line) for frame in error.frames if frame.file.endswith(FILE)]


def stripped(path: Path, folder: Path) -> Path:
    """The module without names, as `gothreads build --strip` makes it."""
    module = parse(path.read_bytes())
    customs = [(title, content) for title, content in module.customs if title not in ("name", "producers")]
    (to := folder / "stripped.wasm").write_bytes(replace(module, customs=customs).encode())
    return to


def check(error: gothreads.GuestError, marks: tuple[str, ...]) -> None:
    assert own(error)[:len(marks)] == [(FUNCTIONS[mark], line_of(mark)) for mark in marks]
    assert all(frame.offset > 0 for frame in error.frames)
    shown = str(error)
    assert f"    {FUNCTIONS[marks[0]]} ({MODULES / FILE}:{line_of(marks[0])})\n" in shown
    assert "of Go's library or runtime" in shown


@pytest.mark.parametrize("model", ["threaded", "single"])
@pytest.mark.parametrize("where", TRAPS)
def test_a_trap_has_the_lines_of_all_calls_that_led_to_it(where: str, model: str) -> None:
    call, marks = TRAPS[where]
    error = trapped(gothreads.open(built("lines", model=model), model=model, trust=True), call)
    check(error, marks)
    if where != "assembly":
        assert f"out of bounds memory access, at main.go:{line_of(marks[0])}" in str(error)


@pytest.mark.long
@pytest.mark.parametrize("epochs", [False, True])
@pytest.mark.parametrize("where", TRAPS)
def test_optimized_code_has_the_same_lines(where: str, epochs: bool, tmp_path: Path) -> None:
    call, marks = TRAPS[where]
    path = built("lines", optimize=True)
    if epochs:  # its code is ended by epochs, as it is not trusted, and it has no names
        path = stripped(path, tmp_path)
    app = gothreads.open(path, trust=not epochs)
    assert app._stop_check is (StopCheck.EPOCH if epochs else StopCheck.FLAG)  # type: ignore[attr-defined]
    check(trapped(app, call), marks)


def test_a_module_without_names_has_them(tmp_path: Path) -> None:
    path = stripped(built("lines"), tmp_path)
    assert not function_names(parse(path.read_bytes()))
    call, marks = TRAPS["export"]
    check(trapped(gothreads.open(path), call), marks)


def test_an_exhausted_stack_has_the_lines_of_the_recursion() -> None:
    app = gothreads.open(built("lines", model="single"), model="single")
    error = trapped(app, lambda app: app.exports.recurses(1 << 40))
    assert {function for function, _ in own(error)} == {"main.deep"}
    assert own(error)[1:] == [("main.deep", line_of("deep"))] * (len(own(error)) - 1)
    assert len(own(error)) > 10


@pytest.mark.parametrize("model", ["threaded", "single"])
def test_a_panic_has_frames_too(model: str) -> None:
    errors = io.BytesIO()
    with (gothreads.open(built("lines", model=model), model=model, stderr=errors) as app,
          pytest.raises(gothreads.GuestPanic) as caught):
        app.panics(["a"])  # type: ignore[attr-defined]
    assert own(caught.value) == [("main.Panics", line_of("panics"))]
    place = f"main.go:{line_of('panics')}"
    assert f", at {place}\nGo frames, innermost first:\n    main.Panics ({MODULES}/lines/{place})\n" in str(caught.value)


def test_every_copy_of_the_error_has_the_lines_and_other_processes_have_them() -> None:
    app = gothreads.open(built("lines"))
    error = trapped(app, TRAPS["export"][0])
    for copy in (app.error, pickle.loads(pickle.dumps(error))):
        assert isinstance(copy, gothreads.GuestTrap)
        assert (copy.frames, str(copy)) == (error.frames, str(error))


def test_when_the_file_has_changed_a_trap_has_functions_and_offsets(tmp_path: Path) -> None:
    path = tmp_path / "lines.wasm"
    shutil.copy(built("lines"), path)
    with gothreads.open(path) as app:
        path.write_bytes(built("lines").read_bytes() + b"\0\1\0")  # a section without a name
        with pytest.raises(gothreads.GuestTrap) as caught:
            app.exports.filled(True)
    assert caught.value.frames[0].function == "main.fill"
    assert all(not frame.line and frame.offset > 0 for frame in caught.value.frames)
    assert "WebAssembly frames, innermost first:\n    main.fill (+0x" in str(caught.value)


def test_a_module_in_the_cache_that_is_used_again_has_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines.wasm"
    shutil.copy(built("lines"), path)
    app = gothreads.open(path)
    os.utime(path)  # as the cache does, when another app opens the module
    call, marks = TRAPS["export"]
    check(trapped(app, call), marks)


def test_a_module_that_is_only_content_has_the_lines() -> None:
    call, marks = TRAPS["export"]
    check(trapped(gothreads.open(built("lines").read_bytes()), call), marks)


def test_a_module_of_plain_go_says_its_version() -> None:
    assert go_version(parse(built("lines").read_bytes())).startswith("go1.")


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_table_of_lines_costs_no_more_than_the_lines(seed: int, tmp_path: Path) -> None:
    """Bytes of the table, of the header above all, are replaced. Nothing is raised, and it does not take long."""
    chance, module = random.Random(seed), parse(built("lines").read_bytes())
    table = LineTable.of(module, "go1.27")
    segment = next(place for place, segment in enumerate(module.data) if table.MAGIC in segment.content)
    content = bytearray(module.data[segment].content)
    begin = content.find(table.MAGIC)
    for _ in range(1 + 200 * (seed % 5)):
        at = chance.choice([chance.randrange(8, 72), chance.randrange(8, len(content) - begin - 1)])
        content[begin + at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    module.data[segment] = replace(module.data[segment], content=bytes(content))
    (path := tmp_path / "damaged.wasm").write_bytes(module.encode())
    functions = range(len(module.imported_functions), len(module.functions), 97)
    begun = time.monotonic()
    frames = TrapFrames(load(path), StopCheck.EPOCH).frames(
        [TrapFrame("name", function, chance.randrange(1, 3000), 5) for function in functions])
    assert len(frames) >= len(functions)
    assert time.monotonic() - begun < under_load(5)


@pytest.mark.parametrize("name", ["zeros", "ones", "not whole", "far"])
def test_a_table_that_is_nothing_but_its_beginning_has_no_lines(name: str) -> None:
    image = {"zeros": LineTable.MAGIC + bytes(100), "ones": LineTable.MAGIC + b"\xff" * 100,
             "not whole": LineTable.MAGIC + bytes(3), "far": LineTable.MAGIC + b"\x01" + bytes(30) + b"\xff" * 9}[name]
    try:
        table = LineTable(image, "go1.27")
    except ValueError:
        return
    assert not any(table.places(pc) for pc in (0, 1 << 16, 0x1000 << 16, 1 << 40))
