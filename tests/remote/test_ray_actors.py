"""`gothreads.ray.actor`: state by key, which comes back with another node."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.files import cache_folder
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until

ray = pytest.importorskip("ray")

import gothreads.ray  # noqa: E402 - needs Ray
from stress.nodes import kill  # noqa: E402

pytestmark = [pytest.mark.long, pytest.mark.alone]  # Ray takes half a minute to start, and gives up after another

STORE = 80_000_000


@pytest.fixture(scope="module")
def keeps() -> gothreads.Remote:
    """Keeps a total, which it saves and loads. The names of the functions that it imports are of this module."""
    return gothreads.remote(built("keeps"), host={"env": {"raise": nothing, "within": same}})


def nothing() -> None: ...


def same(n: int) -> int:
    return n


def test_the_actor_of_a_key_is_one(cluster: Any, keeps: gothreads.Remote, tmp_path: Path) -> None:
    store = tmp_path.as_uri()
    first, second = (gothreads.ray.actor(keeps, "one/1", store=store, num_cpus=0) for _ in range(2))
    assert first.call("add", 2) == 2
    assert pickle.loads(pickle.dumps(second)).call("add", 3) == 5
    other = gothreads.ray.actor(keeps, "two", num_cpus=0)
    assert other.call("add", 1) == 1
    with pytest.raises(gothreads.MisuseError, match="has another module or another store"):
        gothreads.ray.actor(keeps, "one/1", num_cpus=0).call("add", 1)
    first.close()
    assert [file.read_bytes() for file in tmp_path.rglob("*.state")] == [b"5"]
    again = gothreads.ray.actor(keeps, "one/1", store=store, num_cpus=0)
    assert again.call("add", 1) == 6
    with pytest.raises(gothreads.MisuseError, match="the actor has no store"):
        other.save()
    other.close()
    again.close()


def test_after_a_panic_the_last_saved_state_is_there(cluster: Any, keeps: gothreads.Remote, tmp_path: Path) -> None:
    actor = gothreads.ray.actor(keeps, "panics", store=tmp_path.as_uri(), num_cpus=0)
    assert actor.call("add", 2) == 2
    actor.save()
    assert actor.call("add", 3) == 5, "which is lost"
    with pytest.raises(gothreads.GuestPanic, match="crashed") as panicked:
        actor.call("crash")
    assert "goroutine" in str(panicked.value)
    assert actor.call("add", 1) == 3
    actor.close()


def test_a_key_comes_back_with_its_state_when_its_node_is_killed(cluster: Any, keeps: gothreads.Remote,
                                                                 tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE, resources={"first": 1})
    cluster.wait_for_nodes()
    actor = gothreads.ray.actor(keeps, "killed", store=tmp_path.as_uri(), save_every=0.05, resources={"first": 0.5})
    assert actor.call("add", 7) == 7
    wait_until(lambda: [file.read_bytes() for file in tmp_path.rglob("*.state")] == [b"7"])
    cluster.add_node(num_cpus=1, object_store_memory=STORE, resources={"first": 1})
    kill(node)
    cluster.remove_node(node, allow_graceful=False)
    totals = []

    def is_back() -> bool:
        try:
            totals.append(actor.submit("add", 1).result(PATIENCE))
        except ray.exceptions.RayActorError:  # its node is dead, and the next one is not up
            return False
        return True
    wait_until(is_back)
    assert totals == [8]
    actor.close()


def test_misuse(cluster: Any, keeps: gothreads.Remote) -> None:
    with pytest.raises(gothreads.MisuseError, match="an actor's key must be a str, not 3"):
        gothreads.ray.actor(keeps, 3)  # type: ignore[arg-type]
    with pytest.raises(gothreads.MisuseError, match="save_every needs a store"):
        gothreads.ray.actor(keeps, "x", save_every=1)
    actor = gothreads.ray.actor(keeps, "misuse", num_cpus=0)
    with pytest.raises(gothreads.UnknownExport, match="no export 'ad'"):
        actor.call("ad", 1)
    with pytest.raises(gothreads.ArgumentError):
        actor.call("add", "one")
    actor.close()


#: Makes an actor that stays, and ends.
PROGRAM = """
import sys
import ray
import gothreads.ray
address, module, store = sys.argv[1:]
def nothing() -> None: ...
def same(n: int) -> int: return n
ray.init(address=address, log_to_driver=False)
go = gothreads.remote(module, host={"env": {"raise": nothing, "within": same}})
actor = gothreads.ray.actor(go, "detached", store=store, num_cpus=0, lifetime="detached")
actor.call("add", 7)
actor.save()
"""


def test_a_detached_actor_needs_nothing_of_the_program_that_has_made_it(cluster: Any, keeps: gothreads.Remote,
                                                                        tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, cluster.address, built("keeps"), tmp_path.as_uri()], check=True,
                   timeout=2 * PATIENCE)
    actor = gothreads.ray.actor(keeps, "detached", store=tmp_path.as_uri(), num_cpus=0, lifetime="detached")
    assert actor.call("add", 100) == 107
    assert keeps._module is not None
    for file in (cache_folder() / "remote").glob(f"{keeps._module.digest}*"):  # as on a node that is new
        file.unlink()
    ray.kill(actor._owner, no_restart=False)

    def is_back() -> bool:
        try:
            return bool(actor.call("add", 0) == 7)  # 107 until the process is killed
        except (ray.exceptions.ActorUnavailableError, ray.exceptions.ActorDiedError):
            return False
    wait_until(is_back)
    actor.close()
