"""The command line: exit codes, data on stdout, messages on stderr; and real processes with their signals."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gothreads.build.toolchain import find_go
from gothreads.cli.main import main
from gothreads.cli.values import parse_environment_files, parse_mount, parse_size
from gothreads.errors import MisuseError
from gothreads.wasm.binary import ExportEntry, FuncType, Kind, MemoryLimits, Module
from tests.support.command_line import command, finished, process
from tests.support.modules import MODULES, built
from tests.support.waiting import PATIENCE, under_load

SENTENCE = re.compile(r"gothreads: [^\n]+\n")


@pytest.fixture
def reader() -> Path:
    """The module `reader`."""
    return built("reader")


@pytest.fixture
def bad(tmp_path: Path, calls: Path, calls_single: Path) -> dict[str, Path]:
    """Files that are not modules, or modules of the wrong kind."""
    whole = calls.read_bytes()
    files = {
        "empty": b"",
        "text": b"#!/bin/sh\n",
        "truncated": whole[: len(whole) // 2],
        "header": whole[:6],
        "version": b"\0asm\2\0\0\0",
        "component": b"\0asm\x0d\0\1\0",
        "not_go": b"\0asm\1\0\0\0" + b"\x05\x03\x01\x00\x01",
        "single_as_threaded": calls_single.read_bytes()
        .replace(b'"model": "single"', b'"model": "threaded"')
        .replace(b'"model":"single"', b'"model":"thread"'),
    }
    for name, content in files.items():
        (tmp_path / f"{name}.wasm").write_bytes(content)
    return {name: tmp_path / f"{name}.wasm" for name in files}


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


# What commands print.

@pytest.mark.parametrize("name", ["empty", "text", "truncated", "header", "version", "component", "not_go"])
@pytest.mark.parametrize("verb", ["inspect", "run", "call", "serve"])
def test_a_bad_file_gets_one_line_that_says_how_to_mend_it(bad: dict[str, Path], verb: str, name: str) -> None:
    own, passed = {"call": ([], ["add", 1, 2]), "serve": (["--port", 0], [])}.get(verb, ([], []))
    code, out, err = command(verb, *own, bad[name], *passed)
    assert (code, out) == (1, "")
    assert SENTENCE.fullmatch(err)
    assert str(bad[name]) in err
    assert "gothreads build" in err


def test_a_single_threaded_module_is_not_run_as_a_threaded_one(calls_single: Path) -> None:
    code, out, err = command("run", "--model", "threaded", calls_single)
    assert (code, out) == (1, "")
    assert err == (f"gothreads: {calls_single} was built for the model single, not threaded. "
                   f"Rebuild it: gothreads build PACKAGE --model threaded -o {calls_single}\n")


@pytest.mark.parametrize(("argv", "said"), [
    (["inspect", "nowhere.wasm"], "there is no file nowhere.wasm"),
    (["inspect", "./nowhere"], "there is no folder ./nowhere"),
    (["inspect", "nowhere.go"], "there is no file nowhere.go"),
    (["run", "nowhere.cwasm"], "there is no file nowhere.cwasm"),
    (["call", __file__, "add"],
     f"{__file__}: text, not a WebAssembly module. To make one of a Go package: gothreads build PACKAGE -o FILE"),
    (["run", "nowhere.wasm"], "there is no file nowhere.wasm"),
    (["run", "./nowhere"], "there is no folder ./nowhere"),
    (["build", "./nowhere.go"], "there is no file ./nowhere.go"),
    (["build", "--go", "/nowhere/go"], "Install one: pip install 'gothreads[go]', or name it: --go /path/to/go"),
    (["run", "--mount", "nowhere:/x", "CALLS"], "--mount nowhere:/x: nowhere does not exist"),
    (["run", "--mount", "CALLS:/x", "CALLS"], "is not a folder"),
    (["run", "--mount", "/tmp", "CALLS"], "--mount /tmp: expected HOST:GUEST or HOST:GUEST:ro. Did you mean --mount /tmp:/tmp?"),
    (["run", "--mount", ".", "CALLS"], "expected HOST:GUEST or HOST:GUEST:ro. Did you mean --mount .:/app?"),
    (["run", "--mount", "nowhere", "CALLS"], "expected HOST:GUEST or HOST:GUEST:ro, such as ./data:/data"),
    (["run", "--mount", ".:.", "CALLS"], "the path in the module must begin with /: .:/app"),
    (["run", "--allow-net", "https://go.dev", "CALLS"],
     "'https://go.dev' is a URL, not an address: write HOST:PORT, such as example.com:443"),
    (["run", "--mount", ".:data", "CALLS"], "--mount .:data: the path in the module must begin with /: .:/data"),
    (["run", "--memory", "lots", "CALLS"],
     "--memory lots: not a size; expected a number of bytes, or one such as 512M or 1.5G"),
    (["run", "--listen", "9080", "CALLS"], "listen (--listen): '9080' is not an address: write HOST:PORT, such as "
     "127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080, or unix:PATH. Did you mean :9080?"),
    (["run", "--listen", "localhost", "CALLS"], "or unix:PATH. The port is missing: localhost:PORT"),
    (["serve", "--port", "0", "--allow-net", ":443", "CALLS"], "allow_net (--allow-net): ':443' is not an address"),
    (["run", "--allow-net", "go.dev", "CALLS"], "HOST and PORT may be *. The port is missing: go.dev:PORT"),
    (["run", "--memory", "128", "CALLS"], "--memory 128 is 128 bytes. Did you mean --memory 128M?"),
    (["run", "--limit", "stack=8", "CALLS"], "--limit stack=8 is 8 bytes. Did you mean --limit stack=8M?"),
    (["build", "-o", "/nonexistent/dir/x.wasm"],
     "-o /nonexistent/dir/x.wasm: there is no folder /nonexistent (only the last folder of a path is made)"),
    (["build", "-o", "/nonexistent/dir/"], "there is no folder /nonexistent ("),
    (["compile", "-o", "/nonexistent/dir/x.cwasm", "CALLS"], "there is no folder /nonexistent ("),
    (["optimize", "-o", "/nonexistent/dir/x.wasm", "CALLS"], "there is no folder /nonexistent ("),
    (["run", "--memory", "99G", "CALLS"], "the limit on memory must be between 64 KiB and 3.75 GiB, not 99 GiB"),
    (["run", "--memory", "1M", "CALLS"], "MiB of memory to start, the limit is 1 MiB. Raise it (--memory SIZE"),
    (["run", "--env", "=x", "CALLS"], "--env =x: expected NAME=VALUE or NAME"),
    (["run", "--procs", "2000", "CALLS"], "procs must be between 1 and 1024, not 2000"),
    (["run", "--procs", "4", "--limit", "threads=8", "CALLS"], "with 4 procs Go needs at least 10 threads, the limit is "
     "8. Raise it (--limit threads=N, in Python Limits(threads=...)), or lower procs (--procs)"),
    (["run", "CALLS", "caf\udce9"], "is not UTF-8"),
    (["call", "CALLS", "add", "2"], "add takes 2 arguments, 1 given: func add(a, b int32) int32"),
    (["call", "CALLS", "add", "2", "x"],
     "add: argument 'b' must be an int from -2147483648 to 2147483647 (Go: int32): got 'x'"),
    (["call", "CALLS", "add", "2", "3000000000"], "2147483647 (Go: int32): got 3000000000"),
    (["call", "CALLS", "bools", "yes"], "bools: argument 'v' must be true or false (Go: bool): got 'yes'"),
    (["call", "CALLS", "ad", "2"], "the module has no export or handler 'ad'. Did you mean 'add'? It has: add, ask,"),
    (["call", "CALLS", "echo", "a", "b"], "the handler echo takes one payload, 2 given"),
    (["call", "CALLS", "fail", "hi"], "no: hi"),
])
def test_a_mistake_is_one_line_and_exit_code_1(calls: Path, argv: list[str], said: str) -> None:
    code, out, err = command(*(a.replace("CALLS", str(calls)) for a in argv))
    assert (code, out) == (1, "")
    assert SENTENCE.fullmatch(err)
    assert said in err


@pytest.mark.parametrize(("argv", "said"), [
    ([], "the following arguments are required: COMMAND"),
    (["nonsense"], "nonsense is not a command"),
    (["runn", "x.wasm"], "runn is not a command. Did you mean run?"),
    (["rum", "x.wasm"], "rum is not a command. Did you mean run?"),
    (["run", "-listen", ":8080", "x.wasm"], "unrecognized argument: -listen. Did you mean --listen?"),
    (["run", "-listen=:8080", "x.wasm"], "unrecognized argument: -listen=:8080. Did you mean --listen=:8080?"),
    (["run", "--lisen", ":8080", "x.wasm"], "unrecognized argument: --lisen. Did you mean --listen?"),
    (["build", "-optimize"], "unrecognized argument: -optimize. Did you mean --optimize?"),
    (["call", "-verbose", "x.wasm"], "unrecognized argument: -verbose. Did you mean --verbose?"),
    (["serve", "--timeout", "500ms", "x.wasm"], "'500ms' is not a number of seconds above 0. Did you mean 0.5?"),
    (["serve", "--drain", "1m30s", "x.wasm"], "Did you mean 90?"),
    (["run"], "required: FILE|PACKAGE"),
    (["run", "-x", "x.wasm"], "unrecognized argument: -x; options for the module go after it"),
    (["run", "--procs"], "argument --procs: expected one argument"),
    (["run", "--procs", "0", "x.wasm"], "'0' is not a whole number of at least 1"),
    (["call"], "required: FILE|PACKAGE"),
    (["run", "--restart", "sometimes", "."],
     "sometimes is neither a value of --restart (on-failure, always) nor a file or folder here"),
    (["serve", "--port", "99999", "x.wasm"], "'99999' is not a port; expected a number from 0 to 65535"),
    (["serve", "--host", "0.0.0.0:80", "x.wasm"], "'0.0.0.0:80' has a port; write --host 0.0.0.0 --port 80"),
    (["run", "--port", "80", "x.wasm"],
     "unrecognized argument: --port (gothreads serve has it); options for the module go after it"),
    (["run", "--timeout=3", "x.wasm"], "unrecognized argument: --timeout=3 (gothreads serve, call have it)"),
    (["x.wasm"], "x.wasm is not a command. To run it: gothreads run x.wasm"),
    (["./app", "-v"], "./app is not a command. To run it: gothreads run ./app"),
    (["serve", "--callers", "none", "x.wasm"], "'none' is not a whole number of at least 1"),
    (["build", ".", "-tags"], "unrecognized argument: -tags; flags for go build go after --"),
    (["inspect", "x.wasm", "--", "y"], "unrecognized argument: y"),
    (["doctor", "--", "y"], "unrecognized argument: y"),
])
def test_what_is_wrong_with_a_command_line_is_one_line_and_the_next_says_where_the_help_is(argv: list[str],
                                                                                           said: str) -> None:
    code, out, err = command(*argv)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith("gothreads: ")
    assert said in first
    of_command = argv and argv[0] in ("run", "serve", "call", "build", "inspect", "doctor")
    assert second == f"try: gothreads {argv[0] + ' ' if of_command else ''}--help"


@pytest.mark.parametrize("verb", ["build", "run", "call", "inspect", "serve"])
def test_help_has_examples(verb: str) -> None:
    code, out, err = command(verb, "--help")
    assert (code, err) == (0, "")
    assert f"examples:\n  gothreads {verb} " in out


@pytest.mark.parametrize("columns", ["40", "79", "80", "200"])
@pytest.mark.parametrize("verb", ["build", "profile", "top"])
def test_usage_ends_with_what_follows_dashes(verb: str, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = command(verb, "--help")
    usage = out.partition("\n\n")[0]
    assert re.search(r" \[-- ARG…\]$", usage)
    assert max(map(len, usage.splitlines())) < max(int(columns), 60)


def test_help_has_the_exit_codes() -> None:
    out = command("--help")[1]
    assert all(f"\n  {code} " in out for code in (0, 1, 2, 124, "130, 143", 134, 153))


def test_version() -> None:
    assert command("--version")[:2] == (0, "gothreads 0.1.0\n")


# build

def test_build_says_what_it_built(tmp_path: Path) -> None:
    target = tmp_path / "made" / "app.wasm"
    code, out, err = command("build", MODULES / "calls", "-o", target)
    assert (code, out) == (0, "")
    assert re.search(rf"gothreads: {target}: [\d.]+ MB, threaded, go1\.\d+\.\d+ \(.*\), (from the cache, )?[\d.]+ s\n$", err)
    assert target.read_bytes().startswith(b"\0asm")


def test_build_json_is_json_on_standard_output(tmp_path: Path) -> None:
    code, out, err = command("build", MODULES / "calls", "-o", tmp_path / "app.wasm", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["model"] == "threaded"
    assert told["bytes"] == (tmp_path / "app.wasm").stat().st_size
    assert "add" in told["exports"]


@pytest.mark.long
def test_a_go_file_by_itself_can_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.go").write_text("package main\n\nfunc main() { println(42) }\n")
    monkeypatch.chdir(tmp_path)
    assert command("build", "one.go")[0] == 0
    assert (tmp_path / "one.wasm").exists()


def test_what_go_says_of_a_program_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module broken\n")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { x }\n")
    code, out, err = command("build", tmp_path)
    assert (code, out) == (1, "")
    assert "main.go:3:15: undefined: x\n" in err
    assert err.endswith(f"gothreads: {tmp_path}: go build failed\n")


@pytest.mark.long
@pytest.mark.parametrize("verb", ["build", "run"])
def test_a_folder_without_go_mod_is_told_of_init(same_folder: Path, verb: str) -> None:
    folder = same_folder
    (folder / "main.go").write_text("package main\n\nfunc main() {}\n")
    code, out, err = command(verb, folder)
    assert (code, out) == (1, "")
    assert err.endswith(f"gothreads: go list failed. A folder needs a go.mod; this writes one: gothreads init "
                        f"{folder}\n")
    code, _, err = command("init", folder)
    assert code == 0
    assert err.endswith(f". Try: gothreads serve {folder}\n")
    (folder / ".gothreads" / "guest" / "of_an_older_version.go").write_text("package guest\n\nfunc init() { missing() }\n")
    assert command("run", folder)[0] == 0
    (folder / ".gothreads" / "guest" / "trace.go").unlink()  # as in an older copy
    assert command("run", folder)[0] == 0


def test_flags_that_go_does_not_have_for_webassembly_are_explained() -> None:
    assert command("build", MODULES / "calls", "--", "-race") == (
        1, "", "gothreads: Go has no -race for WebAssembly: find races natively, with `go build -race`; `gothreads build "
        "--sharpen SEED` makes them show more often here (docs/what-works.md)\n")


def test_init_prepares_a_library_and_a_missing_copy_of_the_guest_package_is_told_of_it(tmp_path: Path) -> None:
    (tmp_path / "lib.go").write_text("package lib\n")
    assert command("init", tmp_path)[2] == f"gothreads: {tmp_path}: wrote go.mod, .gothreads/guest\n"
    shutil.rmtree(tmp_path / ".gothreads")
    code, _, err = command("build", tmp_path)
    assert (code, err) == (1, f"gothreads: {tmp_path}/go.mod says that gothreads/guest is in {tmp_path}/.gothreads/guest, "
                              f"and it is not (is that in .gitignore?). To write it: gothreads init {tmp_path}\n")


def test_build_does_not_leave_anything_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "taken" / "calls.wasm").mkdir(parents=True)
    code, out, err = command("build", MODULES / "calls", "-o", tmp_path / "taken")
    assert (code, out, err) == (1, "", f"gothreads: cannot write {tmp_path / 'taken' / 'calls.wasm'}: Is a directory\n")
    assert [f.name for f in (tmp_path / "taken").iterdir()] == ["calls.wasm"]


def test_build_into_a_folder_names_the_module_after_the_package(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in ("there", "new/"):
        assert command("build", MODULES / "calls", "-o", f"{tmp_path}/{folder}")[0] == 0
        assert [file.name for file in (tmp_path / folder).iterdir()] == ["calls.wasm"]


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A Go module with two programs and a library."""
    (tmp_path / "go.mod").write_text("module several\n")
    for name, package in (("cmd/one", "main"), ("cmd/two", "main"), ("library", "library")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file.go").write_text(f"package {package}\n" + "\nfunc main() { println(42) "
                                                 "}\n" * (package == "main"))
    return tmp_path


@pytest.mark.long
def test_build_with_a_pattern_builds_each_program(several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = command("build", f"{several}/...", "-o", several / "made", "--json")
    assert (code, err) == (0, "")
    assert [told["file"] for told in json.loads(out)] == [f"{several}/made/one.wasm", f"{several}/made/two.wasm"]
    assert sorted(file.name for file in (several / "made").iterdir()) == ["one.wasm", "two.wasm"]
    monkeypatch.chdir(several)
    assert command("build", "./library/...") == (1, "", "gothreads: ./library/... matches no program (package main)\n")
    (several / "file").write_text("")
    assert command("build", "./...", "-o", "file")[2].startswith("gothreads: -o file is a file; for several programs, ")
    (several / "cmd" / "two").rename(several / "one")
    assert command("build", "./...") == (
        1, "", "gothreads: cmd/one and one would both be written to one.wasm. Build them one by one, with -o\n")


def test_compile_errors_have_paths_from_the_current_folder(several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (several / "library" / "file.go").write_text("package library\n\nfunc F() { x }\n")
    (several / "cmd" / "one" / "file.go").write_text('package main\n\nimport "several/library"\n\nfunc main() { '
                                                     'library.F() }\n')
    for folder, path in (("", "library/file.go"), ("library", "./file.go"), ("cmd/one", "../../library/file.go")):
        monkeypatch.chdir(several / folder)
        code, _, err = command("build", several / "cmd" / "one")
        assert code == 1
        assert f"\n{path}:3:12: undefined: x\n" in err


# inspect

def test_inspect_tells_exports_with_their_go_signatures(calls: Path) -> None:
    code, out, err = command("inspect", calls)
    assert (code, err) == (0, "")
    assert re.match(rf"{calls}: [\d.]+ MB, threaded, exe, built by gothreads [\d.]+ with go1\.", out)
    assert "  func add(a, b int32) int32\n" in out
    assert "  func ask(n int64) int64\n      ask blocks until main has answered.\n" in out
    assert f"\nhandlers: the program registers them when it runs; to list them: gothreads call {calls}\n" in out


def test_inspect_tells_typed_functions() -> None:
    code, out, err = command("inspect", built("typed"))
    assert (code, err) == (0, "")
    assert ("typed functions:\n  distance: func Distance(a, b Point) float64\n      Distance is how far two points are "
            "from each other.\n") in out
    described = json.loads(command("inspect", built("typed"), "--json")[1])["typed"]
    assert {"name": "x", "go": "[]float64", "type": {"shape": "numbers", "name": "float64", "of": [], "length": None},
            "doc": ""} in next(function["params"] for function in described if function["name"] == "sum")


def test_inspect_says_what_a_program_does_besides_taking_calls(calls: Path, calls_single: Path) -> None:
    service = command("inspect", built("plainnet"))[1]
    assert f"\nexports: none\nhandlers: none\nmain: runs when the module is opened. A program that needs no calls, such as a server: gothreads run {built('plainnet')}\n" in service
    assert "\nnetwork: package net; it may listen where --listen, and listen and dial where --allow-net says so\n" in service
    assert "\nnetwork: none\n" in command("inspect", calls)[1]
    assert "\nmain: does not run (--buildmode c-shared)\n" in command("inspect", calls_single)[1]
    kept = command("inspect", built("keeps"))[1]
    assert "\ncalls Python: handlers that are given by name (guest.Call, guest.Notify)\nevents: the program " in kept


def test_inspect_counts_functions_among_imports_and_not_the_memory(calls: Path) -> None:
    imports = command("inspect", calls)[1].splitlines()[-1]
    assert re.fullmatch(r"imports: gothreads \(\d+\), wasi_snapshot_preview1 \(\d+\)", imports)


def test_inspect_json(calls: Path) -> None:
    code, out, err = command("inspect", "--json", calls)
    about = json.loads(out)
    assert (code, err) == (0, "")
    assert (about["model"], about["buildmode"], about["handlers"]) == ("threaded", "exe", True)
    add = next(e for e in about["exports"] if e["name"] == "add")
    assert add["params"] == [{"name": "a", "type": "int32"}, {"name": "b", "type": "int32"}]
    assert "fd_write" in about["imports"]["wasi_snapshot_preview1"]


def test_inspect_builds_a_package(calls: Path) -> None:
    code, out, _ = command("inspect", MODULES / "calls")
    assert code == 0
    assert out == command("inspect", calls)[1].replace(str(calls), str(MODULES / "calls"))


# call

def test_call_without_a_name_lists_what_can_be_called(calls: Path) -> None:
    code, out, err = command("call", calls)
    assert (code, err) == (0, "")
    assert out.startswith("exports:\n  func add(a, b int32) int32\n")
    assert re.search(r"\nhandlers:\n(  \w+\n)*  echo\n(  \w+\n)*$", out)
    listed = json.loads(command("call", "--json", calls)[1])
    assert listed["exports"][0]["params"] == [{"name": "a", "type": "int32"}, {"name": "b", "type": "int32"}]
    assert "echo" in listed["handlers"]


@pytest.mark.parametrize(("argv", "out"), [
    (["add", "2", "3"], "5\n"),
    (["add", "-2", "3"], "1\n"),
    (["add", "--", "-2", "3"], "1\n"),
    (["--procs", "2", "add", "-2", "-3"], "-5\n"),
    (["--json", "add", "2", "3"], "5\n"),
    (["bools", "true"], "false\n"),
    (["uint64s", "0xffffffffffffffff"], "18446744073709551615\n"),
    (["float64s", "-1e300"], "-1e+300\n"),
    (["length", "h\u00e9"], "3\n"),
    (["--procs=3", "procs"], "3\n"),
    (["--", "echo", "-x"], "-x"),
    (["echo", "--", "--json"], "--json"),
    (["echo", "--help"], "--help"),
    (["sleep", "0"], ""),
    (["echo", "hello"], "hello"),
    (["--json", "upper", "hello"], '"HELLO"\n'),
    (["--json", "float64s", "nan"], '"nan"\n'),
    (["--json", "sleep", "0"], "null\n"),
])
def test_call_prints_the_result(calls: Path, argv: list[str], out: str) -> None:
    assert command("call", calls, *argv) == (0, out, "")


@pytest.mark.parametrize(("payload", "shown"), [("hello", "hello\n"), ("hello\n", "hello\n"), ("", "")])
def test_on_a_terminal_a_result_ends_with_its_line(calls: Path, payload: str, shown: str) -> None:
    out = Screen()
    assert main(["call", str(calls), "echo", payload], out, io.StringIO()) == 0
    assert out.getvalue() == shown


def test_an_option_of_gothreads_after_the_export_is_the_exports_and_that_is_said(calls: Path) -> None:
    code, out, err = command("call", calls, "echo", "--timeout=2")
    assert (code, out) == (0, "--timeout=2")
    assert SENTENCE.fullmatch(err)
    assert "--timeout after echo goes to the module. Options for gothreads come before it" in err


def test_call_of_a_module_whose_main_has_returned_says_how_to_mend_it(reader: Path) -> None:
    code, out, err = command("call", reader, "block")
    assert (code, out) == (1, "")
    assert SENTENCE.fullmatch(err)
    assert "main returned, or os.Exit(0). To keep the module running, end main with select {}; or build" in err


@pytest.mark.parametrize(("argv", "code", "kind", "error"), [
    (["call", "--json", "CALLS", "ad", "2"], 1, "UnknownExport", "the module has no export or handler 'ad'. Did you mean "),
    (["call", "--json", "CALLS", "fail", "hi"], 1, "HandlerError", "no: hi"),
    (["call", "--json", "CALLS", "exits", "5"], 5, "GuestExit", "the module has ended: exit code 5"),
    (["call", "--json", "CALLS", "--timeout", "0.1", "hang"], 124, "CallTimeout",
     "the call of hang has not come back within 0.1 s"),
    (["inspect", "nowhere.wasm", "--json"], 1, "ModuleError", "there is no file nowhere.wasm"),
    (["inspect", "nowhere.go", "--json"], 1, "ModuleError", "there is no file nowhere.go"),
    (["inspect", "./nowhere", "--json"], 1, "ModuleError", "there is no folder ./nowhere"),
    (["build", "./nowhere", "--json"], 1, "BuildError", "there is no folder ./nowhere"),
    (["call", "--json"], 2, "UsageError", "the following arguments are required: FILE|PACKAGE"),
    (["serve", "--json"], 2, "UsageError", "the following arguments are required: FILE|PACKAGE, or -c or --config"),
    (["inspect", "--json", "CALLS", "more"], 2, "UsageError", "unrecognized argument: more"),
])
def test_with_json_what_went_wrong_is_json_too(calls: Path, argv: list[str], code: int, kind: str, error: str) -> None:
    got, out, err = command(*(a.replace("CALLS", str(calls)) for a in argv))
    said = json.loads(out)
    assert (got, said["kind"]) == (code, kind)
    assert error in said["error"]
    assert error in err or kind == "GuestExit"


def test_json_is_all_that_is_on_standard_output(tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text("print('loading')\n" + HOST.replace("    return", "    print('called')\n    "
                                                                          "return"))
    code, out, err = finished("call", "--json", "--python", tmp_path / "host.py", MODULES / "talk", "call", "up abc")
    assert (code, json.loads(out)) == (0, "ABC of threaded")
    assert err == "loading\ncalled\n"


def test_call_ends_with_the_modules_code(calls: Path) -> None:
    assert command("call", calls, "exits", 5)[0] == 5


def test_a_handlers_payload_comes_from_standard_input(calls: Path) -> None:
    every = bytes(range(256)) * 1000
    with process("call", calls, "echo", "-", stdin=subprocess.PIPE) as running:
        assert running.communicate(every, timeout=PATIENCE) == (every, b"")
    assert finished("call", calls, "upper", stdin=b"piped") == (0, "PIPED", "")


HOST = """import gothreads

host = gothreads.Host()


@host.handler()
def up(payload: bytes, context: gothreads.Context) -> str:
    return payload.decode().upper() + f" of {context.app.model}"
"""


@pytest.mark.parametrize("model", ["threaded", "single", "idle", "pool"])
def test_python_functions_come_from_a_file_and_any_model_is_chosen(tmp_path: Path, model: str) -> None:
    (tmp_path / "host.py").write_text(HOST)
    assert command("call", MODULES / "talk", "--model", model, "--python", tmp_path / "host.py", "call",
                   "up abc") == (0, f"ABC of {model}", "")


@pytest.mark.parametrize(("text", "said"), [
    (None, "there is no Python file "),
    ("1 / 0\n", "host.py, line 1: ZeroDivisionError: division by zero"),
    ("import gothreads\nhost = (\n", "host.py, line 2: SyntaxError: "),
    ("import gothreads\n", "host.py has no `host = gothreads.Host()`"),
    ("import gothreads\nhost = gothreads.Host()\n\n@host.handler\ndef f(p): ...\n",
     "host.py, line 4: MisuseError: write @host.handler(), with"),
])
def test_a_python_file_that_is_none_is_said_in_one_line(calls: Path, tmp_path: Path, text: str | None,
                                                        said: str) -> None:
    if text is not None:
        (tmp_path / "host.py").write_text(text)
    code, out, err = command("call", calls, "--python", tmp_path / "host.py", "add", 1, 2)
    assert (code, out) == (1, "")
    assert SENTENCE.fullmatch(err)
    assert said in err


def test_what_python_functions_raise_is_said_with_its_file_and_line(tmp_path: Path) -> None:
    host = tmp_path / "host.py"
    begin = "import gothreads\nhost = gothreads.Host()\n\n"
    host.write_text(f"{begin}@host.handler()\ndef up(payload):\n    raise LookupError('no such thing')\n")
    code, out, err = command("call", "--python", host, MODULES / "talk", "call", "up abc")
    assert (code, out) == (1, "")
    assert err == f"gothreads: the handler up raised LookupError: no such thing ({host}, line 6)\ngothreads: handler up: LookupError: no such thing\n"
    host.write_text(f"{begin}@host.function('env')\ndef call_again(n: int) -> int:\n    return int('unlucky')\n")
    code, out, err = command("call", "--python", host, MODULES / "patient", "again", 1)
    assert (code, out) == (134, "")
    assert re.fullmatch(r"gothreads: patient: env\.call_again, a Python function that the module called, raised "
                        r"ValueError: .*'unlucky' "
                        rf"\({host}, line 6\)\n", err)


def test_an_unknown_handler_of_the_hosts_is_gos_error() -> None:
    assert command("call", MODULES / "talk", "call", "up abc") == (1, "",
                                                                   "gothreads: handler up: the host has no such "
                                                                   "handler\n")


# run

@pytest.mark.parametrize("argv", [["serve", "--port", "0", "FILE"], ["call", "FILE", "main"]])
def test_what_has_nothing_to_call_is_run_instead(argv: list[str]) -> None:
    module = built("plainnet")
    code, out, err = command(*(a.replace("FILE", str(module)) for a in argv))
    assert (code, out) == (1, "")
    assert SENTENCE.fullmatch(err)
    assert f"{module} has no exports (//go:wasmexport, //gothreads:export) and no handlers (guest.Handle), which " in err
    assert f"gothreads run --listen 127.0.0.1:8080 {module} (serve takes --listen, too" in err


def test_run_gives_the_module_its_arguments_and_environment(calls: Path) -> None:
    assert finished("run", "--env", "NAME=value", calls, "env", "a", "-b", "--", "c") == (0, "[a -b -- c] value\n", "")
    assert finished("run", "--env", "NAME", calls, "env", env=os.environ | {"NAME": "mine"}) == (0, "[] mine\n", "")
    assert finished("run", calls, "env", env=os.environ | {"NAME": "mine"}) == (0, "[] \n", "")


def test_the_environment_comes_from_files_too(calls: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("# a comment\n\n  NAME=\"in quotes\" # kept\nOTHER=x\nMINE\n")
    second.write_text("NAME=second=2\r\n")
    environment = parse_environment_files([str(first)])
    assert environment == {"NAME": '"in quotes" # kept', "OTHER": "x"}
    assert [record.getMessage() for record in caplog.records] == [
        f"--env-file {first}, line 5: MINE: this variable is not set here, so the module does not get it"]
    first.write_text("OTHER='quoted'\n")
    code, out, err = finished("run", "--env-file", first, "--env-file", second, calls, "env")
    assert (code, out) == (0, "[] second=2\n")
    assert err == f"gothreads: --env-file {first}, line 1: the quotes belong to the value of OTHER, as with docker run\n"
    assert finished("run", "--env", "NAME=given", "--env-file", second, calls, "env") == (0, "[] given\n", "")
    _, out, err = finished("run", "--env", "NOSUCH", calls, "env")
    assert (out, err) == ("[] \n", "gothreads: --env NOSUCH: this variable is not set here, so the module does not get it\n")


@pytest.mark.parametrize(("content", "said"), [
    (None, "No such file or directory"), (b"A=1\nbad name=2\n", "line 2: expected NAME=VALUE or NAME"),
    (b"=x", "line 1: expected"),
    (b"A=\xff", "not UTF-8 text"),
])
def test_a_wrong_file_of_the_environment_is_one_line(calls: Path, tmp_path: Path, content: bytes | None,
                                                     said: str) -> None:
    file = tmp_path / "env"
    if content is not None:
        file.write_bytes(content)
    code, out, err = command("call", "--env-file", file, calls, "add", 1, 2)
    assert (code, out) == (1, "")
    assert SENTENCE.fullmatch(err)
    assert f"--env-file {file}" in err
    assert said in err


@pytest.mark.long
@pytest.mark.parametrize(("argv", "args"), [
    (["CALLS", "env", "-p", "x", "--help", "-1"], "-p x --help -1"),
    (["CALLS", "--", "env", "--procs", "2"], "--procs 2"),
    (["CALLS", "--", "env", "--", "x"], "-- x"),
    (["--", "CALLS", "env", "-x"], "-x"),
    (["--restart", "CALLS", "env"], ""),
    (["--restart", "always", "--limit", "seconds=60", "--restart", "on-failure", "CALLS", "env", "always"], "always"),
    (["--env=NAME=", "--no-mount-args", "CALLS", "env", ""], ""),
])
def test_what_follows_the_module_is_the_modules(calls: Path, argv: list[str], args: str) -> None:
    assert finished("run", *(a.replace("CALLS", str(calls)) for a in argv)) == (0, f"[{args}] \n", "")


def test_an_option_of_gothreads_after_the_module_is_the_modules_and_that_is_said(calls: Path) -> None:
    code, out, err = finished("run", calls, "env", "--mount", ".:/x", "--procs=2", "-v", "--", "--env", "x")
    assert (code, out) == (0, "[--mount .:/x --procs=2 -v -- --env x] \n")
    assert err == (f"gothreads: --mount, --procs after {calls} go to the module. Options for gothreads come before it: "
                   f"gothreads run --mount ... (if the module is meant, write -- after {calls})\n")


def test_run_ends_with_the_modules_exit_code(calls: Path) -> None:
    assert finished("run", calls, "exit") == (7, "", "going\n")


@pytest.mark.long
def test_run_says_when_main_only_waits_to_be_called(same_folder: Path) -> None:
    program = same_folder / "newapp"
    assert command("init", program)[0] == 0
    with process("run", program) as running:
        assert running.stderr is not None
        said = next(line for line in iter(running.stderr.readline, b"") if not line.startswith(b"gothreads: compil"))
        assert said.decode() == f"gothreads: main only waits (select {{}}). To call the module's exports and handlers: gothreads serve {program}\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 143


def test_main_leaves_the_log_as_it_was(calls: Path) -> None:
    log = logging.getLogger("gothreads")
    before = log.level, list(log.handlers)
    assert command("call", calls, "add", 2, 3)[0] == 0
    assert (log.level, log.handlers) == before


def test_standard_input_is_piped_through(calls: Path, tmp_path: Path) -> None:
    text = "".join(f"line {n}\n" for n in range(20_000))
    (tmp_path / "text").write_text(text)
    with (tmp_path / "text").open("rb") as file, process("run", calls, "cat", stdin=file) as running:
        out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, out.decode(), err) == (0, text, b"")


def test_a_panic_exits_2_with_gos_own_words(calls: Path) -> None:
    code, out, err = finished("call", calls, "panics")
    assert (code, out) == (2, "")
    assert err.startswith("panic: assignment to entry in nil map\n\ngoroutine ")
    assert "main.panics()" in err
    assert "Traceback" not in err


@pytest.mark.long
@pytest.mark.parametrize(("verbose", "kind", "code"), [
    ([], "unreachable", 134), ([], "host", 134), (["-v"], "unreachable", 134), (["-v"], "panic", 2)])
def test_what_the_module_has_printed_is_not_printed_again(verbose: list[str], kind: str, code: int,
                                                          tmp_path: Path) -> None:
    host = tmp_path / "host.py"
    host.write_text("import gothreads\nhost = gothreads.Host()\n"
                    "for name in ('block', 'close', 'raises'):\n"
                    "    @host.function('env', name)\n"
                    "    def fails() -> None:\n"
                    "        1 / 0\n")
    got, out, err = finished("call", *verbose, "--python", host, built("faults"), "fault_now", kind)
    assert (got, out) == (code, "")
    assert [err.count(words) for words in ("last words", "on purpose", "wasm `unreachable`", "ZeroDivisionError: ")] == [
        1, int(kind == "panic"), int(kind == "unreachable"), int(kind == "host")]
    assert ("Traceback" in err) == bool(verbose)


def test_the_limit_on_memory_is_gos_out_of_memory(calls: Path) -> None:
    code, out, err = finished("call", calls, "--memory", "64M", "fill", 200)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[-3:] == [
        "", "(-v shows more stacks)",
        "gothreads: the limit on memory, 64 MiB, is reached. Raise it (--memory SIZE, in Python Limits(memory=...)), "
        "unless the program leaks"]
    assert "fatal error: out of memory" in lines
    # The stack of the goroutine that wanted memory, and no other.
    assert [line.split()[0] for line in lines if line.startswith(("goroutine ", "runtime stack:"))] == ["goroutine"]
    assert "main.fill(0xc8)" in lines
    assert "main.main()" not in lines
    code, out, err = finished("call", calls, "-v", "--memory", "64M", "fill", 200)
    assert (code, out) == (2, "")
    assert "main.fill(" in err
    assert err.splitlines()[-1].startswith("gothreads: the limit on memory, 64 MiB, is reached.")
    assert finished("call", calls, "--memory", "256M", "fill", 20)[:2] == (0, "20\n")


def test_a_call_that_takes_too_long_ends_with_124(patient_host: Path) -> None:
    # "wait" returns when its context ends, which may be just before the module would be ended.
    for name, then in (("spin", "the module was ended"), ("wait", "(the module was ended|it came back then)")):
        code, out, err = finished("call", built("patient"), "--python", patient_host, "--timeout", "0.1", name)
        assert (code, out) == (124, "")
        assert re.fullmatch(rf"gothreads: .*{name} has not come back within 0.1 s; {then}\n", err)
    assert finished("call", built("patient"), "--python", patient_host, "--timeout", "30", "add", 1,
                    2) == (0, "3\n", "")


def test_limits_are_named_on_the_command_line(patient_host: Path) -> None:
    code, out, err = finished("call", built("patient"), "--python", patient_host, "--limit", "output=1001",
                              "--limit", "files=50", "write", 1000)
    assert (code, out) == (153, "")
    assert re.search(r"^gothreads: .*more than 1,001 bytes.*--limit output=SIZE", err, re.MULTILINE)  # after half a line
    assert "--limit output=1 is 1 bytes. Did you mean --limit output=1M? (If not: --limit output=1B)" in finished(
        "call", "--limit", "output=1", "--python", patient_host, built("patient"), "add", 1, 2)[2]
    code, out, err = finished("run", "--python", patient_host, "--limit", "seconds=0.2", built("patient"))
    assert (code, out) == (124, "")
    assert "it has run for 0.2 s" in err


@pytest.mark.parametrize(("text", "said"), [
    ("output", "expected NAME=N; names are: memory, threads, stack, files, output, seconds"),
    ("cpu=1", "expected NAME=N"), ("=1", "expected NAME=N"),
    ("output=1X", "--limit output=1X: not a size"), ("threads=0", "not a whole number"),
    ("seconds=never", "not a number of seconds"), ("files=2", "at least 3"),
    ("threads=" + "9" * 5000, "not a whole number"), ("memory=" + "9" * 400, "not a size"),
])
def test_a_limit_that_is_none_is_said_in_one_line(calls: Path, text: str, said: str) -> None:
    code, out, err = command("call", calls, "--limit", text, "add", 1, 2)
    assert (code, out) == (1, "")
    assert said in err
    assert SENTENCE.fullmatch(err)


def test_nothing_is_reachable_without_a_mount(reader: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("secret")
    assert finished("run", "--no-mount-args", reader, tmp_path) == (0, f"cannot read {tmp_path}\n", "")
    seen = f"{Path.cwd().parts[1]}: \ncannot write\n"  # the top folder of the working directory, empty
    assert finished("run", reader, "/", "/etc/..") == (0, seen * 2, "")


def test_a_mounted_folder_is_read_and_written(reader: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    assert finished("run", "--mount", f"{tmp_path}:/data", reader, "/data") == (0, "a: content\n", "")
    assert (tmp_path / "written").read_text() == "by Go"


def test_a_folder_mounted_ro_is_only_read(reader: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    assert finished("run", "--mount", f"{tmp_path}:/data:ro", reader, "/data") == (0, "a: content\ncannot write\n", "")
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_an_argument_can_be_read_and_that_is_said(reader: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    code, out, err = finished("run", reader, tmp_path)
    assert (code, out) == (0, "a: content\ncannot write\n")
    assert err == (f"gothreads: the module may read {tmp_path}, but change nothing there (to allow that: --mount "
                   f"{tmp_path}:{tmp_path}; to prevent reading: --no-mount-args)\n")
    assert finished("run", "--mount", f"{tmp_path}:{tmp_path}", reader, tmp_path) == (0, "a: content\n", "")


def test_output_that_nobody_reads_is_no_traceback(calls: Path) -> None:
    with process("inspect", calls) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    with Path("/dev/full").open("wb") as full, process("inspect", calls, stdout=full) as running:
        assert running.stderr is not None
        assert running.stderr.read() == b"gothreads: cannot write the output: No space left on device. Free some space, or use another disk\n"
    assert running.returncode == 1


# Signals. A module shows that it is running by echoing its input, or by its output.

@pytest.fixture
def echoing(calls: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`run` of a module that is known to be running."""
    with process("run", calls, "cat", stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"x")
        running.stdin.flush()
        assert running.stdout.read(1) == b"x"
        yield running
        running.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_run_within_a_second(echoing: subprocess.Popen[bytes], number: signal.Signals, code: int) -> None:
    begin = time.monotonic()
    echoing.send_signal(number)
    assert echoing.wait(PATIENCE) == code
    assert time.monotonic() - begin < under_load(1)
    assert echoing.stderr is not None
    assert echoing.stderr.read() == b""


def test_ctrl_c_ends_a_call_that_computes_within_a_second(calls: Path) -> None:
    # write never returns, and its first byte shows that it has started.
    with process("call", calls, "write", "x", 2**31 - 1) as running:
        assert running.stderr is not None
        assert running.stderr.read(1) == b"x"  # standard output is for the result
        begin = time.monotonic()
        running.send_signal(signal.SIGINT)
        try:
            out, err = running.communicate(timeout=PATIENCE)
        finally:
            running.kill()
    assert (running.returncode, out) == (130, b"")
    assert set(err) <= {ord("x")}
    assert time.monotonic() - begin < under_load(1)


def test_ctrl_c_ends_a_build(tmp_path: Path) -> None:
    # A fake go, which signals that it has started, and hangs when told to build.
    fake, begun = tmp_path / "go", tmp_path / "begun"
    os.mkfifo(begun)
    fake.write_text(f"#!/bin/sh\n[ $1 = env ] && exec {find_go().go} \"$@\"\necho > {begun}\nexec sleep 60\n")
    fake.chmod(0o755)
    with process("build", MODULES / "calls", "--go", fake, "-o", tmp_path / "app.wasm") as running:
        begun.read_text()
        begin = time.monotonic()
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=PATIENCE) == (b"", b"")
    assert running.returncode == 130
    assert time.monotonic() - begin < under_load(1)


# Parsing and printing text.

@pytest.mark.parametrize(("text", "size"),
                         [("65536", 65536), ("512M", 512 << 20), ("1.5g", 3 << 29), ("64 KiB", 65536),
                          ("1GB", 1 << 30)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1e9", "12Q", "0x10", "1 2", "\u0661"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(MisuseError, match="--memory"):
        parse_size(text)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_of_a_modules_are_not_obeyed_by_a_terminal(tmp_path: Path, encoding: str) -> None:
    odd = "a\nb\x1b[2J\x7f\x9b31m\u202e\U0010ffff"
    module = Module(memories=[MemoryLimits(1)], types=[FuncType(b"", b"")], functions=[0], bodies=[b"\0\x0b"],
                    exports=[ExportEntry(odd, Kind.FUNC, 0)])
    (tmp_path / "odd.wasm").write_bytes(module.encode())
    for argv in (["inspect"], ["inspect", "--json"], ["call"]):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2))
        assert main([*argv, str(tmp_path / "odd.wasm"), *(["nope\x1b"] if argv == ["call"] else [])], out,
                    err) == (1 if argv == ["call"] else 0)
        said = (out.buffer.getvalue() + err.buffer.getvalue()).decode(encoding)
        assert all(letter.isprintable() or letter == "\n" for letter in said)
        if "--json" in argv:
            assert json.loads(said)["exports"][0]["name"] == odd
        else:
            assert r"a\nb\x1b[2J\x7f\x9b31m\u202e\U0010ffff" in said


def test_names_of_files_that_are_too_long_are_one_line(tmp_path: Path, calls_single: Path) -> None:
    long = "x" * 5_000
    mount = ["call", "--mount", f"{long}:/x", calls_single, "count"]
    for argv in (["inspect", long], ["call", long, "f"], ["call", f"{long}.wasm", "f"], ["build", f"./{long}"], mount):
        code, out, err = command(*argv)
        assert (code, out) == (1, "")
        assert SENTENCE.fullmatch(err), err
        assert "cannot write the output" not in err
    assert command("call", calls_single, "length", long) == (0, "5000\n", "")


def test_mounts(tmp_path: Path) -> None:
    assert (parse_mount(f"{tmp_path}:/a").read_only, parse_mount(f"{tmp_path}:/a:ro").read_only,
            parse_mount(f"{tmp_path}:/a:rw").read_only) == (
        False, True, False)


@pytest.mark.long
def test_run_begins_again_what_has_failed(same_folder: Path) -> None:
    (same_folder / "app.go").write_text("""package main

import (
	"fmt"
	"os"
)

func main() {
	before, _ := os.ReadFile("/d/runs")
	os.WriteFile("/d/runs", append(before, 'x'), 0o644)
	fmt.Println("run", len(before)+1)
	if len(before) < 2 {
		os.Exit(3)
	}
}
""")
    folder = same_folder / "data"
    folder.mkdir()
    code, out, said = finished("run", "--restart", "--mount", f"{folder}:/d", same_folder / "app.go")
    assert (code, out) == (0, "run 1\nrun 2\nrun 3\n")
    assert re.findall(r"gothreads: restart (\d), in 0\.[123] s: \S+: the module has ended: exit code 3\n",
                      said) == ["1", "2"]
    assert finished("run", "--mount", f"{folder}:/d", same_folder / "app.go")[:2] == (0, "run 4\n")
