"""`gothreads test`: runs Go's own go test on threads."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import gothreads
from gothreads.build.guest import named_in_copy
from gothreads.build.test_program import Rewriting
from gothreads.build.toolchain import find_go
from gothreads.cli import go_exec, go_progress
from gothreads.cli.go_test import command, options
from gothreads.cli.go_tools import Tools, Work
from gothreads.cli.main import main
from gothreads.output import progress
from gothreads.output.progress import BUILD, COMPILE, LINK
from tests.cli.conftest import folder_named
from tests.support import timeouts
from tests.support.waiting import PATIENCE, under_load

TESTS = """package sums

import (
	"os"
	"runtime"
	"sync"
	"testing"
)

func TestParallel(t *testing.T) {
	if n := runtime.GOMAXPROCS(0); n != 2 {
		t.Fatal("procs", n)
	}
	var wg sync.WaitGroup
	results := make(chan int, 100)
	for i := range 100 {
		wg.Add(1)
		go func() { defer wg.Done(); results <- i }()
	}
	wg.Wait()
	if len(results) != 100 {
		t.Fatal(len(results))
	}
}

func TestFiles(t *testing.T) {
	if data, err := os.ReadFile("data.txt"); err != nil || string(data) != "here" {
		t.Fatal(string(data), err)
	}
	if err := os.WriteFile(t.TempDir()+"/x", []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("GIVEN") != "on" {
		t.Fatal("the environment is not there")
	}
}

func TestSlow(t *testing.T) {
	if os.Getenv("SLOW") != "" {
		for { // a loop without calls
		}
	}
}

func BenchmarkSum(b *testing.B) {
	b.RunParallel(func(pb *testing.PB) {
		n := 0
		for pb.Next() {
			n++
		}
	})
}

func TestFails(t *testing.T) {
	if len(os.Args) > 0 && os.Getenv("FAIL") != "" {
		t.Fatal("as asked")
	}
}
"""


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gothreads", "test", *arguments], cwd=folder, capture_output=True,
                          text=True,
                          env=os.environ | {"GOMAXPROCS": "2", "GIVEN": "on"} | environment)


@pytest.fixture(scope="module")
def testing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Go's own packages for tests are compiled, whichever test comes first."""
    folder = tmp_path_factory.mktemp("testing")
    (folder / "go.mod").write_text("module testing\n\ngo 1.25\n")
    (folder / "some_test.go").write_text(TESTS)
    with timeouts.paused():
        run(folder, "-run", "^$")


@pytest.fixture
def sums(testing: None) -> Iterator[Path]:
    with folder_named("sums") as folder:
        (folder / "go.mod").write_text("module sums\n\ngo 1.25\n")
        (folder / "sums_test.go").write_text(TESTS)
        (folder / "data.txt").write_text("here")
        os.utime(folder / "data.txt", (1e9, 1e9))  # go test caches nothing if a file was changed seconds ago
        yield folder


@pytest.mark.long
def test_go_tests_run_on_threads_with_gos_own_output_and_exit_codes(sums: Path) -> None:
    passed = run(sums, "-v", "-count=1")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert passed.stdout.count("--- PASS") == 4
    failed = run(sums, "-run", "Fails", "-ldflags", "-w", FAIL="1")
    assert failed.returncode == 1
    assert "as asked" in failed.stdout
    assert "--- FAIL: TestFails" in failed.stdout


@pytest.mark.long
def test_unchanged_tests_are_not_run_again(sums: Path) -> None:
    mark = time.time_ns()  # an argument that no run had before, for Go's cache outlives this test

    def ran(**environment: str) -> str:
        done = run(sums, ".", "-run", f"Files|{mark}", **environment)
        return done.stdout.split("\t")[-1].split()[0] if done.returncode == 0 else done.stdout
    assert ran() != "(cached)"
    assert ran() == "(cached)"
    assert "the environment is not there" in ran(GIVEN="off")
    assert ran() == "(cached)"
    (sums / "data.txt").write_text("gone")
    assert "TestFiles" in ran()
    (sums / "data.txt").write_text("here")
    os.utime(sums / "data.txt", (1e9, 1e9))
    assert ran() == "(cached)"


@pytest.mark.parametrize(("folder", "arguments", "given"), [
    ("/tmp/go-build12/b001", ["-test.paniconexit0", "-test.timeout=10m0s", "-test.run=X"], True),
    ("/tmp/go-build12/b001", ["-test.paniconexit0", "-test.timeout=10m0s", "-test.count=1"], False),
    ("/tmp/go-build12/b001", ["-test.paniconexit0", "-test.timeout=10m0s", "file"], False),
    ("/tmp/go-build12/b001", ["-test.run=X"], False), ("/home/me", ["-test.paniconexit0"], False)])
def test_inputs_are_listed_only_where_go_test_caches(folder: str, arguments: list[str], given: bool) -> None:
    how, rest = go_exec.rewriting(["--edition", "1", f"{folder}/sums.test", *arguments])
    flags = go_exec._test_log(go_exec._Invocation(Path(rest[0]), rest[1:], how))
    assert flags == ([f"-test.testlogfile={folder}/testlog.txt"] if given else [])


@pytest.mark.long
def test_vet_runs_as_in_go_test(sums: Path) -> None:
    (sums / "wrong_test.go").write_text('package sums\n\nimport "testing"\n\n'
                                        'func TestWrong(t *testing.T) { t.Logf("%s", 5) }\n')
    found = run(sums, "-run", "^$")
    assert (found.returncode, "%s has arg 5 of wrong type int" in found.stderr) == (1, True), found
    assert run(sums, "-run", "^$", "-vet=off").returncode == 0


def test_go_mod_names_the_guest_package_for_vet_where_a_copy_will_do(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    program, work = tmp_path / "program", tmp_path / "work"
    program.mkdir()
    work.mkdir()

    def copied(go_mod: str, **environment: str) -> str | None:
        (program / "go.mod").write_text(go_mod)
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            made = named_in_copy(program, work)
        return made and made[0].read_text()
    plain = "module program\n\ngo 1.25.0\n"
    made = copied(plain)
    assert made is not None
    assert made.startswith(f"{plain}\nrequire gothreads/guest v0.0.0\nreplace gothreads/guest => ")
    package = Path(json.loads(made.rpartition(" => ")[2]))
    assert {"go.mod", "guest.go"} <= {path.name for path in package.iterdir()}
    assert copied("module program\n\ngo 1.24\n") is None
    (program / "guest").mkdir()
    (program / "guest" / "go.mod").write_text("module gothreads/guest\n")
    assert copied(f"{plain}\nreplace gothreads/guest => ./guest\n") is None
    assert copied(plain, GOWORK="/work") is None
    assert copied(plain, GOWORK="off") is not None
    (program / "vendor").mkdir()
    assert copied(plain) is None


@pytest.mark.long
def test_vet_finds_the_guest_package_without_init(sums: Path) -> None:
    (sums / "handlers.go").write_text('package sums\n\nimport "gothreads/guest"\n\nvar Names = guest.Handle\n')
    done = run(sums, "-run", "Files", ".")
    assert done.returncode == 0, done
    assert (sums / "go.mod").read_text() == "module sums\n\ngo 1.25\n"


@pytest.mark.long
def test_compiling_is_shown_and_is_not_in_the_tests_time(sums: Path) -> None:
    (sums / "fresh_test.go").write_text(f"package sums\n\nvar fresh = {time.time_ns()}\n\n"
                                        'func init() { println("fresh", fresh) }\n')
    code = f"import pty; pty.spawn([{sys.executable!r}, '-m', 'gothreads', 'test', '-run', 'Files', '.'])"
    screen = subprocess.run([sys.executable, "-c", code], cwd=sums, stdin=subprocess.DEVNULL, capture_output=True,
                            text=True, env=os.environ | {"GIVEN": "on"})
    assert re.search(r"gothreads: compiling Go packages: \d, \d+ s", screen.stdout), screen
    assert "gothreads: compiling to machine code (once for each build): " in screen.stdout
    took = re.search(r"gothreads: compiling took (\d+) s \(\d Go packages?, 1 test program\)", screen.stdout)
    ok = re.search(r"^ok +\tsums\t([\d.]+)s", screen.stdout, re.MULTILINE)
    assert took is not None, screen.stdout
    assert ok is not None, screen.stdout
    assert float(ok[1]) < float(took[1])


def test_the_script_passes_on_what_a_tool_does_and_notes_what_runs(tmp_path: Path) -> None:
    tools = Tools(tmp_path, Rewriting())
    shell, script = shlex.split(tools.flag.removeprefix("-toolexec="))

    def tool(text: str, *arguments: str) -> tuple[int, str]:
        (tmp_path / "compile").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "compile").chmod(0o700)
        done = subprocess.run([shell, script, str(tmp_path / "compile"), *arguments], capture_output=True, text=True)
        return done.returncode, done.stdout
    assert tool('echo "compile version $1"', "-V=full") == (0, "compile version -V=full\n")
    assert tools.work() == Work()
    assert tool('printf "%s|" "$@"; exit 3', "a b", "$c") == (3, "a b|$c|")
    assert tools.work() == Work(packages=1)
    assert tool(f"cat {tmp_path}/log") == (0, "+compile\n-compile\n+compile\n")
    assert tools.work() == Work(packages=2)


def test_the_progress_line_makes_room_for_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SHORT_SECONDS", 0.0)
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    read_end, write_end = os.pipe()
    with open(read_end, closefd=True) as output, open(write_end, closefd=True):
        terminal = go_progress._OnTerminal()
        terminal.tell(LINK, 0, None)
        assert screen.getvalue() == "\rgothreads: linking: 0 s"
        terminal._line.clear()
        screen.seek(0)
        screen.truncate()
        terminal.tell(BUILD, 2, None)
        shown = "gothreads: compiling Go packages: 2, 0 s"
        assert screen.getvalue() == f"\r{shown}"
        terminal.write(write_end, b"half a")
        assert screen.getvalue() == f"\r{shown}\r{' ' * len(shown)}\r"
        terminal.tell(BUILD, 3, None)
        assert screen.getvalue().count("gothreads") == 1, "the line would be drawn over the output"
        terminal.write(write_end, b" line\n")
        terminal.tell(COMPILE, 3.0, None)
        assert screen.getvalue().endswith("\rgothreads: compiling to machine code (once for each build): 3 s")
        assert output.readline() == "half a line\n"


@pytest.mark.long
def test_json_cpu_and_count_are_gos_own(sums: Path) -> None:
    done = run(sums, "-json", "-cpu", "1,2,4", "-count=2", "-run", "Files")
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(e["Action"] == "pass" and "Test" in e for e in events) == 6
    assert events[-1]["Action"] == "pass"


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "single"])
def test_tests_run_with_optimized_code(sums: Path, model: str) -> None:
    done = run(sums, "--optimize", "--model", model, "-v", "-count=1", "-run", "Files|Sum")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--- PASS: TestFiles" in done.stdout


@pytest.mark.long
def test_benchmarks_run_on_all_procs(sums: Path) -> None:
    done = run(sums, "-run", "^$", "-bench", "Sum", "-benchtime", "1000x", "-benchmem")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^BenchmarkSum-2\s+1000\s+[\d.]+ ns/op\s+\d+ B/op", done.stdout, re.MULTILINE)


@pytest.mark.long
def test_a_timeout_panics_with_the_stacks(sums: Path) -> None:
    begin = time.monotonic()
    done = run(sums, "-timeout", "2s", "-run", "Slow", SLOW="1")
    assert done.returncode == 1
    assert "panic: test timed out after 2s" in done.stdout
    assert "TestSlow" in done.stdout
    assert time.monotonic() - begin < under_load(60)


@pytest.mark.long
def test_go_exec_alone_runs_stock_go(sums: Path) -> None:
    go_exec = f"{sys.executable} -m gothreads go-exec"
    environment = os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local", "GIVEN": "on"}
    done = subprocess.run([find_go().go, "test", "-exec", go_exec, "-run", "Files", "-v", "."], cwd=sums,
                          capture_output=True, text=True, timeout=PATIENCE,
                          env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--- PASS: TestFiles" in done.stdout


@pytest.mark.long
def test_stock_go_is_the_baseline(sums: Path) -> None:
    done = run(sums, "--model", "single", "-run", "Files", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    alone = run(sums, "--model=single", "-run", "Parallel")
    assert alone.returncode == 1
    assert "procs 1" in alone.stdout


def test_our_options_are_taken_out_and_the_rest_is_gos() -> None:
    chosen = options(["--model", "single", "./...", "-run", "X", "--go=/go", "-args", "--model", "y"])
    assert (chosen.model, chosen.go, chosen.rest) == ("single", "/go", ("./...", "-run", "X", "-args", "--model", "y"))
    assert not chosen.how.optimize
    optimizing = options(["./...", "--optimize", "--sharpen", "3"])
    assert (optimizing.how, optimizing.rest) == (Rewriting(3, optimize=True), ("./...",))
    assert "go-exec --sharpen 3 --optimize" in " ".join(command(optimizing)[0])
    with pytest.raises(gothreads.MisuseError, match="no model 'x'"):
        options(["--model=x"])
    for flag in ("-race", "--race", "-fuzz=FuzzX", "-fuzz"):
        with pytest.raises(gothreads.MisuseError,
                           match=r"Go has no -(race|fuzz) for WebAssembly: .* natively, .*docs/what-works.md"):
            options(["./...", flag])
    assert options(["-race=false", "-run", "race", "-args",
                    "-race"]).rest == ("-race=false", "-run", "race", "-args", "-race")
    with pytest.raises(gothreads.MisuseError, match="sets -exec itself"):
        options(["-exec", "x"])
    with pytest.raises(gothreads.MisuseError, match=r"go test has no -optimize\. Did you mean --optimize, of gothreads"):
        options(["-optimize"])
    with pytest.raises(gothreads.MisuseError, match="--model needs a value"):
        options(["--model"])


def test_names_are_kept_in_front_of_the_users_own_linker_flags() -> None:
    assert "-ldflags=-s=false" in command(options(["."]))[0]
    assert "-ldflags=-s=false -w" in command(options(["-ldflags=-w", "."]))[0]
    assert "-s=false -w" in command(options(["-ldflags", "-w", "."]))[0]


def test_a_folder_is_a_package_as_for_other_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("stats", "sync"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.go").write_text("package x\n")
    (tmp_path / "data").mkdir()
    for given, made in [("-v stats", "-v ./stats"), ("-run stats -count=1 stats", "-run stats -count=1 ./stats"),
                        ("sync data", "sync data"), ("stats -args stats", "./stats -args stats")]:
        assert command(options(given.split()))[0][-len(made.split()):] == made.split()
    for module in (tmp_path / "own", tmp_path / "own" / "inner"):  # with a go.mod of its own
        module.mkdir()
        (module / "go.mod").write_text("module own\n\ngo 1.25\n")
        (module / "x.go").write_text("package x\n")
    (tmp_path / "go.mod").write_text("module above\n\ngo 1.25\n")
    for given, made in [("-v own", "own -v ."), ("./own/...", "own ./..."), ("own own/inner", "- ./own ./own/inner"), ("-c -o x own", "own -c -o " + str(tmp_path / "x") + " ."),
                        (f"-run own {tmp_path}/own/inner", "own/inner -run own ."), ("./stats", "- ./stats"),
                        ("./none", "- ./none"), ("sync", "- sync"), ("-v", "- -v")]:
        folder, *words = made.split()
        arguments = command(options(given.split()))[0]
        assert arguments[-len(words):] == words
        there = ["-C", str(tmp_path / folder)] if folder != "-" else ["-overlay"]
        assert arguments[2:2 + len(there)] == there
        assert (f"-outputdir={tmp_path}" in arguments) == (folder != "-")


def test_help_and_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--help"]) == 0
    assert "gothreads test -run TestServer" in capsys.readouterr().out
    assert main(["go-exec", str(tmp_path / "nothing")]) == 1
    assert "cannot read" in capsys.readouterr().err
    assert main(["go-exec", "--optimize"]) == 1
    assert "needs a file" in capsys.readouterr().err
