"""Payloads and names that a program passes to handlers and events."""

from __future__ import annotations

from gothreads.errors import ArgumentError, MisuseError
from gothreads.text import cut

#: The payload of a request or an event; text is sent as UTF-8.
Payload = bytes | bytearray | memoryview | str


def bytes_of(payload: Payload) -> bytes:
    """The payload as bytes. MisuseError for another type, ArgumentError for text that UTF-8 cannot encode."""
    if isinstance(payload, str):
        return _utf8(payload, "a payload")
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    raise MisuseError(f"a payload must be bytes or str, not {type(payload).__name__}")


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
