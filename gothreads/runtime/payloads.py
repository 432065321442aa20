"""Payloads and names that a program passes to handlers and events."""

from __future__ import annotations

from gothreads.bridge.raw_bytes import Buffer, raw_bytes
from gothreads.errors import ArgumentError, MisuseError
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
        raise MisuseError(f"a payload must be bytes, another buffer, or str, not {type(payload).__name__}")
    return data


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
