"""Nodes of a Ray cluster that die under load: no result of a map is lost or wrong, each HTTP request has its answer or
one typed 503, and an actor comes back with its last saved state.

    python -m stress.nodes [--times 20] [--seconds 60] [--json FILE]

Raylets on this machine are the nodes: a head, with Ray Serve's proxy and no processors, and two workers, with a replica
each. Over and over, clients send requests for so many seconds; in the middle of it, and of a map of 5,000 calls, the
raylet of the node that has the actor is killed, with all its processes, and another node is started.

Ends with exit code 1 at the first answer that is wrong. tests/remote/test_nodes.py does it twice.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psutil
import ray
from ray import serve
from ray.cluster_utils import Cluster

import gothreads.ray
from tests.support.modules import built

#: A client waits so long for an answer, in seconds. Nothing here takes that long unless it hangs.
HANG = 120
_CALLS, _CLIENTS, _STORE = 5_000, 4, 80_000_000
#: Proxies must start, and say that they are well, in 5 and 10 s by default, which a loaded machine lacks.
_ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "gothreads.ray.proxy.middlewares",
                "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(HANG), "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": str(HANG)}


class WrongError(Exception):
    """What must hold does not."""


@dataclass
class Round:
    """What was seen while a node died. Times are in seconds."""

    answers: int
    unavailable: int
    slowest_answer: float
    map: float
    actor_back: float


def kill(node: Any) -> None:
    """Kill a node's raylet and all that it has started. WrongError: no task and no actor of Ray."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    started = raylet.children(recursive=True)
    if not any("ray::" in " ".join(process.cmdline()) for process in started):
        raise WrongError("the node that is to be killed runs nothing")
    for process in [raylet, *started]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def nothing() -> None: ...


def same(n: int) -> int:
    return n


class Nodes:
    """The cluster, and what runs on it."""

    def __init__(self, cluster: Any, store: Path) -> None:
        self._cluster = cluster
        self._node = self._add()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        calls = gothreads.remote(built("calls"))
        self._pool = gothreads.ray.Pool(calls)
        keeps = gothreads.remote(built("keeps"), host={"env": {"raise": nothing, "within": same}})
        self._actor = gothreads.ray.actor(keeps, "one", store=store.as_uri(), num_cpus=0, resources={"keeps": 1})
        serve.start(http_options={"host": "127.0.0.1", "port": self.port}, proxy_location="HeadOnly")
        serve.run(gothreads.ray.deployment(calls, ray_options={"num_replicas": 2, "max_replicas_per_node": 1}),
                  route_prefix="/")
        self._pool.submit("fib", 1).result(HANG)

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=2, object_store_memory=_STORE, resources={"keeps": 1})

    def round(self, seconds: float) -> Round:
        """Kill a node in the middle of everything. WrongError."""
        saved = self._actor.call("add", 1)
        self._actor.save()
        self._actor.call("add", 100)  # which is lost
        over = threading.Event()
        with ThreadPoolExecutor(_CLIENTS) as clients:
            loads = [clients.submit(self._load, over) for _ in range(_CLIENTS)]
            try:
                begin = time.monotonic()
                over.wait(seconds / 2)
                took = self._map_and_kill()
                killed = time.monotonic()
                self._node = self._add()
                self._come_back(saved)
                back = time.monotonic() - killed
                over.wait(seconds - (time.monotonic() - begin))
            finally:
                over.set()
            statuses, slowest = collections.Counter[int](), 0.0
            for load in loads:
                seen, longest = load.result()
                statuses += seen
                slowest = max(slowest, longest)
        return Round(statuses[200], statuses[503], slowest, took, back)

    def _map_and_kill(self) -> float:
        begin = time.monotonic()
        results = self._pool.map("add", range(_CALLS), range(_CALLS), batch=5)
        seen = [next(results) for _ in range(_CALLS // 5)]
        kill(self._node)
        seen += results
        if seen != list(range(0, 2 * _CALLS, 2)):
            raise WrongError(f"the map has {len(seen)} results, of which {len(set(seen))} differ")
        self._cluster.remove_node(self._node, allow_graceful=False)
        return time.monotonic() - begin

    def _come_back(self, saved: int) -> None:
        end = time.monotonic() + HANG
        while True:
            try:
                total = self._actor.submit("add", 0).result(HANG)
                break
            except ray.exceptions.RayActorError:  # its node is dead, and the next one is not up
                if time.monotonic() > end:
                    raise WrongError("the actor does not come back") from None
                time.sleep(0.05)
        if total != saved:
            raise WrongError(f"the actor has come back with {total}, and {saved} was saved")

    def _load(self, over: threading.Event) -> tuple[collections.Counter[int], float]:
        """Send requests, one after the other. Returns how many had which status, and the longest time."""
        seen, longest = collections.Counter[int](), 0.0
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=HANG) as client:
            while not over.is_set():
                number = sum(seen.values())
                export, n, right = ("sleep", 200, None) if number % 2 else ("fib", 20, 6765)
                begin = time.monotonic()
                answer = client.post(f"/api/call/{export}", json={"args": [n]})
                longest = max(longest, time.monotonic() - begin)
                seen[answer.status_code] += 1
                said = answer.json()
                if not ((answer.status_code == 200 and said == {"result": right})
                        or (answer.status_code == 503 and said.keys() == {"error"})):
                    raise WrongError(f"a request has got {answer.status_code}: {answer.text}")
        return seen, longest


@contextlib.contextmanager
def nodes() -> Iterator[Nodes]:
    """Context: the cluster."""
    with mock.patch.dict(os.environ, _ENVIRONMENT), tempfile.TemporaryDirectory() as store:
        cluster = Cluster(initialize_head=True, head_node_args={
            "num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE})
        try:
            cluster.add_node(num_cpus=2, object_store_memory=_STORE)
            ray.init(address=cluster.address, log_to_driver=False)
            yield Nodes(cluster, Path(store))
        finally:
            with contextlib.suppress(Exception):
                serve.shutdown()
            ray.shutdown()
            cluster.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="of load each time (default: %(default)g)")
    parser.add_argument("--json", type=Path, help="write the figures to that file")
    arguments = parser.parse_args()
    rounds: list[Round] = []
    columns = ("killed", "answers", "503", "slowest answer", "map", "actor back after")
    print("".join(f"{name:>18}" for name in columns), flush=True)
    try:
        with nodes() as cluster:
            for number in range(1, arguments.times + 1):
                rounds.append(seen := cluster.round(arguments.seconds))
                print(f"{number:18}{seen.answers:18}{seen.unavailable:18}{seen.slowest_answer:16.2f} s{seen.map:16.2f} "
                      f"s{seen.actor_back:16.2f} s", flush=True)
    except WrongError as error:
        print(f"WRONG: {error}", file=sys.stderr)
        return 1
    finally:
        if arguments.json is not None:
            arguments.json.write_text(json.dumps([asdict(each) for each in rounds], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
