"""Go calls Python, in each model: all types, pointers, failures, concurrent calls, and recursion."""

from __future__ import annotations

import contextlib
import io
import math
import re
import threading
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.wasm.passes import waits
from tests.support.host_functions import host
from tests.support.modules import built
from tests.support.waiting import raises_within, together, wait_until

MODELS = ("threaded", "single", "idle", "pool")
SECONDS = 30.0


def opened(model: str = "threaded", *, given: gothreads.Host | None = None, **options: Any) -> gothreads.App:
    return gothreads.open(built("hostcalls", model="threaded" if model == "threaded" else "single"), model=model,
                          host=given or host(),
                          stderr=io.BytesIO(), **options)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_type_comes_as_go_declares_it(model: str) -> None:
    got: list[Any] = []

    def all_(b: bool, i: int, u: int, j: int, v: int, f: float, g: float, s: str, p: int, q: int, r: int,
             context: gothreads.Context) -> None:
        got.append((b, i, u, j, v, f, g, s, q - p, r, context.memory.read(p, 4)))
    with opened(model, given=host(all=all_)) as app:
        app.exports.all()
    assert got == [(True, -1, (1 << 32) - 1, -(1 << 62), (1 << 64) - 1, 1.5, -2.5, "größe", 2, 0xFFFFFFFE, b"\1\2\3\4")]
    assert type(got[0][0]) is bool


@pytest.mark.parametrize(("name", "values"), [
    ("bools", [True, False]),
    ("int32s", [0, -1, (1 << 31) - 1, -(1 << 31)]),
    ("uint32s", [0, (1 << 32) - 1, 1 << 31]),
    ("int64s", [0, -1, (1 << 63) - 1, -(1 << 63)]),
    ("uint64s", [0, (1 << 64) - 1, 1 << 63]),
    ("float32s", [0.5, -math.inf, 16777216.0]),
    ("float64s", [0.1, math.inf, -5e-324]),
    ("uintptrs", [0, (1 << 32) - 1]),
])
def test_results_come_back_whole(name: str, values: list[Any]) -> None:
    for model in ("threaded", "single"):
        with opened(model) as app:
            for value in values:
                result = app.exports[name](value)
                assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(("name", "result", "said"), [
    ("bools", 1, r"env\.bools returned 1; it must return bool \(Go: bool\) \(.*test_host_functions\.py, line \d+\)$"),
    ("int32s", 1 << 31,
     r"env\.int32s returned 2147483648; it must return an int from -2147483648 to 2147483647 \(Go: int32\)"),
    ("uint32s", -1, r"returned -1; .*Go: uint32\)"),
    ("uint64s", True, r"returned True; .*Go: uint64\)"),
    ("int64s", None, r"env\.int64s returned None; .*Go: int64\)"),
    ("int64s", 1.5, r"Go: int64\)"),
    ("float32s", 1e39, r"returned 1e\+39; .*Go: float32\)"),
    ("float64s", "1", r"returned '1'; .*Go: float64\)"),
])
def test_a_result_that_go_cannot_take_is_the_end_and_says_what_it_can(name: str, result: Any, said: str) -> None:
    with opened(given=host(**{name: lambda _value: result})) as app, pytest.raises(gothreads.HostFunctionError, match=said) as raised:
        app.exports[name](True if name == "bools" else 1)
    assert isinstance(raised.value.__cause__, TypeError | ValueError)


def test_text_is_str_or_bytes_as_annotated_and_what_is_not_utf8_is_replaced() -> None:
    got: list[Any] = []

    def as_bytes(text: bytes) -> int:
        got.append(text)
        return 0

    def as_text(text: Any) -> int:
        got.append(text)
        return 0
    for function in (as_bytes, as_text):
        with opened(given=host(text=function)) as app:
            for text in (b"", "größe 🐹".encode(), b"a\0b", b"caf\xe9"):
                app.exports.text(text)
    assert got == [b"", "größe 🐹".encode(), b"a\0b", b"caf\xe9", "", "größe 🐹", "a\0b", "caf\N{REPLACEMENT CHARACTER}"]


def test_what_a_function_returns_is_not_looked_at_where_go_takes_nothing(model: str) -> None:
    lines: list[str] = []

    def log(_level: int, text: str) -> int:
        lines.append(text)
        return 42
    with opened(model, given=host(log=log)) as app:
        app.exports.log(1, "a")
        app.exports.log(1, "b")
    assert lines == ["a", "b"]


def test_a_length_that_the_memory_does_not_have_is_an_error_and_nothing_is_read() -> None:
    for model in ("threaded", "single"):
        with opened(model) as app, pytest.raises(gothreads.HostFunctionError,
                                                 match="a string of 2,147,483,647 bytes; at most") as raised:
            app.exports.lie(0x7FFFFFFF)
        assert isinstance(raised.value.__cause__, gothreads.MemoryAccessError)


def test_pointers_are_addresses_in_the_contexts_memory(model: str) -> None:
    def fill(at: int, n: int, *, context: gothreads.Context) -> None:
        context.memory.write(at, bytes(i & 0xFF for i in range(n)))
    with opened(model, given=host(fill=fill)) as app:
        assert app.exports.filled(70_000)


def test_all_packages_of_a_program_import(model: str) -> None:
    with opened(model) as app:
        assert app.exports.elsewhere() == 42


def test_what_the_program_imports_from_wasi_itself_is_wasis(model: str) -> None:
    with opened(model) as app:
        assert app.exports.sync(99) == 8, "no such descriptor"


def test_a_host_serves_several_apps_each_with_its_own_context() -> None:
    apps: list[gothreads.App] = []

    def tick(context: gothreads.Context) -> None:
        apps.append(context.app)
    both = host(tick=tick)
    with opened(given=both) as one, opened("single", given=both) as other:
        one.exports.ticks(1)
        other.exports.ticks(2)
        assert apps == [one, other, other]


def test_functions_as_dicts_and_what_does_not_fit_is_said_before_anything_runs(
    capfd: pytest.CaptureFixture[str],
) -> None:
    module = built("hostcalls")
    with pytest.raises(gothreads.ModuleError,
                       match=r"env\.log is missing: func hostLog\(level int32, text string\) \(main\.go:\d+\), in "
                             r"Python: "
                                                    r"def log\(level: int, text: str\) -> None"):
        gothreads.open(module, listen=["127.0.0.1:0"])
    wrong = {module: dict(functions) for module, functions in host(log=lambda text: None).functions.items()}
    wrong["env"]["logg"] = print
    with pytest.raises(gothreads.MisuseError) as raised:
        gothreads.open(module, host=wrong)
    assert "env.log: no parameter takes 'text'" in str(raised.value)
    assert "env.logg is given, but the module does not import it" in str(raised.value)
    del wrong["env"]["logg"]
    wrong["env"] |= {"log": print, "unused": print}
    with gothreads.open(module, host=wrong) as app:
        app.exports.log(3, "printed")
    assert capfd.readouterr().out == "3 printed\n"


# Failures.

HERE = re.escape(__file__)


def broken() -> None:
    raise LookupError("disk on fire")


def test_an_exception_is_the_apps_failure_with_its_traceback_for_every_caller() -> None:
    with opened(given=host(tick=broken)) as app:
        hanging = [app.submit("hang") for _ in range(5)]
        wait_until(lambda: app.statistics().callers.in_use == 5)  # type: ignore[union-attr]
        with raises_within(gothreads.HostFunctionError, SECONDS):
            app.exports.ticks(1)
        for failed in (*[future.exception(SECONDS) for future in hanging], app.error):
            assert isinstance(failed, gothreads.HostFunctionError)
            assert re.search(rf": elsewhere\.tick, a Python function that the module called, raised LookupError: disk "
                             rf"on fire \({HERE}, line \d+\)",
                             str(failed))
            assert __file__ not in failed.message, "over HTTP, which has that only, no files are told"
            assert "in broken\n    raise LookupError" in "".join(traceback.format_exception(failed))
        with pytest.raises(gothreads.HostFunctionError):
            app.exports.bools(True)
        wait_until(lambda: app.state is gothreads.State.FAILED)


@pytest.mark.parametrize("model", ["single", "idle"])
def test_in_stock_go_too(model: str) -> None:
    with opened(model, given=host(tick=broken)) as app:
        for _ in range(2):
            with pytest.raises(gothreads.HostFunctionError, match="raised LookupError: disk on fire") as raised:
                app.exports.ticks(1)
            assert isinstance(raised.value.__cause__, LookupError)


def test_in_a_pool_only_the_call_fails_and_the_instance_is_replaced() -> None:
    with opened("pool", given=host(tick=broken), instances=1) as app:
        for _ in range(2):
            with pytest.raises(gothreads.HostFunctionError, match="raised LookupError: disk on fire"):
                app.exports.ticks(1)
        assert app.exports.bools(True) is True


def test_one_from_a_goroutine_ends_those_that_wait(model: str) -> None:
    with opened(model, given=host(tick=broken)) as app:
        future = app.submit("later")
        assert isinstance(future.exception(SECONDS), gothreads.HostFunctionError)


@pytest.mark.long
@pytest.mark.parametrize("model", ["threaded", "single"])
def test_one_from_main_ends_it(model: str) -> None:
    module = built("hostcalls", model=model, buildmode="exe")
    with pytest.raises(gothreads.HostFunctionError, match="disk on fire") as raised, \
            gothreads.open(module, host=host(tick=broken), env={"MAIN": "tick"}, stderr=io.BytesIO()) as app:
        app.wait(SECONDS)  # if the app has not ended before open returned
    assert isinstance(raised.value.__cause__, LookupError)


def test_a_coroutine_that_a_function_returns_is_refused() -> None:
    async def later() -> None: ...
    with opened(given=host(tick=lambda: later())) as app, pytest.raises(gothreads.HostFunctionError,
                                                                        match=r"elsewhere\.tick returned a coroutine"):
        app.exports.ticks(1)


def test_an_app_may_be_closed_from_inside(model: str) -> None:
    def tick(context: gothreads.Context) -> None:
        context.app.close()
    with opened(model, given=host(tick=tick)) as app:
        with raises_within(gothreads.AppClosed, SECONDS):
            app.exports.ticks(2)
        wait_until(lambda: app.state is gothreads.State.CLOSED)


# Concurrent calls.

@pytest.mark.parametrize("collecting", [False, True])
def test_host_functions_that_block_do_not_hold_processors(collecting: bool) -> None:
    """All eight calls must be inside at the same time, on two processors, or the barrier never opens."""
    barrier = threading.Barrier(8)
    with opened(given=host(wait=lambda n: barrier.wait(SECONDS)), procs=2) as app:
        app.exports.collect(collecting)
        app.exports.waits(8)
        app.exports.collect(False)


def test_calls_block_in_host_functions_while_others_run() -> None:
    inside, go_on = threading.Semaphore(0), threading.Event()

    def tick() -> None:
        inside.release()
        assert go_on.wait(SECONDS)
    with opened(given=host(tick=tick), procs=2) as app:
        blocked = [app.submit("ticks", 1) for _ in range(20)]
        for _ in blocked:
            assert inside.acquire(timeout=SECONDS)
        app.exports.collect(True)
        assert app.exports.texts(10, 20) == 200
        app.exports.collect(False)
        go_on.set()
        assert [future.result(SECONDS) for future in blocked] == [None] * 20


def test_texts_that_nothing_else_refers_to_arrive_whole_while_go_collects() -> None:
    def text(given: bytes) -> int:
        return len(given) if given == given[:1] * len(given) else 0
    with opened(given=host(text=text), procs=2) as app:
        app.exports.collect(True)
        assert together(*[lambda: app.exports.texts(10, 100)] * 3) == [1000] * 3
        app.exports.collect(False)


def test_what_only_the_arguments_of_a_call_point_to_stays_while_the_call_lasts_however_many_there_are() -> None:
    whole: list[bool] = []

    def peek(*blocks: int) -> int:
        before = app.exports.collections()
        wait_until(lambda: app.exports.collections() > before + 5, SECONDS)
        whole.extend(app.memory.read(address, 1000) == bytes([1 + i]) * 1000 for i, address in enumerate(blocks))
        return 0
    with opened(given=host(peek=peek), procs=2) as app:
        app.exports.collect(True)
        for _ in range(3):
            app.exports.peek()
        app.exports.collect(False)
    assert whole == [True] * 60


def test_many_texts_in_one_call_arrive_whole_while_go_collects() -> None:
    def wide(*texts: bytes) -> int:
        return sum(text == bytes([ord("a") + i]) * 2000 for i, text in enumerate(texts))
    with opened(given=host(wide=wide), procs=2) as app:
        app.exports.collect(True)
        assert {app.exports.wide(2000) for _ in range(200)} == {12}
        app.exports.collect(False)


# Recursion: Go calls Python, which calls Go.

def test_a_host_function_calls_exports_ten_levels_deep(model: str) -> None:
    with opened(model) as app:
        assert app.exports.enter(10) == 10


def test_so_it_does_from_a_goroutine_while_go_collects() -> None:
    with opened(procs=2) as app:
        app.exports.collect(True)
        assert together(*[lambda: (app.exports.enter(10), app.exports.entered(10))] * 5) == [(10, 10)] * 5
        app.exports.collect(False)


@pytest.mark.parametrize("options", [{"callers": 1}, {"callers": 1, "model": "pool", "instances": 1}],
                         ids=["caller", "instance"])
def test_one_is_enough_for_any_depth(options: dict[str, Any]) -> None:
    with opened(**options) as app:
        assert together(*[lambda: app.exports.enter(10)] * 4) == [10] * 4
        callers = app.statistics().callers
        assert callers is None or (callers.total, callers.in_use) == (1, 0), "those beyond the limit are given back"


def test_from_other_threads_too_as_many_as_there_are_callers() -> None:
    def enter_elsewhere(depth: int, context: gothreads.Context) -> int:
        (result,) = together(lambda: context.app.exports.enter(depth))
        return int(result)  # type: ignore[call-overload, no-any-return]
    with opened(given=host(enter=enter_elsewhere), callers=11) as app:
        assert app.exports.enter(10) == 10
    with opened(given=host(enter=enter_elsewhere), callers=5, callers_timeout=0.05) as app, \
            pytest.raises(gothreads.HostFunctionError, match="raised CallersBusy: all 5 callers are in use"):
        app.exports.enter(10)


def test_without_end_is_an_error_that_says_so() -> None:
    most = gothreads.Limits(threads=waits.MOST_NOTES - 101)
    with opened(limits=most, callers=2) as app, pytest.raises(
            gothreads.HostFunctionError,
            match=r"raised CallersBusy: calls are nested too deep: 100 callers are in use") as raised:
        app.exports.enter(1_000_000)
    assert isinstance(raised.value.__cause__, gothreads.CallersBusy)


def test_a_call_inside_that_ends_the_module_is_the_first_cause(model: str) -> None:
    def tick(context: gothreads.Context) -> None:
        context.app.exports.lie(0x7FFFFFFF)
    with opened(model, given=host(tick=tick), **({"instances": 1} if model == "pool" else {})) as app, \
            pytest.raises(gothreads.HostFunctionError, match="a string of 2,147,483,647 bytes; at most"):
        app.exports.ticks(1)


def test_a_call_inside_that_ends_the_module_is_the_end_though_python_keeps_it_to_itself(model: str) -> None:
    kept: list[BaseException] = []

    def tick(context: gothreads.Context) -> None:
        try:
            context.app.exports.lie(0x7FFFFFFF)
        except gothreads.GuestError as error:
            kept.append(error)
    with opened(model, given=host(tick=tick), **({"instances": 1} if model == "pool" else {})) as app:
        with contextlib.suppress(gothreads.HostFunctionError) if model == "threaded" else pytest.raises(gothreads.HostFunctionError, match="at most"):
            app.exports.ticks(1)  # on threads, the inner call is in another instance, and this one may still return
        assert len(kept) == 1
        if model != "pool":
            with pytest.raises(gothreads.HostFunctionError, match="a string of 2,147,483,647 bytes; at most"):
                app.exports.bools(True)


def test_goroutines_can_be_looked_at_from_inside(model: str) -> None:
    found: list[gothreads.Goroutine] = []

    def tick(context: gothreads.Context) -> None:
        found.extend(context.app.goroutines(SECONDS))
    with opened(model, given=host(tick=tick)) as app:
        app.exports.ticks(1)
    # In stock Go the goroutine that takes the listing is the one that called Python, and is left out.
    assert any("main.ticks" in goroutine.stack for goroutine in found) == (model == "threaded")


def test_what_inits_call_cannot_call_exports_yet_and_says_so(model: str) -> None:
    with pytest.raises(gothreads.HostFunctionError,
                       match="raised NotCallable: .* while Go's packages are initialised cannot call exports yet"):
        opened(model, env={"INIT": "1"})
    with opened(model, given=host(enter=lambda depth: depth), env={"INIT": "1"}) as app:
        assert app.exports.bools(False) is False


def test_what_inits_call_may_call_another_app_and_so_may_main(model: str) -> None:
    with opened("pool", instances=1) as other:
        def enter(depth: int) -> int:
            return int(other.exports.enter(depth))

        def tick() -> None:
            assert other.exports.bools(False) is False
        given = host(enter=enter, tick=tick)
        with opened(model, given=given, env={"INIT": "1"}) as app:
            assert app.exports.bools(True) is True
        with opened(given=given, env={"MAIN": "tick"}) as app:
            assert app.wait(SECONDS) == 0


@pytest.mark.long
def test_an_app_may_be_closed_while_it_starts_and_is_not_freed_before_it_has_left(model: str) -> None:
    entered: list[bool] = []

    def enter(depth: int, context: gothreads.Context) -> int:
        entered.append(True)
        if len(entered) == (2 if model == "pool" else 1):
            context.app.close()
            with pytest.raises(TimeoutError):
                context.app.wait(0.5)
        return depth
    with pytest.raises(gothreads.AppClosed):
        opened(model, given=host(enter=enter), env={"INIT": "1"}, **({"instances": 3} if model == "pool" else {}))
    assert len(entered) == (2 if model == "pool" else 1)


def test_fifty_rounds_of_everything_at_once() -> None:
    barrier = threading.Barrier(4)
    with opened(given=host(wait=lambda n: barrier.wait(SECONDS)), procs=2) as app:
        e = app.exports
        e.collect(True)
        for _ in range(50):
            assert together(partial(e.texts, 4, 10), partial(e.waits, 4), partial(e.enter, 5), partial(e.entered, 5),
                            partial(e.wide, 50)) == [
                40, None, 5, 5, 600]
        e.collect(False)


def test_the_command_line_says_that_functions_come_from_python(capsys: pytest.CaptureFixture[str],
                                                               tmp_path: Path) -> None:
    from gothreads.cli.main import main
    module = tmp_path / "app.wasm"
    module.write_bytes(built("hostcalls").read_bytes())
    for command in ("run", "call"):
        assert main([command, str(module), *(["bools", "true"] if command == "call" else [])]) == 1
        said = capsys.readouterr().err
        assert "env.log is missing: func hostLog(level int32, text string)" in said
        assert "Functions come from Python: gothreads.open(..., host={" in said
        assert "Traceback" not in said
    assert main(["inspect", str(module)]) == 0
    assert "needs from Python: elsewhere.twice: func Twice(n int32) int32\n" in capsys.readouterr().out
