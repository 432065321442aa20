"""Optimized code is stopped by a flag, if the main thread never runs it (as commands do), or it lets handlers run."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
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
from tests.support.interrupted_program import python
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


class Alarm(Exception):
    pass


HANDLERS = '(import "gothreads" "run_handlers" (func $handlers))'
WHERE = '(import "env" "where" (func $where))'


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    """A module that says that it lets handlers run, and does not. Exports as `spins`; `trap` traps, and `goes_on` calls
    env.where and computes for a while.
    """
    fields = {"options": {"optimize": True, "preemption": True}, "handlers": False}
    return liar(tmp_path, "threaded", fields, imports=HANDLERS + WHERE,
                more='(func (export "spin") (loop (br 0))) (func (export "where") (call $where))'
                     '(func (export "trap") unreachable)'
                     '(func (export "goes_on") (local i32) (call $where) (loop (br_if 0 (i32.ne (i32.const 500_000_000)'
                     '  (local.tee 0 (i32.add (local.get 0) (i32.const 1)))))))')


def test_trusted_code_that_lets_handlers_run_is_stopped_by_the_flag_too(tmp_path: Path) -> None:
    def stop_check(imports: str, *, preemption: bool, trust: bool | str = True) -> StopCheck:
        fields = {"options": {"optimize": True, "preemption": preemption}}
        return load(liar(tmp_path, "threaded", fields, imports=imports), trust).stop_check(main_calls=True)
    assert stop_check(HANDLERS, preemption=True) is StopCheck.FLAG
    assert stop_check("", preemption=True) is StopCheck.EPOCH
    assert stop_check(HANDLERS, preemption=False) is StopCheck.EPOCH
    assert {stop_check(HANDLERS, preemption=True, trust=trust) for trust in (False, "a digest")} == {StopCheck.EPOCH}


@contextlib.contextmanager
def flagged(module: Path, where: Callable[[], object] = lambda: None, **options: Any) -> Iterator[gothreads.App]:
    """An app that the flag stops, and that the main thread may call."""
    with gothreads.open(module, trust=True, host={"env": {"where": where}}, procs=1, **options) as app:
        assert app._stop_check is StopCheck.FLAG  # type: ignore[attr-defined]
        yield app


def when_in_call(app: gothreads.App, then: Callable[[], object]) -> threading.Thread:
    """Do something on another thread as soon as a call is in the module."""
    def run() -> None:
        wait_until(lambda: app._in_use)
        then()
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_close_ends_a_call_of_the_main_thread_that_computes_without_end(claims: Path) -> None:
    with flagged(claims) as app:
        closing = when_in_call(app, app.close)
        with pytest.raises(gothreads.AppClosed):
            app.exports.spin()
        closing.join(PATIENCE)
        assert app.state is gothreads.State.CLOSED


def test_the_trap_of_another_call_ends_it(claims: Path) -> None:
    with flagged(claims) as app:
        trapping = when_in_call(app, lambda: app.submit("trap").exception(PATIENCE))
        with pytest.raises(gothreads.GuestTrap, match="unreachable"):
            app.exports.spin()
        trapping.join(PATIENCE)


def test_what_a_host_function_raises_in_another_call_ends_it(claims: Path) -> None:
    def raises() -> None:
        raise LookupError
    with flagged(claims, raises) as app:
        raising = when_in_call(app, lambda: app.submit("where").exception(PATIENCE))
        with pytest.raises(gothreads.HostFunctionError, match="LookupError"):
            app.exports.spin()
        raising.join(PATIENCE)


def test_a_limit_on_time_ends_it(claims: Path) -> None:
    with flagged(claims, limits=gothreads.Limits(seconds=0.3)) as app, pytest.raises(gothreads.LimitExceeded):
        app.exports.spin()


def test_a_timeout_that_stops_the_module_ends_it(claims: Path) -> None:
    with flagged(claims) as app:
        with pytest.raises(gothreads.CallTimeout):
            app.exports.spin(timeout=0.1, on_timeout="stop")
        assert isinstance(app.error, gothreads.LimitExceeded)
        wait_until(lambda: not app._in_use)


FORK = """
    from tests.support.waiting import wait_until
    with gothreads.open(sys.argv[1], trust=True, host={"env": {"where": lambda: None}}, procs=1) as app:
        spinning = app.submit("spin")
        wait_until(lambda: app._in_use)
        child = os.fork()
        if not child:
            app._notes.stop()
            app.close()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        app.submit("goes_on").result()
        print(spinning.done())
    print(type(spinning.exception()).__name__)
"""


def test_the_child_of_a_fork_ends_nothing_of_its_parent(claims: Path) -> None:
    assert python(FORK, claims) == "0\nFalse\nAppClosed\n"


CTRL_C = """
    with gothreads.open(sys.argv[1], trust=True, host={"env": {"where": lambda: None}}, procs=1) as app:
        kill(1)
        try:
            app.exports.spin()
        except KeyboardInterrupt:
            print("Ctrl-C:", app.error)
"""


def test_ctrl_c_ends_it_although_its_handler_cannot_run(claims: Path) -> None:
    assert python(CTRL_C, claims) == "Ctrl-C: liar.wasm: the app was ended by Ctrl-C\n"


CAUGHT = """
    def where():
        kill(0.1)
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            time.sleep(seconds)
    with gothreads.open(sys.argv[1], trust=True, host={"env": {"where": where}}, procs=1) as app:
        for seconds in (0, 0.5):
            app.exports.goes_on()
            print(app.error)
"""


def test_a_function_of_the_program_may_catch_ctrl_c(claims: Path) -> None:
    """Nobody has looked at the request for handlers, but none is due."""
    assert python(CAUGHT, claims) == "None\nNone\n"


@pytest.mark.long
@pytest.mark.parametrize("procs", [1, 2])
@pytest.mark.parametrize(("call", "args", "debug"), [
    ("spin", (), ""), ("spin", (), "asyncpreemptoff=1"), ("hang", (), ""), ("sleep", (3_600_000,), ""), ("fib", (60,), "")])
def test_handlers_run_in_the_middle_of_a_call_that_goes_on(procs: int, call: str, args: tuple[int, ...],
                                                           debug: str) -> None:
    """The second one raises, which ends the call after a moment: it does not return."""
    handled = []

    def alarm(*_: object) -> None:
        handled.append(threading.get_ident())
        if len(handled) == 2:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Alarm
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with open_loaded(find(MODULES / "calls", optimize=True), procs=procs, env={"GODEBUG": debug}) as app:
            assert app._stop_check is StopCheck.FLAG  # type: ignore[attr-defined]
            signal.setitimer(signal.ITIMER_REAL, 0.1, 0.5)
            with pytest.raises(Alarm):
                getattr(app.exports, call)(*args)
            assert handled == [threading.get_ident()] * 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
