"""Every value of every type comes back as it went; and no message, however damaged, ends either side."""

from __future__ import annotations

import array
import datetime
import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import gothreads
from gothreads.bridge.buffers import Failed, Parts, Refused
from gothreads.runtime.module_file import load
from gothreads.typed.json_values import to_json
from gothreads.typed.schema import read_schema
from tests.support.modules import built, opened
from tests.support.typed_values import SETTINGS, Types, damaged, objects, python_survives_replies, survives_messages

MANY = settings(SETTINGS, max_examples=1500)


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("typed") as running:
        yield running


def description() -> Any:
    metadata = load(built("typed")).metadata
    assert metadata is not None
    return metadata.typed


def round_trips(app: Any, examples: settings) -> None:
    types = Types(app)

    @examples
    @given(objects("Everything", types))
    def check(value: Any) -> None:
        back = app.echo(value)
        assert back == value
        assert type(back) is type(value)
    check()


def test_structs_of_all_types_come_back_as_they_went(app: Any) -> None:
    round_trips(app, SETTINGS)


@pytest.mark.long
def test_many_structs_come_back_as_they_went(app: Any) -> None:
    round_trips(app, MANY)


def test_structs_of_all_types_cross_as_json(app: Any) -> None:
    types = Types(app)

    @SETTINGS
    @given(objects("Everything", types))
    def check(value: Any) -> None:
        sent = json.loads(msgspec.json.encode(to_json(value)))
        back = json.loads(app.functions.echo.submit_json([sent], {}).result(60))
        assert {**back, "set": sorted(back["set"])} == {**sent, "set": sorted(sent["set"])}
    check()


def messages(app: Any) -> list[tuple[str, bytes]]:
    everything = app.types.Everything(tree=app.types.Tree(more=[app.types.Tree()]), any=[1, "x", {"k": b"v"}],
                                      numbers=array.array("d", [1.0, 2.0]), pointer=app.types.Options(name="x"))
    parts = Parts(b"\x91\xd7\x2a" + bytes(4) + b"\x10\0\0\0", [bytes(16)])
    found = [(name, app.functions[name]._arguments.encode(args)) for name, args in (
        ("echo", (everything,)), ("echo_any", ([None, {"a": [1.5, True]}],)), ("echo_tree", ({"left": {"value": 3}},)),
        ("echo_numbers", ([1.0], [2], array.array("q", [3]), [4], [5], b"6")),
        ("echo_time", (datetime.datetime.now(datetime.UTC), datetime.timedelta(1, 1, 1))), ("join", ("-", ["a", "b"])))]
    found.append(("sum", b"".join(map(bytes, parts.pieces(b"gothreads:sum")))[len(b"gothreads:sum"):]))
    return found


def survives(app: Any, examples: settings) -> None:
    for name, message in messages(app):
        survives_messages(app, app.functions[name], message, examples)
    assert app.add(2, 3) == 5


def test_go_refuses_damaged_messages(app: Any) -> None:
    survives(app, SETTINGS)


@pytest.mark.long
def test_go_refuses_many_damaged_messages(app: Any) -> None:
    survives(app, MANY)


def test_python_refuses_damaged_results_and_errors(app: Any) -> None:
    function = app.functions.echo
    good = app._caller.call(function._handler, function._arguments.encode((app.types.Everything(),)))
    failed = msgspec.msgpack.encode(["text", [1, [3, "x"], 0, None]])

    python_survives_replies(function, good, settings(SETTINGS, max_examples=300))

    @settings(SETTINGS, max_examples=300)
    @given(damaged(failed))
    def errors(reply: bytes) -> None:
        for refused in (Failed(reply), Refused(reply)):
            assert isinstance(function._errors.refused("x", refused), gothreads.HandlerError | gothreads.ArgumentError)
    errors()


def test_a_damaged_description_is_an_error_of_the_module() -> None:
    text = json.dumps(description())
    things: SearchStrategy[Any] = st.none() | st.integers() | st.just("x") | st.just("class") | st.just([]) | st.just({}) | st.booleans()

    @settings(SETTINGS, max_examples=300)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        changed = json.loads(text)
        at = changed
        for _ in range(data.draw(st.integers(1, 6))):
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(at[key], dict | list) or data.draw(st.integers(0, 4)) == 0:
                at[key] = data.draw(things)
                break
            at = at[key]
        try:
            read_schema(changed)
        except gothreads.ModuleError as error:
            assert str(error).startswith("the module's description of its typed functions is malformed: ")  # noqa: PT017
    check()


def test_no_number_becomes_another(app: Any) -> None:
    for number in (0.1, -0.0, math.inf, 5e-324, 1.7976931348623157e308):
        assert math.copysign(1, app.echo_any(number)) == math.copysign(1, number)
        assert app.echo_any(number) == number
