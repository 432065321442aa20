"""The single model: stock Go behind the same interface, one call at a time."""

from __future__ import annotations

import io
import os
import time
from functools import partial
from pathlib import Path

import pytest

import gothreads
from gothreads.build.builder import build
from gothreads.build.request import Request
from tests.support.modules import built
from tests.support.waiting import PATIENCE, one_in_one_waiting, raises_within, together, under_load


def test_calls_from_many_threads_are_taken_one_at_a_time(calls_single: Path) -> None:
    with gothreads.open(calls_single) as app:
        assert app.model == "single"
        counts = together(*(lambda: [app.exports.count() for _ in range(50)] for _ in range(8)))
        assert sorted(n for part in counts for n in part) == list(range(1, 401))  # type: ignore[attr-defined]
        assert app.statistics().calls == 400


def test_strings_and_requests_work_as_in_the_threaded_model(calls_single: Path) -> None:
    with gothreads.open(calls_single) as app:
        assert app.exports.length("né") == 3
        assert app.request("upper", "abc") == b"ABC"
        with pytest.raises(gothreads.HandlerError, match="no: x"):
            app.request("fail", "x")
        with pytest.raises(gothreads.UnknownExport, match="it has: echo"):
            app.request("nope")
        assert app.handlers()[0] == "echo"


@pytest.mark.parametrize("model", ["single", "idle"])
def test_an_export_that_waits_for_others_is_gos_deadlock(calls_single: Path, model: str) -> None:
    with gothreads.open(calls_single, model=model, stderr=io.BytesIO()) as app:
        with pytest.raises(gothreads.GuestPanic, match="deadlock"):
            app.exports.ask(1)
        assert app.exit == 2


def test_a_deadlock_in_a_pool_ends_that_call_only(calls_single: Path) -> None:
    with gothreads.open(calls_single, model="pool", instances=1, stderr=io.BytesIO()) as app:
        with pytest.raises(gothreads.GuestPanic, match="deadlock"):
            app.exports.ask(1)
        assert app.exports.add(1, 2) == 3
        assert app.statistics().pool.replaced == 1  # type: ignore[union-attr]


def test_a_panic_and_an_exit_end_the_module(calls_single: Path) -> None:
    with gothreads.open(calls_single, stderr=io.BytesIO()) as app:
        with pytest.raises(gothreads.GuestPanic, match="nil map"):
            app.exports.panics()
        with pytest.raises(gothreads.GuestPanic):
            app.exports.add(1, 1)
    with gothreads.open(calls_single) as app, pytest.raises(gothreads.GuestExit, match="exit code 3"):
        app.exports.exits(3)


@pytest.mark.parametrize(("export", "args"), [("spin", ()), ("sleep", (3_600_000,))])
def test_close_ends_a_call_that_runs_or_sleeps_and_those_that_wait(calls_single: Path, export: str,
                                                                   args: tuple[int, ...]) -> None:
    app = gothreads.open(calls_single)
    futures = one_in_one_waiting(app, partial(app.submit, export, *args), partial(app.submit, "add", 1, 1))
    begin = time.monotonic()
    app.close()
    assert time.monotonic() - begin < under_load(0.5)
    assert all(isinstance(future.exception(PATIENCE), gothreads.AppClosed) for future in futures)


def test_sleeping_takes_as_long_as_it_says(calls_single: Path) -> None:
    with gothreads.open(calls_single) as app:
        begin = time.monotonic()
        app.exports.sleep(50)
        assert 0.05 <= time.monotonic() - begin < under_load(5)


@pytest.mark.long
def test_a_program_runs_main_and_takes_no_calls(tmp_path: Path) -> None:
    out = io.BytesIO()
    module = built("calls", model="single", buildmode="exe")
    with gothreads.open(module, args=["env", "x"], env={"NAME": "n"}, stdout=out) as app:
        assert app.wait(PATIENCE) == 0
    assert out.getvalue() == b"[x] n\n"
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as source, gothreads.open(module, args=["cat"], stdin=source,
                                                                      stdout=io.BytesIO()) as app:
        with raises_within(gothreads.NotCallable, 1):
            app.exports.add(1, 2)
        os.close(write)
        assert app.wait(PATIENCE) == 0


def test_memory_is_limited(calls_single: Path) -> None:
    with gothreads.open(calls_single, limits=gothreads.Limits(memory=32 << 20), stderr=io.BytesIO()) as app, \
            pytest.raises(gothreads.GuestPanic, match="out of memory"):
        app.exports.fill(200)


@pytest.mark.long
def test_files_are_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module files\n\ngo 1.25\n")
    (tmp_path / "main.go").write_text("""package main

import "os"

//go:wasmexport swap
func swap() bool {
	data, err := os.ReadFile("/data/in")
	return err == nil && os.WriteFile("/data/out", append(data, '!'), 0o600) == nil
}

func main() {}
""")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in").write_text("text")
    for model in ("single", "threaded"):
        with gothreads.open(build(Request(str(tmp_path), model=model, buildmode="c-shared")).path,
                            mounts={"/data": tmp_path / "data"}) as app:
            assert app.exports.swap() is True
        assert (tmp_path / "data" / "out").read_text() == "text!"
        (tmp_path / "data" / "out").unlink()


@pytest.mark.long
def test_stdin_bytes_are_read_to_the_end() -> None:
    module = built("calls", model="single", buildmode="exe")
    out = io.BytesIO()
    with gothreads.open(module, args=["cat"], stdin=b"a" * 100_000, stdout=out) as app:
        assert app.wait(PATIENCE) == 0
    assert len(out.getvalue()) == 100_000
