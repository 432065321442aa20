"""Limits on calls: in flight, waiting, and of one client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from uvicorn.middleware.proxy_headers import _TrustedHosts

import gothreads
from gothreads.errors import CallersBusy
from gothreads.serve import admission
from gothreads.serve.admission import Admission, address_of
from gothreads.serve.serving import trusted
from tests.support.modules import built
from tests.support.server import Server, running
from tests.support.waiting import PATIENCE, wait_until
from tests.support.web import talk


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^gothreads_{name}{{[^}}]*}} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


class Raw:
    """A client with a connection of its own."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection((server.client.base_url.host, server.client.base_url.port or 80))
        self.socket.settimeout(PATIENCE)

    def send(self, export: str, *args: Any, headers: str = "", all_of_it: bool = True) -> None:
        body = json.dumps({"args": args}).encode()
        head = f"POST /api/call/{export} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.socket.sendall(head.encode() + (body if all_of_it else body[:1]))

    def answer(self) -> tuple[int, str]:
        said = b""
        while b"\r\n\r\n" not in said:
            part = self.socket.recv(1 << 16)
            assert part, said
            said += part
        head, _, body = said.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
        while len(body) < length:
            body += self.socket.recv(1 << 16)
        return int(head.split()[1]), body.decode()


@pytest.fixture(scope="module")
def server(calls: Path) -> Iterator[Server]:
    with running("--max-calls", 2, "--max-waiting", 1, "--max-client-calls", 20, calls) as started:
        yield started


def hanging(server: Server, client: Any) -> list[Raw]:
    """Two clients whose calls are in the module. (There they stay when the clients have left.)"""
    before, made = metric(server, "module_calls_in_progress"), [client(), client()]
    for each in made:
        each.send("hang")
    wait_until(lambda: metric(server, "module_calls_in_progress") == before + 2)
    return made


@contextlib.contextmanager
def clients(server: Server) -> Iterator[Any]:
    """Makes clients, which leave at the end."""
    made: list[Raw] = []

    def make() -> Raw:
        made.append(Raw(server))
        return made[-1]
    try:
        yield make
    finally:
        for each in made:
            each.socket.close()
        wait_until(lambda: metric(server, "calls_in_flight") == 0)


def test_more_calls_than_that_wait_and_those_beyond_are_refused(server: Server) -> None:
    with clients(server) as client:
        busy = hanging(server, client)
        waits = client()
        waits.send("add", 2, 3)
        wait_until(lambda: metric(server, "calls_waiting") == 1)
        for path in ("call/add", "request/upper"):
            refused = server.client.post(f"/api/{path}", json={"args": [2, 3]})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json() == {"error": "as many calls are in flight (2) and wait (1) as may be. Try again"}
        assert server.client.get("/readyz").status_code == 200
        busy[0].socket.close()  # who leaves makes room
        assert waits.answer() == (200, '{"result":5}')


def test_who_leaves_while_waiting_makes_room_for_another(server: Server) -> None:
    with clients(server) as client:
        busy = hanging(server, client)
        leaves = client()
        leaves.send("add", 2, 3)
        wait_until(lambda: metric(server, "calls_waiting") == 1)
        leaves.socket.close()
        wait_until(lambda: metric(server, "calls_waiting") == 0)
        waits = client()
        waits.send("add", 2, 3)
        wait_until(lambda: metric(server, "calls_waiting") == 1)
        busy[0].socket.close()
        assert waits.answer()[0] == 200


def test_clients_that_send_slowly_take_no_place(server: Server) -> None:
    with clients(server) as client:
        slow = [client() for _ in range(10)]
        for each in slow:
            each.send("add", 2, 3, all_of_it=False)
        wait_until(lambda: metric(server, "calls_in_flight") == 10)
        for _ in range(5):
            assert server.call("add", 2, 3).json() == {"result": 5}
        assert metric(server, "calls_waiting") == 0


@pytest.mark.parametrize("trusted", [False, True])
def test_a_client_has_a_limit_and_cannot_pass_itself_off_as_another(calls: Path, trusted: bool) -> None:
    options = ["--trust-proxy", "127.0.0.0/8"] if trusted else []
    with running("--max-client-calls", 1, "--access-log", *options, calls) as server:
        with clients(server) as client:
            client().send("hang", headers="X-Forwarded-For: 192.0.2.1\r\n")
            wait_until(lambda: metric(server, "calls_in_flight") == 1)
            same, other = ({"X-Forwarded-For": address} for address in ("10.1.1.1, 192.0.2.1", "192.0.2.2"))
            refused = server.client.post("/api/call/count", headers=same)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.json() == {"error": "you have as many calls in progress as one client may (1). Try again "
                                               "when one has ended"}
            assert server.client.post("/api/call/count", headers=other).status_code == (200 if trusted else 429)
            assert 'name="count",outcome="limited"' in server.client.get("/metrics").text
        server.process.terminate()
        _, said = server.end()
        assert ('192.0.2.2 "POST /api/call/count" 200' if trusted else '127.0.0.1 "POST /api/call/count" 429') in said


@pytest.mark.parametrize(("proxies", "client", "believed"), [
    (["127.0.0.0/8"], "127.0.0.1", True), (["127.0.0.0/8"], "::ffff:127.0.0.1", True), (["::1/128"], "::1", True),
    (["127.0.0.0/8"], "126.0.0.1", False), (["127.0.0.0/8"], "::ffff:126.0.0.1", False),
    (["127.0.0.0/8"], "::1", False), (["127.0.0.0/8", "*"], "192.0.2.1", True), ([], "127.0.0.1", False)])
def test_a_proxy_is_known_by_its_address_on_sockets_of_ipv6_too(proxies: list[str], client: str, believed: bool) -> None:
    assert (client in _TrustedHosts([*trusted(proxies)])) == believed


def test_a_call_waits_no_longer_than_that(app: gothreads.App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "CALLERS_SECONDS", 0.05)

    async def conversation(client: httpx.AsyncClient) -> None:
        hangs = asyncio.create_task(client.post("/api/call/hang"))
        await asyncio.to_thread(wait_until, lambda: app.statistics().calls_in_progress == 1)
        reply = await client.post("/api/call/count")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert reply.json() == {"error": "as many calls as may be (1) were in flight for 0.05 s. Try again"}
        hangs.cancel()
        await asyncio.wait([hangs])
    talk(app, conversation, max_calls=1)


def test_a_place_is_never_lost_and_none_is_given_twice() -> None:
    """Calls that end, fail, leave and are cancelled, in any order."""
    chance = random.Random(1)
    most, inside, seen = 3, 0, 0
    places = Admission(most, 10)

    async def call() -> None:
        nonlocal inside, seen
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}
        if chance.random() < 0.3:
            asyncio.get_running_loop().call_later(chance.random() / 200, gone.set)
        with contextlib.suppress(CallersBusy, ZeroDivisionError, HTTPException):
            async with places.place(receive):
                inside, seen = inside + 1, seen + 1
                assert inside <= most
                try:
                    await asyncio.sleep(chance.random() / 500)
                    if chance.random() < 0.2:
                        raise ZeroDivisionError
                finally:
                    inside -= 1

    async def run() -> None:
        calls = []
        for _ in range(500):
            calls.append(asyncio.create_task(call()))
            if chance.random() < 0.3:
                asyncio.get_running_loop().call_later(chance.random() / 200, chance.choice(calls).cancel)
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() / 500)
        await asyncio.wait(calls)
        assert [each.exception() for each in calls if not each.cancelled() and each.exception()] == []
        assert (inside, places.waiting, places._free) == (0, 0, most)
        assert seen > 50
    asyncio.run(run())


@pytest.mark.parametrize(("client", "address"), [
    (("192.0.2.1", 5), "192.0.2.1"), (("2001:db8::1", 5), "2001:db8::/64"), (("2001:db8::ffff:1", 5), "2001:db8::/64"),
    (("2001:db8:0:1::1", 5), "2001:db8:0:1::/64"), (("::ffff:192.0.2.1", 5), "192.0.2.1"),
    (("fe80::1%eth0", 5), "fe80::/64"), (("testclient", 5), "testclient"), (None, ""), (("", 0), "")])
def test_a_network_of_ipv6_is_one_client(client: Any, address: str) -> None:
    assert address_of(client) == address


def test_items_of_an_iterator_hold_no_place_but_count_for_their_client() -> None:
    with running("--max-calls", 1, "--max-client-calls", 2, built("typed")) as server, clients(server) as client:
        first, second = client(), client()
        first.send("count", 10**9)
        assert first.socket.recv(1)
        assert server.call("add", 2, 3).json() == {"result": 5}
        second.send("count", 10**9)
        assert second.socket.recv(1)
        assert server.call("add", 2, 3).status_code == 429
