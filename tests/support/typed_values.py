"""Values of typed functions for hypothesis, from a module's own description of its types; and damaged messages."""

from __future__ import annotations

import array
import datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import gothreads
from gothreads.bridge.buffers import PartsReply, Refused
from gothreads.typed.schema import NUMBERS, Type, read_schema

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
#: What Python says of a reply that it cannot read.
UNREADABLE = "the result is not what the module describes"

RANGES = {**{f"int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
          **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)}}
FLOATS = {"float32": st.floats(width=32, allow_nan=False), "float64": st.floats(allow_nan=False),
          "complex64": st.complex_numbers(width=64, allow_nan=False), "complex128": st.complex_numbers(allow_nan=False)}
TEXT = st.text(max_size=20)
TEXTS = {"net/netip.Addr": st.ip_addresses(v=4).map(str), "math/big.Int": st.integers().map(str)}
ANY = st.recursive(st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | FLOATS["float64"] | TEXT
                   | st.binary(max_size=20), lambda inner: st.lists(inner, max_size=3)
                   | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)


class Types:
    """The classes of a module, and their description. deepest: below this level, structs are Go's zero values."""

    def __init__(self, app: Any, deepest: int = 3) -> None:
        self.module, self.deepest = app.types, deepest
        self.described = read_schema(app.loaded.metadata.typed)
        self.made: dict[tuple[str, int], SearchStrategy[Any]] = {}


def values(kind: Type, types: Types, depth: int = 0) -> SearchStrategy[Any]:
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
            return st.none() if depth > types.deepest else st.none() | values(kind.of[0], types, depth + 1)
    assert kind.shape == "class"
    return objects(kind.name, types, depth)


def objects(name: str, types: Types, depth: int = 0) -> SearchStrategy[Any]:
    """Objects of a class; with Go's zero values below a few levels."""
    if (name, depth) not in types.made:
        types.made[name, depth] = _objects(name, types, depth)
    return types.made[name, depth]


def _objects(name: str, types: Types, depth: int) -> SearchStrategy[Any]:
    described = next(each for each in types.described.classes if each.name == name)
    made = getattr(types.module, name)
    if described.members:
        return st.sampled_from(list(made)) | st.just(made(77) if issubclass(made, int) else made("other"))
    if depth > types.deepest:
        return st.builds(made)
    return st.builds(made, **{field.name: values(field.type, types, depth + 1) for field in described.fields})


def damaged(message: bytes) -> SearchStrategy[bytes]:
    """Messages that are like this one, and any bytes."""
    def changed(places: list[tuple[int, int]], end: int) -> bytes:
        changing = bytearray(message)
        for place, value in places:
            changing[place % len(changing)] = value
        return bytes(changing[:end])
    return st.binary(max_size=80) | st.builds(changed, st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)),
                                                                max_size=4), st.integers(0, len(message)))


def survives_messages(app: Any, function: Any, message: bytes, examples: settings) -> None:
    """Check that Go answers messages like this one, whatever they are: with results, or with an error that is typed."""
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


def python_survives_replies(function: Any, reply: bytes, examples: settings) -> None:
    """Check that Python reads replies like this one, or says that it cannot."""
    @examples
    @given(damaged(reply))
    def check(sent: bytes) -> None:
        for each in (sent, PartsReply(sent, [array.array("d", [1.0])])):
            try:
                function._results.decode(each)
            except gothreads.HandlerError as error:
                assert UNREADABLE in str(error)  # noqa: PT017
    check()
