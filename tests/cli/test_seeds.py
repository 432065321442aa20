"""`gothreads test --simulate` and `--seeds`."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

import gothreads
from gothreads.build.test_program import Rewriting
from gothreads.cli.go_test import command, options
from gothreads.cli.go_tools import Tools
from gothreads.cli.seeds import parse_seeds, search
from tests.cli.conftest import folder_named
from tests.support import timeouts

CACHE = """package cached

import "sync"

type Cache struct {
	mu     sync.Mutex
	values map[string]int
	made   int
}

func (c *Cache) Get(key string) int {
	c.mu.Lock()
	value, there := c.values[key]
	c.mu.Unlock()
	if there {
		return value
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	c.values[key] = len(key)
	return len(key)
}
"""
TESTS = """package cached

import (
	"os"
	"sync"
	"testing"
	"time"
)

func TestMadeOnce(t *testing.T) {
	cache := Cache{values: map[string]int{}}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { cache.Get("a") })
	}
	wg.Wait()
	if cache.made != 1 {
		t.Errorf("made %d times", cache.made)
	}
}

func TestFolder(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(folder+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("cache.go"); err != nil {
		t.Fatal(err)
	}
	t.Log(folder, time.Now())
}

func TestDeadlock(t *testing.T) {
	time.Sleep(20 * time.Minute) // more than the time limit of go test
	<-make(chan int)
}
"""


@pytest.mark.long
def test_seeds_are_tried_until_a_test_fails_which_one_of_them_repeats() -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", *words], cwd=folder, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    with folder_named("cached") as folder:
        (folder / "go.mod").write_text("module cached\n\ngo 1.25\n")
        (folder / "cache.go").write_text(CACHE)
        (folder / "cache_test.go").write_text(TESTS)
        with timeouts.paused():
            found = run("gothreads", "test", "--seeds", "1..1000", "-run", "MadeOnce", ".")
        assert found.returncode == 1, found.stdout
        assert "made 2 times" in found.stdout
        told = re.search(r"the run with seed (\d+) failed. To repeat it: (.*)", found.stdout)
        assert told is not None, found.stdout
        assert told[2] == f"gothreads test --simulate {told[1]} -run MadeOnce ."
        again = run(*shlex.split(told[2]))
        assert (again.returncode, "made 2 times" in again.stdout) == (1, True), again.stdout
        assert "no run has failed, with 5 seeds" in run("gothreads", "test", "--seeds", "1..5", "-run",
                                                        "Folder").stdout
        one, other = (re.findall(r"gothreads-tmp.*", run("gothreads", "test", "--simulate", "9", "-run", "Folder",
                                                         "-v").stdout) for _ in range(2))
        assert one == other != []
        assert "all goroutines are asleep - deadlock!" in run("gothreads", "test", "--simulate", "1", "-run",
                                                              "Deadlock").stdout


def test_seeds_are_read_and_refused() -> None:
    assert options(["--seeds", "3..5"]).seeds == range(3, 6)
    assert options(["--simulate=7", "./..."]).seeds == range(7, 8)
    assert options(["--simulate", "7"]).model == "single"
    assert options([]).seeds is None
    for arguments, why in ((["--seeds", "5..3"], "must not be greater"), (["--seeds", "a"], "as 1..1000"),
                           (["--seeds", "0..4294967296"], "from 0 to"), (["--simulate", "1..2"], "--seeds 1..2"),
                           (["--simulate", "1", "--seeds", "1..2"], "leave out one"), (["-seeds", "1"], "--seeds"),
                           (["--simulate", "1", "--model", "threaded"], "not the model threaded"),
                           (["--simulate", "1", "--sharpen", "1"], "only the model threaded")):
        with pytest.raises(gothreads.MisuseError, match=why):
            options(arguments)


def test_there_is_no_time_limit_unless_it_is_asked_for() -> None:
    """The timer of a limit would keep a deadlock from being one."""
    assert "-timeout=0" in command(options(["--simulate", "1"]))[0]
    assert "-timeout=0" not in command(options(["--simulate", "1", "-timeout", "5s"]))[0]
    assert "-timeout=0" not in command(options([]))[0]


def test_a_search_shows_the_run_that_failed_or_the_last_one(tmp_path: Path,
                                                            capfd: pytest.CaptureFixture[str]) -> None:
    tools = Tools(tmp_path, Rewriting())

    def run(seed: int, output: BinaryIO) -> int:
        output.write(b"seed %d\n" % seed)
        if seed == 9:
            raise KeyboardInterrupt
        return 3 * (seed == 4)
    assert search(range(1, 8), run, "again {}", str(tools.log)) == 3
    assert capfd.readouterr() == ("seed 4\n", "gothreads: the run with seed 4 failed. To repeat it: again 4\n")
    assert (tools.work().runs, tools.work().planned, tools.work().building) == (4, 4, False)
    assert search(range(5, 8), run, "again {}", os.devnull) == 0
    assert capfd.readouterr() == ("seed 7\n", "gothreads: no run has failed, with 3 seeds\n")
    with pytest.raises(KeyboardInterrupt):
        search(range(8, 12), run, "again {}", os.devnull)
    assert capfd.readouterr().err == "gothreads: the run with seed 9 was not over. To repeat it: again 9\n"


def test_a_seed_is_read_in_linear_time_and_bounded() -> None:
    with pytest.raises(gothreads.MisuseError):
        parse_seeds("--seeds", "1" * 100_000)
