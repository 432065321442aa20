"""/metrics: what Prometheus reads."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import gothreads
from gothreads.serve.served import Served
from tests.support.command_line import command
from tests.support.modules import built, opened
from tests.support.server import running
from tests.support.waiting import wait_until
from tests.support.web import talk

Labels = frozenset[tuple[str, str]]


def parsed(text: str) -> dict[str, dict[Labels, float]]:
    """The samples, by name and by labels, without the app's."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset((name, value) for name, value in sample.labels.items() if name != "app")
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


class Scraped(dict[str, dict[Labels, float]]):
    """Samples; scraped("calls_total", kind="export") has the sum of those with that label."""

    def __call__(self, name: str, /, **labels: str) -> float:
        return sum(value for has, value in self[f"gothreads_{name}"].items() if labels.items() <= set(has))


async def scrape(client: httpx.AsyncClient) -> Scraped:
    reply = await client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return Scraped(parsed(reply.text))


def test_calls_over_http_are_counted_by_what_they_call_and_how_they_end(app: gothreads.App) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        for _ in range(3):
            await client.post("/api/call/add", json={"args": [2, 3]})
        await client.post("/api/call/add", json={"args": [2]})
        await client.post("/api/call/add", content="{")
        await client.post("/api/request/upper", content="x")
        await client.post("/api/request/fail", content="x")
        app.exports.add(2, 3)  # which is no call over HTTP
        found = await scrape(client)
        assert found["gothreads_calls_total"] == {
            frozenset({("kind", "export"), ("name", "add"), ("outcome", "ok")}): 3,
            frozenset({("kind", "export"), ("name", "add"), ("outcome", "wrong_arguments")}): 1,
            frozenset({("kind", "export"), ("name", "add"), ("outcome", "refused")}): 1,
            frozenset({("kind", "handler"), ("name", "upper"), ("outcome", "ok")}): 1,
            frozenset({("kind", "handler"), ("name", "fail"), ("outcome", "error")}): 1}
        assert found("call_seconds_count", name="add") == 5
        assert found("call_seconds_bucket", name="add", le="+Inf") == 5
        assert found("calls_in_flight") == 0
        assert found("module_calls_total") >= 6
    talk(app, conversation)


def test_bytes_are_counted_in_both_directions(app: gothreads.App) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 100
        assert (await client.post("/api/request/echo", content=pieces())).content == b"x" * 300
        assert (await client.post("/api/request/echo", content="yy")).content == b"yy"
        await client.post("/api/call/add", content='{"args": [2]}')
        found = await scrape(client)
        assert found("received_bytes_total", kind="handler", name="echo") == 302
        assert found("sent_bytes_total", kind="handler", name="echo") == 302
        assert found("received_bytes_total", kind="export", name="add") == len('{"args": [2]}')
        assert found("sent_bytes_total", kind="export") == 0  # an error
    talk(app, conversation)


def test_bytes_of_what_is_streamed_are_counted_as_they_go() -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        items = (await client.post("/api/call/count", json={"args": [20_000]})).content
        found = await scrape(client)
        assert found("sent_bytes_total", kind="function", name="count") == len(items)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"abc"
        assert (await client.post("/api/call/lines", content=pieces())).status_code == 200
        assert (await scrape(client))("received_bytes_total", kind="function", name="lines") == 9
    with opened("typed") as typed:
        talk(typed, conversation)


def test_answers_that_break_off_are_counted() -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        reply = await client.post("/api/call/scan", json={"args": ["a", ""]})
        assert reply.json() == {"result": ["a"], "error": "line 1: empty"}
        found = await scrape(client)
        assert found("calls_total", kind="function", name="scan", outcome="ok") == 1
        assert found("answers_broken_off_total", kind="function", name="scan", outcome="error") == 1
    with opened("typed") as typed:
        talk(typed, conversation)


def test_names_that_clients_invent_are_not_labels(app: gothreads.App) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        for number in range(50):
            for kind in ("call", "request", "signal"):
                assert (await client.post(f"/api/{kind}/invented{number}")).status_code in (404, 504)
        text = (await client.get("/metrics")).text
        assert "invented" not in text
        found = Scraped(parsed(text))
        assert {kind: found("calls_total", kind=kind, name="") for kind in ("export", "handler", "event")} == {
            "export": 50, "handler": 50, "event": 50}
    talk(app, conversation)


def test_what_the_module_does_is_read_from_its_statistics(app: gothreads.App) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        hanging = [asyncio.create_task(client.post("/api/call/hang")) for _ in range(3)]
        await asyncio.to_thread(wait_until, lambda: app.statistics().calls_in_progress == 3)
        assert (await client.post("/api/call/heap")).status_code == 200  # two collections
        found = await scrape(client)
        assert (found("up"), found("calls_in_flight"), found("module_calls_in_progress")) == (1, 3, 3)
        assert (found("callers", state="in_use"), found("callers_limit"), found("waiting")) == (3, 64, 0)
        assert found("memory_bytes") > 1 << 20
        assert found("memory_limit_bytes") >= found("memory_bytes")
        assert found("go_goroutines", state="waiting") >= 3
        assert found("go_procs") == app.exports.procs()
        assert 0 <= found("go_procs_busy") <= found("go_procs")
        assert found("go_gc_cycles_total") >= 1
        assert 0 < found("go_gc_pause_seconds_total") < found("uptime_seconds")
        assert found("go_heap_bytes") > 0
        assert found("threads", state="running") > 0
        assert found("go_ms") > 0
        app.close()
        assert {reply.status_code for reply in await asyncio.gather(*hanging)} == {503}
        found = await scrape(client)
        assert found("up") == 0
        assert found("calls_total", name="hang", outcome="ended") == 3
        assert "gothreads_go_procs" not in found
    talk(app, conversation)


def test_typed_functions_and_timeouts_are_counted(tmp_path: Path) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        await client.post("/api/call/add", json={"args": [2, 3]})
        assert (await client.post("/api/call/pause", json={"args": [600]})).status_code == 504
        found = await scrape(client)
        assert found("calls_total", kind="function", name="add", outcome="ok") == 1
        assert found("calls_total", kind="function", name="pause", outcome="timeout") == 1
    with opened("typed") as app:
        talk(app, conversation, timeout=1)


def test_queued_events_are_counted() -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        for _ in range(3):
            await client.post("/api/signal/text", content="x")
        found = await scrape(client)
        assert found("events_queued", name="text") == 2
        assert found("calls_total", kind="event", name="text", outcome="ok") == 2
        assert found("calls_total", kind="event", name="text", outcome="busy") == 1
    with gothreads.open(built("talk", model="single"), event_queue=2) as app:  # which receives events during calls only
        app.wait_idle(10)
        talk(app, conversation)


def test_restarts_are_counted_by_their_cause(calls: Path) -> None:
    def of(app: Served, look: Callable[[Scraped], None]) -> None:
        async def conversation(client: httpx.AsyncClient) -> None:
            look(await scrape(client))
        talk(app, conversation)

    def look(found: Scraped) -> None:
        assert found["gothreads_restarts_total"] == {frozenset({("cause", "GuestPanic")}): 1}
        assert (found("up"), found("down_seconds") > 0) == (0, True)
    backoff = gothreads.Backoff(first=100, most=100, jitter=0)
    with open(os.devnull, "wb") as null, gothreads.supervise(calls, stderr=null, while_down="fail", backoff=backoff,
                                                             on_restart=lambda restart: None) as supervised:
        with pytest.raises(gothreads.GuestPanic):
            supervised.exports.panics()
        wait_until(lambda: supervised.supervision().next_try_seconds)
        of(supervised, look)


def test_a_pool_has_its_instances(calls_single: Path) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        found = await scrape(client)
        assert (found("instances", state="idle"), found("instances_limit"), found("waiting")) == (2, 2, 0)
    with gothreads.open(calls_single, model="pool", instances=2) as app:
        talk(app, conversation)


def test_metrics_may_have_an_address_of_their_own(calls: Path) -> None:
    with running("--metrics-address", "127.0.0.1:0", calls) as server:
        line = server.process.stderr.readline()  # type: ignore[union-attr]
        found = re.fullmatch(r"gothreads: metrics are at (http://127\.0\.0\.1:\d+)/metrics \(there only, as are "
                             r"/dashboard and /debug/pprof: gothreads top \1\)\n", line)
        assert found, line
        assert server.call("add", 2, 3).status_code == 200
        assert server.client.get("/metrics").status_code == 404
        with httpx.Client(base_url=found[1]) as client:
            assert Scraped(parsed(client.get("/metrics").text))("calls_total", name="add") == 1
            assert client.get("/metrics", headers={"Host": "evil.example"}).status_code == 421
            assert {client.get(path).status_code for path in ("/", "/api/exports", "/healthz")} == {404}


@pytest.mark.parametrize("address", ["9100", ":9100", "::1:9100", "[::1]", "127.0.0.1:x", "127.0.0.1:99999"])
def test_an_address_is_host_and_port(address: str) -> None:
    code, _, err = command("serve", "--metrics-address", address, "x.wasm")
    assert code == 2
    assert "--metrics-address" in err
