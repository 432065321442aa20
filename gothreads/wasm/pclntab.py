"""Where the code of a Go program comes from: the table of functions, files and lines that Go's linker makes.

Go's runtime needs the table for its own stacks, so `-s -w` and `gothreads build --strip` leave it in the data. A PC is
the number of a function (PC_F) << 16, plus that of a place in it (PC_B): one for each call that returns, and some more.

    header     magic, sizes, and the offsets of what follows      cmd/link/internal/ld/pcln.go: generatePCHeader
    functab    (PC_F, offset of its record) for each function     writePCToFunc, writeFuncs; runtime/runtime2.go: _func
    pctab      for PC_B to a line, a file, an inlined call         runtime/symtab.go: pcvalue
    inltree    the calls that were inlined into a function        runtime/symtabinl.go: inlinedCall

Nothing here is trusted: what cannot be read has no lines, and each look takes a bounded time.
"""

from __future__ import annotations

import itertools
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator

from gothreads.errors import Frame
from gothreads.wasm.binary import Module
from gothreads.wasm.instructions import LEB
from gothreads.wasm.leb import Reader, number

#: What the header has after the magic: the number of functions, and the offsets of names, units, files, pctab, functab.
_HEADER = struct.Struct("<8xQ16xQQQQQ")
#: A function's record: the offset of its name; of its tables for files and for lines; how many others it has; its unit;
#: its first line; how many data it has.
_RECORD = struct.Struct("<4xI12xIIIIi3xB")
_INLINED = struct.Struct("<4xIIi")
_WORD = struct.Struct("<I")
_ADDRESS = struct.Struct("<Q")
#: Among the others and the data of a function: which call was inlined where; the calls that were (internal/abi).
_INLINE_INDEX, _INLINE_TREE = 2, 3
_NOTHING = 0xFFFFFFFF
#: In runtime.moduledata, the slice of names, which comes first; and where the data of functions are, by Go's version.
_NAMES_AT, _DATA_AT, _DATA_AT_UNTIL_126 = 8, 344, 320
#: The most data that are looked at, and what a hostile table may ask for.
_MOST_DATA, _MOST_STEPS, _LONGEST_NAME, _MOST_INLINED = 1 << 28, 1 << 18, 4096, 64
#: Part of gt_init_memory (passes/threads.py): the address, the offset in the segment, the length; memory.init.
_DATA_COPY = re.compile(rb"\x41(" + LEB + rb")\x41\0\x41" + LEB + rb"\xfc\x08(" + LEB + rb")\0")


class LineTable:
    """The table of one module. Immutable."""

    MAGIC = b"\xf1\xff\xff\xff\0\0\x01\x08"

    def __init__(self, image: bytes, go: str) -> None:
        """image: the module's memory before it runs. go: the version of Go. ValueError if there is no table."""
        self._image = image
        self._at = at = image.find(self.MAGIC)
        if at < 0:
            raise ValueError("there is no table")
        try:
            count, names, units, files, self._pctab, functab = _HEADER.unpack_from(image, at)
            self._names, self._units, self._files, self._functab = (at + offset
                                                                    for offset in (names, units, files, functab))
            self._pctab += at
            pairs = struct.unpack_from(f"<{2 * min(count, len(image))}I", image, self._functab)
        except (struct.error, OverflowError):
            raise ValueError("the table is not whole") from None
        self._starts: tuple[int, ...] = pairs[::2]
        self._records: tuple[int, ...] = pairs[1::2]
        self._data = self._function_data(go)

    @classmethod
    def of(cls, module: Module, go: str) -> LineTable:
        """The table of a module that Go has made. ValueError if it has none."""
        return cls(_image(module), go)

    def has(self, function: int) -> bool:
        """Whether there is a function with this PC_F."""
        place = bisect_right(self._starts, function) - 1
        return place >= 0 and self._starts[place] == function

    def places(self, pc: int) -> list[Frame]:
        """The function that a PC is in, and before it those that were inlined there; the innermost first."""
        try:
            return list(self._places(pc >> 16, pc & 0xFFFF))
        except (struct.error, IndexError, OverflowError):
            return []

    def name(self, function: int) -> str:
        """The name of the function with this PC_F; "" if it has none."""
        try:
            return self._text(self._names + self._record(function)[1])
        except (struct.error, IndexError, OverflowError):
            return ""

    def function(self, name: str) -> int:
        """The PC_F of a function; -1 if there is none of this name."""
        return next((function for function in self._starts if self.name(function) == name), -1)

    def _places(self, function: int, pc: int) -> Iterator[Frame]:
        at, name, files, lines, tables, unit, _, data = self._record(function)
        others = at + _RECORD.size
        tree, calls = None, 0
        if tables > _INLINE_INDEX and data > _INLINE_TREE and self._data is not None:
            offset = _WORD.unpack_from(self._image, others + 4 * (tables + _INLINE_TREE))[0]
            tree = None if offset == _NOTHING else self._data + offset
            calls = _WORD.unpack_from(self._image, others + 4 * _INLINE_INDEX)[0]
        steps = itertools.repeat(None, _MOST_STEPS)
        for _ in range(_MOST_INLINED):
            file, line = self._value(files, pc, steps), self._value(lines, pc, steps)
            index = -1 if tree is None else self._value(calls, pc, steps)
            path = self._file(unit, file)
            if index < 0 or tree is None:
                yield Frame(self._text(self._names + name), -1, path, max(line, 0))
                return
            inlined, pc, _ = _INLINED.unpack_from(self._image, tree + _INLINED.size * index)
            yield Frame(self._text(self._names + inlined), -1, path, max(line, 0))

    def _record(self, function: int) -> tuple[int, int, int, int, int, int, int, int]:
        place = bisect_right(self._starts, function) - 1
        if place < 0 or self._starts[place] != function:
            raise IndexError(function)
        at = self._functab + self._records[place]
        return (at, *_RECORD.unpack_from(self._image, at))

    def _value(self, table: int, pc: int, steps: Iterator[None]) -> int:
        """What a table has for PC_B; -1 if it has nothing, or there are no steps left."""
        if not table:
            return -1
        at, value, reached = self._pctab + table, -1, 0
        for _ in steps:
            change, at = self._varint(at)
            if not change and reached:
                return -1
            value += -(change >> 1) - 1 if change & 1 else change >> 1
            passed, at = self._varint(at)
            reached += passed
            if pc < reached:
                return value
        return -1

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        for place in range(5):
            byte = self._image[at + place]
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value, at + place + 1
        raise IndexError(at)

    def _file(self, unit: int, file: int) -> str:
        if file < 0 or unit == _NOTHING:
            return ""
        offset = _WORD.unpack_from(self._image, self._units + 4 * (unit + file))[0]
        return "" if offset == _NOTHING else self._text(self._files + offset)

    def _text(self, at: int) -> str:
        end = self._image.find(b"\0", at, at + _LONGEST_NAME)
        return self._image[at:max(end, at)].decode(errors="replace")

    def _function_data(self, go: str) -> int | None:
        """The address of functions' data (go:func.*), which runtime.moduledata has. Needed for inlined calls only."""
        data_at = _DATA_AT_UNTIL_126 if re.match(r"go1\.2[0-6]\b", go) else _DATA_AT
        header, names = _ADDRESS.pack(self._at), _ADDRESS.pack(self._names)
        found = self._image.find(header + names)
        at = found + data_at
        return _ADDRESS.unpack_from(self._image, at)[0] if found >= 0 and at + 8 <= len(self._image) else None


def _image(module: Module) -> bytes:
    """The module's memory before it runs, as far as data are put there at constant addresses."""
    addresses = {place: segment.offset for place, segment in enumerate(module.data)}
    if module.data and all(address is None for address in addresses.values()):
        copies = next((body for body in reversed(module.bodies) if _DATA_COPY.search(body)), b"")
        addresses |= {number(found[2]): Reader(found[1], "code").s32() & 0xFFFFFFFF
                      for found in _DATA_COPY.finditer(copies)}
    parts = sorted((address, module.data[place].content) for place, address in addresses.items()
                   if address is not None and place < len(module.data))
    image = bytearray()
    for address, content in parts:
        if len(image) <= address and address + len(content) <= _MOST_DATA:
            image += bytes(address - len(image)) + content
    return bytes(image)


def go_version(module: Module) -> str:
    """The version of Go that has made a module, as it says; "" if it does not."""
    found = re.search(rb"go1\.\d{1,3}", module.custom("producers") or b"")
    return "" if found is None else found[0].decode()
