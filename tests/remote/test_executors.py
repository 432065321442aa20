"""`gothreads.remote` and `map(on=…)`: a module in the processes of executors."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy
import pytest
import wasmtime

import gothreads
from gothreads.files import cache_folder
from gothreads.remote import apps
from gothreads.remote.batches import Batch, Outcome, run
from gothreads.remote.engines import engine_of
from gothreads.remote.mapping import Map
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until

WASM = bytes(wasmtime.wat2wasm("""(module (memory (export "memory") 1)
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"""))
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=SPAWN) as executor:
        yield executor


@pytest.fixture(scope="module")
def calls() -> gothreads.Remote:
    return gothreads.remote(built("calls"))


@pytest.fixture(scope="module")
def typed() -> gothreads.Remote:
    return gothreads.remote(built("typed"))


@pytest.fixture
def opened_here() -> Iterator[None]:
    """Apps that a test opens in this process are closed after it."""
    yield
    for key in list(apps._places):
        apps._places.pop(key).close()


def test_a_map_runs_in_other_processes_in_order(calls: gothreads.Remote, processes: Executor) -> None:
    numbers = range(3000)
    assert list(calls.map("add", numbers, itertools.repeat(1), on=processes)) == [n + 1 for n in numbers]
    assert not apps._places, "nothing was opened here"


def test_an_app_maps_on_an_executor(processes: Executor) -> None:
    with gothreads.open(built("calls")) as app:
        assert app.exports.count() == 1
        assert list(app.map("fib", range(20), on=processes)) == list(app.map("fib", range(20)))
        assert list(app.map("count", on=processes)) == []
        assert app.exports.count() == 2, "its state is its own"


def test_a_process_opens_the_module_once_and_keeps_its_state(calls: gothreads.Remote) -> None:
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        counts = [calls.submit("count", on=executor).result(PATIENCE) for _ in range(3)]
        assert counts == [1, 2, 3]
        assert pickle.loads(pickle.dumps(calls)).submit("count", on=executor).result(PATIENCE) == 4
        another = gothreads.remote(built("calls"), args=["another"])
        assert another.submit("count", on=executor).result(PATIENCE) == 1


@pytest.mark.usefixtures("opened_here")
def test_calls_go_in_batches_that_grow(calls: gothreads.Remote) -> None:
    engine = Counting()
    with ThreadPoolExecutor(2) as engine.threads:
        assert sum(Map(engine, calls.calls("add"), [range(20_000), range(20_000)]).results()) == 20_000 * 19_999
        assert engine.sizes[0] == 1
        assert max(engine.sizes) > 100
        engine.sizes.clear()
        assert len(list(Map(engine, calls.calls("add"), [range(100), range(100)], 30).results())) == 100
        assert engine.sizes == [30, 30, 30, 10]


@pytest.mark.usefixtures("opened_here")
def test_the_iterables_are_read_only_so_far_ahead(calls: gothreads.Remote) -> None:
    taken = itertools.count()
    with ThreadPoolExecutor(2) as executor:
        results = calls.map("int64s", taken, on=executor, batch=1)
        assert list(itertools.islice(results, 500)) == list(range(500))
        results.close()  # type: ignore[attr-defined]
        assert next(taken) < 500 + 2 * 16 + 2


@pytest.mark.usefixtures("opened_here")
def test_a_map_that_is_closed_before_its_first_result_sends_nothing_more(calls: gothreads.Remote) -> None:
    engine = Counting()
    with ThreadPoolExecutor(1) as engine.threads:
        goes_on = threading.Event()
        engine.threads.submit(goes_on.wait, PATIENCE)
        results = Map(engine, calls.calls("int64s"), [range(1000)], 1).results()
        sent = list(engine.sent)
        results.close()  # type: ignore[attr-defined]
        assert sent
        assert all(future.cancelled() for future in sent)
        goes_on.set()


@pytest.mark.usefixtures("opened_here")
def test_results_come_before_the_error_of_an_iterable_or_of_the_engine(calls: gothreads.Remote) -> None:
    def numbers() -> Iterator[int]:
        yield from range(7)
        raise RuntimeError("no more")
    with ThreadPoolExecutor(1) as executor:
        taken: list[int] = []
        with pytest.raises(RuntimeError, match="no more"):
            taken.extend(calls.map("int64s", numbers(), on=executor, batch=2))
        assert taken == list(range(7))
        results = calls.map("int64s", range(1000), on=executor, batch=1)
        assert next(results) == 0
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        list(results)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        calls.map("int64s", range(1000), on=executor)


@pytest.mark.usefixtures("opened_here")
def test_batches_are_told_apart_whatever_their_arguments_are(typed: gothreads.Remote) -> None:
    """Arrays have no truth value, so batches are not compared by what they have."""
    other_is_done = threading.Event()

    def first_waits(batch: Batch) -> Outcome | None:
        if batch.arguments[0][0][0] == 0:
            other_is_done.wait(PATIENCE)
        outcome = run(batch)
        other_is_done.set()
        return outcome
    engine = Counting(first_waits)
    arrays = [numpy.arange(start, start + 3, dtype=float) for start in range(4)]
    with ThreadPoolExecutor(2) as engine.threads:
        found = list(Map(engine, typed.calls("sum"), [arrays], 1, ordered=False).results())
    assert sorted(found) == [3, 6, 9, 12]


@pytest.mark.usefixtures("opened_here")
@pytest.mark.parametrize("ordered", [True, False])
def test_a_batch_costs_the_same_however_many_are_ahead(calls: gothreads.Remote, ordered: bool) -> None:
    class Looked(Future[Outcome | None]):
        looks = 0

        def done(self) -> bool:
            Looked.looks += 1
            return super().done()

    class Many(Counting):
        workers = 100

        def send(self, batch: Batch) -> Future[Outcome | None]:
            looked = Looked()
            super().send(batch).add_done_callback(lambda done: looked.set_result(done.result()))
            return looked
    engine = Many()
    with engine.threads:
        results = list(Map(engine, calls.calls("int64s"), [range(1000)], 1, ordered=ordered).results())
    assert sorted(results) == list(range(1000))
    assert Looked.looks <= 4 * len(engine.sent)


class Counting:
    """An engine of threads in this process."""

    workers, seconds = 2, 0.05

    def __init__(self, run: Callable[[Batch], Outcome | None] = run) -> None:
        self.threads, self.sizes, self.run = ThreadPoolExecutor(2), list[int](), run
        self.sent: list[Future[Outcome | None]] = []

    def send(self, batch: Batch) -> Future[Outcome | None]:
        self.sizes.append(len(batch.arguments))
        self.sent.append(self.threads.submit(self.run, pickle.loads(pickle.dumps(batch))))
        return self.sent[-1]

    def cancel(self, sent: Future[Outcome | None]) -> None:
        sent.cancel()


# What travels.

@pytest.mark.usefixtures("opened_here")
def test_a_machine_without_the_module_gets_its_content_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine, as far as its cache goes. The first batches come without the content, and again with it."""
    remote, arrived = gothreads.remote(WASM), []
    def elsewhere(batch: Batch) -> Outcome | None:
        monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path))
        arrived.append(batch.remote._module.content is not None)  # type: ignore[attr-defined]
        return run(batch)
    engine = Counting(elsewhere)
    with ThreadPoolExecutor(1) as engine.threads:
        assert list(Map(engine, remote.calls("add"), [range(200), range(200)], 10).results()) == list(range(0, 400, 2))
        assert arrived[0] is False
        assert 1 <= arrived.count(True) <= 2 * 2 * 2, "those that were on their way"
        [kept] = (tmp_path / "remote").glob("*.wasm")
        assert kept.read_bytes() == WASM
        for content in (WASM, b"damaged"):
            apps.forget(remote)
            kept.write_bytes(content)
            arrived.clear()
            assert list(Map(engine, remote.calls("add"), [[1], [2]]).results()) == [3]
            assert arrived == ([False] if content == WASM else [False, True])
            assert kept.read_bytes() == WASM


def test_other_content_than_was_sent_is_refused(calls: gothreads.Remote, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path))
    forged = calls.fetched_by(lambda content: lambda: content[:-1] + b"\0")
    with pytest.raises(gothreads.ModuleError, match="has arrived with other content than it was sent with"):
        forged.open()
    assert not list((tmp_path / "remote").glob("*.wasm"))


def test_a_package_travels_built_and_with_its_options(tmp_path: Path, processes: Executor) -> None:
    remote = gothreads.remote(Path(__file__).parents[1] / "modules" / "calls", args=["one"], procs=1)
    assert remote.name == "calls"
    assert remote.submit("procs", on=processes).result(PATIENCE) == 1
    with remote.open() as app:
        assert app.options.wasi.args == ["calls", "one"]


def test_a_file_that_has_moved_is_not_needed(tmp_path: Path, processes: Executor) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(built("calls").read_bytes())
    remote = gothreads.remote(path)
    path.unlink()
    assert list(remote.map("add", [1], [2], on=processes)) == [3]


def test_a_supervised_module_is_supervised_there(processes: Executor) -> None:
    with gothreads.supervise(built("calls"), while_down="fail") as supervised:
        assert list(supervised.map("fib", [7, 8], on=processes)) == [13, 21]
        with gothreads.remote(supervised).open() as other:
            assert isinstance(other, gothreads.Supervised)


def test_one_machine_code_is_not_sent(tmp_path: Path) -> None:
    from gothreads.cli.main import main
    file = tmp_path / "app.cwasm"
    assert main(["compile", str(built("calls")), "-o", str(file)]) == 0
    remote = gothreads.remote(file, trust=True)
    assert len(pickle.dumps(remote)) < built("calls").stat().st_size * 1.1
    with remote.open() as app:
        assert app.exports.add(2, 3) == 5


def test_what_cannot_travel_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cloudpickle", None)
    with pytest.raises(gothreads.MisuseError, match=r"its option handlers\['no'\]=.*cannot be pickled"):
        gothreads.remote(built("talk"), handlers={"no": lambda payload: payload})


def test_functions_without_a_name_travel_by_cloudpickle(processes: Executor) -> None:
    pytest.importorskip("cloudpickle")
    remote = gothreads.remote(built("talk"), handlers={"double": lambda payload: payload * 2})
    with pickle.loads(pickle.dumps(remote)).open() as app:
        assert app.options.handlers["double"](b"x") == b"xx"


# Types and errors.

def test_values_and_errors_of_typed_functions_have_their_types(typed: gothreads.Remote, processes: Executor) -> None:
    options = typed.types.Options(degree=2)
    [found] = typed.map("options_scaled", [options], [3], on=processes)
    assert (type(found), found.degree) == (typed.types.Options, 6)
    for how, kind in (("zero", typed.types.ErrZero), ("parse", typed.types.ParseError)):
        with pytest.raises(kind) as raised:
            list(typed.map("fail", [how], on=processes))
        assert type(raised.value) is kind
    with pytest.raises(gothreads.ArgumentError, match="expected int, got str") as wrong:
        list(typed.map("options_scaled", [{"degree": "two"}], [3], on=processes))
    assert wrong.value.path == "o.degree"


def test_a_panic_has_its_type_and_gos_stack_and_the_next_call_finds_a_new_app(calls: gothreads.Remote) -> None:
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        results = calls.map("exits", [7], on=executor)
        with pytest.raises(gothreads.GuestExit) as left:
            next(results)
        assert left.value.code == 7
        with pytest.raises(gothreads.GuestPanic) as panicked:
            calls.submit("panics", on=executor).result(PATIENCE)
        assert panicked.value.place.startswith("main.go:")
        assert "goroutine" in str(panicked.value), "with what nobody here has seen"
        assert f"on {os.uname().nodename}" in panicked.value.__notes__[0]
        with pytest.raises(gothreads.GuestTrap) as trapped:
            calls.submit("traps", on=executor).result(PATIENCE)
        assert trapped.value.frames
        assert calls.submit("count", on=executor).result(PATIENCE) == 1


def test_results_before_an_error_come_first_and_none_after_it(typed: gothreads.Remote, processes: Executor) -> None:
    results = typed.map("fail", ["", "", "parse", ""], on=processes, batch=4)
    assert [next(results), next(results)] == [None, None]
    with pytest.raises(typed.types.ParseError):
        next(results)
    assert list(results) == []


def test_a_result_that_cannot_travel_is_an_error_of_its_call(typed: gothreads.Remote, processes: Executor) -> None:
    with pytest.raises(gothreads.MisuseError, match="count has returned .* which cannot travel"):
        list(typed.map("count", [3], on=processes))


def test_a_module_that_does_not_start_is_an_error_of_the_map(processes: Executor) -> None:
    remote = gothreads.remote(built("calls"), limits=gothreads.Limits(memory=1 << 20))
    with pytest.raises(gothreads.GothreadsError):
        list(remote.map("add", [1], [2], on=processes))


def test_misuse_is_told_before_anything_is_sent(calls: gothreads.Remote, processes: Executor) -> None:
    with pytest.raises(gothreads.UnknownExport, match="no export 'ad'. Did you mean 'add'"):
        calls.map("ad", [1], on=processes)
    with pytest.raises(gothreads.ArgumentError, match="map takes an iterable"):
        calls.map("add", 1, on=processes)  # type: ignore[arg-type]
    with pytest.raises(gothreads.MisuseError, match="batch must be at least 1"):
        calls.map("add", [1], [1], on=processes, batch=0)
    with pytest.raises(gothreads.MisuseError, match=r"on= takes a concurrent\.futures\.Executor"):
        calls.map("add", [1], [1], on="processes")  # type: ignore[arg-type]
    with pytest.raises(gothreads.MisuseError, match="timeout must be a number"):
        calls.map("add", [1], [1], on=processes, timeout=-1)
    with gothreads.open(built("calls")) as app, pytest.raises(gothreads.MisuseError, match="was given an app"):
        gothreads.remote(app, procs=1)


# Time, and the end.

def test_a_timeout_cancels_the_context_in_go(typed: gothreads.Remote) -> None:
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        def given_up() -> bool:  # again, if it had no turn within its time
            with pytest.raises(gothreads.CallTimeout):
                typed.submit("pause", PATIENCE, on=executor, timeout=0.2).result(PATIENCE)
            return int(typed.submit("cancelled", on=executor).result(PATIENCE)) > 0
        wait_until(given_up)


def test_a_map_has_its_timeout_also_while_no_worker_is_free(calls: gothreads.Remote) -> None:
    gate = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(gate.wait)
        results = calls.map("add", range(9), range(9), on=executor, timeout=0.1)
        with pytest.raises(gothreads.CallTimeout, match=r"add has not come back within 0\.1 s"):
            next(results)
        gate.set()
    assert calls.key not in apps._places, "it was cancelled"


def test_no_batch_begins_after_the_end_of_a_map(calls: gothreads.Remote, processes: Executor) -> None:
    given = itertools.count()
    results = calls.map("int64s", given, on=processes, batch=1)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    most = next(given)
    assert list(results) == []
    assert next(given) == most + 1


def test_a_future_that_is_cancelled_is_done_for_who_waits_for_it(calls: gothreads.Remote) -> None:
    with ThreadPoolExecutor(1) as executor:
        goes_on = threading.Event()
        executor.submit(goes_on.wait, PATIENCE)
        future = calls.submit("int64s", 1, on=executor)
        assert future.cancel()
        assert futures.wait([future], PATIENCE).done == {future}
        goes_on.set()


def test_content_that_nobody_has_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lean = gothreads.remote(WASM).lean
    function = lean.function("add")
    monkeypatch.setenv("GOTHREADS_CACHE", str(tmp_path))
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(gothreads.ModuleError, match="nobody here has its content"):
            lean.submit("add", 1, 2, on=executor).result(PATIENCE)
        with pytest.raises(gothreads.ModuleError, match="nobody here has its content"):
            list(lean.map("add", [1], [2], on=executor))
    with pytest.raises(gothreads.ModuleError, match="came without its content"):
        function(1, 2)


def test_a_future_that_is_cancelled_before_its_turn_does_not_begin(typed: gothreads.Remote) -> None:
    gate = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(gate.wait)
        future = typed.submit("add", 1, 2, on=executor)
        assert future.cancel()
        gate.set()
    assert typed.key not in apps._places


def test_a_map_is_closed_from_another_thread(calls: gothreads.Remote) -> None:
    gate = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(gate.wait)
        mapped = Map(engine_of(executor), calls.calls("add"), [range(100), range(100)], 1)
        with ThreadPoolExecutor(1) as taker:
            taken = taker.submit(list, mapped.results())
            mapped.close()
            gate.set()
            assert isinstance(taken.exception(PATIENCE), CancelledError)
    assert calls.key not in apps._places


# The apps of a process.

@pytest.mark.usefixtures("opened_here")
def test_a_process_shares_one_app_and_keeps_few_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "MOST_IDLE", 2)
    remotes = [gothreads.remote(built("calls"), args=[str(n)]) for n in range(4)]
    with apps.using(remotes[0]) as first, apps.using(remotes[0]) as same:
        assert isinstance(first, gothreads.App)
        assert first is same
        others = []
        for remote in remotes[1:]:
            with apps.using(remote) as other:
                others.append(cast(gothreads.App, other))
        assert first.error is None, "it is in use"
        assert [other.error is None for other in others] == [False, True, True]
        with apps.using(remotes[1]) as again:
            assert again is not others[0]
    function: Any = pickle.loads(pickle.dumps(remotes[0].function("add")))
    assert function(2, 3) == 5
    assert function.__name__ == "add"
    apps.forget(remotes[0])
    assert isinstance(first.error, gothreads.AppClosed)


@pytest.mark.usefixtures("opened_here")
def test_many_threads_open_one_app() -> None:
    remote = gothreads.remote(built("calls"), args=["threads"])
    count = remote.function("count")
    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(lambda _: count(), range(100))) == list(range(1, 101))


def test_what_other_machines_have_sent_is_in_the_cache(calls: gothreads.Remote, processes: Executor) -> None:
    assert list(calls.map("add", [1], [2], on=processes)) == [3]
    assert (cache_folder() / "remote" / f"{calls._module.digest}.wasm").is_file()  # type: ignore[union-attr]
