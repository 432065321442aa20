"""`gothreads.ray.deployment`: the HTTP interface in replicas of Ray Serve."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

import gothreads
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until

ray = pytest.importorskip("ray")
serve = pytest.importorskip("ray.serve")

import gothreads.ray  # noqa: E402 - needs Ray

pytestmark = [pytest.mark.long, pytest.mark.alone]  # Ray takes half a minute to start, and gives up after another


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment:  # a proxy must start within 5 s, which a loaded machine lacks
        for name in ("READY_CHECK", "HEALTH_CHECK"):
            environment.setenv(f"RAY_SERVE_PROXY_{name}_TIMEOUT_S", str(PATIENCE))
        environment.setenv("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "gothreads.ray.proxy.middlewares")
        ray.init(num_cpus=4, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False)
        try:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()


def test_a_replica_has_the_paths_of_serve_and_survives_a_panic(url: str) -> None:
    serve.run(gothreads.ray.deployment(gothreads.remote(built("calls")), json_limit=100), route_prefix="/")
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        assert client.post("/api/call/add", json={"args": [2, 3]}).json() == {"result": 5}
        assert "/api/call/add" in client.get("/openapi.json").json()["paths"]
        assert client.post("/api/call/add", json={"args": ["x" * 100, 3]}).status_code == 413
        assert client.post("/api/request/upper", content=b"abc").content == b"ABC"
        panicked = client.post("/api/call/panics", json={"args": []})
        assert panicked.status_code == 503
        assert "panic: assignment to entry in nil map" in panicked.json()["error"]
        assert client.post("/api/call/count", json={"args": []}).json() == {"result": 1}, "it is open again"


def test_a_rolling_update_of_the_module_costs_no_request(url: str) -> None:
    def deploy(procs: int) -> None:
        module = built("calls").read_bytes() + b"\0\3\1v%d" % procs  # another one, by a section that says nothing
        replicas = {"num_replicas": 2, "name": "rolling", "ray_actor_options": {"num_cpus": 0.5}}
        serve.run(gothreads.ray.deployment(gothreads.remote(module, procs=procs), ray_options=replicas),
                  route_prefix="/")
    deploy(1)
    seen: list[tuple[int, object]] = []
    over = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while not over.is_set():
                answer = client.post("/api/call/procs", json={"args": []})
                seen.append((answer.status_code, answer.json().get("result")))
    with ThreadPoolExecutor(2) as clients:
        loads = [clients.submit(load) for _ in range(2)]
        try:
            wait_until(lambda: len(seen) > 20)
            deploy(2)
            wait_until(lambda: (200, 2) in seen[-5:])
        finally:
            over.set()
        for each in loads:
            each.result(PATIENCE)
    assert {status for status, _ in seen} == {200}
    assert {result for _, result in seen} == {1, 2}


def test_a_replica_whose_module_has_ended_for_good_is_replaced(url: str) -> None:
    with gothreads.supervise(built("calls"), most_restarts=0) as supervised:
        go = gothreads.remote(supervised)
    options = {"name": "over", "health_check_period_s": 0.5}
    serve.run(gothreads.ray.deployment(go, ray_options=options), route_prefix="/")
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        assert client.post("/api/call/panics", json={"args": []}).status_code == 503
        wait_until(lambda: client.post("/api/call/count", json={"args": []}).status_code == 200)


def test_a_request_whose_replica_is_killed_gets_503(url: str) -> None:
    serve.run(gothreads.ray.deployment(gothreads.remote(built("calls")), ray_options={"name": "killed"}),
              route_prefix="/")
    with httpx.Client(base_url=url, timeout=PATIENCE) as client, ThreadPoolExecutor(1) as clients:
        lost = clients.submit(client.post, "/api/call/hang", json={"args": []})
        with httpx.Client(base_url=url, timeout=PATIENCE) as other:
            wait_until(lambda: re.search(r"^gothreads_module_calls_in_progress\S* 1", other.get("/metrics").text, re.M))
        replica, = (process for process in psutil.Process().children(recursive=True)
                    if any(":killed" in part for part in process.cmdline()))
        replica.kill()
        answer = lost.result(PATIENCE)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["error"].startswith("the replica that had this request was lost")
        assert client.post("/api/call/add", json={"args": [2, 3]}).json() == {"result": 5}, "by another replica"


def test_misuse() -> None:
    with pytest.raises(gothreads.MisuseError, match=r"takes a handle of gothreads\.remote, not 'app\.wasm'"):
        gothreads.ray.deployment("app.wasm")  # type: ignore[arg-type]
    with pytest.raises(gothreads.ArgumentError, match="has no option 'json_limits'. Did you mean json_limit"):
        gothreads.ray.deployment(gothreads.remote(built("calls")), json_limits=1)  # type: ignore[call-arg]
