"""`gothreads.dask`, on real clusters of this machine: workers that are threads, and workers that are processes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

import gothreads
from gothreads.remote import apps
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

import gothreads.dask  # noqa: E402 - needs distributed

QUIET = {"distributed.admin.tick.limit": "1h", "distributed.comm.timeouts.connect": f"{PATIENCE}s",
         "distributed.worker.memory.terminate": False}


def cluster(**options: Any) -> Any:
    return distributed.LocalCluster(dashboard_address=":0", **options)


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    with (dask.config.set(QUIET), cluster(n_workers=2, threads_per_worker=1) as workers,
          distributed.Client(workers) as client):
        yield client


@pytest.fixture
def threads() -> Iterator[Any]:
    with (dask.config.set(QUIET), cluster(n_workers=2, threads_per_worker=2, processes=False) as workers,
          distributed.Client(workers) as client):
        yield client


@pytest.fixture(scope="module")
def typed() -> gothreads.Remote:
    return gothreads.remote(built("typed"))


@pytest.mark.long
def test_a_map_runs_on_workers_that_are_processes(typed: gothreads.Remote, processes: Any) -> None:
    assert list(gothreads.dask.map(typed, "add", range(3000), range(3000), on=processes)) == list(range(0, 6000, 2))
    key = typed.key
    opened = processes.run(lambda: (os.getpid(), key in apps._places))
    assert len({pid for pid, _ in opened.values()}) == 2
    assert [has for _, has in opened.values()] == [True, True], "each has opened it"
    assert os.getpid() not in dict(opened.values())


def test_workers_that_are_threads_share_an_app_which_they_close(threads: Any) -> None:
    remote = gothreads.remote(built("calls"), args=["threads"])
    counts = list(gothreads.dask.map(remote, "fib", [10] * 50, on=threads, batch=1))
    assert counts == [55] * 50
    place = apps._places[remote.key]
    assert place.users == 2, "one for each worker"
    assert gothreads.dask.map(remote, "procs", on=threads) is not None
    count = gothreads.dask.function(remote, "count", on=threads)
    assert sorted(threads.gather(threads.map(lambda _: count(), range(20), pure=False))) == list(range(1, 21))
    threads.cluster.close()
    assert remote.key not in apps._places


@pytest.mark.parametrize("end", ["cancel", "teardown"])
def test_a_worker_that_ends_while_it_opens_the_module_gives_it_back(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    remote = gothreads.remote(built("calls"), args=["ends", end])
    opens, goes_on = threading.Event(), threading.Event()

    def slowly(self: gothreads.Remote, **options: Any) -> Any:
        opens.set()
        assert goes_on.wait(PATIENCE)
        return opened(self, **options)
    opened = gothreads.Remote.open
    monkeypatch.setattr(gothreads.Remote, "open", slowly)
    plugin, worker = gothreads.dask._Module(remote), types.SimpleNamespace(state=types.SimpleNamespace(nthreads=1))

    async def ends() -> None:
        setup = asyncio.create_task(plugin.setup(worker))
        await asyncio.to_thread(opens.wait, PATIENCE)
        if end == "cancel":
            setup.cancel()
        else:
            await plugin.teardown(worker)
        goes_on.set()
        await asyncio.wait([setup])
    asyncio.run(ends())  # its end waits for the threads
    assert apps._places[remote.key].users == 0
    apps.forget(remote)


def test_bags_and_delayed(typed: gothreads.Remote, threads: Any) -> None:
    bag = pytest.importorskip("dask.bag")
    words = bag.from_sequence([b"ab", b"cd", b"ef"], npartitions=2)
    assert words.map(gothreads.dask.function(typed, "reverse", on=threads)).compute() == [b"ba", b"dc", b"fe"]
    add = dask.delayed(gothreads.dask.function(typed, "add", on=threads))
    assert add(add(1, 2), add(3, 4)).compute() == 10
    scaled = dask.delayed(gothreads.dask.function(typed, "options_scaled", on=threads))
    assert scaled(typed.types.Options(degree=2), 3).compute() == typed.types.Options(degree=6)


@pytest.mark.long
def test_errors_keep_their_types(typed: gothreads.Remote, processes: Any) -> None:
    results = gothreads.dask.map(typed, "fail", ["", "parse"], on=processes)
    assert next(results) is None
    with pytest.raises(typed.types.ParseError):
        next(results)
    fail = gothreads.dask.function(typed, "fail", on=processes)
    with pytest.raises(typed.types.ErrZero) as raised:
        dask.delayed(fail)("zero").compute()
    assert raised.value.__notes__[0].startswith("in process ")
    with pytest.raises(gothreads.GuestExit, match="7"):
        list(gothreads.dask.map(typed, "exit", [7], on=processes))
    assert list(gothreads.dask.map(typed, "add", [1], [2], on=processes)) == [3]


@pytest.mark.long
def test_a_timeout_cancels_the_context_in_go(processes: Any) -> None:
    remote = gothreads.remote(built("typed"), args=["timeout"])

    def given_up() -> bool:
        with pytest.raises(gothreads.CallTimeout):
            list(gothreads.dask.map(remote, "pause", [PATIENCE], on=processes, timeout=0.3))
        cancelled = gothreads.dask.function(remote, "cancelled", on=processes)
        return bool(sum(processes.run(cancelled).values()))
    wait_until(given_up)


@pytest.mark.long
def test_a_worker_that_is_killed_costs_no_result(typed: gothreads.Remote) -> None:
    with (dask.config.set(QUIET), cluster(n_workers=2, threads_per_worker=1) as workers,
          distributed.Client(workers) as client):
        results = gothreads.dask.map(typed, "add", range(3000), range(3000), on=client, batch=10)
        first = next(results)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        assert [first, *results] == list(range(0, 6000, 2))


def test_misuse(typed: gothreads.Remote, threads: Any) -> None:
    with pytest.raises(gothreads.MisuseError, match=r"on= takes a distributed\.Client, not 'cluster'"):
        gothreads.dask.map(typed, "add", [1], [2], on="cluster")
    with pytest.raises(gothreads.UnknownExport, match="no export 'ad'"):
        gothreads.dask.function(typed, "ad", on=threads)
    with pytest.raises(gothreads.MisuseError, match=r"takes a handle of gothreads\.remote, not 'app\.wasm'"):
        gothreads.dask.install("app.wasm", on=threads)  # type: ignore[arg-type]
