"""Profiles over HTTP, under the paths of net/http/pprof."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

import gothreads
from gothreads.profiles.profile import Profile
from gothreads.runtime.models.threaded import ThreadedApp
from gothreads.serve import profiling
from gothreads.serve.apps import Apps, Hosted
from gothreads.serve.options import WebOptions
from tests.serve.test_dashboard import talk
from tests.support.go_tools import go_tool
from tests.support.keys import Keys
from tests.support.server import running
from tests.support.waiting import PATIENCE, wait_until

HEAD = "/debug/pprof/"


def hosted(calls: Path, *names: str, **options: Any) -> list[Hosted]:
    return [Hosted(lambda: gothreads.open(calls), cast(WebOptions, options), name, f"/{name}" if len(names) > 1 else "/")
            for name in names or ("app",)]


async def served(client: httpx.AsyncClient, path: str) -> httpx.Response:
    return await client.get(HEAD + path, timeout=PATIENCE)


def test_profiles_are_where_go_has_them(calls: Path) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        hanging = asyncio.create_task(client.post("/api/call/hang"))
        cpu = await served(client, "profile?seconds=0.2")
        assert (cpu.status_code, Profile.decode(cpu.content).kind) == (200, "cpu")
        assert cpu.headers["content-disposition"] == 'attachment; filename="profile.pb.gz"'
        for path, kind in (("goroutine", "goroutine"), ("heap?seconds=0.1", "heap"), ("allocs?seconds=0.1", "heap"),
                           ("block?seconds=0.1", "block")):
            found = await served(client, path)
            assert (found.status_code, Profile.decode(found.content).kind) == (200, kind)
        assert (await served(client, "trace?seconds=0.1")).content.startswith(b"go 1.")
        stacks = await served(client, "goroutine?debug=2")
        assert "main.hang" in stacks.text
        graph = await served(client, "goroutine?format=svg")
        assert graph.headers["content-type"] == "image/svg+xml"
        assert graph.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
        assert "/debug/pprof/profile?seconds=5" in (await served(client, "")).text
        hanging.cancel()
    talk(hosted(calls), conversation)


def test_flame_graphs_are_made_on_a_thread(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[threading.Thread] = []
    flame_graph = Profile.flame_graph

    def noted(self: Profile) -> str:
        made.append(threading.current_thread())
        return flame_graph(self)
    monkeypatch.setattr(Profile, "flame_graph", noted)

    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        for path in ("goroutine?format=svg", "block?seconds=0.05&format=svg"):
            assert (await served(client, path)).status_code == 200
        assert len(made) == 2
        assert threading.current_thread() not in made
    talk(hosted(calls), conversation)


def test_stacks_are_listed_one_at_a_time_and_cut(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "_MOST_STACKS", 20)
    listing: list[object] = []
    most = 0
    goroutines = ThreadedApp._goroutines

    def noted(self: ThreadedApp, timeout: float | None) -> Any:
        nonlocal most
        listing.append(self)
        most = max(most, len(listing))
        time.sleep(0.05)  # the others would come meanwhile
        found = goroutines(self, timeout)
        listing.pop()
        return found
    monkeypatch.setattr(ThreadedApp, "_goroutines", noted)

    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(served(client, path) for path in ("goroutine", "goroutine?debug=1") * 2),
                                       client.get("/api/apps/app/goroutines", timeout=PATIENCE))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert most == 1
        assert answers[1].text.endswith(" characters more")
        assert answers[4].text == answers[1].text
    talk(hosted(calls), conversation)


def test_an_app_that_does_not_answer_is_told(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(self: ThreadedApp, timeout: float | None) -> Any:
        raise TimeoutError  # as concurrent.futures says it: without a word
    monkeypatch.setattr(ThreadedApp, "_goroutines", stuck)

    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        for path in ("goroutine", "goroutine?debug=1"):
            found = await served(client, path)
            assert (found.status_code, found.text) == (504, "Go did not answer within 5 s\n")
    talk(hosted(calls), conversation)


@pytest.mark.parametrize(("path", "status", "told"), [
    ("nothing", 404, "there is no profile 'nothing'; there are: cpu, block"),
    ("profile?seconds=x", 400, "seconds must be a number of at most 3,600, not 'x'"),
    ("profile?seconds=-1", 400, "seconds must be a number from 0"),
    ("profile?seconds=nan", 400, "seconds must be a number from 0"),
    ("profile?seconds=1e9", 400, "seconds must be a number from 0 to 3,600"),
    ("profile?rate=5000", 400, "must be a whole number from 1 to 1,000"),
    ("profile?rate=inf", 400, "rate must be a whole number, not 'inf'"),
    ("heap", 409, "Go samples no allocations in this program"),
])
def test_what_is_wrong_is_told_as_text(calls: Path, path: str, status: int, told: str) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        found = await served(client, path)
        assert (found.status_code, told in found.text) == (status, True), found.text
        assert (found.headers["content-type"], found.headers["x-go-pprof"]) == ("text/plain; charset=utf-8", "1")
    talk(hosted(calls), conversation)


def test_of_several_apps_one_is_named(calls: Path) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        which = await served(client, "goroutine")
        assert (which.status_code, which.json()["known"]) == (400, ["one", "two"])
        assert (await served(client, "goroutine?app=three")).status_code == 404
        assert (await served(client, "goroutine?app=two")).status_code == 200
    talk(hosted(calls, "one", "two"), conversation)


def test_who_may_not_see_stacks_gets_no_profile(calls: Path, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    seer, caller = keys.new("seer", "inspect"), keys.new("caller", "call/*", "metrics")

    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        for path in ("", "profile?seconds=0.1", "heap", "nothing"):
            assert (await client.get(HEAD + path)).status_code == 401
            assert (await client.get(HEAD + path, headers=caller)).status_code == 403
        assert (await client.get(HEAD + "goroutine", headers=seer)).status_code == 200
    talk(hosted(calls, api_keys=str(keys.path)), conversation)


def test_without_keys_only_this_machine_gets_profiles(calls: Path) -> None:
    async def conversation(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        assert (await client.get(HEAD + "goroutine")).status_code == 403
    talk(hosted(calls), conversation, is_local=False)

    async def proxied(apps: Apps, web: Any, client: httpx.AsyncClient) -> None:
        assert (await client.get(HEAD + "goroutine", headers={"X-Forwarded-For": "10.0.0.1"})).status_code == 403
    talk(hosted(calls), proxied)


def test_a_client_that_leaves_ends_its_profile(calls: Path) -> None:
    with running(calls) as server:
        with pytest.raises(httpx.ReadTimeout):
            server.client.get(f"{HEAD}block?seconds=3600", timeout=1)
        wait_until(lambda: server.client.get(f"{HEAD}block?seconds=0.05").status_code == 200)


def test_go_tool_pprof_fetches_a_profile(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(calls) as server:
        server.begin("spin")
        url = f"{server.client.base_url}{HEAD}profile?seconds=1".replace("0//", "0/")
        monkeypatch.setenv("PPROF_TMPDIR", str(tmp_path))
        assert "main.spin" in go_tool("pprof", "-top", url)
