"""Payloads and names that a program passes to handlers and events."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from gothreads.bridge.raw_bytes import Buffer, raw_bytes
from gothreads.errors import ArgumentError, HandlerError, MisuseError
from gothreads.text import cut

#: The payload of a request or an event: text, which is sent as UTF-8, or any object with a buffer.
Payload = Buffer | str
#: How deep a value is searched for a number that JSON does not have.
_DEEPEST = 10_000


def bytes_of(payload: Payload) -> bytes:
    """A copy of the payload. ArgumentError for another type, and for what cannot be sent as bytes."""
    if isinstance(payload, str):
        return _utf8(payload, "a payload")
    try:
        data = raw_bytes(payload)
    except ValueError as error:
        raise ArgumentError(f"a payload's bytes must be readable, and those of this {type(payload).__name__} are not: "
                            f"{error}") from None
    if data is None:
        raise ArgumentError(f"a payload must be bytes, another buffer, or str, not {type(payload).__name__}"
                            f"{_payload_hint(payload)}")
    return data


def file_of(body: Any) -> Any:
    """A body as a file object: one, or a payload. ArgumentError as for that."""
    if any(callable(getattr(body, method, None)) for method in ("read", "readinto")):
        return body
    return io.BytesIO(bytes_of(body))


def _payload_hint(payload: object) -> str:
    if hasattr(payload, "to_numpy"):  # of pandas, polars
        if hasattr(payload, "columns"):
            return ": send a column, or its columns as lists with request_json(), to handlers of guest.HandleJSON"
        if getattr(getattr(payload, "dtype", None), "kind", "f") == "O":  # objects, as texts are, have no bytes
            return ": request_json() sends its .tolist(), to handlers of guest.HandleJSON"
        return ": send its .to_numpy()"
    if isinstance(payload, dict | list | tuple):
        return ": request_json() sends such values, to handlers of guest.HandleJSON"
    return ""


def json_payload(value: object) -> str:
    """A value as JSON. ArgumentError: the value cannot be written."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_not_json)
    except TypeError as error:
        raise ArgumentError(f"a value must be one that json.dumps takes: {error}") from None
    except (ValueError, RecursionError) as error:  # not a number, a cycle, or too deep
        if (place := _not_finite(value)) is not None:
            raise ArgumentError(f"the value cannot be written as JSON: {place}, and JSON has no such number. None "
                                "(null) can be sent; Go reads it as 0, or as nil into a pointer (*float64)") from None
        raise ArgumentError(f"the value cannot be written as JSON: {error}") from None


def _not_json(value: object) -> NoReturn:
    """Called by json.dumps for a value of a type that JSON does not have."""
    if hasattr(value, "tolist"):  # of NumPy, pandas
        hint = ": use its .tolist()" if getattr(value, "shape", ()) else ": use int(…), float(…) or its .tolist()"
    elif hasattr(value, "model_dump"):  # of pydantic
        hint = ": use its .model_dump()"
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        hint = ": use dataclasses.asdict(…)"
    else:
        hint = ""
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable{hint}")


def _not_finite(value: object) -> str | None:
    """Where the first number is that is not finite, as "value['price'][2] is nan". None: there is none."""
    keys: list[object] = []
    levels = [_items([value])]
    while levels:
        for key, item in levels[-1]:
            if isinstance(item, float) and not math.isfinite(item):
                return f"value{''.join(f'[{cut(key)}]' for key in [*keys, key][1:])} is {float(item)}"
            if isinstance(item, dict | list | tuple):
                if len(levels) == _DEEPEST:
                    return None  # a cycle, or json.dumps has found it too deep
                keys.append(key)
                levels.append(_items(item))
                break
        else:
            levels.pop()
            del keys[-1:]
    return None


def _items(value: object) -> Iterator[tuple[object, object]]:
    return iter(value.items() if isinstance(value, dict) else enumerate(value))  # type: ignore[arg-type]


def json_reply(handler: str, reply: bytes) -> Any:
    """The value of a reply. HandlerError: it is not JSON."""
    try:
        return json.loads(reply)
    except (ValueError, RecursionError) as error:
        raise HandlerError(f"the handler {cut(handler)} did not reply with JSON: {error}. Register it with "
                           "guest.HandleJSON, or call it with request()") from None


def handler_name(name: str) -> str:
    """Return `name`. MisuseError or ArgumentError if it cannot be a handler's name."""
    if not isinstance(name, str):
        raise MisuseError(f"a handler's name must be a str, not {cut(name)}")
    _utf8(name, "a handler's name")
    return name


def _utf8(text: str, what: str) -> bytes:
    """Encode as UTF-8. ArgumentError for unpaired surrogates, which a Python str may contain."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{what} must be valid Unicode, not {cut(text)}") from None
