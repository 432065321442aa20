"""Apps whose module's code the main thread never runs: commands open them so, and stop optimized code with a flag."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.cli.main import main
from gothreads.engine.precompiled import Precompiled
from gothreads.engine.settings import StopCheck
from gothreads.launch import find, open_loaded
from gothreads.runtime.module_file import load
from tests.support.hostile_files import liar
from tests.support.modules import MODULES
from tests.support.waiting import PATIENCE, under_load, wait_until

OPTIMIZED = {"options": {"optimize": True}, "handlers": False}


@pytest.fixture
def spins(tmp_path: Path) -> Path:
    """A module that says that it is optimized. `spin` never ends; `where` calls env.where."""
    return liar(tmp_path, "threaded", OPTIMIZED, imports='(import "env" "where" (func $where))',
                more='(func (export "spin") (loop (br 0))) (func (export "where") (call $where))')


def test_the_flag_stops_optimized_code_that_the_main_thread_does_not_run(spins: Path, tmp_path: Path) -> None:
    optimized = load(spins)
    assert optimized.stop_check(main_calls=False) is StopCheck.FLAG
    assert optimized.stop_check(main_calls=True) is StopCheck.EPOCH
    compiled = replace(optimized, precompiled=Precompiled("", b""))
    single, plain = (load(liar(tmp_path, model, {"options": options}))
                     for model, options in (("single", {"optimize": True}), ("threaded", {})))
    assert {other.stop_check(main_calls=False) for other in (compiled, single, plain)} == {StopCheck.EPOCH}


@pytest.mark.parametrize("options", [OPTIMIZED, {**OPTIMIZED, "options": {}}], ids=["flag", "epochs"])
def test_calls_on_the_main_thread_run_on_another(spins: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    def threads(opened: Callable[..., gothreads.App]) -> set[bool]:
        found: set[bool] = set()
        here = threading.get_ident()
        host = {"env": {"where": lambda: found.add(threading.get_ident() == here)}}
        with opened(host=host, procs=1) as app:
            for _ in range(5):  # by the second one there is a caller, which the fast path takes
                app.exports.where()
        return found
    module = spins.rename(tmp_path / "module.wasm") if options is OPTIMIZED else liar(
        tmp_path, "threaded", options, imports='(import "env" "where" (func $where))',
        more='(func (export "where") (call $where))')
    assert threads(lambda **given: open_loaded(load(module), main_calls=False, **given)) == {False}
    assert threads(lambda **given: gothreads.open(module, **given)) == {True}


class Alarm(Exception):
    pass


def test_signal_handlers_run_while_the_main_thread_waits_for_its_call(spins: Path) -> None:
    def alarm(*_: object) -> None:
        raise Alarm
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with open_loaded(load(spins), main_calls=False, host={"env": {"where": lambda: None}}, procs=1) as app:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Alarm):
                app.exports.spin()
            assert app.error is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_compile_fills_the_cache_for_commands_and_for_python(spins: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path / "cache"))
    assert main(["compile", str(spins)]) == 0
    host = {"env": {"where": lambda: None}}
    for main_calls in (True, False):
        with open_loaded(load(spins), main_calls=main_calls, host=host, procs=1) as app:
            assert app.compile_seconds is None


@pytest.mark.long
def test_all_that_go_may_be_doing_is_ended_by_the_flag() -> None:
    loaded = find(MODULES / "calls", optimize=True)
    assert loaded.stop_check(main_calls=False) is StopCheck.FLAG
    with open_loaded(loaded, main_calls=False) as app:
        assert app.exports.add(2, 3) == 5
        futures = [app.submit("hang") for _ in range(20)] + [app.submit("sleep", 3_600_000) for _ in range(5)]
        futures += [app.submit("spin") for _ in range(2)]
        wait_until(lambda: app.statistics().callers.in_use >= len(futures))  # type: ignore[union-attr]
        begin = time.monotonic()
        app.close()
        assert time.monotonic() - begin < under_load(0.5)
    for future in futures:
        assert isinstance(future.exception(PATIENCE), gothreads.AppClosed)
    assert app.state is gothreads.State.CLOSED
