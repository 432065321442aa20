"""The race sharpener: the same module, but threads meet at bad moments more often."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import wasmtime

import gothreads
from gothreads.build.request import Request
from gothreads.cli.main import main
from gothreads.engine.settings import new_engine
from gothreads.errors import MisuseError, ModuleError
from gothreads.wasm import atomic_operations
from gothreads.wasm.binary import Module
from gothreads.wasm.parsing import function_names, parse
from gothreads.wasm.passes.sharpen import MOST_SEED, sharpen
from gothreads.wasm.passes.threads import add_threads
from tests.support.modules import MODULES, built
from tests.support.waiting import PATIENCE


def sharpened(name: str, seed: int = 1) -> Path:
    return built(name, sharpen=seed)


@pytest.fixture(scope="module")
def threaded(linked: bytes) -> Module:
    return add_threads(parse(linked))


def test_every_atomic_and_every_park_and_wake_is_delayed(threaded: Module) -> None:
    names = function_names(sharpen(threaded, 1))
    delayed = {title.removesuffix(".plain") for title in names if title.endswith(".plain")}
    package = {title for title in names if title.removeprefix(atomic_operations.PACKAGE) in atomic_operations.BODIES
                    and title.startswith(atomic_operations.PACKAGE)}
    assert delayed == package | {"runtime.futexWait", "runtime.futexWake", "gt_setup"}
    assert len(package) > 20


def test_the_same_seed_makes_the_same_module_and_another_another(threaded: Module) -> None:
    once, again, other = (sharpen(threaded, seed).encode() for seed in (1, 1, 2))
    assert once == again != other
    wasmtime.Module.validate(new_engine(1 << 20), once)


def test_what_it_was_made_of_is_left_as_it_was(threaded: Module) -> None:
    before = threaded.encode()
    sharpen(threaded, 1)
    assert threaded.encode() == before


@pytest.mark.long
@pytest.mark.alone  # on two processors
def test_a_race_that_hardly_shows_shows() -> None:
    def twice(path: Path) -> int:
        with gothreads.open(path, procs=2) as app:
            return int(app.exports.twice(20_000))
    assert sum(twice(sharpened("racy", seed)) for seed in (1, 2)) > 4 * (twice(built("racy")) + twice(built("racy")))


@pytest.mark.long
def test_what_is_right_stays_right() -> None:
    with gothreads.open(sharpened("racy"), procs=2) as app:
        assert app.exports.counts(20_000) == 40_000
    with gothreads.open(sharpened("calls"), procs=2) as app:
        futures = [app.submit("count") for _ in range(500)]
        assert sorted(future.result(PATIENCE) for future in futures) == list(range(1, 501))
        assert [app.exports.ask(n) for n in range(50)] == [2 * n for n in range(50)]
        stuck = [app.submit("hang") for _ in range(5)]
    assert all(isinstance(future.exception(PATIENCE), gothreads.AppClosed) for future in stuck)


@pytest.mark.parametrize("seed", [-1, MOST_SEED, True, 1.5])
def test_a_seed_is_a_whole_number(seed: int) -> None:
    with pytest.raises(MisuseError, match="a whole number from 0 to"):
        Request(".", sharpen=seed)


def test_only_what_has_threads_can_be_sharpened(threaded: Module, linked: bytes) -> None:
    with pytest.raises(MisuseError, match="only the model threaded can be sharpened: in the others, Go has one thread, so there are no races"):
        Request(".", model="single", sharpen=1)
    with pytest.raises(ModuleError, match="it has no threads whose races could be widened"):
        sharpen(parse(linked), 1)
    with pytest.raises(ModuleError, match="or was stripped"):
        sharpen(replace(threaded, customs=[]), 1)


@pytest.mark.long
def test_the_command_line_builds_one_and_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "racy.wasm"
    assert main(["build", str(MODULES / "racy"), "--sharpen", "7", "-o", str(output)]) == 0
    assert main(["inspect", str(output)]) == 0
    assert "races sharpened with seed 7" in capsys.readouterr().out
    assert main(["test", "--sharpen", "many", "sync"]) == 1
    assert "--sharpen needs a whole number, not 'many'" in capsys.readouterr().err


@pytest.mark.long
def test_go_tests_run_sharpened(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module m\n\ngo 1.25\n")
    (tmp_path / "m_test.go").write_text("""package m

import (
	"sync"
	"testing"
)

func TestSum(t *testing.T) {
	var group sync.WaitGroup
	var mutex sync.Mutex
	sum := 0
	for range 8 {
		group.Go(func() {
			for range 1000 {
				mutex.Lock()
				sum++
				mutex.Unlock()
			}
		})
	}
	group.Wait()
	if sum != 8000 {
		t.Fatal(sum)
	}
}
""")
    done = subprocess.run([sys.executable, "-m", "gothreads", "test", "--sharpen", "3", "-count", "1", "."],
                          cwd=tmp_path, capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ok")
