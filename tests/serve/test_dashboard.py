"""The dashboard: what it tells, to whom, and that whoever watches holds nothing up."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

import gothreads
from gothreads.engine import extension
from gothreads.errors import GuestPanic, HandlerError, HostFunctionError
from gothreads.serve import feed, server
from gothreads.serve.apps import Apps, Hosted
from gothreads.serve.call_rates import CallCounts, quantile, rates
from gothreads.serve.failures import LONGEST_STACK, LONGEST_TEXT, MOST, Failures
from gothreads.serve.guard import Hosts
from gothreads.serve.listeners import Address, Inherited, UnixSocket
from gothreads.serve.metrics import metrics_app
from gothreads.serve.options import WebOptions
from gothreads.serve.served import Served
from gothreads.serve.serving import Serving, Transport
from tests.support.event_stream import watching
from tests.support.keys import Keys, bearer
from tests.support.modules import MODELS, opened
from tests.support.server import running
from tests.support.waiting import PATIENCE, wait_until

Conversation = Callable[[Apps, Any, httpx.AsyncClient], Awaitable[None]]
LIVE = "/api/apps/app/live"


@pytest.fixture
def opens(calls: Path) -> Iterator[Callable[[], Served]]:
    with open(os.devnull, "wb") as null:
        yield lambda: gothreads.open(calls, stderr=null)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are read again and again, without a pause."""
    monkeypatch.setattr(feed, "EVERY", 0.0)


def talk(hosted: list[Hosted], conversation: Conversation, *, is_local: bool = True, drain: float = PATIENCE,
         has_metrics: bool = True) -> None:
    apps = Apps(hosted, drain=drain, may_restart=True)

    async def run() -> None:
        web = apps.web(Hosts(), has_metrics=has_metrics, is_local=is_local)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://localhost") as client:
            await conversation(apps, web, client)
    try:
        asyncio.run(run())
    finally:
        apps.close()


def one(open_app: Callable[[], Served], **options: Any) -> list[Hosted]:
    return [Hosted(open_app, cast(WebOptions, options), "app")]


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition)


# What it tells.

def test_figures_of_the_module_and_of_its_calls(opens: Callable[[], Served], often: None) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        hanging = [asyncio.create_task(client.post("/api/call/hang")) for _ in range(3)]
        await until(lambda: str(apps.current[0].goroutines()).count("main.hang()") == 3)
        async with watching(web, LIVE) as stream:
            assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            first = await stream.next("figures")
            assert (first["model"], first["state"], first["in_flight"], first["calls"]) == ("threaded", "running", 3, None)
            assert first["callers"]["in_use"] == 3
            assert first["go"]["goroutines"] >= 3
            assert first["go"]["procs"] == (await client.post("/api/call/procs")).json()["result"]
            assert first["memory"] > 1 << 20
            assert (first["no_timeline"] is None) == (extension.compiled is not None), first["no_timeline"]
            while True:
                assert (await client.post("/api/call/add", json={"args": [2, 3]})).status_code == 200
                assert (await client.post("/api/request/fail", content=b"x")).status_code == 422
                figures = await stream.next("figures")
                found = {(each["kind"], each["name"]): each for each in figures["calls"]["by_name"]}
                if {("export", "add"), ("handler", "fail")} <= found.keys():
                    break
            added, failed = found["export", "add"], found["handler", "fail"]
            assert added["calls"] > 0
            assert 0 < added["p50"] <= added["p99"]
            assert (added["failed"], failed["failed"]) == (0, failed["calls"])
            assert figures["calls"]["all"][0]["calls"] >= added["calls"] + failed["calls"] - 1e-9
            assert figures["failures"] >= 1
        apps.current[0].close()
        await asyncio.wait(hanging)
        async with watching(web, LIVE) as stream:
            ended = await stream.next("figures")
            assert (ended["state"], "go" in ended) == ("closed", False)
    talk(one(opens), conversation)


@pytest.mark.parametrize("model", [model for model in MODELS if model not in ("threaded", "wasi-threads")])
def test_it_shows_what_other_models_have(model: str, often: None) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        async with watching(web, LIVE) as stream:
            figures = await stream.next("figures")
            assert (figures["model"], figures["state"], "go" in figures) == (model, "running", False)
            assert ("pool" in figures) == (model == "pool")
            assert figures["no_timeline"].startswith(f"the model {model} does not run Go on several threads")
    talk(one(lambda: opened("calls", model=model)), conversation)


@pytest.mark.skipif(extension.compiled is None, reason=f"without C: {extension.missing}")
def test_the_timeline_shows_which_thread_runs_which_goroutine(opens: Callable[[], Served]) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        spinning = asyncio.create_task(client.post("/api/call/spin"))
        async with watching(web, LIVE) as stream:
            end, found = 0.0, list[Any]()
            while not found:
                seen = await stream.next("timeline")
                assert end <= seen["begin"] < seen["end"]
                assert all(begin >= 0 and length > 0 and 0 <= place < len(seen["functions"])
                           for _, _, place, begin, length in seen["runs"])
                found = [run for run in seen["runs"] if seen["functions"][run[2]] == "call"]
                end = seen["end"]
            assert len({(m, goroutine) for m, goroutine, *_ in found}) == 1
            apps.current[0].close()
            await asyncio.wait([spinning])
            while (await stream.next("figures"))["state"] != "closed":
                pass
    talk(one(opens), conversation)


def test_each_app_has_its_own(opens: Callable[[], Served], often: None) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        about = (await client.get("/api/dashboard")).json()
        assert about["apps"] == [{"name": name, "watch": True, "inspect": True, "restart": True}
                                 for name in ("one", "two words")]
        async with watching(web, "/api/apps/two words/live") as stream:
            await client.post("/two/api/call/add", json={"args": [2, 3]})
            await client.post("/one/api/call/count")
            while not (calls := (await stream.next("figures"))["calls"]) or not calls["by_name"]:
                await client.post("/two/api/call/add", json={"args": [2, 3]})
            assert [each["name"] for each in calls["by_name"]] == ["add"]
        assert 'href="../dashboard#two%20words"' in (await client.get("/two/")).text
        assert 'href="dashboard"' in (await client.get("/")).text
        missing = await client.get("/api/apps/three/live")
        assert (missing.status_code, missing.json()["known"]) == (404, ["one", "two words"])
    talk([Hosted(opens, {}, "one", "/one"), Hosted(opens, {}, "two words", "/two")], conversation)


def test_goroutines_and_failures_have_stacks(opens: Callable[[], Served]) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        hanging = asyncio.create_task(client.post("/api/call/hang"))
        await until(lambda: any(each.state.startswith("select") and "main.hang" in each.stack
                                for each in apps.current[0].goroutines()))
        dump = await client.get("/api/apps/app/goroutines")
        assert dump.headers["content-type"].startswith("text/plain")
        assert re.search(r"^goroutine \d+ \[select \(no cases\).*\]:\nmain\.hang", dump.text, re.MULTILINE)
        for _ in range(3):
            await client.post("/api/request/fail", content=b"x")
        await client.post("/api/call/add", json={"args": [2]})  # the client's mistake
        (failure,) = (await client.get("/api/apps/app/failures")).json()["calls"]
        assert (failure["what"], failure["outcome"], failure["text"], failure["count"]) == (
            "handler fail", "error", "no: x", 3)
        assert (await client.post("/api/request/panic", content=b"oh")).status_code == 503
        await hanging
        found = (await client.get("/api/apps/app/failures")).json()
        assert "the module has ended: panic: oh" in found["end"][0]["text"]
        assert "main.init.0.func" in found["end"][0]["stack"]
        assert {failure["outcome"] for failure in found["calls"]} == {"error", "ended"}
        gone = await client.get("/api/apps/app/goroutines")
        assert (gone.status_code, "panic: oh" in gone.json()["error"]) == (503, True)
    talk(one(opens), conversation)


def test_an_answer_that_breaks_off_is_a_failure() -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        assert (await client.post("/api/call/scan", json={"args": ["a", ""]})).json()["error"] == "line 1: empty"
        (failure,) = (await client.get("/api/apps/app/failures")).json()["calls"]
        assert (failure["what"], failure["outcome"], failure["text"]) == ("function scan", "error", "line 1: empty")
    talk(one(lambda: opened("typed")), conversation)


def test_failures_are_bounded() -> None:
    failures = Failures()
    for number in range(100):
        failures.note("export f", "error", HandlerError(f"{number} {'x' * 10_000}"))
        failures.note("export f", "refused", HandlerError("the client's"))
    failures.note("export g", "ended", GuestPanic("panic", stderr="s" * 100_000))
    failures.note("export g", "ended", GuestPanic("panic", stderr="s" * 100_000))
    host = HostFunctionError("raised")
    host.__cause__ = ValueError("\x1b[2J")
    failures.note("export h", "ended", host)
    kept = failures.to_json()
    assert (len(kept), failures.count) == (MOST, 103)
    assert max(len(each["text"]) for each in kept) == LONGEST_TEXT
    assert max(len(each["stack"]) for each in kept) == LONGEST_STACK
    assert {each["what"]: each["count"] for each in kept} == {"export f": 1, "export g": 2, "export h": 1}
    assert "ValueError: \\x1b[2J" in next(each["stack"] for each in kept if each["what"] == "export h")


def test_quantiles_are_within_their_buckets() -> None:
    inf = float("inf")
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0, inf: 0}, 0.5) is None
    assert quantile({1.0: 100, 2.0: 100, inf: 100}, 0.5) == 0.5
    assert quantile({1.0: 0, 2.0: 100, inf: 100}, 0.5) == 1.5
    assert quantile({1.0: 90, 2.0: 100, inf: 100}, 0.99) == pytest.approx(1.9)
    assert quantile({1.0: 0, 2.0: 0, inf: 10}, 0.5) == 2.0


def test_rates_are_of_the_time_between_two_readings() -> None:
    inf = float("inf")
    before = {("export", "a"): CallCounts({"ok": 10.0}, {1.0: 10.0, inf: 10.0})}
    now = {("export", "a"): CallCounts({"ok": 14.0, "error": 2.0}, {1.0: 12.0, inf: 16.0}),
           ("export", "b"): CallCounts({"ok": 20.0}, {1.0: 20.0, inf: 20.0}), ("export", "idle"): CallCounts({"ok": 0.0})}
    found = rates(now, before, 2.0)
    assert [(each.name, each.calls, each.failed) for each in found] == [("b", 10.0, 0.0), ("a", 3.0, 1.0)]
    assert (found[0].p50, found[1].p50, found[1].p99) == (0.5, 1.0, 1.0)


# Whoever watches holds nothing up.

def test_nothing_is_read_while_nobody_watches(opens: Callable[[], Served], often: None) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        (mine,) = apps.dashboard.feeds._feeds
        await client.get("/dashboard")
        await client.get("/api/dashboard")
        assert not mine.is_running
        async with watching(web, LIVE) as first, watching(web, LIVE) as second:
            assert mine.is_running
            seen = (await second.next("figures"))["at"]
            while (same := (await first.next("figures"))["at"]) < seen:  # before the second began
                pass
            assert same == seen  # read once for both
            first.leave()
            await first.ended.wait()
            assert (mine.is_running, mine.readers) == (True, 1)
        assert (mine.is_running, mine.readers) == (False, 0)
        assert (await client.head(LIVE)).status_code == 200  # which ends
        assert not mine.is_running
    talk(one(opens), conversation)


def test_so_many_may_watch_and_no_more(opens: Callable[[], Served]) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        async with watching(web, LIVE) as first:
            tasks = [asyncio.ensure_future(_enter(web)) for _ in range(feed.MOST_READERS - 1)]
            others = [await task for task in tasks]
            assert apps.dashboard.feeds.readers == feed.MOST_READERS
            refused = await client.get(LIVE)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
            assert refused.json()["error"].startswith("16 dashboards are open")
            first.leave()
            await first.ended.wait()
            async with watching(web, LIVE) as another:
                assert another.status == 200
            for context in others:
                await context.__aexit__(None, None, None)
    talk(one(opens), conversation)


async def _enter(web: Any) -> Any:
    context = watching(web, LIVE)
    await context.__aenter__()
    return context


def test_a_reader_that_is_too_slow_is_dropped(opens: Callable[[], Served], often: None) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        feeds = apps.dashboard.feeds
        async with watching(web, LIVE) as quick:
            async with watching(web, LIVE, reads=False):
                assert feeds.readers == 2
                while feeds.readers == 2:
                    await quick.next("figures")
            await quick.next("figures")
            assert feeds.readers == 1
    talk(one(opens), conversation)


def test_a_replacement_ends_the_streams_and_the_next_one_is_of_the_new_instance(
        opens: Callable[[], Served], often: None) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        (deployment,) = apps.deployments
        await client.post("/api/call/count")
        async with watching(web, LIVE) as stream:
            assert (await stream.next("figures"))["replaced"] == 0
            old = deployment.app
            assert (await client.post("/api/apps/app/restart")).json() == {"restarted": True}
            await stream.ended.wait()
            await until(lambda: deployment.apps == [deployment.app])  # long before the drain is over
            assert old.state is gothreads.State.CLOSED
        async with watching(web, LIVE) as stream:
            figures = await stream.next("figures")
            assert (figures["replaced"], figures["state"]) == (1, "running")
    talk(one(opens), conversation)


def test_the_end_of_the_server_ends_the_streams(calls: Path) -> None:
    with running("--drain", PATIENCE, calls) as server:
        name = server.client.get("/api/dashboard").json()["apps"][0]["name"]
        with server.client.stream("GET", f"/api/apps/{name}/live") as reply:
            pieces = reply.iter_text()
            while "event: figures" not in next(pieces):
                pass
            server.process.send_signal(signal.SIGTERM)
            for _ in pieces:  # to a proper end: httpx raises an error otherwise
                pass
        code, err = server.end(PATIENCE)
        assert (code, err) == (0, "gothreads: stopped by SIGTERM\n")


@pytest.mark.parametrize("end", ["replacement", "server's"])
def test_a_reader_that_takes_nothing_holds_up_no_end(opens: Callable[[], Served], end: str) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        old = apps.current[0]
        async with watching(web, LIVE, reads=False) as stream:
            if end == "replacement":
                assert (await client.post("/api/apps/app/restart")).json() == {"restarted": True}
                await until(lambda: old.state is gothreads.State.CLOSED)
            else:
                apps.dashboard.feeds.end()
            async with asyncio.timeout(PATIENCE):
                await stream.ended.wait()
            assert apps.dashboard.feeds.readers == 0
    talk(one(opens), conversation, drain=10 * PATIENCE)


# Who may see it.

def test_rights(opens: Callable[[], Served], tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    caller, watcher = keys.new("caller", "call/*"), keys.new("watcher", "metrics")
    inspector, owner = keys.new("inspector", "metrics", "inspect"), keys.new("owner", "*")
    paths = ("/api/dashboard", LIVE, "/api/apps/app/failures", "/api/apps/app/goroutines", "/api/apps/none/live")

    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        async def statuses(key: dict[str, str]) -> list[int]:
            found = []
            for path in paths:
                async with watching(web, path, key) as stream:
                    found.append(stream.status)
            return found
        assert await statuses({}) == [401] * 5
        assert await statuses(caller) == [200, 403, 403, 403, 404]
        assert await statuses(watcher) == [200, 200, 403, 403, 404]
        assert await statuses(inspector) == await statuses(owner) == [200, 200, 200, 200, 404]
        for key, may in ((watcher, (True, False, False)), (owner, (True, True, True))):
            (about,) = (await client.get("/api/dashboard", headers=key)).json()["apps"]
            assert (about["watch"], about["inspect"], about["restart"]) == may
        page = await client.get("/dashboard")
        assert page.status_code == 200
        assert "app" not in re.findall(r"<h1>(.*?)</h1>", page.text)
    talk(one(opens, api_keys=keys.path), conversation)


def test_without_keys_stacks_are_for_this_machine_only(opens: Callable[[], Served]) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        async with watching(web, LIVE) as stream:
            assert stream.status == 200
        for what in ("failures", "goroutines"):
            refused = await client.get(f"/api/apps/app/{what}")
            assert (refused.status_code, "other machines" in refused.json()["error"]) == (403, True)
        assert not (await client.get("/api/dashboard")).json()["apps"][0]["inspect"]
    talk(one(opens), conversation, is_local=False)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_without_keys_stacks_are_not_for_clients_of_a_proxy(opens: Callable[[], Served], header: str) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        assert (await client.get("/api/apps/app/failures")).status_code == 200
        for what in ("failures", "goroutines"):
            assert (await client.get(f"/api/apps/app/{what}", headers={header: "x"})).status_code == 403
        assert not (await client.get("/api/dashboard", headers={header: "x"})).json()["apps"][0]["inspect"]
    talk(one(opens), conversation)


def test_which_servers_only_this_machine_can_reach() -> None:
    here, elsewhere = Hosts(), Hosts(Hosts().names | {"app.example"})
    address, behind = Address("127.0.0.1", 0), Transport(proxies=["10.0.0.0/8"])
    for place, hosts, transport, is_local in (
            (address, here, Transport(), True), (address, elsewhere, Transport(), False),
            (address, here, behind, False), (UnixSocket("/run/x"), here, Transport(), False),
            (Inherited(3), here, Transport(), False)):
        assert server._is_local(Serving(place, transport=transport), place, hosts) is is_local


def test_an_open_app_beside_one_with_keys_needs_those(opens: Callable[[], Served], tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    watcher = keys.new("watcher", "metrics")

    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        for path in ("/api/dashboard", "/api/apps/open/live", "/api/apps/open/failures"):
            assert (await client.get(path)).status_code == 401
        async with watching(web, "/api/apps/open/live", watcher) as stream:
            assert stream.status == 200
        assert (await client.get("/api/apps/open/failures", headers=watcher)).status_code == 403
    talk([Hosted(opens, {}, "open", "/open"), Hosted(opens, {"api_keys": keys.path}, "closed", "/closed")], conversation)


def test_whoever_loses_the_right_sees_no_more(opens: Callable[[], Served], often: None, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    watcher, other = keys.new("watcher", "metrics"), keys.new("other", "metrics")

    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        async with watching(web, LIVE, watcher) as stream, watching(web, LIVE, other) as another:
            await stream.next("figures")
            text = keys.path.read_text()
            keys.path.write_text("".join(line for line in text.splitlines(keepends=True) if "watcher" not in line))
            async with asyncio.timeout(PATIENCE):
                await stream.ended.wait()
            await another.next("figures")
            assert apps.dashboard.feeds.readers == 1
    talk(one(opens, api_keys=keys.path), conversation)


@pytest.mark.parametrize("is_local", [True, False])
def test_at_an_address_of_its_own_stacks_and_errors_need_the_right(opens: Callable[[], Served], often: None,
                                                                    tmp_path: Path, *, is_local: bool) -> None:
    keys = Keys(tmp_path / "keys")
    owner, watcher = keys.new("owner", "*"), keys.new("watcher", "metrics")
    stacks = [f"/api/apps/app/{what}" for what in ("failures", "goroutines")]

    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        own = metrics_app(apps.metrics, Hosts(), apps.dashboard.own_routes(is_local=is_local))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(own), base_url="http://localhost") as visitor:
            for key, status, is_known in (({}, 401, False), (watcher, 403, True), (owner, 200, True)):
                assert [(await visitor.get(path, headers=key)).status_code for path in stacks] == [status] * 2
                about = (await visitor.get("/api/dashboard", headers=key)).json()
                assert (about["known"], about["apps"][0]["watch"], about["apps"][0]["inspect"]) == (
                    is_known, True, key is owner)
            for path in ("/api/dashboard", LIVE):
                assert (await visitor.get(path, headers=bearer("gtk_wrong"))).status_code == 401
            await client.post("/api/request/panic", content=b"oh", headers=owner)
            async with watching(own, LIVE) as stranger, watching(own, LIVE, owner) as known:
                assert "panic: oh" in (await known.next("figures"))["error"]
                assert (await stranger.next("figures")).keys().isdisjoint({"error", "not_replaced", "last_cause"})
    talk(one(opens, api_keys=keys.path), conversation)


def test_it_is_where_the_metrics_are(opens: Callable[[], Served], calls: Path) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        for path in ("/dashboard", "/api/dashboard", LIVE, "/metrics", "/debug/pprof/heap"):
            reply = await client.get(path)
            assert reply.status_code == 404
            assert reply.json()["error"].startswith(f"{path} is at another address of this server, that of --metrics-addr")
        listed = (await client.get("/nothing")).json()["error"]
        assert "/metrics" not in listed
        assert "dashboard" not in (await client.get("/")).text
    talk(one(opens), conversation, has_metrics=False)
    with running("--metrics-address", "127.0.0.1:0", calls) as server:
        assert server.process.stderr is not None
        found = re.search(r"http://\S+", server.process.stderr.readline())
        assert found is not None
        address = found[0].removesuffix("/metrics")
        assert "Dashboard" in httpx.get(f"{address}/dashboard").text
        (about,) = httpx.get(f"{address}/api/dashboard").json()["apps"]
        assert about == {"name": about["name"], "watch": True, "inspect": True, "restart": False}
        with httpx.stream("GET", f"{address}/api/apps/{about['name']}/live", timeout=PATIENCE) as reply:
            assert next(reply.iter_text()).startswith("retry:")
        assert server.client.get("/dashboard").status_code == 404


def test_the_page_runs_its_own_script_only(opens: Callable[[], Served]) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        page = await client.get("/dashboard")
        (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        sent = page.headers["Content-Security-Policy"]
        assert f"default-src 'none'; script-src 'sha256-{digest}'; " in sent
        assert "unsafe" not in sent
        assert not re.search(r"\b(src|style|on\w+)=", re.sub(r"<(script|style)>.*?</\1>", "", page.text, flags=re.DOTALL))
        assert "http://" not in page.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in page.text
    talk(one(opens), conversation)
