"""Calls, names, settings and HTTP of any kind: what the programs in stress/ try for hours, for seconds and always the
same. And that they find things.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stress import fuzz_io, fuzzing
from stress.fuzz_calls import Exports, HostFunctions, Names, Payloads
from stress.fuzz_http import Json, Raw
from stress.fuzz_open import LimitsOf, Metadata, Mounts, Settings, Shown
from stress.fuzzing import Finding, Part, Plan, attempts
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parent.parent


def outcomes(part: Part[Any], count: int, folder: Path) -> Mapping[str, int]:
    """How often each outcome occurred; fails on a finding."""
    with part:
        report = attempts(part, Plan("stress", 1, count=count, folder=folder))
    assert report.findings == []
    assert report.count == count
    return report.outcomes


def test_arguments_of_any_kind_give_the_right_result_or_are_refused(tmp_path: Path) -> None:
    found = outcomes(Exports(), 1_000, tmp_path)
    assert found["right"] > 300
    assert found["refused"] > 300


@pytest.mark.long
def test_any_calls_of_the_io_in_c_from_many_threads_do_no_harm() -> None:
    counts = fuzz_io.fuzz(5, 1)
    assert len(counts) > 15
    assert [call for call, (_, succeeded) in counts.items() if not succeeded] == []


def test_payloads_of_any_kind_come_back_or_are_refused(tmp_path: Path) -> None:
    found = outcomes(Payloads(largest=8 << 20), 100, tmp_path)
    assert found["right"] > 40
    assert found["the handler's error"] > 10


def test_64_mib_go_through_a_handler_and_come_back(tmp_path: Path) -> None:
    payload = random.Random(1).randbytes(1 << 20) * 64
    with Payloads(("threaded",)) as part:
        assert part.apps["threaded"].request("echo", payload) == payload


def test_names_of_any_kind_are_unknown_or_misuse(tmp_path: Path) -> None:
    found = outcomes(Names(), 300, tmp_path)
    assert found["request: UnknownExport"] > 20
    assert found["request: MisuseError"] + found["request: ArgumentError"] > 3


def test_results_of_host_functions_are_accepted_or_end_the_module(tmp_path: Path) -> None:
    found = outcomes(HostFunctions(("threaded", "pool")), 16, tmp_path)
    assert found["HostFunctionError"] > 3
    assert found["right"] > 3


def test_the_section_with_the_metadata_is_taken_or_refused(tmp_path: Path) -> None:
    found = outcomes(Metadata(), 400, tmp_path)
    assert found["taken"] > 10
    assert found["refused"] > 100


@pytest.mark.long
def test_no_name_controls_a_terminal_or_a_browser(tmp_path: Path) -> None:
    assert outcomes(Shown(), 25, tmp_path)["opened and shown"] > 5


@pytest.mark.long
def test_mounts_of_any_kind_are_made_or_refused(tmp_path: Path) -> None:
    found = outcomes(Mounts(), 80, tmp_path)
    assert found["taken"] > 3
    assert found["MisuseError"] > 10


@pytest.mark.long
def test_settings_of_any_kind_are_taken_or_refused(tmp_path: Path) -> None:
    assert outcomes(Settings(), 150, tmp_path)["MisuseError"] > 20
    assert outcomes(LimitsOf(), 150, tmp_path)["refused"] > 50


@pytest.mark.long
def test_no_bytes_on_a_connection_cause_a_server_error_or_end_the_server(tmp_path: Path) -> None:
    found = outcomes(Raw(), 60, tmp_path)
    assert found["200"] > 0
    assert found["422"] > 0
    assert found["400"] > 3


def test_no_json_causes_a_server_error(tmp_path: Path) -> None:
    found = outcomes(Json(), 200, tmp_path)
    assert found["200"] > 10
    assert found["422"] > 20


# The programs.

class Flawed(Part[int]):
    """A part some of whose cases fail."""

    name = "flawed"

    def make(self, choose: random.Random) -> int:
        return choose.randrange(10)

    def attempt(self, case: int) -> str:
        match case:
            case 3:
                raise Finding("a three")
            case 4:
                raise ZeroDivisionError
            case 5:
                time.sleep(1_000)
        return "well"


def test_findings_are_kept_and_can_be_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Small(Flawed):
        def make(self, choose: random.Random) -> int:
            return choose.randrange(5)
    command = ["--seed", "1", "--folder", str(tmp_path), "--json"]
    assert fuzzing.main("stress.x", [Small()], "", [*command, "--count", "30"]) == 1
    (part,) = json.loads(capsys.readouterr().out)["parts"]
    assert part["count"] == 30 == part["outcomes"]["well"] + len(part["findings"])
    assert {found["problem"].splitlines()[-1] for found in part["findings"]} == {"a three", "ZeroDivisionError"}
    first = part["findings"][0]
    assert Path(first["file"]).read_bytes() in (b"3", b"4")
    again = first["command"].removeprefix("python -m stress.x ").split()
    assert fuzzing.main("stress.x", [Small()], "", [*again, "--folder", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["parts"][0]["findings"] == [first]


def test_nothing_found_is_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Well(Flawed):
        def attempt(self, case: int) -> str:
            return "well"
    assert fuzzing.main("stress.x", [Well()], "", ["--seed", "1", "--count", "30", "--folder", str(tmp_path)]) == 0
    assert "flawed: 30 cases" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize(("attempt", "said"), [
    ("time.sleep(1000)", "it has not ended after 0.3 s"), ("b'x' * (1 << 28); time.sleep(1000)", "it has taken")])
def test_a_case_that_does_not_end_or_takes_all_memory_is_a_finding(attempt: str, said: str, tmp_path: Path) -> None:
    program = f"""
import time
from stress import fuzz_io, fuzzing
from tests.test_fuzz import Flawed
class Stuck(Flawed):
    def attempt(self, case):
        self.kept = {attempt}
fuzzing.Watch.__init__.__defaults__ = ({0.3 if "ended" in said else 60}, 1 << 27)
fuzzing.main("stress.x", [Stuck()], "", ["--seed", "1", "--count", "1", "--folder", {str(tmp_path)!r}])
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
                           check=False)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "python -m stress.x --seed 1 --only flawed --first 0 --count 1" in ended.stderr
    assert (tmp_path / "flawed-1-0").exists()
