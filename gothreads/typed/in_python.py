"""What Go says is wrong with an argument, told of the value in Python: Go sees only how it was written.

A pandas Series, for example, is written as a list, and a date as a text.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gothreads.text import cut
from gothreads.typed.encoding import parts_of
from gothreads.typed.names import ARGUMENT_NAMES
from gothreads.typed.schema import ClassSchema, Field, Type

_TIME = "expected a datetime with a time zone"
_NO_ZONE = " without one"
_KEY = "a key: "
#: Shapes of the items that a row of a table may be.
_ROWS = frozenset(("list", "numbers", "set", "class", "any", "pointer", "bytes"))


def in_python(params: Sequence[Field], args: Sequence[Any], classes: Mapping[str, ClassSchema], path: str,
              why: str) -> tuple[str, str]:
    """The path, as Go gives it, and what is wrong, in words that fit the value there."""
    try:
        return _told(params, args, classes, path, why)
    except Exception:  # of a foreign value; Go's words are right, too
        return path, why


def _told(params: Sequence[Field], args: Sequence[Any], classes: Mapping[str, ClassSchema], path: str,
          why: str) -> tuple[str, str]:
    parts: list[tuple[str, Any, Type | None]] = [
        (f".{param.name}", value, param.type) for param, value in zip(params, args, strict=True)]
    rest, array = path, None  # array: the innermost of NumPy or pandas that the value is in, or the value itself
    while True:
        begins = [part for part in parts if rest.startswith(part[0]) and rest[len(part[0]):][:1] in ("", ".", "[")]
        begin, value, kind = begins[-1]  # of a dict's entry, its key is first
        while kind is not None and kind.shape == "pointer":
            kind = kind.of[0]
        rest = rest[len(begin):]
        if hasattr(value, "dtype"):
            array = value
        if rest and _is_table(value):
            return _of_table(value, kind, path, rest, why)
        if not rest:
            return path, _of_value(value, array, why)
        parts = list(parts_of(value, kind, classes))


def _is_table(value: Any) -> bool:
    return hasattr(value, "to_numpy") and hasattr(value, "columns")


def _of_table(table: Any, kind: Type | None, path: str, rest: str, why: str) -> tuple[str, str]:
    """Of a table where a list is expected, whose items its rows are not."""
    if rest != "[0]" or kind is None or kind.shape not in ("numbers", "list", "set") or kind.item.shape in _ROWS:
        return path, why
    hint = ('its rows are df.to_dict("records")' if kind.item.shape == "dict"
            else f"one column is df[{cut(next(iter(table.columns)))}]")
    return path.removesuffix(rest), f"expected {ARGUMENT_NAMES.of(kind)}, got {type(table).__name__} ({hint})"


def _of_value(value: Any, array: Any, why: str) -> str:
    if why.startswith(_TIME):
        return _of_time(value, array, why)
    expected, comma, got = why.partition(", got ")
    if expected.startswith(_KEY) and isinstance(value, dict):
        wrong = next(key for key in value if type(key).__name__ == got)
        return f"{expected}{comma}the {got} {cut(wrong)}"
    name = type(value).__name__
    written, space, hint = got.partition(" (")
    if written in ("list", "str") and name != written and not isinstance(value, str):
        got = f"{name}{space}{hint}"
    elif got.startswith("an array of ") and _is_pandas(value, "Series", "DataFrame"):
        got = name
    if expected == "expected dict":
        got += (" (values.to_dict())" if _is_pandas(value, "Series")
                else ' (values.to_dict("list"))' if _is_pandas(value, "DataFrame") else "")
    return f"{expected}{comma}{got}"


def _is_pandas(value: Any, *names: str) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, tuple(getattr(pandas, name) for name in names))


def _of_time(value: Any, array: Any, why: str) -> str:
    """Of what is no datetime, or has no time zone."""
    if isinstance(value, str):
        return (f"{_TIME}, got the text {cut(str(value))} (datetime.fromisoformat(value) makes a datetime; if the text "
                "has no zone, .replace(tzinfo=UTC) adds one)")
    before, found, _ = why.partition(_NO_ZONE)
    if not found:
        return why
    if hasattr(array, "dt") and hasattr(array, "tz_localize"):
        hint = 'series.dt.tz_localize("UTC")'
    elif hasattr(array, "tz_localize"):
        hint = 'values.tz_localize("UTC")'
    elif hasattr(value, "tz_localize"):
        hint = 'value.tz_localize("UTC"); of a Series, series.dt.tz_localize("UTC")'
    elif array is not None and array is not value:
        hint = '[t.replace(tzinfo=datetime.UTC) for t in values.astype("M8[us]").tolist()]'
    elif isinstance(value, datetime.datetime):
        return why
    else:
        hint = 'value.astype("M8[us]").item().replace(tzinfo=datetime.UTC)'
    return f"{before}{found} ({hint})"
