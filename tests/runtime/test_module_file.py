"""Checking a module file before it runs: for each possible defect, the error is one line that says how to fix it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

import gothreads
from gothreads.build.toolchain import find_go
from gothreads.errors import ModuleError
from gothreads.runtime.module_file import LoadedModule, check_module, load
from gothreads.wasm.binary import MAGIC, VERSION, Kind, MemoryLimits, Module
from gothreads.wasm.metadata import SECTION
from gothreads.wasm.parsing import parse

Refused = Callable[[bytes], str]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Return refused(content), which returns the error of load() for a file with that content."""
    path = tmp_path / "app.wasm"

    def refused(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(ModuleError) as raised:
            load(path)
        said = str(raised.value)
        assert said.startswith(f"{path}: ")
        assert said.isprintable(), "one line"
        return said
    return refused


@pytest.fixture
def threaded(calls: Path) -> Module:
    return parse(calls.read_bytes())


def wat(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def without(module: Module, *sections: str) -> list[tuple[str, bytes]]:
    return [(title, body) for title, body in module.customs if title not in sections]


def with_fields(module: Module, **fields: object) -> bytes:
    """Return the module, with those fields of its section `gothreads` changed."""
    section = module.custom(SECTION)
    assert section is not None
    edited: dict[str, Any] = json.loads(section) | fields
    return replace(module, customs=[*without(module, SECTION), (SECTION, json.dumps(edited).encode())]).encode()


def test_a_threaded_module_is_known_by_its_section(calls: Path) -> None:
    loaded = load(calls)
    assert (loaded.model, loaded.entry, loaded.has_callers) == ("threaded", "_start", True)
    assert loaded.memory is not None
    assert loaded.memory.shared
    names = [export.name for export in loaded.exports]
    assert names == sorted(names)
    assert {"add", "length"} <= set(names)
    assert not [name for name in names if name.startswith(("_", "gt_", "gothreads_"))]
    assert next(e for e in loaded.exports if e.name == "add").signature.go == "func add(a, b int32) int32"


def test_a_single_module_is_known_by_its_section(calls_single: Path) -> None:
    loaded = load(calls_single)
    assert (loaded.model, loaded.entry, loaded.has_callers) == ("single", "_initialize", True)
    assert {e.name for e in loaded.exports} >= {"add", "length"}


@pytest.mark.parametrize(("content", "said"), [
    (b"", "empty"),
    (b"\x7fELF" + bytes(60), "binary data, not a WebAssembly module. To make one of a Go package: gothreads build"),
    (b"\xff\xfe", "binary data, not a WebAssembly module"),
    (b"# A text\n", "text, not a WebAssembly module. To make one of a Go package: gothreads build"),
    ("ß".encode() * 100_001, "text, not a WebAssembly module"),
    (MAGIC, "truncated"),
    (MAGIC + b"\x0d\0\1\0", "component"),
    (MAGIC + VERSION, "exports no function"),
])
def test_what_is_no_module_is_refused(refused: Refused, content: bytes, said: str) -> None:
    assert said in refused(content)


@pytest.mark.parametrize(("text", "said"), [
    ("(module)",
     "exports no function, so there is nothing to run or call. For a Go package: gothreads build ./app -o app.wasm"),
    ('(module (memory 1 2 shared) (func (export "_start")))',
     "shared memory of its own, so its threads could not share it. Link it with --import-memory"),
    ('(module (import "env" "memory" (memory 1)) (func (export "f")))',
     "imports a memory that is not shared, which nobody provides. Link it with a memory"),
    ('(module (import "env" "m" (memory 1 2 shared)) (memory 1) (func (export "f")))',
     "threads and more than one memory"),
    ('(module (import "env" "m" (memory 1 2 shared)) (import "env" "n" (memory 1 2 shared)) (func (export "f")))',
     "threads and more than one memory"),
    ('(module (import "env" "t" (table 1 funcref)) (import "a" "g" (global i32)) (func (export "f")))',
     "imports env.t (a table), a.g (a global), which nobody provides: only functions, and a memory for threads, are"),
    ('(module (import "wasi" "thread-spawn" (func (param i32) (result i32))) (memory 1) (func (export "f")))',
     "must import a shared memory, and export"),
    ('(module (import "wasi" "thread-spawn" (func (param i64) (result i32))) (import "env" "m" (memory 1 2 shared)) '
     '(func (export "wasi_thread_start") (param i32 i32)))', "does not follow wasi-threads"),
    ('(module (import "wasi" "thread-spawn" (func (param i32) (result i32))) (import "env" "m" (memory 1 2 shared)) '
     '(func (export "wasi_thread_start") (param i32)))', "Build it for wasm32-wasi-threads"),
    ('(module (memory 1) (func (export "gt_attach")))', "Run it: gothreads go-exec FILE"),
    ('(module (import "env" "memory" (memory 1 2 shared)) (func (export "gt_attach")))',
     "no section 'gothreads' (was it stripped by another tool?)"),
])
def test_a_module_that_nothing_can_be_done_with_is_refused(refused: Refused, text: str, said: str) -> None:
    assert said in refused(wat(text))


@settings(deadline=None, max_examples=40)
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_truncated_module_is_refused(calls: Path, part: float) -> None:
    content = calls.read_bytes()
    with pytest.raises(ModuleError) as raised:
        check_module("app.wasm", content[:int(len(content) * part)])
    assert str(raised.value).isprintable()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_module_is_loaded_or_refused_in_one_line(data: st.DataObject) -> None:
    damaged = bytearray(
        wat("""(module (type (func (param i32) (result i64))) (import "env" "f" (func (type 0))) (memory (export "memory") 1)
                            (func (export "_start")) (func (export "g") (type 0) (i64.const 1)) (data (i32.const 8) "abc"))""")
    )
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(8, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    said = ""
    try:
        assert isinstance(check_module("app.wasm", bytes(damaged)), LoadedModule)
    except ModuleError as error:
        said = str(error)
    assert "\n" not in said


def test_an_export_of_a_function_that_is_not_there_is_refused(refused: Refused, threaded: Module) -> None:
    exports = [replace(e, index=1 << 20) if e.name == "add" else e for e in threaded.exports]
    assert "function 1048576" in refused(replace(threaded, exports=exports).encode())


def test_a_threaded_module_without_its_section_says_how_to_strip(refused: Refused, threaded: Module) -> None:
    said = refused(replace(threaded, customs=without(threaded, SECTION)).encode())
    assert "no section 'gothreads'" in said
    assert "gothreads build --strip" in said


def test_a_module_without_names_is_loaded(threaded: Module, tmp_path: Path) -> None:
    (tmp_path / "app.wasm").write_bytes(replace(threaded, customs=without(threaded, "name", "producers")).encode())
    assert load(tmp_path / "app.wasm").model == "threaded"


def test_a_module_of_another_format_says_to_rebuild(refused: Refused, threaded: Module) -> None:
    said = refused(with_fields(threaded, abi=999, version="9.9.9"))
    assert "9.9.9" in said
    assert "Rebuild it: gothreads build" in said


@pytest.mark.parametrize("fields",
                         [{"exports": None}, {"model": "many"}, {"handlers": "yes"}, {"exports": [{"name": "add"}]},
                          {"version": "a\nb"}])
def test_a_section_that_was_edited_badly_is_refused(refused: Refused, threaded: Module,
                                                    fields: dict[str, object]) -> None:
    assert "section 'gothreads' is malformed" in refused(with_fields(threaded, **fields))


def test_a_section_of_a_threaded_module_that_says_single_is_refused(refused: Refused, threaded: Module) -> None:
    said = refused(with_fields(threaded, model="single"))
    assert "says that it is single, but has threads" in said
    assert "Rebuild it: gothreads build" in said


def test_a_section_of_a_single_module_that_says_threaded_is_refused(refused: Refused, calls_single: Path) -> None:
    said = refused(with_fields(parse(calls_single.read_bytes()), model="threaded"))
    assert "says that it is threaded, but has no threads" in said
    assert "Rebuild it: gothreads build" in said


def test_a_threaded_module_whose_memory_is_its_own_is_refused(refused: Refused, threaded: Module) -> None:
    imports = [i for i in threaded.imports if i.kind is not Kind.MEMORY]
    assert "Rebuild it" in refused(replace(threaded, imports=imports, memories=[MemoryLimits(100)]).encode())


def test_signatures_that_do_not_fit_the_module_give_way_to_its_types(threaded: Module) -> None:
    wrong = {"name": "add", "go": "func add(s string)", "function": "add", "package": "main", "doc": "",
             "params": [{"name": "s", "type": "float64"}],
             "result": None, "position": "main.go:1"}
    loaded = check_module("app.wasm", with_fields(threaded, exports=[wrong]))
    add = next(e for e in loaded.exports if e.name == "add")
    assert add.signature.go == "func add(arg0 int32, arg1 int32) int32"


@pytest.mark.long
def test_a_stock_go_module_opens_as_single(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module stock\n\ngo 1.25\n")
    (tmp_path / "main.go").write_text("package main\n\n//go:wasmexport double\nfunc double(n int64) int64 { return 2 * "
                                      "n }\n\nfunc main() {}\n")
    subprocess.run([find_go().go, "build", "-trimpath", "-buildmode=c-shared", "-o", "stock.wasm"], cwd=tmp_path,
                   check=True,
                   env=os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local",
                                     "GOFLAGS": "-buildvcs=false"})
    loaded = load(tmp_path / "stock.wasm")
    assert (loaded.model, loaded.metadata, loaded.entry) == ("single", None, "_initialize")
    with gothreads.open(tmp_path / "stock.wasm") as app:
        assert app.exports.double(21) == 42


def test_a_file_that_is_missing_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / "none.wasm", "No such file or directory"), (tmp_path, "Is a directory"),
                      (tmp_path / "file" / "x", "Not a directory")):
        with pytest.raises(ModuleError) as raised:
            load(path)
        assert str(raised.value) == f"cannot read {path}: {why}"


def test_opening_a_module_file_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModuleError, match=r"there is no file .*none\.wasm"):
        gothreads.open(tmp_path / "none.wasm")
