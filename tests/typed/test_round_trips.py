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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import gothreads
from gothreads.bridge.buffers import Failed, Parts, Refused
from gothreads.runtime.module_file import load
from gothreads.typed.json_values import to_json
from gothreads.typed.schema import NUMBERS, Type, read_schema
from tests.support.modules import built, opened

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
UNREADABLE = "the result is not what the module describes"
MANY = settings(SETTINGS, max_examples=1500)

RANGES = {**{f"int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
          **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)}}
FLOATS = {"float32": st.floats(width=32, allow_nan=False), "float64": st.floats(allow_nan=False),
          "complex64": st.complex_numbers(width=64, allow_nan=False), "complex128": st.complex_numbers(allow_nan=False)}
TEXT = st.text(max_size=20)
TEXTS = {"net/netip.Addr": st.ip_addresses(v=4).map(str), "math/big.Int": st.integers().map(str)}
ANY = st.recursive(st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | FLOATS["float64"] | TEXT
                   | st.binary(max_size=20), lambda inner: st.lists(inner, max_size=3)
                   | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("typed") as running:
        yield running


def schema() -> Any:
    return read_schema(description())


def description() -> Any:
    metadata = load(built("typed")).metadata
    assert metadata is not None
    return metadata.typed


def values(kind: Type, types: Any, depth: int = 0) -> SearchStrategy[Any]:
    """Values of a type."""
    simple = {"bool": st.booleans(), "string": TEXT, "any": ANY, "time": st.datetimes(timezones=st.just(datetime.UTC)),
              "duration": st.timedeltas(datetime.timedelta(days=-106_000), datetime.timedelta(days=106_000)), **FLOATS}
    if kind.shape in simple:
        return simple[kind.shape]
    if kind.shape in RANGES:
        return st.integers(*RANGES[kind.shape])
    least, most = kind.length or 0, 3 if kind.length is None else kind.length
    match kind.shape:
        case "text":
            return TEXTS[kind.name]
        case "bytes":
            return st.binary(min_size=least, max_size=most)
        case "numbers":
            item = FLOATS[kind.name] if kind.name in FLOATS else st.integers(*RANGES[kind.name])
            numbers: SearchStrategy[list[Any]] = st.lists(item, min_size=least, max_size=most)
            return numbers.map(lambda items: array.array(NUMBERS[kind.name], items))
        case "list":
            return st.lists(values(kind.of[0], types, depth + 1), min_size=least, max_size=most)
        case "set":
            return st.sets(values(kind.of[0], types, depth), max_size=3)
        case "dict":
            return st.dictionaries(values(kind.of[0], types, depth), values(kind.of[1], types, depth + 1), max_size=2)
        case "pointer":
            return st.none() if depth > 3 else st.none() | values(kind.of[0], types, depth + 1)
    assert kind.shape == "class"
    return objects(kind.name, types, depth)


def objects(name: str, types: Any, depth: int = 0) -> SearchStrategy[Any]:
    """Objects of a class; with Go's zero values below a few levels."""
    described = next(each for each in types.described.classes if each.name == name)
    made = getattr(types.module, name)
    if described.members:
        return st.sampled_from(list(made)) | st.just(made(77) if issubclass(made, int) else made("other"))
    if depth > 3:
        return st.builds(made)
    return st.builds(made, **{field.name: values(field.type, types, depth + 1) for field in described.fields})


class Types:
    """The classes of the module, and their description."""

    def __init__(self, app: Any) -> None:
        self.module, self.described = app.types, schema()


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


def damaged(message: bytes) -> SearchStrategy[bytes]:
    """Messages that are like this one, and any bytes."""
    def changed(places: list[tuple[int, int]], end: int) -> bytes:
        changing = bytearray(message)
        for place, value in places:
            changing[place % len(changing)] = value
        return bytes(changing[:end])
    return st.binary(max_size=80) | st.builds(changed, st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)),
                                                                max_size=4), st.integers(0, len(message)))


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


def survives_messages(app: Any, function: Any, message: bytes, examples: settings) -> None:
    @examples
    @given(damaged(message))
    def check(sent: bytes) -> None:
        error: Exception | None = None
        try:
            function._results.decode(app._caller.call(function._handler, sent))
        except Refused as refused:
            error = function._errors.refused("x", refused)
        except gothreads.HandlerError as unreadable:  # Go took it, and Python has no such value: the year 12345
            assert UNREADABLE in str(unreadable)  # noqa: PT017
        assert error is None or isinstance(error, gothreads.ArgumentError | gothreads.GoError)
    check()


def test_go_refuses_damaged_messages(app: Any) -> None:
    survives(app, SETTINGS)


@pytest.mark.long
def test_go_refuses_many_damaged_messages(app: Any) -> None:
    survives(app, MANY)


def test_python_refuses_damaged_results_and_errors(app: Any) -> None:
    function = app.functions.echo
    good = app._caller.call(function._handler, function._arguments.encode((app.types.Everything(),)))
    failed = msgspec.msgpack.encode(["text", [1, [3, "x"], 0, None]])

    @settings(SETTINGS, max_examples=300)
    @given(damaged(good))
    def results(reply: bytes) -> None:
        for sent in (reply, Parts(reply, [b"12345678"])):
            try:
                function._results.decode(sent)
            except gothreads.HandlerError as error:
                assert UNREADABLE in str(error)  # noqa: PT017
    results()

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
