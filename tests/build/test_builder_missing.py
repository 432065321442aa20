"""Builds that lack something, in WebAssembly or anywhere: the error names it, as native builds do."""

from __future__ import annotations

from pathlib import Path

import pytest

from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.errors import CompileError
from gothreads.wasm.binary import Module
from gothreads.wasm.parsing import parse
from gothreads.wasm.undefined import callers_of_undefined

CGO = '// int one() { return 1; }\nimport "C"\n\nfunc One() int { return int(C.one()) }\n'


def program(folder: Path, files: dict[str, str]) -> str:
    for name, text in {"go.mod": "module app\n\ngo 1.25\n", **files}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


def refused(folder: Path, files: dict[str, str], model: str = "threaded") -> CompileError:
    with pytest.raises(CompileError) as raised:
        build(Request(program(folder, files), model=model))
    return raised.value


@pytest.mark.parametrize("model", ["threaded", "single"])
def test_a_linkname_to_what_is_not_there_names_the_symbol(tmp_path: Path, model: str) -> None:
    error = refused(tmp_path, {"empty.s": "", "main.go": """package main

import _ "unsafe"

//go:linkname missing runtime.thereIsNoSuchThing
func missing() int

//go:linkname nanotime runtime.nanotime
func nanotime() int64

//go:linkname pushed example.com/elsewhere.pushed
func pushed() {}

func call() int { return missing() }

func main() { println(call(), nanotime()); pushed() }
"""}, model)
    assert error.message == f"{tmp_path}: the program calls functions that are not defined"
    place = f"{tmp_path}/main.go:5"
    first, last = error.output.splitlines()
    assert first == f"{place}: relocation target runtime.thereIsNoSuchThing not defined (//go:linkname missing)"
    assert last.startswith("Called by: main.")


def test_without_names_it_is_said_where(tmp_path: Path) -> None:
    files = {"empty.s": "", "main.go": "package main\n\nfunc missing()\n\nfunc main() { missing() }\n"}
    with pytest.raises(CompileError) as raised:
        build(Request(program(tmp_path, files), model="single", flags=("-ldflags=-s",)))
    assert raised.value.message.endswith("calls functions that are not defined")
    assert raised.value.output.startswith("Called by: ")


def test_what_go_links_calls_nothing_undefined(calls: Path, calls_single: Path) -> None:
    for path in (calls, calls_single):
        module: Module = parse(path.read_bytes())
        assert callers_of_undefined(module) == []


@pytest.mark.parametrize(("files", "message", "line"), [
    ({"main.go": "package main\n\n" + CGO + "\nfunc main() { One() }\n"},
     "the package uses cgo, which Go does not support on WebAssembly",
     "package app uses cgo, which Go does not support on WebAssembly: main.go"),
    ({"main.go": 'package main\n\nimport "app/dep"\n\nfunc main() { dep.One() }\n',
      "dep/dep.go": "package dep\n\n" + CGO},
     "go build failed", "package app/dep uses cgo, which Go does not support on WebAssembly: dep.go"),
    ({"main.go": 'package main\n\nimport "app/dep"\n\nfunc main() { dep.One() }\n',
      "dep/one.go": "package dep\n\n" + CGO,
      "dep/two.go": "package dep\n\nfunc Two() {}\n"}, "go build failed",
      "package app/dep uses cgo, which Go does not support on WebAssembly: one.go"),
    ({"main.go": "package main\n\nfunc main() { One() }\n",
      "one.go": 'package main\n\nimport (\n\t"C"\n)\n\nfunc One() {}\n'},
     "go build failed", "package app uses cgo, which Go does not support on WebAssembly: one.go"),
])
def test_a_package_with_cgo_says_so_and_names_its_files(tmp_path: Path, files: dict[str, str], message: str,
                                                        line: str) -> None:
    error = refused(tmp_path, files)
    assert error.message == f"{tmp_path}: {message}"
    assert line in error.output
    assert "docs/what-works.md" in error.output


@pytest.mark.parametrize("function", ["f(x []float64) int64 { return 0 }", "f(n int) {}", 'f() string { return "" }',
                                      "f() (int32, int32) { return 0, 0 }"])
def test_a_type_that_exports_cannot_have_says_what_can(tmp_path: Path, function: str) -> None:
    error = refused(tmp_path, {"main.go": f"package main\n\n//go:wasmexport f\nfunc {function}\n\nfunc main() {{}}\n"})
    assert "go:wasmexport: " in error.output
    assert error.output.endswith("guest.HandleJSON for values (docs/calling.md)\n")


def test_a_file_with_cgo_says_so(tmp_path: Path) -> None:
    """Go leaves the file out, and reports that there are no Go source files."""
    file = tmp_path / "main.go"
    file.write_text("package main\n\n" + CGO + "\nfunc main() { One() }\n")
    with pytest.raises(CompileError) as raised:
        build(Request(str(file)))
    assert raised.value.message == f"{file}: the program uses cgo, which Go does not support on WebAssembly"
    assert "package main uses cgo, which Go does not support on WebAssembly: main.go\n" in raised.value.output
    assert "docs/what-works.md" in raised.value.output


def test_a_package_that_is_for_another_system_does_not_speak_of_cgo(tmp_path: Path) -> None:
    error = refused(tmp_path, {"main_windows.go": 'package main\n\nconst text = `"C"`\n\nfunc main() {}\n'})
    assert error.message.endswith("there is no such package")
    assert "cgo" not in error.output
