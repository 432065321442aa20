"""Arguments and results of calls as JSON: {"args": [...]}, {"result": ...}.

json holds the GIL while it processes a value, on whatever thread. A list or an object takes forty times its size in
memory, and a megabyte of many of them takes 0.2 s. So arguments are parsed one by one, and parsing stops at a value
that cannot be an argument.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from starlette.exceptions import HTTPException

#: Bytes of memory that a byte of JSON may take: itself, and four for the decoded text.
WEIGHT = 5
#: The same for typed functions, whose arguments may be lists and objects: an empty one takes three bytes of JSON.
TYPED_WEIGHT = 40
#: No WebAssembly function has more parameters.
MOST_ARGUMENTS = 1000
#: Larger values are parsed or encoded on a thread, and text in pieces of this size. Bytes.
_SMALL = 64 << 10

_T = TypeVar("_T")
_NOTHING = re.compile(r"[ \t\r\n]*(?:\{[ \t\r\n]*\}[ \t\r\n]*)?")
_OPENING = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"args"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*')
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_END = re.compile(r"[ \t\r\n]*\][ \t\r\n]*\}[ \t\r\n]*")
_decoder = json.JSONDecoder()


async def aside(work: Callable[[Any], _T], value: Any) -> _T:
    """Run `work` on `value`: on a thread if that may take long."""
    return await asyncio.to_thread(work, value) if isinstance(value,
                                                              bytes | str) and len(value) > _SMALL else work(value)


def parse_arguments(body: bytes) -> list[Any]:
    """The arguments of a call. HTTPException if they are not JSON or cannot be arguments."""
    try:
        text = body.decode()
        return [] if _NOTHING.fullmatch(text) else list(_values(text))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f'the body is not JSON: {error}; expected {{"args": [...]}}') from None


def parse_typed_arguments(body: bytes) -> list[Any] | dict[str, Any]:
    """The arguments of a call of a typed function, in order or by name. HTTPException if they are not JSON."""
    import msgspec  # which modules without typed functions do not need

    try:
        arguments = msgspec.json.decode(body) if body.strip() else {}
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise HTTPException(400, f'the body is not JSON: {error}; expected {{"args": [...]}}') from None
    known = isinstance(arguments, dict) and not arguments.keys() - {"args"}
    values = arguments.get("args", []) if known else None
    if not isinstance(values, list | dict):
        raise HTTPException(400, 'the body must be {"args": [...]}, or {"args": {"NAME": ...}}')
    return values


def _values(text: str) -> Iterator[Any]:
    opening = _OPENING.match(text)
    if opening is None:
        raise HTTPException(400, 'the body must be {"args": [...]}')
    at = opening.end()
    if _END.match(text, at) is None:
        for count in range(1, MOST_ARGUMENTS + 1):
            if text[at:at + 1] in ("[", "{") and len(text) - at > _SMALL:
                raise HTTPException(422, f"args: argument {count} is a list or an object, and exports take neither")
            value, at = _decoder.raw_decode(text, at)
            yield value
            comma = _COMMA.match(text, at)
            if comma is None:
                break
            at = comma.end()
        else:
            raise HTTPException(422, f"args: no export takes more than {MOST_ARGUMENTS:,} arguments")
    if _END.fullmatch(text, at) is None:
        raise HTTPException(400, f'the body must be {{"args": [...]}}: unexpected text at character {at:,}')


def result_json(value: Any) -> bytes:
    """A result as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)  # JSON cannot represent NaN and infinity
    if not isinstance(value, str):
        return b'{"result":%s}' % json.dumps(value).encode()
    pieces = (json.dumps(value[at:at + _SMALL], ensure_ascii=False)[1:-1].encode()
              for at in range(0, len(value), _SMALL))
    return b'{"result":"%s"}' % b"".join(pieces)
