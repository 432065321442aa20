"""`gothreads doctor` reports what is there and what is missing, with a fix, and exits with 1 if nothing would work."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import gothreads
from gothreads.engine import extension
from gothreads.requirements import WASMTIME
from tests.support.waiting import PATIENCE


def doctor(*argv: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "gothreads", "doctor", *argv], capture_output=True, text=True,
                          timeout=PATIENCE, env=os.environ | environment)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_machine_that_has_all() -> None:
    code, out = doctor("--json", CC="")
    found = {finding["name"]: finding for finding in json.loads(out)["findings"]}
    assert (code, json.loads(out)["ok"]) == (0, True)
    assert {name for name, finding in found.items()
            if finding["state"] not in ("ok", "absent")} <= {"calls", "processors", "descriptors", "threads"}
    assert (found["calls"]["words"] == "in C") == (extension.compiled is not None)
    assert "go1." in found["go"]["words"]


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out = doctor(GOTHREADS_FAST="0", GOTHREADS_GO="/nowhere/go", GOTHREADS_CACHE=str(tmp_path / "file"))
    lines = {line.split()[1]: line for line in out.splitlines()}
    assert code == 1
    assert lines["calls"].startswith("warning  calls")
    assert "GOTHREADS_FAST=0" in lines["calls"]
    assert lines["go"].startswith("warning  go ")
    assert "pip install" in lines["go"]
    assert lines["cache"].startswith("problem  cache")
    assert str(tmp_path / "file") in lines["cache"]


def test_a_go_that_cannot_write_to_its_cache_is_a_warning_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out = doctor(GOCACHE=str(tmp_path / "file" / "cache"))
    line = next(line for line in out.splitlines() if " GOCACHE " in line)
    assert code == 0
    assert line.startswith("warning  GOCACHE")
    assert line.endswith(f"{tmp_path}/file/cache. Set GOCACHE to a folder that can be written")


def test_a_low_limit_is_a_warning_that_names_it(tmp_path: Path) -> None:
    lowered = subprocess.run(["sh", "-c", f"ulimit -n 300 && exec {sys.executable} -m gothreads doctor --json"],
                             capture_output=True, text=True,
                             timeout=60, check=True)
    found = {finding["name"]: finding for finding in json.loads(lowered.stdout)["findings"]}
    assert found["descriptors"] == {"name": "descriptors", "state": "warning", "words":
                                    "300 (ulimit -n), so serve takes fewer than 2,048 clients. Raise the hard limit to "
                                    "8,192"}
    assert found["threads"]["words"].startswith("at most ")
    assert {finding["state"] for finding in found.values()} <= {"ok", "absent", "warning"}
    assert all((finding["state"] == "absent") == finding["words"].startswith("not installed")
               for finding in found.values() if finding["state"] != "warning")


def test_the_cache_the_compiler_and_wasmtime_are_described(tmp_path: Path) -> None:
    cache, compiler = tmp_path / "cache", tmp_path / "broken-cc"
    (cache / "compiled").mkdir(mode=0o700, parents=True)
    cache.chmod(0o700)
    (cache / "compiled" / "content").write_bytes(bytes(3_000_000))
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    code, out = doctor("--json", GOTHREADS_CACHE=str(cache), CC=f"{compiler} -O2")
    words = {finding["name"]: finding["words"] for finding in json.loads(out)["findings"]}
    assert code == 0
    owner = pwd.getpwuid(os.geteuid()).pw_name
    assert words["cache"].startswith(f"{cache}, 3 MB (GOTHREADS_CACHE_LIMIT: no limit), writable, owned by {owner}")
    assert words["cc"].startswith(f"{compiler} does not work: ")
    assert f"{version('wasmtime')}, a tested version (>={WASMTIME.least},<{WASMTIME.below})" in words["wasmtime"]
    code, out = doctor("--json", GOTHREADS_CACHE=str(cache), GOTHREADS_CACHE_LIMIT="2M")
    (found,) = (finding for finding in json.loads(out)["findings"] if finding["name"] == "cache")
    assert (code, found["state"]) == (0, "warning")
    assert f"{cache}, 3 MB (GOTHREADS_CACHE_LIMIT: limit 2 MB), writable" in found["words"]
    assert "It is over its limit" in found["words"]
    assert words["gothreads"] == f"{gothreads.__version__}, in {Path(gothreads.__file__).parent}"


@pytest.mark.parametrize("path", ["C", "ctypes"])
def test_an_app_says_how_its_calls_are_made(path: str, calls: Path) -> None:
    if path == "C" and extension.compiled is None:
        pytest.skip(f"without C: {extension.missing}")
    program = ("import gothreads, sys\nwith gothreads.open(sys.argv[1]) as app:\n    print(app.exports.add(2, 3), "
               "app.statistics().call_path)")
    done = subprocess.run([sys.executable, "-c", program, str(calls)], capture_output=True, text=True, timeout=PATIENCE,
                          env=os.environ | {"GOTHREADS_FAST": "1" if path == "C" else "0"}, check=True)
    assert done.stdout.split() == ["5", path]
