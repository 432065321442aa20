"""examples/events: a conversation of Go and Python, stopped in the middle; every order is accounted for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from gothreads.build.toolchain import find_go
from tests.support.modules import ROOT, built
from tests.support.waiting import PATIENCE

EXAMPLE = ROOT / "examples" / "events"


@pytest.fixture(scope="module")
def compiled() -> None:
    """So that no run has to say that it compiles Go's standard library."""
    for model in ("threaded", "single"):
        built("events", model=model)


def command(*options: str) -> list[str]:
    return [sys.executable, str(EXAMPLE / "run.py"), *options]


def play(*options: str) -> dict[str, Any]:
    done = subprocess.run(command("--json", *options), capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return dict(json.loads(done.stdout))


@pytest.mark.long
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("model", ["threaded", "idle"])
def test_every_order_is_accounted_for(model: str) -> None:
    account = play("--seconds", "3", "--rate", "100", "--slowest", "1", "--model", model)
    outcomes, (closing,) = account["outcomes"], account["closing"]
    assert account["faults"] == []
    assert sum(outcomes.values()) == account["signalled"] > 50
    assert all(outcomes[verdict] > 0 for verdict in ("accepted", "refused", "withdrawn", "returned"))
    assert {verdict: closing[verdict] for verdict in outcomes
            if verdict in closing} == {v: n for v, n in outcomes.items() if v != "not taken"}
    assert closing["audits"] > 10


@pytest.mark.long
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("model", ["single", "pool"])
def test_every_order_is_accounted_for_where_the_module_stands_still_between_calls(model: str) -> None:
    account = play("--seconds", "3", "--rate", "50", "--slowest", "0.5", "--model", model)
    assert account["faults"] == []
    assert sum(account["outcomes"].values()) == account["signalled"] > 25
    assert account["outcomes"]["accepted"] > 0
    assert account["outcomes"]["returned"] > 0


@pytest.mark.long
@pytest.mark.usefixtures("compiled")
def test_answers_come_out_of_order_while_orders_exports_and_ticks_go_on() -> None:
    done = subprocess.run(command("--seconds", "3", "--rate", "30", "--slowest", "1"), capture_output=True, text=True,
                          timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    settled = [int(order) for order in re.findall(r"Go +order +(\d+) is (?:accepted|refused)", done.stdout)]
    assert settled != sorted(settled)
    audits = [int(count) for count in re.findall(r"tick: .* (\d+) audits", done.stdout)]
    assert len(audits) >= 2
    assert audits == sorted(set(audits))
    before, _, after = done.stdout.partition(" tick: ")
    assert all(re.search(what, part) for part in (before, after)
               for what in (r"order +\d+: ", r"asks: revenue", r"order +\d+ is "))


@pytest.mark.long
@pytest.mark.usefixtures("compiled")
def test_ctrl_c_closes_the_desk_and_accounts_for_every_order() -> None:
    with subprocess.Popen(command("--seconds", "1000", "--rate", "50"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            seen = ""
            while " accepted: " not in seen:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                seen += line
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    assert "Ctrl-C" in rest
    assert re.search(r" is returned: the desk has closed\n", rest)
    assert re.search(r"^\d+ orders: [1-9]\d* accepted, .* [1-9]\d* returned, \d+ not taken$", rest.splitlines()[-1])


def test_help_has_examples_and_a_wrong_option_is_said() -> None:
    done = subprocess.run(command("--help"), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0
    assert "examples:\n  python examples/events/run.py\n" in done.stdout
    done = subprocess.run(command("--rate", "0"), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert "--rate must be above 0" in done.stderr


@pytest.mark.long
@pytest.mark.usefixtures("compiled")
def test_the_desk_passes_its_own_tests() -> None:
    done = subprocess.run([find_go().go, "test", "./desk"], cwd=EXAMPLE,
                          env=os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
