"""Random programs print the same natively, on threads and with fast bodies, and panic with the same stacks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gothreads.build.toolchain import find_go
from tests.support.generated_go import program

GO = find_go().go
#: Each call of a function in these packages (main, and others) moves the goroutine's stack.
MOVING = {"GOFLAGS": " ".join(f"-gcflags={package}-d=maymorestack=runtime.mayMoreStackMove"
                              for package in ("", "reflect=", "iter=", "strconv="))}
#: What runs the program besides fast bodies on threads. Stock Go does not survive moving stacks.
OTHERS: list[tuple[tuple[str, ...], dict[str, str]]] = [
    (("--procs", "2"), {}), (("--model", "single", "--optimize"), {}), (("--procs", "2", "--optimize"), MOVING)]


def ran(command: list[str | Path], **environment: str) -> tuple[str, list[str]]:
    """What a program prints, and the functions and lines on the stack of its panic."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"GOMAXPROCS": "1"} | environment)
    assert done.returncode == 2, done.stderr
    return done.stdout, re.findall(r"panic: .*|^\S+(?=\(.*\)$)|main\.go:\d+", done.stderr, re.MULTILINE)


def run(*options: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "gothreads", "run", *options]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_random_program_runs_as_natively(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOTHREADS_OPTIMIZE", raising=False)
    (tmp_path / "go.mod").write_text("module generated\n\ngo 1.25\n")
    (tmp_path / "main.go").write_text(program(seed))
    subprocess.run([GO, "build", "-o", tmp_path / "native", "."], cwd=tmp_path, check=True)
    out, stack = ran([tmp_path / "native"])
    assert len(set(out.splitlines())) > 20
    assert len(stack) > 4
    assert ran(run("--procs", "2", "--optimize", tmp_path)) == (out, stack)
    options, environment = OTHERS[seed % 3]
    assert ran(run(*options, tmp_path), **environment) == (out, stack)
