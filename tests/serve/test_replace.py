"""An app is replaced while it is called: at a client's request, at SIGHUP, and when its file or its source changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

import gothreads
from gothreads.serve.apps import Apps, Hosted
from gothreads.serve.guard import Hosts
from gothreads.serve.options import WebOptions
from gothreads.serve.served import Served
from gothreads.serve.watcher import Sources, Watcher
from tests.support.backoff import SOON
from tests.support.command_line import command
from tests.support.keys import Keys, bearer
from tests.support.modules import built, opened, written
from tests.support.server import Server, running
from tests.support.waiting import PATIENCE, wait_until


class Within:
    """The host function `within` of the module `keeps`, which returns when it is told to."""

    def __init__(self) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()

    def __call__(self, n: int) -> int:
        self.entered.set()
        self.leave.wait(PATIENCE)
        return n


class Plan:
    """What the module `keeps` does when it starts, saves and loads: the next of the plans for that moment, if any."""

    def __init__(self, **moments: list[str]) -> None:
        self.moments = {moment: [*plans] for moment, plans in moments.items()}

    def __call__(self, payload: bytes) -> str:
        plans = self.moments.get(payload.decode(), [])
        return plans.pop(0) if plans else ""


def keeps(within: Callable[[int], int] = lambda n: n, plan: Callable[[bytes], str] = lambda moment: "",
          kind: Callable[..., Any] = gothreads.open, **options: Any) -> Served:
    def refuse() -> None: ...

    def within_the_call(n: int) -> int:
        return within(n)
    app: Served = kind(built("keeps"), stderr=Nowhere(), handlers={"plan": plan},
                       host={"env": {"raise": refuse, "within": within_the_call}}, **options)
    return app


class Nowhere:
    def write(self, data: bytes) -> None: ...


def talk(open_app: Callable[[], Served], conversation: Callable[[Apps, httpx.AsyncClient], Awaitable[None]], *,
         drain: float = PATIENCE, may_restart: bool = True, **options: Any) -> None:
    """Talk to an app that can be replaced."""
    apps = Apps([Hosted(open_app, cast(WebOptions, options), "app")], drain=drain, may_restart=may_restart)

    async def run() -> None:
        web = apps.web(Hosts(), has_metrics=True)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://localhost") as client:
            await conversation(apps, client)
    try:
        asyncio.run(run())
    finally:
        apps.close()


async def call(client: httpx.AsyncClient, export: str, *args: Any, key: dict[str, str] | None = None) -> httpx.Response:
    return await client.post(f"/api/call/{export}", json={"args": args}, headers=key)


async def restart(client: httpx.AsyncClient, key: dict[str, str] | None = None) -> httpx.Response:
    return await client.post("/api/apps/app/restart", headers=key)


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition)


def test_state_goes_over_and_calls_that_have_begun_end_in_the_old_instance(nothing_left: None) -> None:
    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        (deployment,), old = apps.deployments, apps.current[0]
        assert (await call(client, "add", 5)).json() == {"result": 5}
        inside = asyncio.create_task(call(client, "hostwithin", 7))
        await until(within.entered.is_set)
        assert (await restart(client)).json() == {"restarted": True}
        assert deployment.app is not old
        assert (await call(client, "add", 1)).json() == {"result": 6}
        assert old.state is gothreads.State.RUNNING
        within.leave.set()
        assert (await inside).json() == {"result": 7}
        await until(lambda: old.state is gothreads.State.CLOSED)
        await until(lambda: deployment.apps == [deployment.app])
        listed = (await client.get("/api/apps")).json()["apps"]
        assert listed == [{"name": "app", "prefix": "/", "state": "running", "requests": 1, "replaced": 1}]
        metrics = (await client.get("/metrics")).text
        assert 'gothreads_calls_total{app="app",kind="export",name="add",outcome="ok"} 2.0' in metrics
    within = Within()
    talk(lambda: keeps(within), conversation)


def test_a_call_that_takes_longer_than_the_drain_ends_with_the_old_instance() -> None:
    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        stuck = asyncio.create_task(call(client, "hang"))
        await until(lambda: apps.current[0].statistics().calls_in_progress)
        await restart(client)
        assert (await stuck).status_code == 503
        assert (await call(client, "double", 4)).json() == {"result": 8}
    talk(keeps, conversation, drain=0.05)


def test_items_that_are_being_sent_come_to_their_end() -> None:
    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        old, begun, go_on, body = apps.current[0], asyncio.Event(), asyncio.Event(), bytearray()

        async def send(message: Any) -> None:
            body.extend(message.get("body", b""))
            if message.get("body"):
                begun.set()
                await go_on.wait()
        arguments = [json.dumps({"args": [20_000]}).encode()]

        async def receive() -> Any:
            if not arguments:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": arguments.pop()}
        scope = {"type": "http", "method": "POST", "path": "/api/call/count", "query_string": b"",
                 "headers": [(b"host", b"localhost")]}
        items = asyncio.create_task(apps.deployments[0](scope, receive, send))
        await begun.wait()
        await restart(client)
        assert apps.current[0] is not old
        go_on.set()
        await items
        assert json.loads(body) == {"result": [*range(20_000)]}
        await until(lambda: old.state is gothreads.State.CLOSED)
    talk(lambda: opened("typed"), conversation)


def test_events_that_are_queued_are_taken_before_the_old_instance_ends() -> None:
    taking, go_on, taken = threading.Event(), threading.Event(), []

    def plan(payload: bytes) -> str:
        if payload == b"more":
            taking.set()
            go_on.wait(PATIENCE)
            taken.append(payload)
        return ""

    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        old = apps.current[0]
        await until(lambda: "more" in old.events)
        for _ in range(100):
            assert (await client.post("/api/signal/more", content=b"x")).status_code == 202
        await until(taking.is_set)  # Go takes some more ahead
        restarted, answered = asyncio.create_task(restart(client)), 0
        await until(lambda: len(apps.deployments[0].apps) == 2)
        while not restarted.done():  # the old one settles first, for seconds: who calls does not wait for that
            assert (await call(client, "double", 4)).json() == {"result": 8}
            answered += 1
        assert answered > 10
        assert (await restarted).status_code == 200
        assert apps.current[0] is not old
        assert (await call(client, "double", 4)).json() == {"result": 8}
        assert old.state is gothreads.State.RUNNING
        go_on.set()
        await until(lambda: old.state is gothreads.State.CLOSED)
        assert len(taken) == 100
    talk(lambda: keeps(plan=plan), conversation)


@pytest.mark.parametrize(("moments", "said"), [
    ({"save": ["refuse"]}, "as planned"),
    ({"load": ["refuse"]}, "as planned"),
    ({"load": ["panic"]}, "the module has ended: panic: as planned"),
    ({"start": ["", "exit"]}, "the module has ended: exit code 3"),
])
def test_if_the_new_instance_cannot_begin_the_old_one_goes_on(moments: dict[str, list[str]], said: str,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        old = apps.current
        assert (await call(client, "add", 5)).json() == {"result": 5}
        reply = await restart(client)
        assert reply.status_code == 409
        assert reply.json()["error"].startswith("the app goes on as it was: ")
        assert said in reply.json()["error"]
        assert apps.current == old
        assert apps.deployments[0].apps == old
        assert said in (await client.get("/healthz")).json()["not_replaced"]
        page = (await client.get("/")).text
        assert "Not replaced" in page
        assert said in page
        assert (await call(client, "add", 1)).json() == {"result": 6}
        assert (await restart(client)).status_code == 200
        assert "not_replaced" not in (await client.get("/healthz")).json()
        assert "Not replaced" not in (await client.get("/")).text
        assert (await call(client, "add", 1)).json() == {"result": 7}
    plan = Plan(**moments)
    talk(lambda: keeps(plan=plan), conversation)
    assert "app is not replaced, and goes on as it was: " in caplog.text


def test_a_reason_that_has_not_changed_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        for expected in (409, 409, 200, 409):
            assert (await restart(client)).status_code == expected
            assert ("not_replaced" in (await client.get("/healthz")).json()) == (expected == 409)
    plan = Plan(save=["refuse", "refuse", "", "refuse"])
    talk(lambda: keeps(plan=plan), conversation)
    assert [("as planned" in text, "still" in text) for record in caplog.records
            if "not replaced" in (text := record.getMessage())] == [(True, False), (False, True), (True, False)]


def test_while_state_goes_over_calls_wait_and_probes_do_not() -> None:
    saving, go_on = threading.Event(), threading.Event()

    def plan(payload: bytes) -> str:
        if payload == b"save":
            saving.set()
            go_on.wait(PATIENCE)
        return ""

    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        await call(client, "add", 5)
        restarted = asyncio.create_task(restart(client))
        await until(saving.is_set)
        late = [asyncio.create_task(call(client, "add", 1)) for _ in range(5)]
        for path in ("/livez", "/readyz", "/healthz", "/", "/metrics"):
            assert (await client.get(path)).status_code == 200
        assert not any(task.done() for task in late)
        go_on.set()
        assert (await restarted).status_code == 200
        assert sorted([(await task).json()["result"] for task in late]) == [6, 7, 8, 9, 10]
    talk(lambda: keeps(plan=plan), conversation)


def test_a_state_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        old = apps.current
        reply = await restart(client)
        assert (reply.status_code, reply.json()) == (409, {
            "error": "the app goes on as it was: app: its state was not handed over within 0.1 s (handlers `save` and "
                     "`load`)"})
        assert apps.current == old
        assert (await call(client, "double", 4)).json() == {"result": 8}
    monkeypatch.setattr("gothreads.serve.deployment.HAND_OVER_SECONDS", 0.1)
    plan = Plan(save=["hang"])
    talk(lambda: keeps(plan=plan), conversation)


class HeldOpens:
    """Opens apps. Each but the first is held until `go_on` is set."""

    def __init__(self) -> None:
        self.opening, self.go_on = threading.Event(), threading.Event()
        self.apps: list[Served] = []

    def __call__(self) -> Served:
        if self.apps:
            self.opening.set()
            self.go_on.wait(PATIENCE)
        self.apps.append(keeps())
        return self.apps[-1]


def test_who_asks_during_a_replacement_gets_one_that_begins_after_it() -> None:
    opens = HeldOpens()

    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(restart(client))
        await until(opens.opening.is_set)
        others = [asyncio.create_task(restart(client)) for _ in range(5)]
        await until(lambda: apps.deployments[0].requests == 6)
        opens.go_on.set()
        assert [(await task).status_code for task in (first, *others)] == [200] * 6
        assert len(opens.apps) == 3
        assert apps.current == opens.apps[-1:]
    talk(opens, conversation)


def test_what_is_opened_after_the_end_is_closed(nothing_left: None) -> None:
    opens = HeldOpens()

    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        asyncio.create_task(restart(client))  # noqa: RUF006 - it is cancelled when the loop ends
        await until(opens.opening.is_set)
    talk(opens, conversation)
    assert [app.state for app in opens.apps] == [gothreads.State.CLOSED]
    opens.go_on.set()
    wait_until(lambda: [app.state for app in opens.apps] == [gothreads.State.CLOSED] * 2)


def test_who_has_asked_for_a_replacement_is_told_that_the_server_stops(nothing_left: None) -> None:
    opens = HeldOpens()

    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        asked = [asyncio.create_task(restart(client))]
        await until(opens.opening.is_set)
        asked.append(asyncio.create_task(restart(client)))  # for the replacement after it
        await until(lambda: apps.deployments[0].requests == 2)
        await asyncio.to_thread(apps.close)
        for reply in [await task for task in asked] + [await restart(client)]:
            assert (reply.status_code, reply.json()) == (503, {"error": "app: the server is stopping"})
        assert len(opens.apps) == 1
    try:
        talk(opens, conversation)
    finally:
        opens.go_on.set()
    wait_until(lambda: [app.state for app in opens.apps] == [gothreads.State.CLOSED] * 2)


def test_the_end_of_the_server_waits_for_nobody_who_has_asked_for_a_replacement(calls: Path, tmp_path: Path) -> None:
    file, begun = tmp_path / "host.py", tmp_path / "begun"
    file.write_text(HOST)
    with running("--allow-restart", "--drain", 10 * PATIENCE, "--python", file, calls) as server:
        file.write_text(f"import pathlib, time\n{HOST}pathlib.Path({str(begun)!r}).touch()\ntime.sleep(100000)\n")
        with ThreadPoolExecutor(1) as threads:
            name = server.client.get("/api/apps").json()["apps"][0]["name"]
            asked = threads.submit(server.client.post, f"/api/apps/{name}/restart")
            wait_until(begun.exists)
            server.process.send_signal(signal.SIGTERM)
            assert (asked.result().status_code, asked.result().json()) == (
                503, {"error": f"{name}: the server is stopping"})
        assert server.end(PATIENCE)[0] == 0


def test_an_app_that_has_ended_is_replaced_without_its_state() -> None:
    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        await call(client, "add", 5)
        assert (await call(client, "crash")).status_code == 503
        assert (await client.get("/livez")).status_code == 503
        assert (await restart(client)).status_code == 200
        assert (await client.get("/livez")).status_code == 200
        assert (await call(client, "add", 1)).json() == {"result": 1}
    talk(keeps, conversation)


def test_a_supervised_app_keeps_its_state_when_it_is_replaced_and_when_it_ends_then() -> None:
    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        await call(client, "add", 5)
        assert (await restart(client)).status_code == 200
        assert (await call(client, "add", 1)).json() == {"result": 6}
        assert (await call(client, "crash")).status_code == 503
        assert (await call(client, "add", 1)).json() == {"result": 6}  # what was saved at the replacement, and 1
        (app,) = apps.current
        assert isinstance(app, gothreads.Supervised)
        assert app.supervision().restarts == 1
    talk(lambda: keeps(kind=gothreads.supervise, backoff=SOON, on_restart=lambda restart: None), conversation)


def test_clients_may_not_restart_apps_unless_they_are_allowed_to(calls: Path) -> None:
    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        old = apps.current
        refused = await restart(client)
        assert (refused.status_code, refused.json()) == (403, {
            "error": "clients of this server may not restart apps. To allow that to all of them: gothreads serve "
                     "--allow-restart"})
        assert apps.current == old
    talk(lambda: gothreads.open(calls), conversation, may_restart=False)
    with running("--allow-restart", calls) as server:
        reply = server.client.post("/api/apps/nothing/restart")
        name = server.client.get("/api/apps").json()["apps"][0]["name"]
        assert (reply.status_code, reply.json()) == (404, {
            "error": f"there is no app 'nothing'; there are: {name}", "known": [name]})
        assert server.call("count").json() == {"result": 1}
        assert server.client.post(f"/api/apps/{name}/restart").json() == {"restarted": True}
        assert server.call("count").json() == {"result": 1}
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == (0, f"gothreads: {name} is replaced\ngothreads: stopped by SIGTERM\n")


@pytest.mark.parametrize("more", [[], ["--restart"]])
def test_the_new_instance_has_the_sockets_of_the_old_one(calls: Path, more: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running("--allow-restart", *more, "--listen", f"127.0.0.1:{port}", calls) as server:
        name = server.client.get("/api/apps").json()["apps"][0]["name"]
        for _ in range(2):
            assert server.client.post(f"/api/apps/{name}/restart").json() == {"restarted": True}
            socket.create_connection(("127.0.0.1", port)).close()


# Keys and limits.

@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.txt")


def test_with_keys_an_app_is_replaced_by_those_with_the_right(keys: Keys) -> None:
    operator, other = keys.new("operator", "restart"), keys.new("other", "call/*", "metrics")

    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        old = apps.current
        for key, status, why in ((None, 401, "an API key or token is needed: Authorization: Bearer KEY"),
                                 (bearer("gtk_wrong"), 401, "the API key is unknown"),
                                 (other, 403, "other has no right to 'restart'")):
            reply = await restart(client, key)
            assert (reply.status_code, reply.json()) == (status, {"error": why})
        assert (await client.post("/api/apps/nothing/restart")).status_code == 401
        assert (await client.post("/api/apps/nothing/restart", headers=other)).status_code == 404
        assert apps.current == old
        assert (await restart(client, operator)).json() == {"restarted": True}
        assert apps.current != old
        assert (await client.get("/api/apps")).status_code == 401
        assert (await client.get("/api/apps", headers=other)).json()["apps"][0]["replaced"] == 1
        assert (await client.get("/metrics", headers=operator)).status_code == 403
        assert (await client.get("/metrics", headers=other)).status_code == 200
    for may_restart in (True, False):
        talk(keeps, conversation, may_restart=may_restart, api_keys=keys.path)


def test_why_an_app_is_not_replaced_is_for_those_with_a_key(keys: Keys) -> None:
    key = keys.new("operator")

    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        assert (await restart(client, key)).status_code == 409
        for path in ("/", "/healthz"):
            assert "as planned" in (await client.get(path, headers=key)).text
            assert "as planned" not in (await client.get(path)).text
    plan = Plan(save=["refuse"])
    talk(lambda: keeps(plan=plan), conversation, api_keys=keys.path)


def test_counts_and_keys_outlast_an_instance(keys: Keys) -> None:
    one, two, three = keys.new("one"), keys.new("two"), keys.new("three")
    within = Within()

    async def conversation(apps: Apps, client: httpx.AsyncClient) -> None:
        async def shown(metric: str) -> None:
            while metric not in (await client.get("/metrics", headers=two)).text:
                await asyncio.sleep(0.01)
        old = apps.current
        inside = asyncio.create_task(call(client, "hostwithin", 7, key=one))
        await until(within.entered.is_set)
        keys.path.write_text(keys.path.read_text() + "nonsense\n")  # with which no server starts
        assert (await restart(client, two)).json() == {"restarted": True}
        assert apps.current != old
        assert (await call(client, "double", 4, key=one)).status_code == 429
        waits = asyncio.create_task(call(client, "double", 4, key=two))
        await shown('gothreads_calls_waiting{app="app"} 1.0')
        assert (await call(client, "double", 4, key=three)).status_code == 503
        within.leave.set()
        assert (await inside).json() == {"result": 7}
        assert (await waits).json() == {"result": 8}
        assert (await call(client, "double", 4, key=one)).json() == {"result": 8}
        await shown('gothreads_calls_waiting{app="app"} 0.0')
    talk(lambda: keeps(within), conversation, api_keys=keys.path, max_calls=1, max_waiting=1, max_client_calls=1)


# Files that change.

def test_the_sources_of_a_program_are_the_go_files_of_its_module(tmp_path: Path) -> None:
    written(tmp_path / "module", SOURCE % 1)
    package = tmp_path / "module" / "cmd" / "app"
    package.mkdir(parents=True)
    (tmp_path / "host.py").touch()
    sources = Sources.of(package, tmp_path / "host.py")
    for name, is_one in {"module/main.go": True, "module/go.mod": True, "module/cmd/app/x.s": True, "host.py": True,
                         "module/main_test.go": False, "module/notes.txt": False, "other.go": False,
                         "module2/main.go": False, "other.py": False}.items():
        assert sources.have(tmp_path / name) is is_one, name
    assert Sources.of(tmp_path / "module" / "main.go").folders == {tmp_path / "module"}
    (tmp_path / "lone.go").touch()
    for place in (tmp_path / "lone.go", tmp_path):  # without go.mod
        sources = Sources.of(place)
        assert (*sources.files, *sources.folders, *sources.packages) == (tmp_path,)
        assert (sources.have(tmp_path / "other.go"), sources.have(tmp_path / "module" / "main.go")) == (True, False)
    with pytest.raises(gothreads.MisuseError, match="--watch is for files and folders, and example.org/app is neither"):
        Sources.of("example.org/app")


@contextlib.contextmanager
def reporting(*places: Path) -> Iterator[list[int]]:
    """The reports of a watcher of these places, each of which is an app's."""
    reports: list[int] = []
    watcher = Watcher([Sources.of(place) for place in places])
    watcher.report(lambda at, _changed: reports.append(at))
    try:
        yield reports
    finally:
        watcher.stop()


def point(link: Path, to: Path) -> None:
    """Let a link lead elsewhere, at once, as deployments do."""
    new = link.with_name("new")
    new.symlink_to(to)
    new.replace(link)


def test_a_folder_behind_a_link_that_is_swapped_is_watched_then(tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    for release in ("1", "2", "3"):
        written(tmp_path / "releases" / release, SOURCE % 1)
    point(tmp_path / "current", tmp_path / "releases" / "1")
    written(tmp_path / "other", SOURCE % 1)
    with reporting(tmp_path / "other", tmp_path / "current") as reports:
        for release, before in (("2", "1"), ("3", "2")):
            reports.clear()
            point(tmp_path / "current", Path("releases", release))
            wait_until(lambda: 1 in reports)
            reports.clear()
            (tmp_path / "releases" / release / "main.go").write_text(SOURCE % 2)
            wait_until(lambda: 1 in reports)
            (tmp_path / "releases" / before / "main.go").write_text(SOURCE % 3)  # of which nothing is made any more
        reports.clear()
        (tmp_path / "other" / "main.go").write_text(SOURCE % 2)
        wait_until(lambda: 0 in reports)


def test_a_file_behind_links_that_are_swapped_is_watched_then(tmp_path: Path, variants: tuple[Path, Path]) -> None:
    """As Kubernetes mounts files: app.wasm → ..data/app.wasm, ..data → a folder."""
    for name, module in zip(("one", "two"), variants, strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.wasm").write_bytes(module.read_bytes())
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "app.wasm").symlink_to("..data/app.wasm")
    with reporting(tmp_path / "app.wasm") as reports:
        point(tmp_path / "..data", Path("two"))
        wait_until(lambda: reports == [0])
        put(variants[0], tmp_path / "two" / "app.wasm")
        wait_until(lambda: len(reports) > 1)


def test_links_that_lead_in_a_circle_end_the_search(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(gothreads.MisuseError, match="is neither"):
        Sources.of(tmp_path / "a")


@pytest.mark.parametrize(("options", "said"), [
    (["/nosuch.wasm"], "there is no file /nosuch.wasm"),
    (["--python", "nosuch.py", "."], "there is no Python file nosuch.py"),
])
def test_a_file_that_is_not_there_is_not_watched(options: list[str], said: str) -> None:
    assert command("serve", "--watch", *options)[::2] == (1, f"gothreads: {said}\n")


@pytest.fixture
def variants(calls: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two modules that do the same: one has a section more, which means nothing."""
    other = tmp_path / "other.wasm"
    other.write_bytes(calls.read_bytes() + b"\0\x05\x04more")
    gothreads.open(other).close()  # compiled, and in the cache
    return calls, other


def put(content: Path, file: Path) -> None:
    """Replace a file at once, as tools do that build."""
    made = file.with_suffix(".new")
    shutil.copy(content, made)
    made.rename(file)


def replaced(server: Server) -> int:
    return int(server.client.get("/api/apps").json()["apps"][0]["replaced"])


@contextlib.contextmanager
def load(server: Server, threads: int) -> Iterator[list[httpx.Response]]:
    """Call all the time, from several threads. Yields the list that has all that were not answered right, in the end."""
    wrong: list[httpx.Response] = []
    over = threading.Event()

    def client(number: int) -> int:
        made = 0
        with httpx.Client(base_url=server.client.base_url, timeout=PATIENCE) as connection:
            while not over.is_set():
                add = connection.post("/api/call/add", json={"args": [number, made]})
                upper = connection.post("/api/request/upper", content=f"a{made}")
                if (add.text, upper.text) != (f'{{"result":{number + made}}}', f"A{made}"):
                    wrong.extend((add, upper))
                made += 1
        return made
    with ThreadPoolExecutor(threads) as clients:
        made = [clients.submit(client, number) for number in range(threads)]
        try:
            yield wrong
        finally:
            over.set()
    assert all(one.result() for one in made)


@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.long)])
def test_when_a_file_changes_under_load_no_request_fails(variants: tuple[Path, Path], tmp_path: Path,
                                                         times: int) -> None:
    file = tmp_path / "app.wasm"
    put(variants[0], file)
    with running("--watch", file) as server:
        with load(server, 6) as wrong:
            for number in range(times):
                put(variants[(number + 1) % 2], file)
                wait_until(lambda: replaced(server) > number)  # noqa: B023
        assert [(reply.status_code, reply.text) for reply in wrong] == []
        server.process.send_signal(signal.SIGTERM)
        code, said = server.end()
        assert code == 0
        assert set(said.splitlines()) == {f"gothreads: app.wasm: {file} has changed: opening it anew",
                                          "gothreads: app.wasm is replaced", "gothreads: stopped by SIGTERM"}


def test_a_file_that_is_no_module_is_told_and_the_old_one_goes_on_until_it_is_mended(calls: Path,
                                                                                     tmp_path: Path) -> None:
    file = tmp_path / "app.wasm"
    put(calls, file)
    with running("--watch", file) as server:
        file.write_bytes(b"no module")
        wait_until(lambda: "not_replaced" in server.client.get("/healthz").json())
        assert server.call("add", 2, 3).json() == {"result": 5}
        put(calls, file)
        wait_until(lambda: "not_replaced" not in server.client.get("/healthz").json())
        assert server.call("count").json() == {"result": 1}


@pytest.fixture
def watched(calls: Path, tmp_path: Path) -> Path:
    """A module that no other test touches, unlike those in the cache, which are touched whenever they are used."""
    return Path(shutil.copy(calls, tmp_path / "watched.wasm"))


def test_a_python_file_that_cannot_be_run_ends_no_server(watched: Path, tmp_path: Path) -> None:
    file = tmp_path / "host.py"
    file.write_text(HOST)
    with running("--watch", "--python", file, watched) as server:
        file.write_text(f"import sys\n{HOST}sys.exit('not today')\n")
        wait_until(lambda: "not today" in server.client.get("/healthz").json().get("not_replaced", ""))
        assert server.call("add", 2, 3).json() == {"result": 5}
        file.write_text(HOST)
        wait_until(lambda: replaced(server) >= 1)  # there may have been a moment when the file was empty
        assert server.call("add", 2, 3).json() == {"result": 5}


HOST = "import gothreads\nhost = gothreads.Host()\n"


def test_where_files_are_watched_sighup_replaces_and_an_app_that_ends_does_not_end_the_server(watched: Path) -> None:
    with running("--watch", watched) as server:
        assert server.call("hangups").json() == {"result": 0}
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: replaced(server) == 1)
        assert server.call("panics").status_code == 503
        assert server.client.get("/livez").status_code == 503
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: replaced(server) == 2)
        assert server.call("add", 2, 3).json() == {"result": 5}
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0


def test_a_server_that_watches_ends_with_its_terminal(watched: Path) -> None:
    ours, theirs = os.openpty()
    with running("--watch", watched, terminal=os.ttyname(theirs)) as server:
        os.close(theirs)
        assert server.client.get("/livez").status_code == 200
        os.close(ours)
        assert server.end(PATIENCE) == (0, "gothreads: stopped by SIGHUP\n")


def test_where_nothing_can_be_watched_no_server_starts(calls: Path) -> None:
    code = (f"import resource, gothreads.serve.watcher as watcher\n"
            f"resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
            f"watcher.Watcher([watcher.Sources.of({str(calls)!r})])\n")
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert failed.returncode == 1
    assert re.search(rf"GothreadsError: --watch cannot watch {re.escape(str(calls.parent))}: .*Too many open files",
                     failed.stderr)


SOURCE = """package main

//go:wasmexport version
func version() int64 { return %s }

func main() { select {} }
"""


@pytest.mark.long
def test_a_changed_source_is_built_and_an_error_in_it_is_shown(tmp_path: Path) -> None:
    folder = written(tmp_path / "program", SOURCE % 1)
    main = folder / "main.go"
    with running("--watch", folder) as server:
        assert server.call("version").json() == {"result": 1}
        main.write_text(SOURCE % 2)
        wait_until(lambda: server.call("version").json() == {"result": 2})
        main.write_text(SOURCE % "undefinedName")
        wait_until(lambda: "main.go:4:31: undefined: undefinedName" in server.client.get("/").text)
        assert server.call("version").json() == {"result": 2}
        main.write_text(SOURCE % 3)
        wait_until(lambda: server.call("version").json() == {"result": 3})
        server.process.send_signal(signal.SIGTERM)
        code, said = server.end()
        assert code == 0
        assert "main.go:4:31: undefined: undefinedName" in said


@pytest.mark.long
def test_the_end_does_not_wait_for_a_build(tmp_path: Path) -> None:
    folder = written(tmp_path / "program", SOURCE % 1)
    with running("--watch", folder) as server:
        (folder / "main.go").write_text(SOURCE % 2)
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0
