"""Typed functions over HTTP: JSON by Go's types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import gothreads
from gothreads.typed.functions import LendingFunction
from tests.support.modules import built, opened
from tests.support.web import ask, call, talk


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("typed") as running:
        yield running


def post(app: Any, name: str, args: Any) -> httpx.Response:
    return ask(app, "POST", f"/api/call/{name}", content=json.dumps({"args": args}))


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


@pytest.mark.parametrize(("name", "args", "why"), [
    ("add", [1], "add has no value for 'b': add(a: 'int', b: 'int') -> 'int'"),
    ("add", {"a": 1, "timeout": 2}, "add has no parameter 'timeout': add(a: 'int', b: 'int') -> 'int'"),
    ("add", [1, "x"], "add: b: expected int, got str"),
    ("echo_options", [{"degree": "x"}], "echo_options: o.degree: expected int, got str"),
    ("echo_options", {"o": {"degre": 1}}, 'echo_options: o: Options has no field "degre"; it has: degree, rate, name, '
                                          "robust, n"),
    ("echo", [{"list": [{}, {"n": -1}]}], "echo: e.list[1].n: expected an int from 0 to 65535, got -1"),
    ("echo", [{"time": "today"}], "echo: e.time: expected a time such as \"2024-02-29T12:30:15Z\", got 'today'"),
    ("echo", [{"by_number": {"x": ""}}], "echo: e.by_number: a key: expected a whole number, got 'x'"),
    ("echo", [{"bytes": "?"}], "echo: e.bytes: expected base64, got '?'"),
    ("divide", [1, 0], "division by zero"),
])
def test_wrong_arguments_and_errors_are_422_with_the_path(app: Any, name: str, args: Any, why: str) -> None:
    reply = post(app, name, args)
    assert (reply.status_code, reply.json()) == (422, {"error": why})


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


def test_typed_functions_are_listed_and_have_forms_on_the_page(app: Any) -> None:
    told = {each["name"]: each for each in ask(app, "GET", "/api/exports").json()["typed"]}
    assert told["echo_options"]["go"] == "func EchoOptions(o Options) Options"
    assert told["echo_options"]["params"] == [{
        "name": "o", "go": "main.Options", "python": "Options",
        "example": {"degree": 0, "rate": 0, "name": "", "robust": False, "n": 0}}]
    page = ask(app, "GET", "/").text
    assert page.count("<form data-path=") == len(told)
    lent = {name for name in app.functions if isinstance(app.functions[name], LendingFunction)}
    assert "takes callables or file objects (f), which JSON does not have" in call(app, "apply", [1], 2).json()["error"]
    assert {*app.functions} - told.keys() - lent == {"count", "enumerate", "rows", "scan", "receive", "odd_items"}  # iterators
    assert "returns an iterator, which is not a value in JSON" in call(app, "count", 3).json()["error"]
    assert 'data-name="separator" data-type="string"' in page
    for about in told.values():  # the examples can be sent
        if about["name"] not in ("pause", "exit", "divide", "fail", "cycle", "odd"):
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
