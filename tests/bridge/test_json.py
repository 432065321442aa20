"""request_json and guest.HandleJSON: requests of values (tests/modules/json)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import pytest

import gothreads
from gothreads.runtime.payloads import json_payload, json_reply
from tests.support.modules import built, opened


@pytest.fixture(scope="module")
def app() -> Iterator[gothreads.App]:
    with opened("json") as running:
        yield running


@pytest.mark.parametrize("value", [None, True, 0.5, "näher \N{GRINNING FACE}", [], {"a": [1, {"b": None}]}])
def test_values_go_in_and_out(app: gothreads.App, value: object) -> None:
    assert app.request_json("any", value) == value


def test_a_handler_takes_and_returns_gos_types(app: gothreads.App) -> None:
    assert app.request_json("repeat", {"text": "x", "limit": 2}) == ["x", "x"]
    assert app.request_json("repeat") == []  # null: In's zero value
    assert app.request("repeat", '{"Text": "y", "Limit": 1}') == b'["y"]'


def test_values_are_requested_without_blocking_an_event_loop(app: gothreads.App) -> None:
    async def ask(app: gothreads.App | gothreads.Supervised) -> Any:
        return await app.request_json_async("repeat", {"text": "x", "limit": 1}, timeout=60)
    with gothreads.supervise(built("json")) as supervised:
        assert asyncio.run(ask(app)) == asyncio.run(ask(supervised)) == ["x"]
        assert supervised.request_json("any", 1) == 1


@pytest.mark.parametrize(("handler", "value", "why"), [
    ("repeat", {"limit": -1}, r"\Aa limit below zero(\n|\Z)"),
    ("repeat", {"limit": "x"}, r"^the request must be JSON that fits main\.query: .*cannot unmarshal.*string"),
    ("infinite", {}, "^the answer cannot be written as JSON: .*Inf"),
])
def test_what_go_cannot_take_or_return_is_the_handlers_error(app: gothreads.App, handler: str, value: object,
                                                             why: str) -> None:
    with pytest.raises(gothreads.HandlerError, match=why):
        app.request_json(handler, value)


def test_a_reply_that_is_not_json_is_an_error(app: gothreads.App) -> None:
    with pytest.raises(gothreads.HandlerError, match="the handler 'text' did not reply with JSON: .*guest.HandleJSON"):
        app.request_json("text")


@pytest.mark.parametrize("reply", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5_000])
def test_a_reply_that_python_cannot_read_is_the_handlers_error(reply: bytes) -> None:
    with pytest.raises(gothreads.HandlerError, match="the handler 'x' did not reply with JSON"):
        json_reply("x", reply)


cyclic: list[Any] = []
cyclic.append(cyclic)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {(1, 2): 3}])
def test_values_that_json_does_not_have_are_refused(app: gothreads.App, value: object) -> None:
    with pytest.raises(gothreads.MisuseError, match="a value must be one that json.dumps takes: "):
        app.request_json("any", value)


@dataclass
class Point:
    x: int


class Model:
    def model_dump(self) -> None: ...


@pytest.mark.parametrize(("value", "hint"), [
    (numpy.arange(3), r"type ndarray .*: use its \.tolist\(\)$"),
    ({"n": numpy.int64(1)}, r"type int64 .*: use int\(…\), float\(…\) or its \.tolist\(\)$"),
    ([Model()], r"type Model .*: use its \.model_dump\(\)$"),
    (Point(1), r"type Point .*: use dataclasses\.asdict\(…\)$"),
    (Point, "type type is not JSON serializable$"),
])
def test_the_error_says_how_to_make_json_of_the_value(value: object, hint: str) -> None:
    with pytest.raises(gothreads.ArgumentError, match=hint):
        json_payload(value)


deep: Any = math.nan
for _ in range(20_000):
    deep = [deep]


@pytest.mark.parametrize(("value", "place"), [
    (math.nan, "value is nan"),
    ({"a": [{}, (1.5, -math.inf)], "b": math.nan}, "value['a'][1][1] is -inf"),
    ([[], {"x": numpy.float64("nan")}], "value[1]['x'] is nan"),
    ({math.inf: 1}, None),
    ([cyclic, math.nan], None),
    (deep, None),
])
def test_a_number_that_json_does_not_have_is_found(value: object, place: str | None) -> None:
    with pytest.raises(gothreads.ArgumentError, match="the value cannot be written as JSON: ") as caught:
        json_payload(value)
    if place is not None:
        assert f"JSON: {place}, and JSON has no such number. None (null)" in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, cyclic, "\ud800"])
def test_values_that_json_cannot_express_are_refused(app: gothreads.App, value: object) -> None:
    with pytest.raises(gothreads.ArgumentError):
        app.request_json("any", value)


def test_a_timeout_cancels_the_handlers_context(app: gothreads.App) -> None:
    with pytest.raises(gothreads.CallTimeout):
        app.request_json("wait", timeout=0.05)
