"""The HTTP interface, in this process: a real module behind the ASGI application."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gothreads
from gothreads.serve import guard
from tests.support.host_functions import host as given_all
from tests.support.modules import built, opened
from tests.support.patient import counts, patient
from tests.support.waiting import PATIENCE, wait_until
from tests.support.web import ask, call, talk


@pytest.fixture(scope="module")
def shared(calls: Path) -> Iterator[gothreads.App]:
    """One app for the tests that do not end it."""
    with open(os.devnull, "wb") as null, gothreads.open(calls, stderr=null) as running:
        yield running


@pytest.mark.parametrize(("export", "args", "result"), [
    ("add", [2, 3], "5"),
    ("bools", [True], "false"),
    ("uint64s", [2**64 - 1], "18446744073709551615"),
    ("int64s", [-2**63], "-9223372036854775808"),
    ("float64s", [0.5], "0.5"),
    ("length", ["h\u00e9"], "3"),
    ("ask", [21], "42"),
    ("sleep", [0], "null"),
])
def test_a_call_gives_its_result(shared: gothreads.App, export: str, args: list[Any], result: str) -> None:
    reply = call(shared, export, *args)
    assert (reply.status_code, reply.text) == (200, f'{{"result":{result}}}')


def test_when_memory_has_run_out_clients_get_503_without_the_advice_which_the_server_has(calls: Path) -> None:
    limits = gothreads.Limits(memory=64 << 20)
    with open(os.devnull, "wb") as null, gothreads.open(calls, stderr=null, limits=limits) as app:
        reply = call(app, "fill", 200)
        assert reply.status_code == 503
        assert reply.json()["error"].endswith("the module has ended: fatal error: out of memory")
        health = ask(app, "GET", "/healthz")
        assert (health.status_code, health.json()["error"]) == (503, reply.json()["error"])
        assert "the limit on memory, 64 MiB, is reached. Raise it (--memory SIZE" in str(app.error)


def test_an_empty_body_means_no_arguments(shared: gothreads.App) -> None:
    assert ask(shared, "POST", "/api/call/procs").json() == {"result": shared.options.procs}
    assert ask(shared, "POST", "/api/call/procs", content="{}").json() == {"result": shared.options.procs}


def test_what_json_has_no_number_for_is_a_string(shared: gothreads.App) -> None:
    assert ask(shared, "POST", "/api/call/float64s", content='{"args": [-Infinity]}').json() == {"result": "-inf"}
    assert ask(shared, "POST", "/api/call/float64s", content='{"args": [NaN]}').json() == {"result": "nan"}


def test_an_unknown_export_gives_404_with_those_there_are(shared: gothreads.App) -> None:
    reply = call(shared, "ad", 2)
    assert reply.status_code == 404
    assert reply.json()["known"] == sorted(shared.exports)
    assert reply.json()["error"].startswith("the module has no export 'ad'. Did you mean 'add'? It has: add, ask,")


def test_an_unknown_handler_gives_404_with_those_there_are(shared: gothreads.App) -> None:
    reply = ask(shared, "POST", "/api/request/down", content=b"x")
    assert reply.status_code == 404
    assert reply.json()["known"] == ["echo", "fail", "keep", "kept", "panic", "reverse", "upper"]


def test_an_export_is_not_a_handler_and_the_errors_say_where_each_is(shared: gothreads.App) -> None:
    reply = ask(shared, "POST", "/api/request/add", content=b"x")
    assert reply.json()["error"].endswith(". There is an export of that name: /api/call/add")
    reply = call(shared, "upper")
    assert reply.json()["error"].endswith(". There is a handler of that name: /api/request/upper")
    assert "app." not in call(shared, "nope").json()["error"]


def test_an_unknown_path_and_a_wrong_method_say_what_there_is(shared: gothreads.App) -> None:
    reply = ask(shared, "GET", "/api")
    assert reply.status_code == 404
    said = reply.json()["error"]
    assert said.startswith("there is no /api; there are: /, /healthz, /api/exports, /api/call/NAME, /api/request/NAME, ")
    assert "{" not in said
    reply = ask(shared, "GET", "/api/call/add")
    assert (reply.status_code, reply.json()) == (405, {"error": "/api/call/add does not allow GET; use POST"})


@pytest.mark.parametrize(("export", "args", "said"), [
    ("add", [2], "add takes 2 arguments, 1 given: func add(a, b int32) int32"),
    ("add", [2, 2**31], "2147483647 (Go: int32): got 2147483648"),
    ("add", [2, "3"], "add: argument 'b' must be an int"),
    ("add", [2, None], "add: argument 'b' must be an int"),
    ("add", [2, True], "add: argument 'b' must be an int"),
    ("add", [2, 1.5], "add: argument 'b' must be an int"),
    ("bools", [1], "bools: argument 'v' must be bool"),
    ("length", [["x"]], "length: argument 's' must be str"),
    ("length", ["\ud800"], "length: argument 's' must be"),
    ("float32s", [1e39], "float32s: argument 'v' must be float"),
])
def test_wrong_arguments_give_422_and_what_was_expected(shared: gothreads.App, export: str, args: list[Any],
                                                        said: str) -> None:
    reply = ask(shared, "POST", f"/api/call/{export}", content=json.dumps({"args": args}))
    assert reply.status_code == 422
    assert said in reply.json()["error"]


@pytest.mark.parametrize("body", [
    "{", "[1, 2]", "3", '{"args": 3}', '{"args": [], "more": 1}', '{"arg": []}', "[" * 100_000, "\0",
    '{"args": [1' + "0" * 5000 + "]}"])
def test_a_malformed_body_gives_400(shared: gothreads.App, body: str) -> None:
    reply = ask(shared, "POST", "/api/call/add", content=body)
    assert reply.status_code == 400
    assert "args" in reply.json()["error"]


@pytest.mark.long
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary() | st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists).map(
    lambda value: repr(value).replace("'", '"').encode(errors="replace")).map(lambda text: b'{"args": ' + text + b"}"))
def test_no_body_is_the_servers_fault_or_the_modules_end(shared: gothreads.App, body: bytes) -> None:
    assert ask(shared, "POST", "/api/call/compare", content=body).status_code in (200, 400, 422)
    assert shared.state.value == "running"


def test_a_handler_gets_the_body_and_gives_the_body(shared: gothreads.App) -> None:
    every = bytes(range(256)) * 4096
    reply = ask(shared, "POST", "/api/request/echo", content=every)
    assert (reply.status_code, reply.content, reply.headers["content-type"]) == (200, every, "application/octet-stream")
    assert ask(shared, "POST", "/api/request/echo", content=b'{"a": 1}').headers["content-type"] == "application/json"
    assert ask(shared, "POST", "/api/request/echo").content == b""


def test_a_handlers_error_gives_422_with_its_text(shared: gothreads.App) -> None:
    reply = ask(shared, "POST", "/api/request/fail", content=b"<b>")
    assert (reply.status_code, reply.json()) == (422, {"error": "no: <b>"})


def test_a_body_that_is_too_large_gives_413(shared: gothreads.App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LARGEST_BODY", 1000)
    assert ask(shared, "POST", "/api/request/echo", content=b"x" * 1000).status_code == 200
    reply = ask(shared, "POST", "/api/request/echo", content=b"x" * 1001)
    assert (reply.status_code, reply.json()) == (413, {"error": "the body is larger than 1,000 bytes"})


def test_pages_of_other_sites_may_not_call(shared: gothreads.App) -> None:
    assert ask(shared, "POST", "/api/call/add", json={"args": [1, 2]},
               headers={"Origin": "http://localhost"}).status_code == 200
    for path in ("/api/call/add", "/api/request/echo"):
        reply = ask(shared, "POST", path, json={"args": [1, 2]}, headers={"Origin": "https://example.com"})
        assert (reply.status_code, "https://example.com" in reply.json()["error"]) == (403, True)


def test_exports_are_listed_with_their_signatures(shared: gothreads.App) -> None:
    told = ask(shared, "GET", "/api/exports").json()
    assert [e["name"] for e in told["exports"]] == list(shared.exports)
    add = told["exports"][0]
    assert (add["go"], add["result"], add["params"]) == (
        "func add(a, b int32) int32", "int32", [{"name": "a", "type": "int32"}, {"name": "b", "type": "int32"}])
    assert told["handlers"] == ["echo", "fail", "keep", "kept", "panic", "reverse", "upper"]


def test_the_page_has_a_form_for_each_export_and_handler(shared: gothreads.App) -> None:
    page = ask(shared, "GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.text.count("<form data-path=") == len(shared.exports) + len(shared.handlers())
    assert '<form data-path="/api/call/add">' in page.text
    assert '<form data-path="/api/request/upper">' in page.text
    assert "ask blocks until main has answered." in page.text


def test_health_is_200_while_the_module_runs_then_503_with_the_cause(app: gothreads.App) -> None:
    reply = ask(app, "GET", "/healthz")
    assert (reply.status_code, reply.json()) == (200, {"state": "running"})
    call(app, "exits", 3)
    app.wait()
    reply = ask(app, "GET", "/healthz")
    assert (reply.status_code, reply.json()["state"]) == (503, "exited")
    assert reply.json()["error"].endswith("the module has ended: exit code 3")


def test_all_calls_run_at_the_same_time(app: gothreads.App) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        waiting = [asyncio.create_task(client.post("/api/call/hang")) for _ in range(8)]
        replies = await asyncio.gather(*(client.post("/api/call/ask", json={"args": [n]}) for n in range(100)))
        assert [r.json() for r in replies] == [{"result": 2 * n} for n in range(100)]
        await asyncio.to_thread(wait_until, lambda: app._cache.in_use == 8)  # type: ignore[attr-defined]
        await client.post("/api/call/exits", json={"args": [3]})
        for reply in await asyncio.gather(*waiting):
            assert (reply.status_code, "exit code 3" in reply.json()["error"]) == (503, True)
    talk(app, conversation)


@pytest.mark.parametrize(("export", "args", "said"),
                         [("exits", [4], "exit code 4"), ("panics", [], "panic: assignment to entry in nil map")])
def test_when_the_module_ends_calls_in_flight_and_later_ones_get_503_with_the_cause(
    app: gothreads.App, export: str, args: list[int], said: str
) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        hanging = asyncio.create_task(client.post("/api/call/hang"))
        await asyncio.to_thread(wait_until, lambda: app._cache.in_use == 1)  # type: ignore[attr-defined]
        ended = await client.post(f"/api/call/{export}", json={"args": args})
        for reply in (ended, await hanging, await client.post("/api/call/add", json={"args": [1, 2]}),
                      await client.post("/api/request/echo")):
            assert reply.status_code == 503
            assert said in reply.json()["error"]
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/api/exports")).status_code == 200
    talk(app, conversation)


def test_busy_callers_give_503_and_the_page_is_still_shown(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gothreads.serve.handler_names.HANDLERS_SECONDS", PATIENCE)
    with open(os.devnull, "wb") as null, gothreads.open(calls, callers=2, callers_timeout=0.05, stderr=null) as busy:
        async def conversation(client: httpx.AsyncClient) -> None:
            assert (await client.get("/api/exports")).json()["handlers"] != []
            monkeypatch.setattr("gothreads.serve.handler_names.HANDLERS_SECONDS", 0.05)
            hanging = [asyncio.create_task(client.post("/api/call/hang")) for _ in range(2)]
            await asyncio.to_thread(wait_until, lambda: busy._cache.in_use == 2)  # type: ignore[attr-defined]
            for path in ("/api/call/count", "/api/request/echo"):
                reply = await client.post(path)
                assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
                assert reply.json()["error"] == "all 2 callers were busy for 0.05 s. Try again, or serve with more --callers"
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/api/exports")).json()["handlers"] == ["echo", "fail", "keep", "kept", "panic", "reverse", "upper"]
            assert "/api/request/upper" in (await client.get("/")).text
            busy.close()
            assert {r.status_code for r in await asyncio.gather(*hanging)} == {503}
        talk(busy, conversation)


def test_however_many_ask_what_there_is_the_module_is_asked_once_at_a_time(calls: Path,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """So these requests, to which no limit on calls applies, leave callers and threads to calls."""
    asked, ask_module = 0, gothreads.App.handlers_async

    async def counting(app: gothreads.App) -> list[str]:
        nonlocal asked
        asked += 1
        return await ask_module(app)
    monkeypatch.setattr(gothreads.App, "handlers_async", counting)
    monkeypatch.setattr("gothreads.serve.handler_names.HANDLERS_SECONDS", 0.05)
    monkeypatch.setattr("gothreads.serve.calls.SETTLE_SECONDS", 0.05)
    with open(os.devnull, "wb") as null, gothreads.open(calls, callers=1, stderr=null) as busy:
        async def conversation(client: httpx.AsyncClient) -> None:
            hanging = asyncio.create_task(client.post("/api/call/hang"))
            await asyncio.to_thread(wait_until, lambda: busy._cache.in_use == 1)  # type: ignore[attr-defined]
            pages = [client.get(path) for path in ("/", "/api/exports", "/openapi.json") * 10]
            assert {reply.status_code for reply in await asyncio.gather(*pages)} == {200}
            events = [client.post("/api/signal/nothing") for _ in range(10)]
            assert {reply.status_code for reply in await asyncio.gather(*events)} == {404}
            assert asked == 1
            busy.close()
            await hanging
        talk(busy, conversation)


def test_events_are_sent_to_a_module_that_asked_for_them() -> None:
    with gothreads.open(built("talk"), event_queue=2) as app:
        wait_until(lambda: app.events == ["number", "text"])
        assert ask(app, "GET", "/api/exports").json()["events"] == ["number", "text"]
        sent = ask(app, "POST", "/api/signal/text", content="hello")
        assert (sent.status_code, sent.json()) == (202, {"queued": True})
        app.wait_idle(10)
        assert app.request("kept") == b"hello"
        unknown = ask(app, "POST", "/api/signal/nobody", content="x")
        assert (unknown.status_code, unknown.json()["known"]) == (404, ["number", "text"])
        assert "POST /api/signal/text" in ask(app, "GET", "/").text


def test_an_event_for_which_there_is_no_room_is_told_to_come_later() -> None:
    with gothreads.open(built("talk", model="single"), event_queue=2) as app:  # which receives events during calls only
        app.wait_idle(10)  # let the goroutines that packages started subscribe
        replies = [ask(app, "POST", "/api/signal/text", content="x") for _ in range(3)]
        assert [reply.status_code for reply in replies] == [202, 202, 503]
        assert replies[2].headers["Retry-After"] == "1"
        assert "no room" in replies[2].json()["error"]


async def given_up_inside(client: httpx.AsyncClient, path: str, args: object = None) -> str:
    """As support.patient.given_up_inside: the error of a call that gets 504."""
    while True:
        reply = await client.post(path, json=args)
        assert reply.status_code == 504
        error: str = reply.json()["error"]
        if "has not begun within" not in error:
            return error


def test_a_call_that_takes_too_long_gets_504_and_goes_on_or_is_cancelled() -> None:
    with patient() as app:
        async def conversation(client: httpx.AsyncClient) -> None:
            for path, args in (("/api/call/sleep", {"args": [100]}), ("/api/request/wait", None)):
                assert "has not come back within 0.05 s" in await given_up_inside(client, path, args)
        talk(app, conversation, timeout=0.05)
        assert call(app, "add", 1, 2).json() == {"result": 3}
        wait_until(lambda: counts(app) == (0, 1, 1))


def test_on_timeout_stop_ends_the_module() -> None:
    with patient() as app:
        async def conversation(client: httpx.AsyncClient) -> None:
            await given_up_inside(client, "/api/call/spin")
            reply = await client.post("/api/call/add", json={"args": [1, 2]})
            assert reply.status_code == 503
            assert "the call of spin was given up" in reply.json()["error"]
        talk(app, conversation, timeout=0.05, on_timeout="stop")


def test_a_supervised_module_that_is_down_says_when_to_come_again(calls: Path) -> None:
    with (
        open(os.devnull, "wb") as null,
        gothreads.supervise(
            calls,
            stderr=null,
            while_down="fail",
            on_restart=lambda restart: None,
            backoff=gothreads.Backoff(first=100, most=100, jitter=0),
        ) as supervised,
    ):
        def asked(method: str, path: str) -> httpx.Response:
            replies: list[httpx.Response] = []

            async def once(client: httpx.AsyncClient) -> None:
                replies.append(await client.request(method, path))
            talk(supervised, once)
            return replies[0]
        assert asked("GET", "/healthz").json() == {"state": "running", "supervision": {
            "restarts": 0, "by_cause": {}, "last_cause": None, "down_seconds": None, "next_try_seconds": None,
            "saved": None, "saved_seconds": None}}
        assert ", running, 0 restarts ·" in asked("GET", "/").text
        assert asked("POST", "/api/call/panics").status_code == 503
        wait_until(lambda: supervised.supervision().next_try_seconds)
        for method, path in (("GET", "/healthz"), ("POST", "/api/call/procs"), ("POST", "/api/request/upper")):
            reply = asked(method, path)
            assert reply.status_code == 503
            assert 90 < int(reply.headers["Retry-After"]) <= 100
            assert "panic: assignment to entry in nil map" in reply.json()["error"]
        health = asked("GET", "/healthz").json()
        assert (health["state"], health["supervision"]["by_cause"]) == ("restarting", {"GuestPanic": 1})
        assert "panic" in health["supervision"]["last_cause"]
        assert ", restarting, 1 restart ·" in asked("GET", "/").text


def test_a_request_waits_for_the_next_instance(calls: Path) -> None:
    with open(os.devnull, "wb") as null, gothreads.supervise(calls, stderr=null,
                                                             on_restart=lambda restart: None) as supervised:
        async def conversation(client: httpx.AsyncClient) -> None:
            assert (await client.post("/api/call/panics")).status_code == 503
            assert (await client.post("/api/call/add", json={"args": [2, 3]})).json() == {"result": 5}
            assert (await client.post("/api/request/upper", content="x")).content == b"X"
        talk(supervised, conversation)


def test_what_a_module_cannot_have_is_404(tmp_path: Path) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(bytes(wasmtime.wat2wasm('(module (func (export "one") (result i32) (i32.const 1)))')))
    with gothreads.open(path) as app:
        assert call(app, "one").json() == {"result": 1}
        reply = ask(app, "POST", "/api/request/f", content=b"x")
        assert (reply.status_code, reply.json()) == (404,
                                                     {"error": "app.wasm: the module was not built from Go, so it has "
                                                               "no handlers"})
        assert ask(app, "POST", "/api/signal/e", content=b"x").status_code == 404


def test_clients_are_not_told_of_this_machines_files() -> None:
    def tick() -> None:
        raise LookupError("disk on fire")
    with opened("hostcalls", host=given_all(tick=tick), stderr=io.BytesIO()) as app:
        replies = [call(app, "ticks", 1), ask(app, "GET", "/healthz")]
    for reply in replies:
        assert reply.status_code == 503
        assert reply.json()["error"] == "the module has ended: a Python function that it called raised an exception"
