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


def ran(command: list[str | Path]) -> tuple[str, list[str]]:
    """What a program prints, and the functions and lines on the stack of its panic."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"GOMAXPROCS": "1"})
    assert done.returncode == 2, done.stderr
    return done.stdout, re.findall(r"panic: .*|^\S+(?=\(.*\)$)|main\.go:\d+", done.stderr, re.MULTILINE)


def run(*options: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "gothreads", "run", *options]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 8))
def test_a_random_program_runs_as_natively(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOTHREADS_OPTIMIZE", raising=False)
    (tmp_path / "go.mod").write_text("module generated\n\ngo 1.25\n")
    (tmp_path / "main.go").write_text(program(seed))
    subprocess.run([GO, "build", "-o", tmp_path / "native", "."], cwd=tmp_path, check=True)
    out, stack = ran([tmp_path / "native"])
    assert len(set(out.splitlines())) > 20
    assert len(stack) > 4
    assert ran(run("--procs", "2", "--optimize", tmp_path)) == (out, stack)
    other = ("--model", "single", "--optimize") if seed % 2 else ("--procs", "2")
    assert ran(run(*other, tmp_path)) == (out, stack)
