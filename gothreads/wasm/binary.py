"""The WebAssembly binary format, as far as gothreads reads and writes it.

Source: WebAssembly core specification 3.0, chapter 5, and the threads proposal for shared memories. Parts that are not
needed (tables, elements, the instructions of functions) stay bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from gothreads.errors import ModuleError
from gothreads.wasm.leb import Reader, name, signed, sleb, uleb, vector

MAGIC = b"\0asm"
VERSION = b"\1\0\0\0"
PAGE = 65536
MAX_PAGES = 65536


class Section(IntEnum):
    """Section ids. `ORDER` has the order of the sections in a file."""

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
    """The kind of an import or export."""

    FUNC = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3
    TAG = 4


VALUE_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x70: "funcref", 0x6F: "externref"}


@dataclass(frozen=True)
class FuncType:
    """The type of a function: each byte encodes a value type."""

    params: bytes
    results: bytes

    def encode(self) -> bytes:
        return b"\x60" + vector(self.params) + vector(self.results)

    def __str__(self) -> str:
        def names(types: bytes) -> str:
            return " ".join(VALUE_TYPES.get(t, f"{t:#x}") for t in types)
        return f"({names(self.params)}) -> ({names(self.results)})"


@dataclass(frozen=True)
class MemoryLimits:
    """The limits of a memory, in pages of 64 KiB."""

    minimum: int
    maximum: int | None = None
    shared: bool = False

    def encode(self) -> bytes:
        flags = (self.maximum is not None) | self.shared << 1
        return bytes([flags]) + uleb(self.minimum) + (uleb(self.maximum) if self.maximum is not None else b"")


@dataclass(frozen=True)
class Import:
    """An import. `description` is its encoded type: a type index for functions, limits for memories."""

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
class ExportEntry:
    name: str
    kind: Kind
    index: int

    def encode(self) -> bytes:
        return name(self.name) + bytes([self.kind]) + uleb(self.index)


@dataclass(frozen=True)
class DataSegment:
    """A data segment. `offset` is the address for an active segment of memory 0, None for a passive segment."""

    offset: int | None
    content: bytes

    def encode(self) -> bytes:
        if self.offset is None:
            return b"\x01" + vector(self.content)
        return b"\x00\x41" + sleb(signed(self.offset, 32)) + b"\x0b" + vector(self.content)


class FunctionTypes:
    """The type of each function, by its index: imported functions come first."""

    def __init__(self, indices: Sequence[int], types: Sequence[FuncType]) -> None:
        self._indices, self._types = indices, types

    def __getitem__(self, index: int) -> FuncType:
        """Raises ModuleError when there is no such function, or its type does not exist."""
        try:
            return self._types[self._indices[index]]
        except IndexError:
            raise ModuleError(f"not a valid WebAssembly module: function {index} does not exist, "
                              f"or has no type") from None


class TypeIndices:
    """The index of each type in a module's list, for adding functions. A look-up adds a missing type to the list."""

    def __init__(self, types: list[FuncType]) -> None:
        self._types = types
        self._indices: dict[FuncType, int] = {}
        for index, kind in enumerate(types):
            self._indices.setdefault(kind, index)

    def __getitem__(self, kind: FuncType) -> int:
        index = self._indices.setdefault(kind, len(self._types))
        if index == len(self._types):
            self._types.append(kind)
        return index


@dataclass
class Module:
    """A parsed module. Function indices count imported functions first."""

    types: list[FuncType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    memories: list[MemoryLimits] = field(default_factory=list)
    globals: list[bytes] = field(default_factory=list)
    exports: list[ExportEntry] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    data: list[DataSegment] = field(default_factory=list)
    data_count: bool = False
    #: Sections that are kept unparsed.
    raw: dict[Section, bytes] = field(default_factory=dict)
    customs: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def imported_functions(self) -> list[Import]:
        return [i for i in self.imports if i.kind is Kind.FUNC]

    @property
    def memory(self) -> MemoryLimits | None:
        """The limits of memory 0, imported or not; None when there is no memory."""
        for imported in self.imports:
            if imported.kind is Kind.MEMORY:
                return read_limits(Reader(imported.description, "import"))
        return self.memories[0] if self.memories else None

    def function_types(self) -> FunctionTypes:
        """The types of the current functions. It visits all functions: to look up several, call it once."""
        return FunctionTypes([i.type_index for i in self.imported_functions] + self.functions, self.types)

    def custom(self, wanted: str) -> bytes | None:
        return next((content for title, content in self.customs if title == wanted), None)

    def encode(self) -> bytes:
        content = dict(self.raw)
        for section, items in ((Section.TYPE, [t.encode() for t in self.types]),
                               (Section.IMPORT, [i.encode() for i in self.imports]),
                               (Section.FUNCTION, [uleb(f) for f in self.functions]),
                               (Section.MEMORY, [m.encode() for m in self.memories]),
                               (Section.GLOBAL, self.globals), (Section.EXPORT, [e.encode() for e in self.exports]),
                               (Section.CODE, [vector(b) for b in self.bodies]),
                               (Section.DATA, [d.encode() for d in self.data])):
            if items:
                content[section] = uleb(len(items)) + b"".join(items)
        if self.data_count:
            content[Section.DATA_COUNT] = uleb(len(self.data))
        parts = [MAGIC, VERSION]
        parts += [bytes([section]) + vector(content[section]) for section in ORDER if section in content]
        parts += [b"\0" + vector(name(title) + body) for title, body in self.customs]
        return b"".join(parts)


def read_limits(reader: Reader) -> MemoryLimits:
    flags = reader.byte()
    if flags > 3:
        raise reader.fail("64-bit memories, and pages of another size, are not supported")
    minimum = reader.u32()
    return MemoryLimits(minimum, reader.u32() if flags & 1 else None, bool(flags & 2))
