"""Parses bytes into a Module. Every error is a ModuleError that names the section and the offset in the file."""

from __future__ import annotations

from collections.abc import Sequence

from gothreads.errors import ModuleError
from gothreads.wasm.binary import (
    MAGIC,
    ORDER,
    VERSION,
    DataSegment,
    ExportEntry,
    FuncType,
    Import,
    Kind,
    Module,
    Section,
    read_limits,
)
from gothreads.wasm.leb import Reader, name, uleb, vector
from gothreads.wasm.origins import COMPONENT

_TYPED_REFERENCES = frozenset((0x63, 0x64))
#: The most of these that a module may have. gothreads creates an object for each type and function, and several for
#: each import and export. (Browsers have the first two limits, too, and had the others; wasmtime has limits of its own,
#: which it checks later.)
MOST_TYPES = MOST_FUNCTIONS = 1_000_000
MOST_IMPORTS = MOST_EXPORTS = 100_000


def parse(content: bytes, *, outline: bool = False) -> Module:
    """Parse a module. Raises ModuleError when it is not one, or uses features that gothreads cannot read.

    outline: parse only types, imports, functions, memories, exports and custom sections; globals, code and data stay in
    `raw`, which is much faster.
    """
    if not content:
        raise ModuleError("the file is empty")
    if content[:4] != MAGIC:
        raise ModuleError("not a WebAssembly module (it does not begin with \\0asm)")
    if content[4:8] != VERSION:
        kind = COMPONENT if content[6:8] == b"\1\0" else "of an unknown version"
        raise ModuleError(f"not a core WebAssembly module, but {kind}" if len(content) >= 8
                          else "the file is truncated")
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
        if outline and section in (Section.GLOBAL, Section.CODE, Section.DATA, Section.DATA_COUNT, Section.ELEMENT):
            module.raw[section] = reader.rest()
        else:
            _section(module, section, reader)
        if reader.at != reader.end:
            raise reader.fail("bytes are left over at the end of the section")
    bodies = Reader(module.raw[Section.CODE], "code").u32() if module.raw.get(Section.CODE) else len(module.bodies)
    if bodies != len(module.functions):
        raise ModuleError(f"not a valid WebAssembly module: {len(module.functions)} functions are declared, {bodies} "
                          "have a body (is the file truncated?)")
    types = max((i.type_index for i in module.imported_functions), default=-1), max(module.functions, default=-1)
    if max(types) >= len(module.types):
        raise ModuleError(f"not a valid WebAssembly module: a function is of type {max(types)}, of {len(module.types)}")
    return module


def _section(module: Module, section: Section, reader: Reader) -> None:
    match section:
        case Section.CUSTOM:
            module.customs.append((reader.name(), reader.rest()))
        case Section.TYPE:
            module.types = reader.vector(_func_type, MOST_TYPES)
        case Section.IMPORT:
            module.imports = reader.vector(_import, MOST_IMPORTS)
        case Section.FUNCTION:
            module.functions = reader.vector(Reader.u32, MOST_FUNCTIONS)
        case Section.MEMORY:
            module.memories = reader.vector(read_limits)
        case Section.GLOBAL:
            # Constant expressions have no length of their own; only the number of globals matters.
            count = reader.u32()
            module.globals = _globals(reader, count)
        case Section.EXPORT:
            module.exports = reader.vector(_export, MOST_EXPORTS)
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
    params = reader.take(reader.u32())
    if set(params) & _TYPED_REFERENCES:
        raise reader.fail("typed references are not supported in the types of functions")
    results = reader.take(reader.u32())
    if set(results) & _TYPED_REFERENCES:
        raise reader.fail("typed references are not supported in the types of functions")
    return FuncType(params, results)


def _skip_type(reader: Reader) -> None:
    """Skip the type of a value. After (ref null ...) and (ref ...) comes the type that they refer to."""
    if reader.byte() in _TYPED_REFERENCES:
        reader.s32()


def _import(reader: Reader) -> Import:
    module, title = reader.name(), reader.name()
    kind = _kind(reader)
    begin = reader.at
    match kind:
        case Kind.FUNC:
            reader.u32()
        case Kind.TABLE:
            _skip_type(reader)
            read_limits(reader)
        case Kind.MEMORY:
            read_limits(reader)
        case Kind.GLOBAL:
            _skip_type(reader)
            reader.byte()
        case Kind.TAG:
            reader.byte()
            reader.u32()
    return Import(module, title, kind, reader.content[begin:reader.at])


def _export(reader: Reader) -> ExportEntry:
    return ExportEntry(reader.name(), _kind(reader), reader.u32())


def _kind(reader: Reader) -> Kind:
    number = reader.byte()
    try:
        return Kind(number)
    except ValueError:
        raise reader.fail(f"there is no kind {number}") from None


def _globals(reader: Reader, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        begin = reader.at
        _skip_type(reader)
        reader.byte()
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
                case 0xD0:  # ref.null
                    reader.s32()
                case 0xFD if reader.u32() == 0x0C:  # v128.const
                    reader.take(16)
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


def with_names(customs: Sequence[tuple[str, bytes]], added: Sequence[tuple[int, str]]) -> list[tuple[str, bytes]]:
    """The custom sections, with function names added to the name section. Their indices must be above all others."""
    def extended(content: bytes) -> bytes:
        reader, parts = Reader(content, "name"), []
        while reader.at < reader.end:
            kind, size = reader.byte(), reader.u32()
            part = reader.take(size)
            if kind == 1:
                inner = Reader(part, "name")
                count = inner.u32()
                part = uleb(count + len(added)) + inner.rest() + b"".join(uleb(index)
                                                                          + name(title) for index, title in added)
            parts.append(bytes([kind]) + vector(part))
        return b"".join(parts)
    return [(title, extended(content) if title == "name" else content) for title, content in customs]
