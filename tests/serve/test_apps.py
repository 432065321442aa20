"""Several apps in one server."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import gothreads
from gothreads.serve import server
from gothreads.serve.apps import Apps, Hosted
from gothreads.serve.guard import Hosts
from gothreads.serve.options import same_host
from gothreads.serve.served import NamedRoute, Served
from gothreads.serve.serving import Transport
from tests.support.keys import Keys
from tests.support.modules import ROOT, built, opened
from tests.support.server import running
from tests.support.waiting import PATIENCE, wait_until

NAMED = (NamedRoute("POST", "/sum", "export", "add"), NamedRoute("PUT", "/deep/upper", "handler", "upper"),
         NamedRoute("POST", "/doze", "export", "sleep", timeout=0.05))


@pytest.fixture
def opens(calls: Path) -> Iterator[Callable[[], Served]]:
    with open(os.devnull, "wb") as null:
        yield lambda: gothreads.open(calls, stderr=null)


def talk(hosted: list[Hosted], conversation: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    apps = Apps(hosted, drain=1)

    async def run() -> None:
        names = Hosts(Hosts().names | {same_host(one.host) for one in hosted if one.host is not None})
        web = apps.web(names, has_metrics=True)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://localhost") as client:
            await conversation(client)
    try:
        asyncio.run(run())
    finally:
        apps.close()


def test_apps_have_paths_and_hosts(opens: Callable[[], Served]) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        async def add(path: str, **options: Any) -> httpx.Response:
            return await client.post(f"{path}/api/call/add", json={"args": [2, 3]}, **options)
        for path in ("/one", "/two/deep"):
            assert (await add(path)).json() == {"result": 5}
            assert (await client.post(f"{path}/sum", json={"args": [2, 3]})).status_code == (
                200 if path == "/one" else 404)
            page = await client.get(f"{path}/")
            assert "<form" in page.text
            document = (await client.get(f"{path}/openapi.json")).json()
            assert document["servers"] == [{"url": path}]
            assert (await client.get(f"{path}/readyz")).json() == {"ok": True}
        for host in ("three.example", "THREE.example:8080", "five.example", "five.example."):
            assert (await add("", headers={"Host": host})).json() == {"result": 5}
        assert (await add("")).status_code == 404
        assert (await add("", headers={"Host": "four.example"})).status_code == 421
        missing = (await client.get("/three")).json()["error"]
        assert missing.startswith("there is no /three; there are: /livez, /readyz, /metrics, /api/apps, ")
        assert "/one" in missing
        listed = (await client.get("/api/apps")).json()["apps"]
        assert [(one["name"], one.get("prefix"), one.get("host"), one["state"]) for one in listed] == [
            ("one", "/one", None, "running"), ("two", "/two/deep", None, "running"),
            ("three", None, "Three.example", "running"), ("five", None, "five.example.", "running")]
        front = await client.get("/")
        assert front.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src ; style-src 'sha256-")
        for link in ('href="./one/"', 'href="./two/deep/"', 'href="//Three.example/"', 'href="api/apps"'):
            assert link in front.text
        for host, where in (("127.0.0.1", "Three.example"), ("[::1]:8080", "Three.example:8080")):
            assert f'href="//{where}/"' in (await client.get("/", headers={"Host": host})).text
        metrics = (await client.get("/metrics")).text
        for name in ("one", "two", "three"):
            assert f'gothreads_up{{app="{name}"}} 1.0' in metrics
        assert metrics.count("# TYPE gothreads_up gauge") == 1
        assert 'gothreads_calls_total{app="one",kind="export",name="add",outcome="ok"} 2.0' in metrics
    talk([Hosted(opens, {}, "one", "/one", named=NAMED), Hosted(opens, {}, "two", "/two/deep"),
          Hosted(opens, {}, "three", None, "Three.example"), Hosted(opens, {}, "five", None, "five.example.")],
         conversation)


def test_one_app_may_be_at_the_root_beside_others(opens: Callable[[], Served]) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        for path in ("", "/two"):
            assert (await client.post(f"{path}/api/call/count", json={"args": []})).json() == {"result": 1}
        assert "<form" in (await client.get("/")).text
        assert len((await client.get("/healthz")).json()["apps"]) == 2
    talk([Hosted(opens, {}, "one", "/"), Hosted(opens, {}, "two", "/two")], conversation)


def test_named_routes_lead_to_exports_functions_and_handlers(opens: Callable[[], Served]) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        assert (await client.post("/app/sum", json={"args": [2, 3]})).json() == {"result": 5}
        assert (await client.post("/app/sum", json={"args": [2]})).status_code == 422
        assert (await client.put("/app/deep/upper", content=b"abc")).text == "ABC"
        assert (await client.post("/app/doze", json={"args": [0]})).json() == {"result": None}
        assert (await client.post("/app/doze", json={"args": [10_000]})).status_code == 504
        wrong = await client.get("/app/sum")
        assert (wrong.status_code, wrong.json()) == (405, {"error": "/app/sum does not allow GET; use POST"})
        paths = (await client.get("/app/openapi.json")).json()["paths"]
        assert paths["/sum"]["post"]["operationId"] == "POST /sum"
        assert paths["/sum"]["post"]["summary"] == paths["/api/call/add"]["post"]["summary"]
        assert list(paths["/deep/upper"]) == ["put"]
        metrics = (await client.get("/metrics")).text
        assert 'gothreads_calls_total{app="app",kind="handler",name="upper",outcome="ok"} 1.0' in metrics
    talk([Hosted(opens, {}, "app", "/app", named=NAMED)], conversation)


def test_named_routes_lead_to_typed_functions() -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        assert (await client.post("/app/sum", json={"args": {"a": 2, "b": 3}})).json() == {"result": 5}
    talk([Hosted(lambda: opened("typed"), {}, "app", "/app", named=NAMED[:1])], conversation)


def test_a_named_route_needs_the_right_to_what_it_stands_for(opens: Callable[[], Served], tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    adds, uppers = keys.new("adds", "call/add"), keys.new("uppers", "request/upper")

    async def conversation(client: httpx.AsyncClient) -> None:
        async def plus(key: dict[str, str] | None) -> httpx.Response:
            return await client.post("/app/sum", json={"args": [2, 3]}, headers=key)
        assert (await plus(None)).status_code == 401
        refused = await plus(uppers)
        assert (refused.status_code, refused.json()) == (403, {"error": "uppers has no right to 'call/add'"})
        assert (await plus(adds)).json() == {"result": 5}
        refused = await client.put("/app/deep/upper", content=b"abc", headers=adds)
        assert (refused.status_code, refused.json()) == (403, {"error": "adds has no right to 'request/upper'"})
        assert (await client.put("/app/deep/upper", content=b"abc", headers=uppers)).text == "ABC"
        assert "sum" not in (await client.get("/app/nothing")).text
        paths = (await client.get("/app/openapi.json", headers=adds)).json()["paths"]
        assert "401" in paths["/sum"]["post"]["responses"]
        metrics = (await client.get("/metrics", headers=keys.new("prometheus", "metrics"))).text
        assert 'gothreads_calls_total{app="app",kind="export",name="add",outcome="denied"} 2.0' in metrics
    talk([Hosted(opens, {"api_keys": keys.path}, "app", "/app", named=NAMED)], conversation)


def test_a_call_by_a_named_route_counts_for_its_client(opens: Callable[[], Served]) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        nap = asyncio.create_task(client.post("/app/nap", json={"args": [20_000]}))
        while 'gothreads_calls_in_flight{app="app"} 1.0' not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        assert (await client.post("/app/sum", json={"args": [2, 3]})).status_code == 429
        assert (await client.post("/app/api/call/add", json={"args": [2, 3]})).status_code == 429
        nap.cancel()
        await asyncio.wait([nap])
        assert (await client.post("/app/sum", json={"args": [2, 3]})).json() == {"result": 5}
    named = (NamedRoute("POST", "/nap", "export", "sleep"), *NAMED)
    talk([Hosted(opens, {"max_client_calls": 1}, "app", "/app", named=named)], conversation)


def test_the_key_of_one_app_opens_no_other(opens: Callable[[], Served], tmp_path: Path) -> None:
    keys, others = Keys(tmp_path / "keys"), Keys(tmp_path / "others")
    mine, theirs, adds = keys.new("mine"), others.new("theirs"), keys.new("adds", "call/add")

    async def conversation(client: httpx.AsyncClient) -> None:
        for path, status in {"/one": 200, "/other": 401, "/open": 200}.items():
            reply = await client.post(f"{path}/api/call/add", json={"args": [2, 3]}, headers=mine)
            assert reply.status_code == status
        for path in ("/metrics", "/api/apps"):
            assert (await client.get(path)).status_code == 401
            for key in (mine, theirs):
                assert (await client.get(path, headers=key)).status_code == 200
        assert (await client.get("/metrics", headers=adds)).status_code == 403

        async def told(path: str, headers: dict[str, str] | None) -> list[str]:
            return [one["name"] for one in (await client.get(path, headers=headers)).json()["apps"] if "requests" in one]
        assert await told("/api/apps", mine) == await told("/healthz", adds) == ["one", "open"]
        assert await told("/healthz", theirs) == ["other", "open"]
        assert await told("/healthz", None) == ["open"]
        page = (await client.get("/")).text
        assert 'href="./other/"' in page
        assert 'href="api/apps"' not in page  # it needs a key, which a link does not have
        assert page.count("threaded") == 1
        for name, key, status in (("one", mine, 200), ("other", mine, 401), ("one", adds, 403), ("open", mine, 403)):
            assert (await client.post(f"/api/apps/{name}/restart", headers=key)).status_code == status
    talk([Hosted(opens, {"api_keys": keys.path}, "one", "/one"),
          Hosted(opens, {"api_keys": others.path}, "other", "/other"), Hosted(opens, {}, "open", "/open")], conversation)


def test_who_runs_a_server_is_told_which_apps_need_no_key(opens: Callable[[], Served], tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    keys.new("ci")
    secured, free = Hosted(opens, {"api_keys": keys.path}, "secured", "/secured"), Hosted(opens, {}, "free", "/free")
    for hosted, told in (([secured, free], "there is no authentication for free (--api-keys adds it). Accepted host names: app.example"),
                         ([free], "there is no authentication (--api-keys adds it). Accepted host names: app.example"),
                         ([secured], "without TLS: whoever sees the traffic sees the keys")):
        apps = Apps(hosted, drain=1)
        try:
            assert told in str(server._warning(Hosts(frozenset({"app.example"})), Transport(), apps))
        finally:
            apps.close()


@pytest.mark.parametrize(("export", "args"), [("traps", []), ("exits", [3])])
def test_the_end_of_one_app_touches_no_other(opens: Callable[[], Served], calls: Path, export: str,
                                             args: list[int]) -> None:
    backoff = gothreads.Backoff(first=0.01, most=0.01)

    def supervised() -> Served:
        return gothreads.supervise(calls, stderr=Nowhere(), backoff=backoff, on_restart=lambda restart: None)

    async def conversation(client: httpx.AsyncClient) -> None:
        async def work() -> int:
            made = 0
            while not over.is_set():
                reply = await client.post("/steady/api/call/add", json={"args": [made, 1]})
                assert (reply.status_code, reply.json()) == (200, {"result": made + 1})
                made += 1
            return made
        over = threading.Event()
        working = [asyncio.create_task(work()) for _ in range(4)]
        for _ in range(10):
            assert (await client.post(f"/shaky/api/call/{export}", json={"args": args})).status_code == 503
            assert (await client.post("/once/api/call/exits", json={"args": [1]})).status_code == 503
        over.set()
        assert all(await asyncio.gather(*working))
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        while "exited" not in (await client.get("/once/livez")).text:
            await asyncio.sleep(0.01)
        health = await client.get("/healthz")
        states = {one["name"]: one["state"] for one in health.json()["apps"]}
        assert (health.status_code, states["steady"], states["once"]) == (503, "running", "exited")
        assert "exited</span>" in (await client.get("/")).text
    talk([Hosted(opens, {}, "steady", "/steady"), Hosted(supervised, {}, "shaky", "/shaky"),
          Hosted(opens, {}, "once", "/once")], conversation)


class Nowhere:
    def write(self, data: bytes) -> None: ...


def test_the_server_lives_while_one_app_does(opens: Callable[[], Served]) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        for name in ("one", "two"):
            assert (await client.get("/livez")).status_code == 200
            await client.post(f"/{name}/api/call/exits", json={"args": [1]})
            while "exited" not in (await client.get(f"/{name}/livez")).text:
                await asyncio.sleep(0.01)
        assert (await client.get("/livez")).json() == {"error": "the module has ended: exited, exited"}
    talk([Hosted(opens, {}, name, f"/{name}") for name in ("one", "two")], conversation)


def test_apps_are_closed_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gothreads.runtime.models.threaded._STOP_SECONDS", PATIENCE)  # the machine may be slow
    monkeypatch.setattr("gothreads.runtime.app.HOOK_SECONDS", 20.0)
    both, said = threading.Barrier(2), io.BytesIO()

    def farewell(_payload: bytes) -> str:  # of each app's stop, which says whether it came in time
        both.wait(PATIENCE)
        return "bye"

    def opens() -> Served:
        return opened("hooks", env={"FAIL": "call"}, handlers={"farewell": farewell}, stdout=said)
    Apps([Hosted(opens, {}, "one", "/one"), Hosted(opens, {}, "two", "/two")], drain=1).close()
    assert said.getvalue().count(b"bye <nil>") == 2


def test_if_an_app_does_not_start_those_before_it_are_closed(opens: Callable[[], Served], nothing_left: None) -> None:
    def fails() -> Served:
        raise gothreads.ModuleError("no such module")
    with pytest.raises(gothreads.ModuleError, match="no such module"):
        Apps([Hosted(opens, {}, "one", "/one"), Hosted(fails, {}, "two", "/two")], drain=1)


@pytest.mark.long
def test_the_example_is_served_and_its_apps_are_replaced(tmp_path: Path) -> None:
    file = ROOT / "examples" / "two-apps" / "gothreads.toml"
    built("searchd")  # outside the test's time
    with running("-c", file, "--allow-restart", "--watch") as server:
        found = server.client.post("/search/find", content='{"query": "gophers", "limit": 10}')
        wait_until(lambda: server.client.post("/search/find",
                                              content='{"query": "gophers", "limit": 10}').json()["total"] == 2)
        assert found.status_code == 200
        assert server.client.post("/count/next").json() == {"result": 1}
        assert server.client.post("/api/apps/counter/restart").json() == {"restarted": True}
        assert server.client.post("/count/next").json() == {"result": 2}
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: [one["replaced"] for one in server.client.get("/api/apps").json()["apps"]] == [1, 2])
        assert server.client.post("/count/next").json() == {"result": 3}
        server.process.send_signal(signal.SIGTERM)
        assert server.end(PATIENCE)[0] == 0
