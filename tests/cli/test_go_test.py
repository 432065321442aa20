"""`gothreads test`: runs Go's own go test on threads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gothreads
from gothreads.build.toolchain import find_go
from gothreads.cli.go_test import command, options
from gothreads.cli.main import main
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
def sums(same_folder: Path, testing: None) -> Path:
    (same_folder / "go.mod").write_text("module sums\n\ngo 1.25\n")
    (same_folder / "sums_test.go").write_text(TESTS)
    (same_folder / "data.txt").write_text("here")
    return same_folder


def test_go_tests_run_on_threads_with_gos_own_output_and_exit_codes(sums: Path) -> None:
    passed = run(sums, "-v", "-count=1")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert passed.stdout.count("--- PASS") == 4
    failed = run(sums, "-run", "Fails", "-ldflags", "-w", FAIL="1")
    assert failed.returncode == 1
    assert "as asked" in failed.stdout
    assert "--- FAIL: TestFails" in failed.stdout


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
    done = run(sums, "--model", "single", "-run", "Files", "-v", GOMAXPROCS="")
    assert done.returncode == 0, done.stdout + done.stderr
    alone = run(sums, "--model=single", "-run", "Parallel", GOMAXPROCS="")
    assert alone.returncode == 1
    assert "procs 1" in alone.stdout


def test_our_options_are_taken_out_and_the_rest_is_gos() -> None:
    chosen = options(["--model", "single", "./...", "-run", "X", "--go=/go", "-args", "--model", "y"])
    assert (chosen.model, chosen.go, chosen.rest) == ("single", "/go", ("./...", "-run", "X", "-args", "--model", "y"))
    assert not chosen.optimize
    optimizing = options(["./...", "--optimize", "--sharpen", "3"])
    assert (optimizing.optimize, optimizing.sharpen, optimizing.rest) == (True, 3, ("./...",))
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
    with pytest.raises(gothreads.MisuseError, match="--model needs a value"):
        options(["--model"])


def test_names_are_kept_in_front_of_the_users_own_linker_flags() -> None:
    assert "-ldflags=-s=false" in command(options(["."]))[0]
    assert "-ldflags=-s=false -w" in command(options(["-ldflags=-w", "."]))[0]
    assert "-s=false -w" in command(options(["-ldflags", "-w", "."]))[0]


def test_help_and_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--help"]) == 0
    assert "gothreads test -run TestServer" in capsys.readouterr().out
    assert main(["go-exec", str(tmp_path / "nothing")]) == 1
    assert "cannot read" in capsys.readouterr().err
    assert main(["go-exec", "--optimize"]) == 1
    assert "needs a file" in capsys.readouterr().err
