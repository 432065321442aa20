"""simulate=: the same seed gives the same run."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import gothreads
from gothreads.build.builder import build
from gothreads.build.request import Request
from tests.support.modules import MODULES, built
from tests.support.waiting import PATIENCE, together

_PROGRAM = "simulated"


def program() -> Path:
    return built(_PROGRAM, model="single", buildmode="exe", simulate=True)


def ran(seed: int, *args: str) -> tuple[int, bytes]:
    """The exit code and all output."""
    output = io.BytesIO()
    try:
        with gothreads.open(program(), args=args, simulate=seed, stdout=output, stderr=output) as app:
            code = app.wait(PATIENCE)
    except gothreads.GuestExit as error:  # as early as that
        code = error.code
    return code, output.getvalue()


def first_failing(what: str) -> int:
    return next(seed for seed in range(1, 1001) if ran(seed, what)[0] != 0)


def test_the_same_seed_gives_the_same_output_and_another_seed_another() -> None:
    code, output = ran(3, "mix")
    assert code == 0, output
    assert re.search(rb"context deadline exceeded 1h0m\S+ true", output)  # and the collector has run
    assert all(one == (code, output) for one in together(*(lambda: ran(3, "mix") for _ in range(2))))
    assert ran(4, "mix")[1] != output


@pytest.mark.long
def test_it_does_so_in_other_processes_on_a_busy_machine() -> None:
    command = [sys.executable, "-m", "gothreads", "run", "--simulate", "5", str(program()), "mix"]
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        first, second = (subprocess.run(command, capture_output=True, check=True) for _ in range(2))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert first.stdout.count(b"\n") > 100
    assert (first.stdout, first.stderr) == (second.stdout, second.stderr)


def test_time_passes_at_once_when_all_wait_for_it() -> None:
    assert ran(1, "day") == (0, b"true 2000-01-01\n")


def test_a_race_in_the_logic_is_found() -> None:
    assert ran(first_failing("once"), "once") == (1, b"made 2 times\n")


@pytest.mark.long
def test_what_was_found_is_found_again_each_time() -> None:
    seed = first_failing("once")
    assert {ran(seed, "once") for _ in range(100)} == {(1, b"made 2 times\n")}


def test_a_deadlock_is_found_and_told() -> None:
    code, output = ran(first_failing("locks"), "locks")
    assert code == 2
    assert b"all goroutines are asleep - deadlock!" in output
    assert output.count(b"sync.Mutex.Lock") >= 2


def test_a_goroutine_that_waits_in_a_loop_does_not_keep_others_from_running() -> None:
    for seed in range(10):
        assert ran(seed, "spin") == (0, b"")


def test_it_ends_when_it_is_closed() -> None:
    begun = threading.Event()

    class Output(io.BytesIO):
        def write(self, data: object) -> int:
            begun.set()
            return super().write(data)  # type: ignore[arg-type]
    with gothreads.open(program(), args=["ever"], simulate=1, stdout=Output()):
        assert begun.wait(PATIENCE)


def test_what_cannot_be_simulated_is_refused(calls_single: Path) -> None:
    def refused(match: str, path: Path | None = None, **options: object) -> None:
        with pytest.raises(gothreads.MisuseError, match=match):
            gothreads.open(path or program(), **({"simulate": 1} | options))  # type: ignore[arg-type]
    refused("was not built to be simulated", calls_single)
    refused("it needs a seed", simulate=None)
    refused("not the model 'threaded'", model="threaded")
    refused("leave out listen and allow_net", listen=["127.0.0.1:0"], allow_net=["*:*"])
    refused("simulate must be a whole number from 0", simulate=-1)
    refused("simulate must be a whole number from 0", simulate=True)
    with pytest.raises(gothreads.MisuseError, match="only stock Go"):
        Request("x", simulate=True)


def test_a_package_is_built_for_it() -> None:
    with gothreads.open(Path(MODULES, _PROGRAM), args=["day"], simulate=1, stdout=io.BytesIO()) as app:
        assert (app.wait(PATIENCE), app.model) == (0, "single")
    assert build(Request(str(Path(MODULES, _PROGRAM)), "single", "exe", simulate=True)).path == program()
