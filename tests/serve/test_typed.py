"""Typed functions over HTTP: JSON by Go's types."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

import gothreads
from gothreads.serve import body_reader, guard
from gothreads.typed.functions import LendingFunction
from tests.support.modules import built, opened
from tests.support.server import running
from tests.support.waiting import PATIENCE, wait_until
from tests.support.web import ask, call, talk
from tests.support.web_socket import serving


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("typed") as running:
        yield running


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    with opened("typed", model="pool", instances=2) as running:
        yield running


def post(app: Any, name: str, args: Any, **options: Any) -> httpx.Response:
    return ask(app, "POST", f"/api/call/{name}", content=json.dumps({"args": args}), **options)


@pytest.mark.parametrize(("name", "args", "result"), [
    ("add", [2, 3], 5),
    ("add", {"b": 3, "a": 2}, 5),
    ("nothing", [], None),
    ("divide", [7, 2], [3, 1]),
    ("join", ["-", "a", "b"], "a-b"),
    ("join", {"separator": "-", "words": ["a", "b"]}, "a-b"),
    ("join", {"separator": "-"}, ""),
    ("echo_options", [{"degree": 3, "n": 1}], {"degree": 3, "rate": 0.0, "name": "", "robust": False, "n": 1}),
    ("sum", [[1, 2.5]], 3.5),
    ("sum", [["inf", 1]], "inf"),
    ("echo_time", ["2024-02-29T12:30:15.5Z", "PT1.5S"], ["2024-02-29T12:30:15.500000Z", "PT1.5S"]),
    ("echo_any", [{"a": [1, None, "x", 0.5]}], {"a": [1, None, "x", 0.5]}),
    ("echo_numbers", [[1], [2], [3], [4], [5], "aGk="], [[1.0], [2.0], [3], [4], [5], "aGk="]),
])
def test_arguments_and_results_are_json(app: Any, name: str, args: Any, result: Any) -> None:
    reply = post(app, name, args)
    assert (reply.status_code, reply.json()) == (200, {"result": result})


def test_values_that_json_has_no_type_for_are_texts(app: Any) -> None:
    sent = {"complex": "1+2j", "bytes": "aGk=", "by_number": {"1": "a", "-2": "b"}, "set": ["x"], "float64": "nan",
            "color": 2, "level": "high", "time": "2024-01-01T00:00:00Z", "duration": "PT60S", "list": [{"degree": 2}]}
    result = post(app, "echo", [sent]).json()["result"]
    assert {name: result[name] for name in sent if name != "list"} == {**{
        name: value for name, value in sent.items() if name != "list"}, "duration": result["duration"]}
    assert result["duration"] in ("PT60S", "PT1M")
    assert result["list"][0]["degree"] == 2


@pytest.mark.parametrize(("name", "args", "path", "why"), [
    ("add", [1], "b", "add has no value for 'b': func Add(a, b int) int"),
    ("add", {"a": 1, "timeout": 2}, "timeout", "add has no parameter 'timeout': func Add(a, b int) int"),
    ("add", {"a": 1, "c": 2}, "c", "add has no parameter 'c': func Add(a, b int) int"),
    ("add", [1, "x"], "b", "add: b: expected a whole number, got a string"),
    ("count", ["x"], "n", "count: n: expected a whole number, got a string"),
    ("echo_any", [1 << 64], "v", "echo_any: v: expected an int of 64 bits, got 18446744073709551616"),
    ("join", {"separator": "", "words": 1}, "words", "join takes a list as 'words': func Join(separator string, "
                                                     "words ...string) string"),
    ("echo_numbers", [["x"], [], [], [], [], ""], "a[0]", "echo_numbers: a[0]: expected a number, got a string"),
    ("echo", [{"bool": 1}], "e.bool", "echo: e.bool: expected a boolean, got a whole number"),
    ("echo", [{"string": None}], "e.string", "echo: e.string: expected a string, got null"),
    ("echo", [{"by_number": {"1": []}}], "e.by_number[1]", "echo: e.by_number[1]: expected a string, got an array"),
    ("echo_options", [{"degree": "x"}], "o.degree", "echo_options: o.degree: expected a whole number, got a string"),
    ("echo_options", {"o": {"degre": 1}}, "o", 'echo_options: o: Options has no field "degre"; it has: degree, rate, '
                                               "name, robust, n"),
    ("echo", [{"list": [{}, {"n": -1}]}], "e.list[1].n", "echo: e.list[1].n: expected an int from 0 to 65535, got -1"),
    ("echo", [{"time": "today"}], "e.time", "echo: e.time: expected a time such as \"2024-02-29T12:30:15Z\", got "
                                            "'today'"),
    ("echo", [{"time": "2024-02-29T12:30:15"}], "e.time", "echo: e.time: expected a time with a zone, got "
                                                          "'2024-02-29T12:30:15'. Add Z if it is UTC, or an offset such "
                                                          "as +02:00"),
    ("echo", [{"by_number": {"x": ""}}], "e.by_number", "echo: e.by_number: a key: expected a whole number, got 'x'"),
    ("echo", [{"bytes": "?"}], "e.bytes", "echo: e.bytes: expected base64, got '?'"),
])
def test_wrong_arguments_are_422_with_the_path_to_the_value(app: Any, name: str, args: Any, path: str,
                                                            why: str) -> None:
    reply = post(app, name, args)
    assert (reply.status_code, reply.json()) == (422, {"error": why, "path": path})


@pytest.mark.parametrize(("name", "args", "why"), [
    ("add", [1, 2, 3], "add takes 2 arguments, 3 given: func Add(a, b int) int"),
    ("divide", [1, 0], "division by zero"),
    ("receive", [-1, False], "other"),
    ("scan", [""], "line 0: empty"),
])
def test_errors_of_no_single_value_are_422_without_a_path(app: Any, name: str, args: Any, why: str) -> None:
    reply = post(app, name, args)
    assert (reply.status_code, reply.json()) == (422, {"error": why})


LINES = {"Accept": "application/x-ndjson"}


@pytest.mark.parametrize(("name", "args", "items"), [
    ("count", [0], []),
    ("count", {"n": 3}, [0, 1, 2]),
    ("count", [5000], [*range(5000)]),
    ("enumerate", [["a", "b"]], [[0, "a"], [1, "b"]]),
    ("receive", [2, False], [{"degree": degree, "rate": 0.0, "name": "", "robust": False, "n": 0}
                             for degree in range(2)]),
    ("rows", [3, 20_000], [[*[0.0] * 19_999, number] for number in range(3)]),
])
def test_items_of_an_iterator_are_a_list_or_lines(app: Any, pool: Any, name: str, args: Any, items: list[Any]) -> None:
    for asked in (app, pool):
        reply = post(asked, name, args)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
        assert reply.json() == {"result": items}
        reply = post(asked, name, args, headers=LINES)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/x-ndjson")
        assert [json.loads(line) for line in reply.text.splitlines()] == items


EVENTS = {"Accept": "text/event-stream"}


def test_items_are_events_for_those_who_ask_for_them(app: Any) -> None:
    reply = post(app, "count", [2], headers=EVENTS)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-store", "no")
    end = "event: end\ndata: {}\n\n"
    assert reply.text == f"data: 0\n\ndata: 1\n\n{end}"
    assert post(app, "count", [0], headers=EVENTS).text == end
    assert post(app, "scan", ["a", ""], headers=EVENTS).text == (
        'data: "a"\n\nevent: error\ndata: {"error": "line 1: empty"}\n\n')
    many = post(app, "count", [5000], headers=EVENTS).text.removesuffix(end)
    assert many == "".join(f"data: {number}\n\n" for number in range(5000))


def test_an_error_comes_after_the_items(app: Any) -> None:
    assert post(app, "scan", ["a", "b", ""]).json() == {"result": ["a", "b"], "error": "line 2: empty"}
    lines = post(app, "scan", ["a", "b", ""], headers=LINES).text
    assert lines == '"a"\n"b"\n{"error": "line 2: empty"}\n'
    assert post(app, "odd_items", []).json() == {
        "result": [1], "error": "the result cannot be passed on: an `any` holds a chan int, which has no value in "
                                "Python: use numbers, strings, []any, map[string]any"}


def test_items_for_which_there_is_no_room_are_an_error(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard.Held, "_fits", lambda _self, more, _mine=0: more < 200_000)
    reply = post(app, "rows", [3, 60_000])
    assert reply.json() == {"result": [], "error": guard.TOO_LARGE_TOGETHER}
    assert post(app, "rows", [3, 10_000]).status_code == 200


def test_a_client_that_does_not_read_holds_go_up_and_one_that_leaves_stops_it() -> None:
    with running(built("typed")) as server:
        def yielded() -> list[int]:
            found: list[int] = server.call("yielded").json()["result"]
            return found

        def is_held_up() -> bool:
            before = yielded()[0]
            for number in range(20):
                assert server.call("add", number, 1).json() == {"result": number + 1}
            return 0 < before == yielded()[0]
        body = b'{"args": [-1]}'
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            client.connect((server.client.base_url.host, server.client.base_url.port or 80))
            client.sendall(b"POST /api/call/count HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                           % (len(body), body))
            wait_until(is_held_up)
            assert yielded()[1] == 0
            received = b""
            while b"\r\n\r\n" not in received or b"1999,2000," not in received:
                received += client.recv(1 << 16)
            assert b'{"result":[' in received
        wait_until(lambda: yielded()[1] == 1)


def test_a_client_that_leaves_while_there_are_no_items_stops_go() -> None:
    with running(built("typed")) as server:
        with server.client.stream("POST", "/api/call/receive", json={"args": [1, True]}, headers=LINES) as reply:
            assert json.loads(next(reply.iter_lines()))["degree"] == 0
        wait_until(lambda: server.call("yielded").json()["result"][1] == 1)


def test_a_server_that_stops_ends_iterators() -> None:
    with running("--drain", "0.1", built("typed")) as server:
        with server.client.stream("POST", "/api/call/receive", json={"args": [1, True]}) as reply:
            parts = reply.iter_bytes()
            received = next(parts)
            server.process.send_signal(signal.SIGTERM)
            received += b"".join(parts)
        told = json.loads(received)
        assert [item["degree"] for item in told["result"]] == [0]
        assert "closed" in told["error"]
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.parametrize(("body", "why"), [
    ("{", "the body is not JSON: "),
    ("[" * 100_000, "the body is not JSON: "),
    ("[]", 'the body must be {"args": [...]}, or {"args": {"NAME": ...}}'),
    ('{"args": 1}', 'the body must be {"args": [...]}, or {"args": {"NAME": ...}}'),
    ('{"a": 1}', 'the body must be {"args": [...]}, or {"args": {"NAME": ...}}'),
])
def test_a_malformed_body_is_400(app: Any, body: str, why: str) -> None:
    reply = ask(app, "POST", "/api/call/add", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(why)


def test_values_that_are_nested_too_deeply_are_422(app: Any) -> None:
    reply = ask(app, "POST", "/api/call/echo_tree", content='{"args": [' + '{"left": ' * 400 + "{}" + "}" * 400 + "]}")
    assert reply.status_code == 422
    assert "nested too deeply" in reply.json()["error"]


def test_numbers_of_json_are_rounded_to_floats(app: Any) -> None:
    large = 1152921504606847000  # 2 ** 60, as JavaScript writes it
    assert post(app, "sum", {"x": [large, 1]}).json()["result"] == float(large)
    numbers = {"a": [large], "b": [16777217, "inf"], "c": [], "d": [], "e": [], "f": ""}
    assert post(app, "echo_numbers", numbers).json()["result"][:2] == [[float(large)], [16777216.0, "inf"]]
    assert post(app, "total", {"numbers": [large]}).json()["result"] == float(large)
    assert post(app, "sum", {"x": [10 ** 400]}).status_code == 422


def test_typed_functions_are_listed_and_have_forms_on_the_page(app: Any) -> None:
    told = {each["name"]: each for each in ask(app, "GET", "/api/exports").json()["typed"]}
    assert told["echo_options"]["go"] == "func EchoOptions(o Options) Options"
    assert told["echo_options"]["params"] == [{
        "name": "o", "go": "main.Options", "python": "Options",
        "example": {"degree": 0, "rate": 0, "name": "", "robust": False, "n": 0}}]
    page = ask(app, "GET", "/").text
    lent = {name for name in app.functions if isinstance(app.functions[name], LendingFunction)}
    bodies = {name: about["body"] for name, about in told.items() if "body" in about}
    assert bodies == {"read_all": "r", "read_once": "r", "lines": "r"}
    assert page.count('<input type="file" data-body>') == 3
    assert "takes callables or file objects (f), which JSON does not have" in call(app, "apply", [1], 2).json()["error"]
    assert {*app.functions} - told.keys() == lent - bodies.keys()
    assert page.count("<form data-path=") == len(told)
    assert {name for name, about in told.items() if about["iterator"]} == {
        "count", "enumerate", "rows", "scan", "receive", "odd_items", "lines"}
    assert page.count(" data-items>") == 7
    assert "Exports" not in re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    assert "Handlers" not in page
    assert 'data-name="separator" data-type="string"' in page
    for about in told.values():  # the examples can be sent
        if about["name"] not in ("pause", "exit", "divide", "fail", "cycle", "odd", "size", *bodies):  # which wait, or fail
            args = {param["name"]: param["example"] for param in about["params"]}
            assert post(app, about["name"], args).status_code == 200, about


def test_an_export_and_a_supervised_module_answer_too() -> None:
    with gothreads.supervise(built("typed")) as supervised:
        async def ask_it(client: httpx.AsyncClient) -> None:
            reply = await client.post("/api/call/add", json={"args": {"a": 2, "b": 3}})
            assert reply.json() == {"result": 5}
        talk(supervised, ask_it)


def test_a_call_that_takes_too_long_is_504(app: Any) -> None:
    async def ask_it(client: httpx.AsyncClient) -> None:
        reply = await client.post("/api/call/pause", json={"args": [600]})
        assert reply.status_code == 504
    talk(app, ask_it, timeout=0.2)
    assert call(app, "paused").status_code == 200


# Bodies that Go reads as they come.

def test_a_body_is_what_a_function_reads(app: Any, pool: Any) -> None:
    for asked in (app, pool):
        body = random.Random(1).randbytes(300_000)
        assert base64.b64decode(ask(asked, "POST", "/api/call/read_all", content=body).json()["result"]) == body
        assert ask(asked, "POST", "/api/call/read_all").json() == {"result": ""}
        assert ask(asked, "POST", "/api/call/read_once?size=2", content=b"abc").json() == {"result": "YWI="}
        assert ask(asked, "POST", "/api/call/lines", content=b"ab").json() == {"result": [97, 98]}
        assert ask(asked, "POST", "/api/call/lines", content=b"ab", headers=LINES).text == "97\n98\n"


@pytest.mark.parametrize(("path", "why", "at"), [
    ("read_once", "read_once has no value for 'size'", "size"),
    ("read_once?size=x", "size must be JSON, not 'x'", None),
    ("read_once?size=1.5", "read_once: size: expected int, got float", "size"),
    ("read_once?size=1&r=x", "read_once has no parameter 'r'", "r"),
    ("read_all?timeout=1", "read_all has no parameter 'timeout'", "timeout"),
])
def test_other_arguments_are_in_the_query(app: Any, path: str, why: str, at: str | None) -> None:
    reply = ask(app, "POST", f"/api/call/{path}", content=b"abc")
    assert reply.status_code == 422
    assert why in reply.json()["error"]
    assert reply.json().get("path") == at


def test_functions_that_take_more_than_a_body_are_for_python(app: Any) -> None:
    for name in ("copy", "write", "apply"):
        reply = ask(app, "POST", f"/api/call/{name}", content=b"{}")
        assert reply.status_code == 404
        assert "which JSON does not have. Call it from Python" in reply.json()["error"]


def test_a_body_that_is_larger_than_others_may_be_is_not_held(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LARGEST_BODY", 100)
    monkeypatch.setattr(guard, "MOST_HELD", 100)
    asked = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield bytes(1 << 16)
    reply = ask(app, "POST", "/api/call/read_once?size=3", content=parts())
    assert (reply.status_code, reply.json(), asked) == (200, {"result": "AAAA"}, 1)


class Chunks:
    """A client that sends a body in chunks, when it is told to."""

    def __init__(self, at: tuple[str, int], path: str) -> None:
        self.socket = socket.create_connection(at)
        self.socket.settimeout(PATIENCE)
        self.replies = self.socket.makefile("rb")
        self.socket.sendall(f"POST /api/call/{path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n"
                            "Transfer-Encoding: chunked\r\n\r\n".encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def head(self) -> int:
        status = int(self.replies.readline().split()[1])
        while self.replies.readline() != b"\r\n":
            pass
        return status

    def chunk(self) -> bytes:
        size = int(self.replies.readline(), 16)
        return self.replies.read(size + 2)[:-2]

    def close(self) -> None:
        self.replies.close()
        self.socket.close()


def test_items_are_sent_while_the_body_still_comes(app: Any) -> None:
    with serving(app) as at:
        client = Chunks(at, "lines")
        client.send(b"a")
        assert (client.head(), client.chunk()) == (200, b"97\n")
        client.send(b"b")
        assert client.chunk() == b"98\n"
        client.send(b"")
        assert client.chunk() == b""
        # The connection goes on.
        client.socket.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.head() == 200
        client.close()


def test_a_body_that_comes_too_slowly_or_not_at_all_is_an_error_in_go(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(app) as at:
        leaves = Chunks(at, "read_all")
        leaves.send(b"a")
        wait_until(lambda: app.statistics().calls_in_progress == 1)
        leaves.close()
        wait_until(lambda: app.statistics().calls_in_progress == 0)
        monkeypatch.setattr(body_reader, "BODY_SECONDS", 0.1)
        for name in ("read_all", "read_once?size=1"):
            slow = Chunks(at, name)
            assert slow.head() == 408
            slow.close()
        items = Chunks(at, "lines")
        items.send(b"a")
        assert (items.head(), items.chunk()) == (200, b"97\n")
        assert json.loads(items.chunk()) == {"error": "the body arrives too slowly"}
        items.close()


def test_a_call_whose_time_is_over_reads_no_more(app: Any) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    async def conversation(client: httpx.AsyncClient) -> None:
        reply = await client.post("/api/call/read_all", content=parts())
        assert reply.status_code == 504
    talk(app, conversation, timeout=0.2)
    wait_until(lambda: app.statistics().calls_in_progress == 0)
