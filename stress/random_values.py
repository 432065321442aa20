"""Random Python values, texts and JSON of any kind, for the fuzz programs."""

from __future__ import annotations

import decimal
import enum
import fractions
import json
import math
import random
from typing import Any

_EDGES = [0, 1, -1, 2, 127, 128, 255, 256, 1 << 15, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 53) + 1,
          (1 << 63) - 1, 1 << 63,
          (1 << 64) - 1, 1 << 64, 1 << 128, 10 ** 400, 10 ** 5000]
_FLOATS = [0.0, -0.0, 0.1, 1.0, -1.5, 1e-45, 5e-324, 3.4028234663852886e38, 3.4028235677973366e38, 1e39,
           1.7976931348623157e308, math.inf, -math.inf, math.nan]
_LETTERS = [*"abz09 _-./\\:\"'`<>&%#?;{}[]()$*,=+@!|~^", "\0", "\n", "\r", "\t", "\x1b[31m", "\x07", "\x7f", "\x85",
            "é", "ß", "ı", "İ", "ﬃ", "Ω", "中", "\u200b", "\u202e", "\u2028", "\ufeff", "\ufffd", "\uffff", "🐹",
            "👩‍👩‍👧", "\U0010ffff", "e\u0301"]
_SURROGATES = ["\ud800", "\udfff", "\udc80"]


class Number(enum.IntEnum):
    """An int of another class."""

    SEVEN = 7


class Index:
    """A number only through __index__."""

    def __init__(self, number: object) -> None:
        self.number = number

    def __index__(self) -> Any:
        return self.number

    def __repr__(self) -> str:
        return f"Index({self.number!r:.40})"


class Half:
    """A number only through __float__."""

    def __float__(self) -> float:
        return 0.5


class Mute:
    """An object whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("there is no repr")


def text(choose: random.Random, *, surrogates: bool = True, longest: int = 3_000) -> str:
    """Any characters; now and then lone surrogates, which UTF-8 cannot encode."""
    size = choose.choice((0, 1, 1, 2, 3, 5, 8, 20, 100, longest))
    letters = _LETTERS + (_SURROGATES if surrogates and choose.random() < 0.15 else [])
    if choose.random() < 0.3:
        return "".join(chr(choose.randrange(1, 0xD800)) for _ in range(size))
    return "".join(choose.choice(letters) for _ in range(size))


def integer(choose: random.Random) -> int:
    number = (choose.choice(_EDGES) + choose.choice((0, 0, 1, -1)) if choose.random() < 0.7
              else choose.getrandbits(choose.randrange(1, 70)))
    return number if choose.random() < 0.6 else -number


def floating(choose: random.Random) -> float:
    number = (choose.choice(_FLOATS) if choose.random() < 0.6
              else choose.uniform(-1, 1) * 10.0 ** choose.randrange(-320, 308))
    return number if choose.random() < 0.7 else -number


def value(choose: random.Random, depth: int = 0) -> Any:
    """Any Python value."""
    match choose.randrange(20):
        case 0 | 1 | 2 | 3 | 4:
            return integer(choose)
        case 5 | 6 | 7:
            return floating(choose)
        case 8 | 9 | 10:
            return text(choose)
        case 11:
            return choose.random() < 0.5
        case 12 | 13:
            return choose.choice((bytes, bytearray, memoryview))(choose.randbytes(choose.choice((0, 1, 5, 300))))
        case 14:
            return choose.choice((None, ..., NotImplemented, object(), int, value, Mute))
        case 15:
            return [value(choose, depth + 1) for _ in range(choose.randrange(4))] if depth < 3 else []
        case 16:
            return {text(choose): value(choose, depth + 1) for _ in range(choose.randrange(3))} if depth < 3 else {}
        case 17:
            return choose.choice((decimal.Decimal("0.25"), decimal.Decimal("NaN"), decimal.Decimal("sNaN"),
                                  fractions.Fraction(1, 4), 1j, Half()))
        case 18:
            return choose.choice((Number.SEVEN, Index(integer(choose)), Index("no"), Index(1.5)))
        case _:
            return choose.choice((b"12", bytearray(b"1.5"), memoryview(b"7"), "12", "1e3", "true", "nan", (), (1,), {1},
                                  range(3)))


def json_value(choose: random.Random, depth: int = 0) -> Any:
    """A value that json.dumps accepts."""
    match choose.randrange(9):
        case 0 | 1:
            return choose.choice((integer(choose) % (1 << 70), -1, 0, 1))
        case 2:
            return floating(choose)
        case 3 | 4:
            return text(choose)
        case 5:
            return choose.choice((None, True, False))
        case 6 | 7 if depth < 4:
            return [json_value(choose, depth + 1) for _ in range(choose.randrange(4))]
        case _ if depth < 4:
            return {text(choose, longest=30): json_value(choose, depth + 1) for _ in range(choose.randrange(4))}
        case _:
            return ""


def json_text(choose: random.Random) -> bytes:
    """JSON of any kind, valid or not quite."""
    match choose.randrange(12):
        case 0:
            return choose.choice((b"[" * 100_000, b'{"a":' * 50_000, b"1" * 100_000, b'"' + b"x" * 1_000_000 + b'"',
                                  b"1e999", b"-", b"NaN",
                                  b"Infinity", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{} {}", b"[1,]", b"{'a': 1}", b"\0",
                                  b'"\\ud800"',
                                  b'"\\u0000"', b"00", b"+1", b"0x10"))
        case 1:
            return choose.randbytes(choose.randrange(60))
        case 2:
            dumped = json.dumps(json_value(choose)).encode()
            return dumped[:choose.randrange(len(dumped) + 1)]
        case 3:
            damaged = bytearray(json.dumps(json_value(choose)).encode())
            damaged[choose.randrange(len(damaged))] = choose.randrange(256)
            return bytes(damaged)
        case _:
            return json.dumps(json_value(choose), ensure_ascii=choose.random() < 0.5).encode(errors="surrogatepass")
