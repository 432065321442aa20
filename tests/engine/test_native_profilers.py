"""What the system's own tools see of Go: the names of threads, and with perf=True, of functions."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gothreads.wasm.parsing import parse
from tests.support.modules import built, opened
from tests.support.waiting import wait_until

PROGRAM = """
import os, pathlib, sys, gothreads

for _ in range(2):  # the second time from the cache
    with gothreads.open(sys.argv[1], model=sys.argv[2], perf=True) as app:
        seconds = app.compile_seconds
        lines = pathlib.Path(f"/tmp/perf-{os.getpid()}.map").read_text().splitlines()
        pathlib.Path(f"/tmp/perf-{os.getpid()}.map").write_text("")
        mapped = [line.split()[-1] for line in open("/proc/self/maps") if line.rstrip().endswith(".cwasm")]
        print(seconds is None, mapped, [line.split(" ", 2)[2] for line in lines if "main." in line or "sync." in line])
"""


def names() -> list[str]:
    """The names that the system has for this process's threads."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found.append((task / "comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
    return found


def test_the_system_knows_threads_that_run_go_code_by_name() -> None:
    before = names()
    with opened("lines") as app:
        wait_until(lambda: "go-m0" in names() and any(re.fullmatch("go-m[1-9]", name) for name in names()))
        assert app.submit("filled", False).result() == 2
        assert "go-caller" in names()
        assert before[0] in names()  # the main thread keeps its own


def test_the_thread_of_a_program_on_one_thread_has_a_name_too() -> None:
    with opened("talk", "idle"):
        wait_until(lambda: "go-idle" in names())


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "single"])
def test_perf_knows_gos_names_of_functions_of_a_module_without_names(model: str, tmp_path: Path) -> None:
    module = parse(built("lines", model=model).read_bytes())
    (path := tmp_path / "lines.wasm").write_bytes(
        replace(module, customs=[custom for custom in module.customs if custom[0] != "name"]).encode())
    done = subprocess.run([sys.executable, "-c", PROGRAM, path, model], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = map(eval, (line.replace(" [", ", [") for line in done.stdout.splitlines()))
    for _, mapped, functions in (first, second):
        assert mapped == []  # perf would take other names from there
        assert {"main.fill", "main.init.0.func1", "sync.(*Mutex).Lock"} <= set(functions)
    assert second[0]
