"""Pickling an app: its configuration is sent to another process, which opens an app of its own."""

from __future__ import annotations

import asyncio
import copy
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.launch import open_loaded
from tests.support.modules import built
from tests.support.waiting import PATIENCE

#: A spawned process gets nothing from this process except what is pickled.
SPAWN = multiprocessing.get_context("spawn")


def price(item: bytes) -> bytes:
    return b"%d.00" % len(item)


def ask(app: gothreads.App | gothreads.Supervised, answers: Any) -> None:
    """Runs in the other process."""
    with app:
        answers.put((os.getpid(), app.exports.count(), app.request("upper", "x"), app.options.callers,
                     app.options.wasi.args[1:]))


def add(job: tuple[gothreads.App, int]) -> int:
    app, n = job
    with app:
        return int(app.exports.add(n, n))


@pytest.fixture
def app(calls: Path) -> Iterator[gothreads.App]:
    with gothreads.open(calls, callers=5, args=["one"]) as opened:
        yield opened


def again(app: Any) -> Any:
    return pickle.loads(pickle.dumps(app))


def test_a_spawned_process_opens_an_app_of_its_own(app: gothreads.App) -> None:
    assert app.exports.count() == 1
    answers = SPAWN.Queue()
    process = SPAWN.Process(target=ask, args=(app, answers))
    process.start()
    pid, count, upper, callers, args = answers.get(timeout=PATIENCE)
    process.join(PATIENCE)
    assert (process.exitcode, count, upper, callers, args) == (0, 1, b"X", 5, ["one"])
    assert pid != os.getpid()
    assert app.exports.count() == 2, "the two share nothing"


@pytest.mark.long
def test_a_pool_of_processes_is_handed_an_app(app: gothreads.App) -> None:
    with SPAWN.Pool(3) as pool:
        assert pool.map(add, [(app, n) for n in range(9)], chunksize=1) == [2 * n for n in range(9)]


def test_a_supervised_module_travels_with_how_it_is_supervised(calls: Path) -> None:
    answers = SPAWN.Queue()
    with gothreads.supervise(calls, backoff=gothreads.Backoff(first=3), most_restarts=2, callers=5,
                             args=["one"]) as supervised:
        process = SPAWN.Process(target=ask, args=(supervised, answers))
        process.start()
        assert answers.get(timeout=PATIENCE)[1:] == (1, b"X", 5, ["one"])
        process.join(PATIENCE)
        with again(supervised) as other:
            assert isinstance(other, gothreads.Supervised)
            assert (other._policy.backoff, other._policy.most_restarts) == (gothreads.Backoff(first=3), 2)
            assert other.exports.count() == 1


@pytest.mark.parametrize("model", ["threaded", "single", "idle", "pool"])
def test_every_model_travels(model: str, calls: Path, calls_single: Path) -> None:
    with gothreads.open(calls if model == "threaded" else calls_single, model=model) as app, again(app) as other:
        assert other.model == model
        assert other.exports.add(2, 3) == 5


def test_one_that_is_closed_travels_as_well(app: gothreads.App) -> None:
    app.close()
    with again(app) as other:
        assert other.exports.add(2, 3) == 5


def test_one_that_has_travelled_travels_on(app: gothreads.App) -> None:
    with again(app) as first, again(first) as second:
        assert second.exports.add(2, 3) == 5


def test_paths_are_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "data").mkdir()
    (here / "app.wasm").write_bytes(calls.read_bytes())
    monkeypatch.chdir(here)
    with gothreads.open("app.wasm", mounts={"/d": "data"}, listen=["unix:s"]) as app:
        content = pickle.dumps(app)
    with gothreads.open("app.wasm", mounts=[gothreads.Mount(Path("data"), "/d", read_only=True)]) as app:
        with_mounts = pickle.dumps(app)
    monkeypatch.chdir(there)
    with pickle.loads(content) as other:
        assert other.exports.add(2, 3) == 5
        assert [mount.host for mount in other.options.wasi.mounts] == [here / "data"]
        assert other.options.listen == (f"unix:{here / 's'}",)
    with pickle.loads(with_mounts) as other:
        assert other.options.wasi.mounts == [gothreads.Mount(here / "data", "/d", read_only=True)]


def test_functions_that_a_module_has_travel(tmp_path: Path) -> None:
    with gothreads.open(built("talk"), handlers={"price": price}) as app, again(app) as other:
        assert dict(other.options.handlers) == {"price": price}


LOOP = asyncio.new_event_loop()


def _nested() -> Any:
    def inner(n: int) -> int:
        return n
    return inner


@pytest.mark.parametrize(("options", "named"), [
    ({"stdout": io.BytesIO()}, "its option stdout=.* is a file object of this process"),
    ({"stdin": sys.__stdin__}, "its option stdin=.* is a file object of this process"),
    ({"stderr": sys.__stderr__}, "its option stderr=.* is a file object of this process"),
    ({"handlers": {"fine": price, "no": lambda p: p}},
     r"its option handlers\['no'\]=.* cannot be pickled .*has it under its name"),
    ({"handlers": {"no": _nested()}}, r"its option handlers\['no'\]=.*cannot be pickled"),
    ({"loop": LOOP}, "its option loop=.* runs in this process"),
    ({"on_stall": lambda stall: None, "stall_timeout": 60}, "its option on_stall=.* cannot be pickled"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_what_cannot_travel_is_named(calls: Path, options: dict[str, Any], named: str) -> None:
    with gothreads.open(calls, **options) as app:
        with pytest.raises(gothreads.MisuseError, match=named):
            pickle.dumps(app)
        assert app.exports.add(2, 3) == 5


def test_functions_of_a_host_that_cannot_travel_are_named() -> None:
    host = gothreads.Host()
    host.handler("no")(lambda payload: payload)
    with gothreads.open(built("talk"), host=host) as app, pytest.raises(gothreads.MisuseError,
                                                                        match=r"handlers\['no'\]"):
        pickle.dumps(app)
    functions: dict[str, Any] = {"raise": nothing, "within": int_of}
    with gothreads.supervise(built("keeps"), host={"env": functions}, on_restart=lambda restart: None) as supervised, \
            pytest.raises(gothreads.MisuseError, match="on_restart"):
        pickle.dumps(supervised)
    with gothreads.open(built("keeps"), host={"env": functions | {"within": _nested()}}) as app, \
            pytest.raises(gothreads.MisuseError, match=r"host\['env'\]\['within'\]"):
        pickle.dumps(app)


def nothing() -> None: ...


def int_of(n: int) -> int:
    return n


class Holds:
    """Has a handler, and the app that calls it: pickling one would pickle the other."""

    app: gothreads.App

    def handle(self, payload: bytes) -> bytes:
        return payload


def test_an_app_that_holds_itself_is_an_error_and_not_a_crash() -> None:
    holds = Holds()
    with gothreads.open(built("talk"), handlers={"handle": holds.handle}) as app:
        holds.app = app
        with pytest.raises(gothreads.MisuseError, match=r"handlers\['handle'\]"):
            pickle.dumps(app)


def test_an_app_is_not_copied(app: gothreads.App, calls: Path) -> None:
    with gothreads.supervise(calls) as supervised:
        for copied in (copy.copy, copy.deepcopy):
            for one in (app, supervised):
                with pytest.raises(gothreads.MisuseError, match="cannot be copied"):
                    copied(one)


def test_one_that_was_not_opened_by_gothreads_open_says_so(calls: Path) -> None:
    from gothreads.runtime.module_file import load
    with open_loaded(load(calls)) as app, pytest.raises(gothreads.MisuseError,
                                                        match=r"not opened with gothreads\.open"):
        pickle.dumps(app)


def test_what_is_missing_where_it_arrives_is_said(tmp_path: Path, calls: Path) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(calls.read_bytes())
    with gothreads.open(path) as app:
        content = pickle.dumps(app)
    path.unlink()
    with pytest.raises(gothreads.ModuleError, match="there is no file"):
        pickle.loads(content)


def test_a_typed_function_travels_with_its_app() -> None:
    app: Any
    supervised: Any
    with gothreads.open(built("typed")) as app, gothreads.supervise(built("typed")) as supervised:
        for opened in (app, supervised):
            function, options = again((opened.options_scaled, opened.types.Options(degree=2)))
            with function._caller.reduce("options_scaled")[1][0] as other:
                assert other is not opened
                assert type(other) is type(opened)
                assert function(options, 3).degree == 6


def test_a_value_of_a_module_that_is_not_open_says_what_to_do() -> None:
    app: Any
    with gothreads.open(built("typed")) as app:
        for value in (app.types.Options(n=2), app.types.Color.GREEN, app.types.ErrZero("x")):
            done = subprocess.run([sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)"],
                                  input=pickle.dumps(value), capture_output=True, check=False)
            assert done.stderr.decode().splitlines()[-1] == (
                "ModuleNotFoundError: the value is of a type of a Go module (app.types) that this process has not "
                "opened. Open the module first; or write a package of it, whose types any process imports: gothreads "
                "stubs")
