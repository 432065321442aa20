"""examples/models: what docs/models.md says of the four models, measured by the script that everybody can run."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.modules import ROOT, built
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.long, pytest.mark.alone]  # all four models are measured once

SCRIPT = ROOT / "examples" / "models" / "run.py"
MODELS = {"threaded", "single", "idle", "pool"}
#: What happens while nobody calls: seconds after which it did, or None.
ALONE = ("begun", "event", "timer", "answer")

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found() -> Found:
    for model in ("threaded", "single"):
        built("models", model=model)
    done = subprocess.run([sys.executable, str(SCRIPT), "--patience", "0.5", "--json"], capture_output=True, text=True,
                          timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


def where(found: Found, fact: str, value: object) -> set[str]:
    return {model for model, facts in found.items() if facts[fact] == value}


def test_main_runs_only_on_threads(found: Found) -> None:
    assert where(found, "main_runs", True) == {"threaded"}
    assert where(found, "main_runs", False) == MODELS - {"threaded"}


def test_work_in_the_background_goes_on_between_calls_or_stands_still(found: Found) -> None:
    assert min(found[model]["ticks"] for model in ("threaded", "idle")) > 50
    assert max(found[model]["ticks"] for model in ("single", "pool")) <= 5


@pytest.mark.parametrize("fact", ALONE)
def test_what_happens_while_nobody_calls(found: Found, fact: str) -> None:
    assert where(found, fact, None) == {"single", "pool"}  # where it happened once somebody called, or the script fails


def test_an_answer_takes_as_long_as_the_host_does(found: Found) -> None:
    assert all(0.3 <= found[model]["answer"] < 2 for model in ("threaded", "idle"))
    assert all(0.05 <= found[model]["timer"] < 2 for model in ("threaded", "idle"))


@pytest.mark.parametrize("fact", ["beside_computing", "beside_waiting"])
def test_a_call_waits_for_another_that_computes_or_waits_for_the_host_or_does_not(found: Found, fact: str) -> None:
    assert max(found[model][fact]
               for model in ("threaded", "pool")) < min(found[model][fact] for model in ("single", "idle"))
    assert min(found[model][fact] for model in ("single", "idle")) > 0.1


def test_a_call_returns_though_it_has_begun_something_but_where_all_of_it_is_run_first(found: Found) -> None:
    assert max(found[model]["begins"] for model in MODELS - {"idle"}) < found["idle"]["begins"]
    assert found["idle"]["begins"] > 0.1


def test_calls_meet_only_on_threads_and_share_no_state_in_a_pool(found: Found) -> None:
    assert where(found, "calls_meet", True) == {"threaded"}
    assert where(found, "shared", True) == MODELS - {"pool"}


def test_a_panic_ends_all_but_a_pool_which_loses_one_instance(found: Found) -> None:
    assert where(found, "other_call", "GuestPanic") == {"threaded"}
    assert where(found, "other_call", "returns") == MODELS - {"threaded"}
    assert where(found, "next_call", "GuestPanic") == MODELS - {"pool"}
    assert where(found, "next_call", "returns") == {"pool"}


def test_what_was_measured_is_all_there(found: Found) -> None:
    assert found.keys() == MODELS
    assert all(facts[name] > 0 for facts in found.values() for name in ("two_against_one", "opened", "call"))


def test_the_table_has_a_line_for_each_fact_and_a_column_for_each_model_that_was_asked_for() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--patience", "0.4", "--model", "single"], capture_output=True,
                          text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "models: asking single, which takes some ten seconds\n")
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["single"]
    assert len(lines) == 17
    assert lines[0].split() == ["main", "runs", "no"]


def test_a_patience_that_is_too_short_is_said() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--patience", "0.1"], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 2
    assert "--patience must be above 0.3" in done.stderr
