"""`gothreads doctor` reports what is there and what is missing, with a fix, and exits with 1 if nothing would work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gothreads.engine import extension
from tests.support.waiting import PATIENCE


def doctor(*argv: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "gothreads", "doctor", *argv], capture_output=True, text=True, timeout=PATIENCE, env=os.environ | environment)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_machine_that_has_all() -> None:
    code, out = doctor("--json")
    found = {finding["name"]: finding for finding in json.loads(out)["findings"]}
    assert (code, json.loads(out)["ok"]) == (0, True)
    assert {name for name, finding in found.items() if finding["state"] != "ok"} <= {"calls", "cc", "processors"}
    assert (found["calls"]["words"] == "in C") == (extension.compiled is not None)
    assert "go1." in found["go"]["words"]


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out = doctor(GOTHREADS_FAST="0", GOTHREADS_GO="/nowhere/go", GOTHREADS_CACHE=str(tmp_path / "file"))
    lines = {line.split()[1]: line for line in out.splitlines()}
    assert code == 1
    assert lines["calls"].startswith("less  calls")
    assert "GOTHREADS_FAST=0" in lines["calls"]
    assert lines["go"].startswith("less  go")
    assert "pip install" in lines["go"]
    assert lines["cache"].startswith("bad   cache")
    assert str(tmp_path / "file") in lines["cache"]


@pytest.mark.parametrize("path", ["C", "ctypes"])
def test_an_app_says_how_its_calls_are_made(path: str, calls: Path) -> None:
    if path == "C" and extension.compiled is None:
        pytest.skip(f"without C: {extension.missing}")
    program = "import gothreads, sys\nwith gothreads.open(sys.argv[1]) as app:\n    print(app.exports.add(2, 3), app.statistics().call_path)"
    done = subprocess.run([sys.executable, "-c", program, str(calls)], capture_output=True, text=True, timeout=PATIENCE,
                          env=os.environ | {"GOTHREADS_FAST": "1" if path == "C" else "0"}, check=True)
    assert done.stdout.split() == ["5", path]
