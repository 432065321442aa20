"""Payloads and names that a program passes to handlers and events."""

from __future__ import annotations

import json
from typing import Any

from gothreads.bridge.raw_bytes import Buffer, raw_bytes
from gothreads.errors import ArgumentError, HandlerError, MisuseError
from gothreads.text import cut

#: The payload of a request or an event: text, which is sent as UTF-8, or any object with a buffer.
Payload = Buffer | str


def bytes_of(payload: Payload) -> bytes:
    """A copy of the payload. MisuseError for another type, ArgumentError for what cannot be sent as bytes."""
    if isinstance(payload, str):
        return _utf8(payload, "a payload")
    try:
        data = raw_bytes(payload)
    except ValueError as error:
        raise ArgumentError(f"a payload's bytes must be readable, and those of this {type(payload).__name__} are not: "
                            f"{error}") from None
    if data is None:
        hint = ". To send it as JSON: request_json" if isinstance(payload, dict | list | tuple) else ""
        raise MisuseError(f"a payload must be bytes, another buffer, or str, not {type(payload).__name__}{hint}")
    return data


def json_payload(value: object) -> str:
    """A value as JSON. MisuseError: JSON has no such type; ArgumentError: the value cannot be written."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except TypeError as error:
        raise MisuseError(f"a value must be one that json.dumps takes: {error}") from None
    except (ValueError, RecursionError) as error:  # not a number, a cycle, or too deep
        raise ArgumentError(f"the value cannot be written as JSON: {error}") from None


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
