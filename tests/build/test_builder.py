"""Builds real programs with the real Go."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.build import linking
from gothreads.build.builder import build
from gothreads.build.go_command import Finished, compiling
from gothreads.build.linking import link
from gothreads.build.packages import go_failed, is_refused_cache
from gothreads.build.request import Request
from gothreads.build.typed import Typed, generate
from gothreads.errors import BuildError, CompileError, MisuseError, ToolchainError
from gothreads.files import locked
from gothreads.output.progress import BUILD, TOOLS, watching
from gothreads.wasm.binary import Kind
from gothreads.wasm.metadata import SECTION, decode
from gothreads.wasm.parsing import function_names, parse
from tests.support.command_line import process
from tests.support.modules import MODULES
from tests.support.waiting import under_load

CALLS = str(MODULES / "calls")
Program = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps programs in temporary folders out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOTHREADS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """program(main_go, **{"lib/lib.go": …}) creates a folder with a module `example` of these files."""
    def program(main: str, **files: str) -> Path:
        for name, text in {"go.mod": "module example\n\ngo 1.25\n", "main.go": main, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path
    return program


EMPTY = "package main\n\nfunc main() {}\n"
TWICE = """package main

import "example/lib"

// twice is in main.
//
//go:wasmexport twice
func twice(n int32) int32 { return 2 * lib.Count(n) }

func main() {}
"""
COUNT = """// Package lib has an export too.
package lib

// Count counts.
// It takes a while.
//
//go:wasmexport count
func Count(n int32) int32 { return n + 1 }
"""
MORE = """//go:build extra

package main

// more is there with a tag.
//
//go:wasmexport more
func more(up bool) {}
"""


@pytest.mark.long
def test_a_second_build_is_cached_and_takes_less_than_a_second() -> None:
    build(Request(CALLS))
    again = build(Request(CALLS))
    assert again.cached
    assert again.seconds < under_load(1)
    assert again.path.is_file()


@pytest.mark.long
def test_a_change_of_the_source_is_built(program: Program) -> None:
    folder = program(EMPTY)
    first = build(Request(str(folder)))
    assert build(Request(str(folder))).cached
    (folder / "main.go").write_text("package main\n\nfunc main() { println(1) }\n")
    changed = build(Request(str(folder)))
    assert not changed.cached
    assert changed.path != first.path
    assert first.path.exists()


def test_the_lock_of_an_editor_is_no_source_that_changes(program: Program) -> None:
    folder = program("package main\n\nfunc main() { nothing }\n")
    (folder / ".#main.go").symlink_to("somebody@somewhere.1234")  # as Emacs has it
    with pytest.raises(CompileError, match="undefined: nothing"):
        link(Request(str(folder)))
    (folder / "main.go").write_text("package main\n\nfunc main(\n")
    with pytest.raises(CompileError, match="syntax error|expected"):
        link(Request(str(folder)))


def test_half_of_another_package_is_built_again(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = program('package main\n\nimport "app/lib"\n\nfunc main() { lib.F() }\n')
    (folder / "go.mod").write_text("module app\n\ngo 1.25\n")
    text = "package lib\n\n//gothreads:export\nfunc F() {}\n"
    source = folder / "lib" / "lib.go"
    source.parent.mkdir()
    source.write_text(text)
    done = []

    def while_it_is_saved(*args: Any, **named: Any) -> Typed:
        done.append(args)
        if len(done) > 1:
            return generate(*args, **named)
        source.write_text(text[:-4])
        try:
            return generate(*args, **named)
        finally:
            source.write_text(text)
    monkeypatch.setattr(linking, "generate", while_it_is_saved)
    assert link(Request(str(folder))).schema is not None
    assert len(done) == 2


@pytest.mark.parametrize(("often", "half"), [(1, ""), (1, "package main\n\n//gothreads:export\nfunc Two("), (100, "")])
def test_a_source_that_is_saved_during_a_build_is_built_again(often: int, half: str, program: Program,
                                                              monkeypatch: pytest.MonkeyPatch,
                                                              caplog: pytest.LogCaptureFixture) -> None:
    text = ("package main\n\n//gothreads:export\nfunc Two() int { return 2 }\n\n//gothread:export\nfunc Three() {}\n\n"
            "func main() {}\n")
    source = program(text) / "main.go"
    done = []

    def while_it_is_saved(*args: Any, **named: Any) -> Typed:
        done.append(args)
        if len(done) > often:
            return generate(*args, **named)
        source.write_text(half)
        try:
            return generate(*args, **named)
        finally:
            source.write_text(text)
    monkeypatch.setattr(linking, "generate", while_it_is_saved)
    if often > 10:
        with pytest.raises(BuildError, match="its sources go on changing while they are built"):
            link(Request(str(source.parent)))
    else:
        assert link(Request(str(source.parent))).schema is not None
        assert len(done) == 2
        assert caplog.text.count("did you mean //gothreads:export?") == 1


def test_progress_counts_the_packages_that_are_compiled(program: Program) -> None:
    new = os.urandom(8).hex()  # otherwise Go has it in its own cache
    folder = program('package main\n\nimport "example/lib"\n\nfunc main() { lib.F() }\n',
                     **{"lib/lib.go": f'package lib\n\nfunc F() {{ println("{new}") }}\n'})
    told: list[tuple[float, float]] = []
    with watching(lambda _stage, done, packages: told.append((done, packages or 0))):
        build(Request(str(folder)))
    *counted, end = told
    assert [done for done, _ in counted] == list(range(1, len(counted) + 1))
    assert counted
    assert {packages for _, packages in counted} == {end[0]} == {end[1]}
    assert len(counted) <= end[0]


def test_a_go_command_that_compiles_is_reported_with_its_packages(tmp_path: Path) -> None:
    told: list[tuple[str, float, float | None]] = []
    said = "echo fmt >&2; echo example/lib >&2; echo 'main.go:3: not a package' >&2; echo printed; exit 3"
    with watching(lambda *report: told.append(report)):
        done = compiling(["sh", "-c", said], work=tmp_path, environment=os.environ, packages=5, stage=TOOLS)
    assert done == Finished(3, 2, "printed\n", "main.go:3: not a package\n")
    assert told == [(TOOLS, 1, 5), (TOOLS, 2, 5), (TOOLS, 5, 5)]


@pytest.mark.long
def test_all_that_the_first_typed_program_has_to_wait_for_is_reported(program: Program, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOTHREADS_CACHE", "GOCACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = program('package main\n\nimport "fmt"\n\n//gothreads:export\nfunc F() string { return fmt.Sprint(1) }\n\n'
                     "func main() {}\n")
    told: dict[str, float] = {}
    with watching(lambda stage, done, _: told.update({stage: max(done, told.get(stage, 0))})):
        build(Request(str(folder)))
    assert min(told[stage] for stage in (TOOLS, BUILD)) > 40


def test_a_build_says_that_it_waits_for_another_and_ctrl_c_ends_it(program: Program, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / "cache"))
    folder = program("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(CompileError):
        build(Request(str(folder)))  # has made the lock
    [lock] = (tmp_path / "cache" / "linked").glob("*/lock")
    read, write = pty.openpty()
    with locked(lock), process("build", folder, "-o", tmp_path / "out.wasm", stderr=write) as running:
        os.close(write)
        with os.fdopen(read, "rb", buffering=0) as screen:
            said = b""
            while b"waiting for another build of this program: " not in said:
                said += screen.read(4096)
            running.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # the terminal's other end is closed
                while more := screen.read(4096):
                    said += more
    assert running.returncode == 130
    assert b"Traceback" not in said


@pytest.mark.long
def test_a_program_of_two_packages_has_the_exports_and_words_of_both(program: Program) -> None:
    folder = program(TWICE, **{"lib/lib.go": COUNT})
    built = build(Request(str(folder), model="single"))
    assert [(e.name, e.package, e.go, e.doc) for e in built.metadata.exports] == [
        ("count", "lib", "func Count(n int32) int32", "Count counts.\nIt takes a while.\n"),
        ("twice", "main", "func twice(n int32) int32", "twice is in main.\n")]
    with gothreads.open(built.path) as app:
        assert app.exports.twice(20) == 42
        assert app.exports.count(1) == 2
        assert app.exports.twice.__doc__ == "func twice(n int32) int32\n\ntwice is in main."


def test_the_module_says_what_it_is() -> None:
    built = build(Request(CALLS))
    section = parse(built.path.read_bytes(), outline=True).custom(SECTION)
    assert section is not None
    assert decode(section) == built.metadata
    assert (built.metadata.version, built.metadata.go) == (gothreads.__version__, built.toolchain.version)
    assert (built.metadata.model, built.metadata.buildmode, built.metadata.handlers) == ("threaded", "exe", True)
    assert built.metadata.options == {"preemption": True, "strip": False}
    length = next(e for e in built.metadata.exports if e.name == "length")
    assert (length.go, length.doc, length.result) == ("func length(s string) int64", "length is in bytes.\n", "int64")


def test_a_program_without_handlers_says_so_and_does_not_pay_for_what_handlers_may_use(program: Program) -> None:
    built = build(Request(str(program(EMPTY)), model="single"))
    assert not built.metadata.handlers
    packages = {name.partition(".")[0] for name in function_names(parse(built.path.read_bytes()))}
    assert "gothreads_guest_slot" in packages
    assert not packages & {"bufio", "encoding_json", "net", "gothreads_guest"}


def test_a_single_module_is_stock_go_without_threads() -> None:
    built = build(Request(CALLS, model="single"))
    module = parse(built.path.read_bytes(), outline=True)
    assert (built.metadata.model, built.metadata.buildmode) == ("single", "c-shared")
    assert module.memory is not None
    assert not module.memory.shared
    assert not [e.name for e in module.exports if e.name.startswith("gt_")]


@pytest.mark.long
def test_stripping_removes_names_and_the_module_still_runs(calls: Path) -> None:
    stripped = build(Request(CALLS, strip=True)).path
    module = parse(stripped.read_bytes(), outline=True)
    assert function_names(module) == {}
    assert not [title for title, _ in module.customs if title in ("name", "producers") or title.startswith(".debug")]
    assert stripped.stat().st_size < calls.stat().st_size
    with gothreads.open(stripped) as app:
        assert app.exports.add(2, 3) == 5
        assert app.exports.ask(21) == 42


@pytest.mark.long
def test_a_library_does_not_have_a_start(program: Program) -> None:
    module = parse(build(Request(str(program(EMPTY)), buildmode="c-shared")).path.read_bytes(), outline=True)
    assert {"_initialize"} == {e.name for e in module.exports if e.kind is Kind.FUNC and e.name.startswith("_")}


@pytest.mark.long
def test_a_go_file_is_a_package(tmp_path: Path) -> None:
    (tmp_path / "one.go").write_text("package main\n\n//go:wasmexport three\nfunc three() int32 { return 3 }\n\nfunc "
                                     "main() {}\n")
    (tmp_path / "other.go").write_text("this is not Go\n")
    with gothreads.open(tmp_path / "one.go", model="single") as app:
        assert app.exports.three() == 3


def test_a_compile_error_is_what_go_prints(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = program("package main\n\nfunc main() {\n\tvar x int = \"text\"\n}\n")
    monkeypatch.chdir(folder)
    with pytest.raises(CompileError) as raised:
        build(Request(str(folder)))
    assert raised.value.message == f"{folder}: go build failed"
    assert str(raised.value).splitlines()[1:] == raised.value.output.splitlines()
    assert raised.value.output == ("# example\n./main.go:4:6: declared and not used: x\n"
                                   "./main.go:4:14: cannot use \"text\" (untyped string constant) as int value in "
                                   "variable declaration\n")
    assert not isinstance(raised.value, ToolchainError)


@pytest.mark.parametrize(("source", "said"), [
    ("package main\n\nfunc main() {\n", "./main.go:4:1: syntax error: unexpected EOF, expected }"),
    ("this is not Go\n", "main.go:1:1: expected 'package'"),
    ('package main\n\nimport "example/none"\n\nfunc main() { none.F() }\n',
     "main.go:3:8: package example/none is not in std"),
    ('package main\n\nimport "nobody.example/none"\n\nfunc main() { none.F() }\n',
     "main.go:3:8: no required module provides package nobody.example/none"),
    ("package main\n", "A program needs one. If it is only to be called: func main() { select {} }\n"),
    ("package main\n\nfunc domain() {}\n", "function main is undeclared in the main package\nA program needs one. If it "
     "is only to be called: func main() { select {} }\n"),
], ids=["syntax", "not Go", "no such package", "no such module", "no main", "no main that a look finds"])
def test_a_program_that_go_refuses_is_a_compile_error_with_the_place(program: Program, source: str, said: str,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    folder = program(source)
    monkeypatch.chdir(folder)
    with pytest.raises(CompileError) as raised:
        build(Request(str(folder)))
    assert said in raised.value.output
    assert "zz_gothreads" not in raised.value.output


@pytest.mark.parametrize("said", ["go: go.mod file not found in current directory or any parent directory; see …",
                                  "go: cannot find main module, but found .git/config in /here"])
def test_a_folder_without_go_mod_is_told_of_init(said: str) -> None:
    assert "gothreads init docs" in str(go_failed(said, Path.cwd(), "docs"))


def test_a_go_that_cannot_write_to_its_cache_is_told_so(program: Program, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOCACHE", str(program(EMPTY) / "main.go" / "cache"))
    with pytest.raises(CompileError, match="^go list failed. Go cannot write to its cache: set GOCACHE to a folder that "
                                           "can be written\n.*not a directory"):
        build(Request(str(tmp_path)))


@pytest.mark.parametrize(("output", "refused"), [
    ("open /x/go-build/50/" + "5045abcdef012345" * 4 + "-a: read-only file system\n", True),
    ("failed to initialize build cache at /nonexistent/.cache/go-build: mkdir /nonexistent: permission denied", True),
    ("main.go:3: open data: permission denied\nbuild cache is required, but could not be located\n", False)])
def test_what_go_says_of_its_cache_is_told_from_the_rest(output: str, refused: bool) -> None:
    assert is_refused_cache(output) is refused


def test_a_package_that_is_no_program_is_refused(program: Program) -> None:
    folder = program(EMPTY, **{"lib/lib.go": "package lib\n"})
    with pytest.raises(BuildError, match=r"example/lib is package lib, not a program \(package main\)\. To call a library, build a program"):
        build(Request(str(folder / "lib")))


@pytest.mark.parametrize(("files", "said"),
                         [({}, "no Go files in"),
                          ({"main.go": "//go:build linux\n\n" + EMPTY}, "build constraints exclude all Go files")])
def test_a_folder_without_go_files_is_refused(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in {"go.mod": "module example\n\ngo 1.25\n", **files}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CompileError, match="there is no such package") as raised:
        build(Request(str(tmp_path)))
    assert said in raised.value.output


def test_a_module_for_a_later_go_is_refused_in_gos_words(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module example\n\ngo 1.99\n")
    (tmp_path / "main.go").write_text(EMPTY)
    with pytest.raises(CompileError) as raised:
        build(Request(str(tmp_path)))
    assert "go.mod requires go >= 1.99" in raised.value.output


@pytest.mark.parametrize(("package", "said"),
                         [("./none", "there is no folder ./none"), ("/none/at/all", "there is no folder /none/at/all"),
                                               ("none.go", "there is no file none.go")])
def test_a_place_that_is_not_there_is_named(package: str, said: str) -> None:
    with pytest.raises(BuildError, match=said):
        build(Request(package))


def test_an_import_path_that_is_not_there_is_an_error(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(program(EMPTY))
    with pytest.raises(BuildError):
        build(Request("example/none"))


def test_an_import_path_is_a_package(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(program("package main\n", **{"cmd/app/main.go": EMPTY}))
    assert build(Request("example/cmd/app", model="single")).path.is_file()


@pytest.mark.parametrize("flag", ["-o", "-o=x.wasm", "--o=x", "-overlay=x", "--overlay", "-buildmode=exe"])
def test_flags_that_gothreads_sets_itself_are_refused(flag: str) -> None:
    with pytest.raises(MisuseError, match=r"gothreads sets -.* itself"):
        Request(CALLS, flags=(flag,))


def test_an_unknown_model_or_build_mode_is_refused_with_those_there_are() -> None:
    with pytest.raises(MisuseError, match="no model 'many' to build for; there are: threaded, single"):
        Request(CALLS, model="many")
    with pytest.raises(MisuseError, match="no build mode 'plugin'; there are: exe, c-shared"):
        Request(CALLS, buildmode="plugin")


def test_build_flags_go_to_go_and_their_tags_count_for_the_signatures(program: Program) -> None:
    folder = program(EMPTY, **{"extra.go": MORE})
    assert build(Request(str(folder), model="single")).metadata.exports == ()
    (more,) = build(Request(str(folder), model="single", flags=("-tags", "extra"))).metadata.exports
    assert (more.name, more.doc) == ("more", "more is there with a tag.\n")


def test_the_users_settings_for_go_do_not_get_in_the_way(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GOOS": "linux", "GOARCH": "amd64", "GOROOT": "/none", "GOTOOLCHAIN": "go1.99.0",
                        "CGO_ENABLED": "1"}.items():
        monkeypatch.setenv(name, value)
    assert build(Request(str(program(EMPTY)), model="single")).path.is_file()


def test_the_program_is_not_written_to(program: Program) -> None:
    folder = program(EMPTY)
    build(Request(str(folder), model="single"))
    assert sorted(path.name for path in folder.rglob("*")) == ["go.mod", "main.go"]


def test_requests_are_values() -> None:
    assert replace(Request(CALLS), strip=True) == Request(CALLS, strip=True)
    assert (Request(CALLS).mode, Request(CALLS, model="single").mode,
            Request(CALLS, buildmode="c-shared").mode) == ("exe", "c-shared", "c-shared")
