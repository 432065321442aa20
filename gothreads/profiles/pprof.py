"""The format of pprof: https://github.com/google/pprof/blob/main/proto/profile.proto, a gzipped protocol buffer.

It is written by hand, since it is three kinds of fields, and protobuf would be a dependency of every program.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence

from gothreads.errors import MisuseError
from gothreads.profiles.samples import Line, Sample, ValueType
from gothreads.wasm.leb import uleb

#: The largest profile that is read, unpacked, in bytes; the most fields of all its messages, each of which takes some
#: hundred bytes; and the most frames of all its stacks.
MOST_BYTES, MOST_FIELDS, MOST_FRAMES = 256 << 20, 5_000_000, 5_000_000
_64_BITS = (1 << 64) - 1


def _number(field: int, value: int) -> bytes:
    return uleb(field << 3) + uleb(value & _64_BITS) if value else b""


def _bytes(field: int, content: bytes) -> bytes:
    return uleb(field << 3 | 2) + uleb(len(content)) + content


def _numbers(field: int, values: Sequence[int]) -> bytes:
    return _bytes(field, b"".join(uleb(value & _64_BITS) for value in values))


class _Numbered(dict[object, int]):
    """Numbers keys as they are first asked for, from `first` on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self._first = first

    def __missing__(self, key: object) -> int:
        self[key] = number = len(self) + self._first
        return number


def encode(types: Sequence[ValueType], samples: Sequence[Sample], *, seconds: float = 0.0,
           period: tuple[ValueType, int] | None = None, module: str = "", note: str = "") -> bytes:
    """A profile. period: what is sampled, and how much of it lies between two samples. module: its name."""
    strings, lines, functions = _Numbered(0), _Numbered(1), _Numbered(1)
    assert strings[""] == 0, "the first string must be empty"

    def value_type(field: int, of: ValueType) -> bytes:
        return _bytes(field, _number(1, strings[of.name]) + _number(2, strings[of.unit]))
    out = [value_type(1, of) for of in types]
    for sample in samples:
        labels = b"".join(_bytes(3, _number(1, strings[key]) + _number(2, strings[value]))
                          for key, value in sample.labels)
        out.append(_bytes(2, _numbers(1, [lines[line] for line in sample.stack]) + _numbers(2, sample.values)
                          + labels))
    # It has functions, files and lines: pprof looks for no file to read them from.
    out.append(_bytes(3, _number(1, 1) + _number(5, strings[module]) + b"".join(_number(n, 1) for n in (7, 8, 9))))
    for line, number in lines.items():
        assert isinstance(line, Line)
        function = functions[line.function, line.file, line.start]
        out.append(_bytes(4, _number(1, number) + _number(2, 1)
                          + _bytes(4, _number(1, function) + _number(2, line.line))))
    for key, number in functions.items():
        assert isinstance(key, tuple)
        name, file, start = key
        out.append(_bytes(5, _number(1, number) + _number(2, strings[name]) + _number(3, strings[name])
                          + _number(4, strings[file]) + _number(5, start)))
    out += [_number(9, time.time_ns() - int(seconds * 1e9)), _number(10, int(seconds * 1e9))]
    if period is not None:
        out += [value_type(11, period[0]), _number(12, period[1])]
    if note:
        out.append(_number(13, strings[note]))
    if types:
        out.append(_number(14, strings[types[-1].name]))
    out += [_bytes(6, str(text).encode(errors="replace")) for text in strings]
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(b"".join(out)) + packer.flush()


class _Bad(Exception):
    """The bytes are no profile."""


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = bits = 0
    while bits < 70:
        if at >= len(content):
            raise _Bad
        byte = content[at]
        value |= (byte & 0x7F) << bits
        at, bits = at + 1, bits + 7
        if byte < 0x80:
            return value & _64_BITS, at
    raise _Bad


def _content(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _Bad
    return value


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise _Bad
    return value - (1 << 64) if value >> 63 else value


def _ints(fields: Sequence[tuple[int, int | bytes]], wanted: int) -> list[int]:
    """A repeated number, packed or not."""
    found: list[int] = []
    for field, value in fields:
        if field != wanted:
            continue
        if isinstance(value, int):
            found.append(_int(value))
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(_int(number))
            if len(found) > MOST_FRAMES:
                raise _Bad
    return found


class _Reader:
    """Reads the messages of one profile, and counts their fields."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def fields(self, content: bytes) -> Iterator[tuple[int, int | bytes]]:
        """The fields of a message: numbers, and everything else as bytes."""
        at = 0
        while at < len(content):
            self._left -= 1
            if self._left < 0:
                raise _Bad
            tag, at = _varint(content, at)
            match tag & 7:
                case 0:
                    value, at = _varint(content, at)
                    yield tag >> 3, value
                    continue
                case 1:
                    length = 8
                case 2:
                    length, at = _varint(content, at)
                case 5:
                    length = 4
                case _:
                    raise _Bad
            if length > len(content) - at:
                raise _Bad
            yield tag >> 3, content[at:at + length]
            at += length

    def messages(self, fields: Sequence[tuple[int, int | bytes]], wanted: int) -> list[dict[int, int | bytes]]:
        """Messages whose fields come once; of those that come again, the first."""
        found: list[dict[int, int | bytes]] = []
        for value in (value for field, value in fields if field == wanted):
            message: dict[int, int | bytes] = {}
            for field, own in self.fields(_content(value)):
                message.setdefault(field, own)
            found.append(message)
        return found


def decode(data: bytes, name: str) -> tuple[tuple[ValueType, ...], tuple[Sample, ...], float, str]:
    """The types, samples, duration and first comment of a profile. MisuseError: it is none."""
    try:
        return _decode(data)
    except (_Bad, IndexError, KeyError, zlib.error):
        raise MisuseError(f"{name} is not a profile that `go tool pprof` opens, or it is damaged") from None


def _decode(data: bytes) -> tuple[tuple[ValueType, ...], tuple[Sample, ...], float, str]:
    if data[:2] == b"\x1f\x8b":
        unpacker = zlib.decompressobj(31)
        data = unpacker.decompress(data, MOST_BYTES)
        if not unpacker.eof:
            raise _Bad
    reader = _Reader()
    fields = list(reader.fields(data))
    texts = [_content(value).decode(errors="replace") for field, value in fields if field == 6]
    types = tuple(ValueType(_text(texts, of, 1), _text(texts, of, 2)) for of in reader.messages(fields, 1))
    if not types:
        raise _Bad
    locations = _locations(reader, fields, texts)
    samples, frames = [], 0
    for value in (value for field, value in fields if field == 2):
        parts = list(reader.fields(_content(value)))
        stack, values = [locations[number] for number in _ints(parts, 1)], tuple(_ints(parts, 2))
        frames += sum(map(len, stack))
        if len(values) != len(types) or frames > MOST_FRAMES:
            raise _Bad
        labels = tuple((_text(texts, of, 1), _text(texts, of, 2)) for of in reader.messages(parts, 3) if of.get(2))
        samples.append(Sample(tuple(line for lines in stack for line in lines), values, labels))
    seconds, comments = sum(_ints(fields, 10)[:1]) / 1e9, _ints(fields, 13)
    return types, tuple(samples), seconds, _text(texts, {1: comments[0]}, 1) if comments else ""


def _locations(reader: _Reader, fields: Sequence[tuple[int, int | bytes]],
               texts: Sequence[str]) -> dict[int, list[Line]]:
    """The frames of each location: more than one where calls were inlined."""
    functions = {_int(of.get(1, 0)): of for of in reader.messages(fields, 5)}
    locations: dict[int, list[Line]] = {}
    for value in (value for field, value in fields if field == 4):
        parts = list(reader.fields(_content(value)))
        lines = locations[sum(_ints(parts, 1)[:1])] = []
        for line in reader.messages(parts, 4):
            function = functions[_int(line.get(1, 0))]
            lines.append(Line(_text(texts, function, 2), _text(texts, function, 4), _int(line.get(2, 0)),
                              _int(function.get(5, 0))))
    return locations


def _text(texts: Sequence[str], message: dict[int, int | bytes], field: int) -> str:
    index = _int(message.get(field, 0))
    if index < 0:
        raise _Bad
    return texts[index]
