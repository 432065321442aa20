"""The conformance runner: Go's own tests, really run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.crashes import Program, load, save
from conformance.plan import Run, packages, variants
from conformance.record import Record, perform
from conformance.table import Row, reason, regressions, write
from gothreads.build.toolchain import find_go
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parent.parent


def conform(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "conformance", *arguments], cwd=ROOT, capture_output=True, text=True,
                          timeout=PATIENCE)


@pytest.mark.long
def test_packages_are_run_on_both_and_not_again(tmp_path: Path) -> None:
    first = conform("container/ring", "--out", str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert "container/ring single: " in first.stderr
    assert "container/ring threaded: " in first.stderr
    assert "1 runs, 0 that pass stock and fail threaded" in first.stderr
    [path] = tmp_path.rglob("container-ring-threaded.json")
    record = Record.load(path)
    assert record is not None
    assert (record.verdict, record.count("fail")) == ("pass", 0)
    assert record.count("pass") >= 5
    again = conform("container/ring", "--out", str(tmp_path))
    assert again.returncode == 0
    assert "container/ring single: " not in again.stderr
    wrong = conform("no/such/package", "--out", str(tmp_path))
    assert wrong.returncode == 1
    assert "no/such/package" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def record(model: str, verdict: str, **tests: str) -> Record:
    return Record("p", "", model, "k", verdict, 1.0, tests,
                  {t: "skipping in short mode" for t, v in tests.items() if v == "skip"})


@pytest.mark.parametrize(("single", "threaded", "bad"), [
    (record("single", "pass", A="pass"), record("threaded", "pass", A="pass"), False),
    (record("single", "pass", A="pass"), record("threaded", "fail", A="fail"), True),
    (record("single", "pass", A="pass"), record("threaded", "build-fail"), True),
    (record("single", "fail", A="fail"), record("threaded", "fail", A="fail"), False),
    (record("single", "fail", A="fail", B="pass"), record("threaded", "fail", A="fail", B="fail"), True),
    (record("single", "fail", A="fail", B="pass"), record("threaded", "fail", A="fail"), True),
    (record("single", "pass", A="pass", B="pass"), record("threaded", "pass", A="pass"), True),
    (record("single", "pass", A="pass", B="pass"), record("threaded", "pass", A="pass", B="skip"), True),
    (record("single", "pass", A="pass"), record("threaded", "skip", A="skip"), True),
    (record("single", "pass", **{"A/0x12": "pass"}), record("threaded", "pass", **{"A/0x34": "pass"}), False),
    (None, record("threaded", "fail"), True),
    (None, record("threaded", "skip"), False),
])
def test_what_counts_as_a_regression(single: Record | None, threaded: Record, bad: bool) -> None:
    assert bool(regressions([Row(Run("p"), single, threaded)])) is bad


def test_the_table_lists_every_run_and_every_reason(tmp_path: Path) -> None:
    row = Row(Run("p"), record("single", "pass", A="pass", B="skip"),
              record("threaded", "pass", A="pass", B="pass", C="skip"))
    abort = Program("Abort", {"native": (2, ["SIGTRAP"]), "single": (134, []), "threaded": (134, [])})
    panics = Program("Panics",
                     {"native": (2, ["panic: x"]), "single": (2, ["panic: x"]), "threaded": (2, ["panic: x"])})
    hangs = Program("Hangs", {"native": (0, []), "single": (0, []), "threaded": ("timeout", [])})
    assert (abort.ok, panics.ok, hangs.ok) == (True, True, False)
    write([row], [abort, panics, hangs], find_go(), tmp_path)
    [text] = [path.read_text() for path in tmp_path.glob("*.md")]
    assert "| p | pass | pass | 2 | 1 | 1 | 1 too slow for -short, or wasm |" in text
    assert "Pass stock and fail threaded: **0**" in text
    assert "| Abort | 2 | differs, 134 | differs, 134 (a breakpoint" in text
    assert "| Panics | 2 | same | same | panic: x |" in text
    assert "| Hangs | 0 | same | **differs, timeout** |" in text
    [figures] = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert figures["runs"][0]["threaded"]["skipped"] == {"C": "skipping in short mode"}


def test_reasons_and_what_is_run() -> None:
    assert reason("skipping test: no external network on wasip1") == "need the Internet"
    assert reason("something new") == "something new"
    assert reason("") == "no reason given by the test"
    found = packages(find_go(), ["sync/..."])
    assert found == ["sync", "sync/atomic"]
    assert len({run.slug for run in variants()}) == len(variants())


def test_a_cut_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"package": "p", ')
    assert Record.load(tmp_path / "x.json") is None
    assert load(tmp_path / "x.json", "k") is None
    save(tmp_path / "y.json", "k", [Program("P", {"native": (0, ["OK"])})])
    assert load(tmp_path / "y.json", "other") is None
    assert load(tmp_path / "y.json", "k") == [Program("P", {"native": (0, ["OK"])})]


BAD = """package bad

import (
	"os"
	"testing"
	"unsafe"
)

func TestFine(t *testing.T) {}

func TestSkipped(t *testing.T) { t.Skip("not today") }

func TestSaysNo(t *testing.T) { t.Error("no") }

func TestPanics(t *testing.T) {
	if os.Getenv("BAD") == "panic" {
		panic("as asked")
	}
}

func TestTraps(t *testing.T) {
	if os.Getenv("BAD") == "trap" {
		var p uintptr = 1 << 33
		*(*int)(unsafe.Pointer(p - 8)) = 1
	}
}

func TestExits(t *testing.T) {
	if os.Getenv("BAD") == "exit" {
		os.Exit(3)
	}
}
"""


@pytest.mark.long
@pytest.mark.parametrize(("how", "failed", "said"), [
    ("", {"TestSaysNo"}, "no"),
    ("panic", {"TestSaysNo", "TestPanics"}, "panic: as asked"),
    ("trap", {"TestSaysNo", "TestTraps"}, "the module trapped"),
    ("exit", {"TestSaysNo", "TestExits"}, ""),
])
def test_what_goes_wrong_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, failed: set[str],
                                     said: str) -> None:
    (tmp_path / "go.mod").write_text("module bad\n\ngo 1.25\n")
    (tmp_path / "bad_test.go").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    run = Run(".", environment={"BAD": how})
    found = perform(run, "threaded", go=None, key="k", count=1, progress=lambda test: None)
    assert found.verdict == "fail"
    assert {test for test, verdict in found.tests.items() if verdict == "fail"} == failed
    assert found.tests["TestFine"] == "pass"
    assert found.reasons == {"TestSkipped": "not today"}
    assert said in "\n".join(line for lines in found.output.values() for line in lines)


@pytest.mark.long
def test_a_package_that_does_not_compile_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "go.mod").write_text("module bad\n\ngo 1.25\n")
    (tmp_path / "bad_test.go").write_text("package bad\n\nfunc broken() { undefined() }\n")
    monkeypatch.chdir(tmp_path)
    found = perform(Run("."), "threaded", go=None, key="k", count=1, progress=lambda test: None)
    assert (found.verdict, found.tests) == ("build-fail", {})
    assert any("undefined: undefined" in line for line in found.output[""])
