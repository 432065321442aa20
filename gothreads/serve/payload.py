"""What calls are given and give, as JSON: {"args": [...]}, {"result": ...}.

json holds the interpreter's lock for as long as a value takes, whatever the thread; a list or an object takes forty times its size in memory, and of
many of them a megabyte takes 0.2 s. So arguments are read one by one, and what cannot be an argument ends that.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from starlette.exceptions import HTTPException

#: The most that a call's arguments may be, in bytes of JSON, unless told otherwise.
LARGEST_JSON = 4 << 20
#: How many bytes of memory one of JSON may take: its own, and four of a text.
WEIGHT = 5
#: More arguments no function of WebAssembly has.
MOST_ARGUMENTS = 1000
#: What is larger is taken apart, or put together, on a thread, and so much of a text at a time.
_SMALL = 64 << 10

_T = TypeVar("_T")
_NOTHING = re.compile(r"[ \t\r\n]*(?:\{[ \t\r\n]*\}[ \t\r\n]*)?")
_OPENING = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"args"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*')
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_END = re.compile(r"[ \t\r\n]*\][ \t\r\n]*\}[ \t\r\n]*")
_decoder = json.JSONDecoder()


async def aside(work: Callable[[Any], _T], value: Any) -> _T:
    """On a thread when it may take long."""
    return await asyncio.to_thread(work, value) if isinstance(value, bytes | str) and len(value) > _SMALL else work(value)


def parse_arguments(body: bytes) -> list[Any]:
    """The arguments of a call. HTTPException when they are not JSON, or none of any call."""
    try:
        text = body.decode()
        return [] if _NOTHING.fullmatch(text) else list(_values(text))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f'the body is not JSON: {error}; expected {{"args": [...]}}') from None


def _values(text: str) -> Iterator[Any]:
    opening = _OPENING.match(text)
    if opening is None:
        raise HTTPException(400, 'the body must be {"args": [...]}')
    at = opening.end()
    if _END.match(text, at) is None:
        for count in range(1, MOST_ARGUMENTS + 1):
            if text[at:at + 1] in ("[", "{") and len(text) - at > _SMALL:
                raise HTTPException(422, f"args: argument {count} is a list or an object, which no export takes")
            value, at = _decoder.raw_decode(text, at)
            yield value
            comma = _COMMA.match(text, at)
            if comma is None:
                break
            at = comma.end()
        else:
            raise HTTPException(422, f"args: no export takes more than {MOST_ARGUMENTS:,} arguments")
    if _END.fullmatch(text, at) is None:
        raise HTTPException(400, f'the body must be {{"args": [...]}}, which it is not from character {at:,} on')


def result_json(value: Any) -> bytes:
    """A result, as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)  # JSON has no numbers for these
    if not isinstance(value, str):
        return b'{"result":%s}' % json.dumps(value).encode()
    pieces = (json.dumps(value[at:at + _SMALL], ensure_ascii=False)[1:-1].encode() for at in range(0, len(value), _SMALL))
    return b'{"result":"%s"}' % b"".join(pieces)
