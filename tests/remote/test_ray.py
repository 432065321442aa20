"""`gothreads.ray`, on real clusters of this machine: raylets are nodes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import gothreads
from gothreads.remote import apps
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until

ray = pytest.importorskip("ray")

import gothreads.ray  # noqa: E402 - needs Ray
from stress.nodes import kill  # noqa: E402

pytestmark = [pytest.mark.long, pytest.mark.alone]  # Ray takes half a minute to start, and gives up after another

STORE = 80_000_000


@pytest.fixture(scope="module")
def typed(cluster: Any) -> gothreads.ray.Pool:
    return gothreads.ray.Pool(gothreads.remote(built("typed")))


@pytest.fixture(scope="module")
def calls(cluster: Any) -> gothreads.ray.Pool:
    return gothreads.ray.Pool(gothreads.remote(built("calls")))


def test_maps_in_order_and_out_of_order(typed: gothreads.ray.Pool) -> None:
    assert typed.workers == 2
    assert list(typed.map("add", range(3000), range(3000))) == list(range(0, 6000, 2))
    assert sorted(typed.imap_unordered("add", range(3000), range(3000))) == list(range(0, 6000, 2))
    assert asyncio.run(typed.map_async("add", range(300), range(300))) == list(range(0, 600, 2))
    assert typed.submit("add", 20, 22).result(PATIENCE) == 42
    assert not apps._places, "nothing was opened here"


def test_an_app_maps_on_a_pool(calls: gothreads.ray.Pool) -> None:
    with gothreads.open(built("calls")) as app:
        assert list(app.map("fib", range(20), on=calls)) == list(app.map("fib", range(20)))


def test_go_has_as_many_procs_as_ray_has_given(cluster: Any, calls: gothreads.ray.Pool) -> None:
    assert calls.submit("procs").result(PATIENCE) == 1
    assert gothreads.ray.Pool(gothreads.remote(built("calls")), num_cpus=2).submit("procs").result(PATIENCE) == 2


def test_a_slow_call_holds_up_no_others_out_of_order(typed: gothreads.ray.Pool) -> None:
    results = typed.imap_unordered("pause", [PATIENCE, 0.0, 0.0, 0.0], batch=1)
    assert [next(results) for _ in range(3)] == ["waited"] * 3
    results.close()  # type: ignore[attr-defined]
    assert list(typed.map("add", range(20), range(20), batch=1)) == list(range(0, 40, 2)), "on both processors"
    wait_until(lambda: free(2))


def free(cpus: int) -> bool:
    """Whether so many processors are free: nothing goes on that was cancelled."""
    return bool(ray.available_resources().get("CPU", 0) >= cpus)


def test_errors_keep_their_types(typed: gothreads.ray.Pool, calls: gothreads.ray.Pool) -> None:
    types = typed._go.types
    with pytest.raises(types.ParseError) as raised:
        list(typed.map("fail", ["", "parse"]))
    assert raised.value.__notes__[0].startswith("in process ")
    with pytest.raises(gothreads.GuestPanic) as panicked:
        calls.submit("panics").result(PATIENCE)
    assert "goroutine" in str(panicked.value)
    assert list(calls.map("add", [1], [2])) == [3]


def test_a_call_that_is_cancelled_or_late_has_its_context_cancelled(cluster: Any) -> None:
    pool = gothreads.ray.Pool(gothreads.remote(built("typed"), args=["cancel"]), num_cpus=2)  # one process

    def cancelled() -> int:
        return int(pool.submit("cancelled").result(PATIENCE))

    def late() -> bool:
        with pytest.raises(gothreads.CallTimeout):
            pool.submit("pause", PATIENCE, timeout=0.2).result(PATIENCE)
        return cancelled() == 1
    wait_until(late)

    def given_up() -> bool:
        future = pool.submit("pause", PATIENCE)
        threading.Event().wait(0.5)  # so that it has probably begun
        assert future.cancel()
        return cancelled() == 2
    wait_until(given_up)


def test_the_end_of_an_awaited_map_is_the_end_of_the_map(typed: gothreads.ray.Pool) -> None:
    async def end() -> None:
        task = asyncio.create_task(typed.map_async("pause", [PATIENCE] * 2, batch=1))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    asyncio.run(end())
    wait_until(lambda: free(2))


def test_a_node_that_is_killed_in_the_middle_of_a_map_costs_no_result(cluster: Any,
                                                                      typed: gothreads.ray.Pool) -> None:
    node = cluster.add_node(num_cpus=2, object_store_memory=STORE)
    cluster.wait_for_nodes()
    fresh = gothreads.ray.Pool(gothreads.remote(built("typed"), args=["killed"]))
    results = fresh.map("add", range(5000), range(5000), batch=5)
    seen = [next(results) for _ in range(1000)]
    kill(node)
    assert [*seen, *results] == list(range(0, 10_000, 2))
    cluster.remove_node(node, allow_graceful=False)


def test_misuse(cluster: Any, typed: gothreads.ray.Pool) -> None:
    with pytest.raises(gothreads.UnknownExport, match="no export 'ad'"):
        typed.map("ad", [1])
    with pytest.raises(gothreads.MisuseError, match=r"takes a handle of gothreads\.remote, not 'app\.wasm'"):
        gothreads.ray.Pool("app.wasm")  # type: ignore[arg-type]
