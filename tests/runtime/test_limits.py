"""Limits: what Go and Python get when a module exceeds each one, and that nothing but the module is affected.

The limits on memory and threads are tested in test_faults_table.py.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads import Limits
from gothreads.wasi.descriptor_table import FileAllowance
from gothreads.wasi.hints import Hints
from tests.support.modules import MODELS, opened
from tests.support.patient import patient
from tests.support.waiting import PATIENCE, raises_within, wait_until

LINE = b"0123456789abcde\n"


def for_ever(call: Callable[[], object]) -> None:
    while True:
        call()


@pytest.mark.parametrize("model", MODELS)
def test_output_beyond_the_limit_ends_the_module_and_all_before_it_is_there(model: str) -> None:
    out = io.BytesIO()
    with patient(model, stdout=out, limits=Limits(output=100)) as app:
        app.exports.write(3)
        with pytest.raises(gothreads.LimitExceeded, match=r"more than 100 bytes.*--limit output=SIZE, in Python Limits\(output=") as caught:
            app.exports.write(10)
        assert caught.value.code == 153
        with pytest.raises(gothreads.LimitExceeded):
            app.exports.add(1, 2)
    assert out.getvalue() == (LINE * 7)[:100]


def test_the_limit_on_output_is_of_both_streams_together_and_of_a_pool_of_all_instances() -> None:
    out = io.BytesIO()
    with patient("pool", instances=2, stdout=out, limits=Limits(output=16 * 20)) as app:
        with pytest.raises(gothreads.LimitExceeded):
            for_ever(lambda: list(app.map("write", [1, 1, 1])))
        with pytest.raises(gothreads.LimitExceeded):
            app.exports.add(1, 2)
    assert len(out.getvalue()) == 320


@pytest.mark.parametrize("model", MODELS)
def test_open_files_beyond_the_limit_are_gos_own_error(model: str, tmp_path: Path,
                                                       caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("x")
    errors = io.BytesIO()
    with patient(model, mounts={"/m": tmp_path}, stderr=errors, limits=Limits(files=20)) as app:
        opened_files = app.exports.open_files("/m/file", 100)
        assert 8 <= opened_files < 20  # the streams, the mount, and what gothreads/guest opens count too
        assert "too many open files" in errors.getvalue().decode().lower()
        assert app.exports.open_files("/m/file", 5) == 5  # the first ones were closed
        app.exports.open_files("/m/file", 100)
    [said] = caplog.messages  # once
    assert said.endswith(": the limit on files, 20, is reached. Raise it (--limit files=N, in Python Limits(files=...)), "
                         "unless the program leaks them")


def test_where_the_process_allows_no_more_files_its_limit_is_named(caplog: pytest.LogCaptureFixture) -> None:
    for most in (None, 1 << 40):
        FileAllowance(most).tell(Hints("app"))
    assert [said.partition(", most")[2] for said in caplog.messages] == [
        " of what this process may have. Raise the limit of the process (ulimit -n), unless the program leaks them"] * 2


def test_mounts_that_find_no_room_are_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(gothreads.MisuseError, match=r"the limit on files \(3\) leaves no room"):
        patient(mounts={"/m": tmp_path}, limits=Limits(files=3))


@pytest.mark.parametrize("model", MODELS)
def test_a_module_that_has_run_for_its_time_is_ended(model: str) -> None:
    begin = time.monotonic()
    with patient(model, limits=Limits(seconds=0.3)) as app:
        with pytest.raises(gothreads.LimitExceeded, match="it has run for 0.3 s") as caught:
            for_ever(lambda: app.exports.add(1, 2))
        assert caught.value.code == 124
        assert time.monotonic() - begin >= 0.3
        with raises_within(gothreads.LimitExceeded, 0.5):
            app.exports.spin()
        with pytest.raises(gothreads.LimitExceeded):
            app.wait()


def test_programs_have_a_time_too() -> None:
    with opened("patient", host={"env": {"call_again": lambda n: 0}},
                limits=Limits(seconds=0.1)) as app, pytest.raises(gothreads.LimitExceeded):
        app.wait(PATIENCE)


def test_a_limit_that_is_not_reached_changes_nothing(nothing_left: None) -> None:
    with patient(limits=Limits(seconds=3600, output=1000, files=50), stdout=io.BytesIO()) as app:
        app.exports.write(5)
        assert app.exports.add(1, 2) == 3


@pytest.mark.parametrize(("limits", "said"), [
    ({"files": 2}, "files"), ({"files": True}, "files"), ({"files": 1.5}, "files"), ({"output": -1}, "output"),
    ({"output": "1M"}, "output"),
    ({"seconds": 0}, "seconds"), ({"seconds": -1}, "seconds"), ({"seconds": "1"}, "seconds"),
    ({"seconds": float("nan")}, "seconds"),
])
def test_what_is_no_limit_is_said(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(gothreads.MisuseError, match=f"the limit on {said} must be"):
        Limits(**limits)


def test_an_exhausted_module_exhausts_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with patient() as other, patient(mounts={"/m": tmp_path}, limits=Limits(files=30, output=64, memory=64 << 20),
                                     stdout=io.BytesIO()) as app:
        app.exports.open_files("/m/file", 1000)
        with pytest.raises(gothreads.LimitExceeded):
            app.exports.write(100)
        assert other.exports.add(1, 2) == 3
        wait_until(lambda: app.state is gothreads.State.FAILED)
        assert other.state is gothreads.State.RUNNING
