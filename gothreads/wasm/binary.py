"""The WebAssembly binary format, as far as gothreads reads and writes it: sections in, sections out.

Source: WebAssembly core specification 3.0, chapter 5, and the threads proposal for shared memories. What is not
needed (tables, elements, the instructions of functions) stays bytes. Every error is a ModuleError that names the
section and the offset in the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

from gothreads.errors import ModuleError

MAGIC = b"\0asm"
VERSION = b"\1\0\0\0"
PAGE = 65536
MAX_PAGES = 65536

T = TypeVar("T")


class Section(IntEnum):
    """Section ids, and (by `ORDER`) the order they come in."""

    CUSTOM = 0
    TYPE = 1
    IMPORT = 2
    FUNCTION = 3
    TABLE = 4
    MEMORY = 5
    GLOBAL = 6
    EXPORT = 7
    START = 8
    ELEMENT = 9
    CODE = 10
    DATA = 11
    DATA_COUNT = 12
    TAG = 13


ORDER = (Section.TYPE, Section.IMPORT, Section.FUNCTION, Section.TABLE, Section.MEMORY, Section.TAG, Section.GLOBAL,
         Section.EXPORT, Section.START, Section.ELEMENT, Section.DATA_COUNT, Section.CODE, Section.DATA)


class Kind(IntEnum):
    """What an import or export is."""

    FUNC = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3
    TAG = 4


VALUE_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x70: "funcref", 0x6F: "externref"}


@dataclass(frozen=True)
class FuncType:
    """Value types as their bytes."""

    params: bytes
    results: bytes

    def encode(self) -> bytes:
        return b"\x60" + vector(self.params) + vector(self.results)

    def __str__(self) -> str:
        def names(types: bytes) -> str:
            return " ".join(VALUE_TYPES.get(t, f"{t:#x}") for t in types)
        return f"({names(self.params)}) -> ({names(self.results)})"


@dataclass(frozen=True)
class Limits:
    """Of a memory, in pages of 64 KiB."""

    minimum: int
    maximum: int | None = None
    shared: bool = False

    def encode(self) -> bytes:
        flags = (self.maximum is not None) | self.shared << 1
        return bytes([flags]) + uleb(self.minimum) + (uleb(self.maximum) if self.maximum is not None else b"")


@dataclass(frozen=True)
class Import:
    """`description` is the encoded type: a type index for functions, limits for memories."""

    module: str
    name: str
    kind: Kind
    description: bytes

    @property
    def type_index(self) -> int:
        return Reader(self.description, "import").u32()

    def encode(self) -> bytes:
        return name(self.module) + name(self.name) + bytes([self.kind]) + self.description


@dataclass(frozen=True)
class Export:
    name: str
    kind: Kind
    index: int

    def encode(self) -> bytes:
        return name(self.name) + bytes([self.kind]) + uleb(self.index)


@dataclass(frozen=True)
class DataSegment:
    """`offset` is an address for an active segment of memory 0, None for a passive one."""

    offset: int | None
    content: bytes

    def encode(self) -> bytes:
        if self.offset is None:
            return b"\x01" + vector(self.content)
        return b"\x00\x41" + sleb(signed(self.offset, 32)) + b"\x0b" + vector(self.content)


@dataclass
class Module:
    """A module, taken apart. Function indices count imported functions first."""

    types: list[FuncType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    memories: list[Limits] = field(default_factory=list)
    globals: list[bytes] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    data: list[DataSegment] = field(default_factory=list)
    data_count: bool = False
    #: Sections that are kept as they are.
    raw: dict[Section, bytes] = field(default_factory=dict)
    customs: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def imported_functions(self) -> list[Import]:
        return [i for i in self.imports if i.kind is Kind.FUNC]

    @property
    def memory(self) -> Limits | None:
        """Memory 0, imported or not."""
        for imported in self.imports:
            if imported.kind is Kind.MEMORY:
                return _limits(Reader(imported.description, "import"))
        return self.memories[0] if self.memories else None

    def function_type(self, index: int) -> FuncType:
        """ModuleError when there is no such function, or it has no such type."""
        imported = self.imported_functions
        try:
            type_index = imported[index].type_index if index < len(imported) else self.functions[index - len(imported)]
            return self.types[type_index]
        except IndexError:
            raise ModuleError(f"not a valid WebAssembly module: function {index} is not there, or has no type") from None

    def custom(self, wanted: str) -> bytes | None:
        return next((content for title, content in self.customs if title == wanted), None)

    def encode(self) -> bytes:
        content = dict(self.raw)
        for section, items in ((Section.TYPE, [t.encode() for t in self.types]), (Section.IMPORT, [i.encode() for i in self.imports]),
                               (Section.FUNCTION, [uleb(f) for f in self.functions]), (Section.MEMORY, [m.encode() for m in self.memories]),
                               (Section.GLOBAL, self.globals), (Section.EXPORT, [e.encode() for e in self.exports]),
                               (Section.CODE, [vector(b) for b in self.bodies]), (Section.DATA, [d.encode() for d in self.data])):
            if items:
                content[section] = uleb(len(items)) + b"".join(items)
        if self.data_count:
            content[Section.DATA_COUNT] = uleb(len(self.data))
        parts = [MAGIC, VERSION]
        parts += [bytes([section]) + vector(content[section]) for section in ORDER if section in content]
        parts += [b"\0" + vector(name(title) + body) for title, body in self.customs]
        return b"".join(parts)


class Reader:
    """A cursor over bytes. `base` is where they begin in the file, for error messages."""

    def __init__(self, content: bytes, where: str, base: int = 0) -> None:
        self.content, self.where, self.base = content, where, base
        self.at, self.end = 0, len(content)

    def fail(self, problem: str) -> ModuleError:
        return ModuleError(f"not a valid WebAssembly module: {self.where} section, offset {self.base + self.at:#x}: {problem}")

    def byte(self) -> int:
        if self.at >= self.end:
            raise self.fail("it ends early (is the file truncated?)")
        self.at += 1
        return self.content[self.at - 1]

    def take(self, count: int) -> bytes:
        if count > self.end - self.at:
            raise self.fail(f"{count} bytes are announced, {self.end - self.at} are there (is the file truncated?)")
        self.at += count
        return self.content[self.at - count:self.at]

    def u32(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 35:
                raise self.fail("a number is longer than 32 bits")
        if value >> 32:
            raise self.fail("a number is longer than 32 bits")
        return value

    def s32(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 35:
                raise self.fail("a number is longer than 32 bits")
        if byte & 0x40:
            value -= 1 << shift
        if not -(1 << 31) <= value < 1 << 31:
            raise self.fail("a number is longer than 32 bits")
        return value

    def name(self) -> str:
        raw = self.take(self.u32())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.fail("a name is not UTF-8") from None

    def vector(self, item: Callable[[Reader], T]) -> list[T]:
        return [item(self) for _ in range(self.u32())]

    def rest(self) -> bytes:
        return self.take(self.end - self.at)


def parse(content: bytes, *, outline: bool = False) -> Module:
    """Take a module apart. ModuleError when it is not one, or uses what gothreads cannot read.

    The outline has types, imports, exports and custom sections; code and data stay in `raw`, which is much faster.
    """
    if not content:
        raise ModuleError("the file is empty")
    if content[:4] != MAGIC:
        raise ModuleError("not a WebAssembly module (it does not begin with \\0asm)")
    if content[4:8] != VERSION:
        kind = "a WebAssembly component, not a core module" if content[6:8] == b"\1\0" else "of an unknown version"
        raise ModuleError(f"not a core WebAssembly module, but {kind}" if len(content) >= 8 else "the file is truncated")
    module = Module()
    file = Reader(content, "header")
    file.at = 8
    last = -1
    while file.at < file.end:
        number = file.byte()
        try:
            section = Section(number)
        except ValueError:
            raise file.fail(f"there is no section {number}") from None
        file.where = section.name.lower()
        size = file.u32()
        begin = file.at
        reader = Reader(file.take(size), section.name.lower(), begin)
        if section is not Section.CUSTOM:
            place = ORDER.index(section)
            if place <= last:
                raise reader.fail("the section is out of order")
            last = place
        if outline and section in (Section.CODE, Section.DATA, Section.ELEMENT):
            module.raw[section] = reader.rest()
        else:
            _section(module, section, reader)
        if reader.at != reader.end:
            raise reader.fail("bytes are left over at the end of the section")
    bodies = Reader(module.raw[Section.CODE], "code").u32() if module.raw.get(Section.CODE) else len(module.bodies)
    if bodies != len(module.functions):
        raise ModuleError(f"not a valid WebAssembly module: {len(module.functions)} functions are declared, {bodies} have a body "
                          "(is the file truncated?)")
    return module


def _section(module: Module, section: Section, reader: Reader) -> None:
    match section:
        case Section.CUSTOM:
            module.customs.append((reader.name(), reader.rest()))
        case Section.TYPE:
            module.types = reader.vector(_func_type)
        case Section.IMPORT:
            module.imports = reader.vector(_import)
        case Section.FUNCTION:
            module.functions = reader.vector(Reader.u32)
        case Section.MEMORY:
            module.memories = reader.vector(_limits)
        case Section.GLOBAL:
            # Constant expressions have no length of their own; only how many globals there are matters.
            count = reader.u32()
            module.globals = _globals(reader, count)
        case Section.EXPORT:
            module.exports = reader.vector(_export)
        case Section.CODE:
            module.bodies = reader.vector(lambda r: r.take(r.u32()))
        case Section.DATA:
            module.data = reader.vector(_data)
        case Section.DATA_COUNT:
            reader.u32()
            module.data_count = True
        case _:
            module.raw[section] = reader.rest()


def _func_type(reader: Reader) -> FuncType:
    if reader.byte() != 0x60:
        raise reader.fail("only function types are supported (no garbage-collected types)")
    return FuncType(reader.take(reader.u32()), reader.take(reader.u32()))


def _import(reader: Reader) -> Import:
    module, title = reader.name(), reader.name()
    kind = _kind(reader)
    begin = reader.at
    match kind:
        case Kind.FUNC:
            reader.u32()
        case Kind.TABLE:
            reader.byte()
            _limits(reader)
        case Kind.MEMORY:
            _limits(reader)
        case Kind.GLOBAL:
            reader.take(2)
        case Kind.TAG:
            reader.byte()
            reader.u32()
    return Import(module, title, kind, reader.content[begin:reader.at])


def _export(reader: Reader) -> Export:
    return Export(reader.name(), _kind(reader), reader.u32())


def _kind(reader: Reader) -> Kind:
    number = reader.byte()
    try:
        return Kind(number)
    except ValueError:
        raise reader.fail(f"there is no kind {number}") from None


def _limits(reader: Reader) -> Limits:
    flags = reader.byte()
    if flags > 3:
        raise reader.fail("64-bit memories are not supported")
    minimum = reader.u32()
    return Limits(minimum, reader.u32() if flags & 1 else None, bool(flags & 2))


def _globals(reader: Reader, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        begin = reader.at
        reader.take(2)
        while (opcode := reader.byte()) != 0x0B:
            match opcode:
                case 0x41 | 0x42:  # i32.const, i64.const
                    while reader.byte() >= 0x80:
                        pass
                case 0x43:
                    reader.take(4)
                case 0x44:
                    reader.take(8)
                case 0x23 | 0xD2:  # global.get, ref.func
                    reader.u32()
                case 0xD0:
                    reader.byte()
                case 0x6A | 0x6B | 0x6C | 0x7C | 0x7D | 0x7E:
                    pass
                case _:
                    raise reader.fail(f"instruction {opcode:#x} in the value of a global is not supported")
        found.append(reader.content[begin:reader.at])
    return found


def _data(reader: Reader) -> DataSegment:
    flags = reader.u32()
    if flags == 1:
        return DataSegment(None, reader.take(reader.u32()))
    if flags != 0 or reader.byte() != 0x41:
        raise reader.fail("only data at constant addresses of memory 0 is supported")
    offset = reader.s32() & 0xFFFFFFFF
    if reader.byte() != 0x0B:
        raise reader.fail("only data at constant addresses of memory 0 is supported")
    return DataSegment(offset, reader.take(reader.u32()))


def function_names(module: Module) -> dict[str, int]:
    """Name -> function index, from the name section; empty when there is none."""
    content = module.custom("name")
    if content is None:
        return {}
    reader = Reader(content, "name")
    while reader.at < reader.end:
        kind, size = reader.byte(), reader.u32()
        if kind == 1:
            return {title: index for index, title in reader.vector(lambda r: (r.u32(), r.name()))}
        reader.take(size)
    return {}


def signed(value: int, bits: int) -> int:
    """The same bits, read as a signed number."""
    return value - (1 << bits) if value >> (bits - 1) else value


def uleb(value: int) -> bytes:
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if not value:
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def sleb(value: int) -> bytes:
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if value == (-1 if byte & 0x40 else 0):
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def vector(content: bytes) -> bytes:
    return uleb(len(content)) + content


def name(text: str) -> bytes:
    return vector(text.encode())


