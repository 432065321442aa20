"""Mutations of modules: for stress/fuzz_wasm.py. Each takes a module's bytes, and other modules to take parts from."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from gothreads.errors import ModuleError
from gothreads.wasm.binary import (
    MAGIC,
    VERSION,
    DataSegment,
    ExportEntry,
    FuncType,
    Import,
    Kind,
    MemoryLimits,
    Section,
)
from gothreads.wasm.leb import Reader, name, uleb, vector
from gothreads.wasm.parsing import parse

_HEADER = MAGIC + VERSION
#: Bytes that have a meaning in many places.
_STRUCTURAL_BYTES = bytes([0, 1, 2, 0x0B, 0x10, 0x40, 0x41, 0x60, 0x63, 0x64, 0x70, 0x7F, 0x80, 0xFC, 0xFD, 0xFE, 0xFF])
_NUMBERS = (0, 1, 2, 63, 64, 127, 128, 255, 1 << 14, 65535, 65536, 65537, 1 << 20, (1 << 31) - 1, 1 << 31,
            (1 << 32) - 1)


def mutated(choose: random.Random, modules: Mapping[str, bytes]) -> bytes:
    """One of the modules with one or a few mutations; now and then with none."""
    content = modules[choose.choice(sorted(modules))]
    for _ in range(choose.choice((0, 1, 1, 1, 1, 2, 2, 3, 5))):
        content = choose.choice(_MUTATIONS)(choose, content, modules)
    return content


def _place(choose: random.Random, content: bytes | bytearray) -> int:
    """A random offset, more often near the start, where most of the structure is."""
    size = len(content)
    return choose.randrange(min(size, choose.choice((60, 2_000, 50_000, size))) + 1) if size else 0


def _bytes(choose: random.Random, content: bytes, _modules: Mapping[str, bytes]) -> bytes:
    out = bytearray(content)
    for _ in range(choose.choice((1, 1, 2, 4, 16))):
        at = _place(choose, out)
        match choose.randrange(4):
            case 0:
                out[at:at + 1] = bytes([choose.choice(_STRUCTURAL_BYTES)])
            case 1:
                out[at:at + 1] = choose.randbytes(1)
            case 2:
                out[at:at + choose.randrange(4)] = b""
            case _ if at < len(out):
                out[at] ^= 1 << choose.randrange(8)
    return bytes(out)


def _cut(choose: random.Random, content: bytes, _modules: Mapping[str, bytes]) -> bytes:
    return content[:_place(choose, content)]


def _splice(choose: random.Random, content: bytes, modules: Mapping[str, bytes]) -> bytes:
    other = modules[choose.choice(sorted(modules))]
    at, begin = _place(choose, content), _place(choose, other)
    return content[:at] + other[begin:begin
                                + choose.choice((1, 8, 200, 5_000))] + content[at + choose.choice((0, 1, 8, 200)):]


def _leb(choose: random.Random, content: bytes, _modules: Mapping[str, bytes]) -> bytes:
    """A different number where one may be, or the same number in a longer encoding."""
    at = _place(choose, content)
    end = at
    while end < len(content) and content[end] & 0x80 and end - at < 10:
        end += 1
    number = content[at:end + 1] or b"\0"
    more = choose.choice((b"\x80", b"\x80\x80\x80", b"\x80" * 12))
    padded = number[:-1] + bytes([number[-1] | 0x80]) + more[:-1] + b"\0"
    return content[:at] + choose.choice((padded, uleb(choose.choice(_NUMBERS)),
                                         b"\xff" * choose.randrange(1, 11) + b"\x0f")) + content[end + 1:]


def sections(content: bytes) -> list[tuple[int, bytes]] | None:
    """The number and content of each section; None when they cannot be told apart."""
    reader, parts = Reader(content, "file"), []
    reader.at = len(_HEADER)
    try:
        while reader.at < reader.end:
            parts.append((reader.byte(), reader.take(reader.u32())))
    except ModuleError:
        return None
    return parts


def _joined(parts: list[tuple[int, bytes]]) -> bytes:
    return _HEADER + b"".join(bytes([number]) + vector(part) for number, part in parts)


def _sections(choose: random.Random, content: bytes, modules: Mapping[str, bytes]) -> bytes:
    """Sections in another order, missing, doubled, empty, from another module, or made up."""
    parts = sections(content)
    if not parts:
        return content
    at = choose.randrange(len(parts))
    number, part = parts[at]
    match choose.randrange(9):
        case 0:
            parts.insert(choose.randrange(len(parts) + 1), parts.pop(at))
        case 1:
            del parts[at]
        case 2:
            parts.insert(choose.randrange(len(parts) + 1), (number, part))
        case 3:
            parts[at] = number, b""
        case 4:
            parts[at] = choose.randrange(16), part
        case 5:
            others = sections(modules[choose.choice(sorted(modules))]) or parts
            same = [other for other_number, other in others if other_number == number] or [part]
            parts[at] = number, choose.choice(same)
        case 6:
            title = choose.choice(["name", "gothreads", "go:buildid", "producers", "x", "\x1b[31m"])
            parts.insert(choose.randrange(len(parts) + 1), (0, name(title) + choose.randbytes(choose.randrange(40))))
        case 7:
            parts[at] = number, part + choose.randbytes(choose.randrange(1, 5))
        case _:
            parts[at] = number, uleb(choose.choice(_NUMBERS)) + part[1:]
    return _joined(parts)


def _inside(choose: random.Random, content: bytes, modules: Mapping[str, bytes]) -> bytes:
    """A change within one section, whose length is corrected."""
    parts = sections(content)
    if not parts:
        return content
    at = choose.randrange(len(parts))
    number, part = parts[at]
    if number == Section.CODE and choose.random() < 0.7:
        part = _in_a_body(choose, part, modules)
    else:
        part = choose.choice((_bytes, _bytes, _leb, _cut, _splice))(choose, part, modules)
    parts[at] = number, part
    return _joined(parts)


def _in_a_body(choose: random.Random, section: bytes, modules: Mapping[str, bytes]) -> bytes:
    try:
        bodies = Reader(section, "code").vector(lambda r: r.take(r.u32()))
    except ModuleError:
        return section
    if bodies:
        at = choose.randrange(len(bodies))
        bodies[at] = choose.choice((_bytes, _leb, _cut, _splice))(choose, bodies[at], modules)
    return uleb(len(bodies)) + b"".join(map(vector, bodies))


def _model(choose: random.Random, content: bytes, _modules: Mapping[str, bytes]) -> bytes:
    """A different type, import, export, memory or address: well-formed, with another meaning or none."""
    try:
        module = parse(content)
    except ModuleError:
        return content
    number = choose.choice((0, 1, len(module.imported_functions) + choose.randrange(len(module.functions) + 2),
                            choose.choice(_NUMBERS)))
    kind = choose.choice(list(Kind))
    title = choose.choice(["", "memory", "_start", "_initialize", "malloc", "free", "gt_attach", "gt_setup",
                           "wasi_thread_start", "start", "x\ny", "\x1b[2J", "\u202e", "a b", "ü" * 300,
                           *(e.name for e in module.exports[:20])])
    types = bytes(choose.choice(b"\x7f\x7e\x7d\x7c\x7b\x70\x6f") for _ in range(choose.choice((0, 1, 2, 3, 1_200))))
    match choose.randrange(9):
        case 0:
            module.exports.insert(choose.randrange(len(module.exports) + 1), ExportEntry(title, kind, number))
        case 1 if module.exports:
            at = choose.randrange(len(module.exports))
            module.exports[at] = (replace(module.exports[at], index=number) if choose.random() < 0.7
                                  else replace(module.exports[at], kind=kind))
        case 2 if module.functions:
            module.functions[choose.randrange(len(module.functions))] = choose.choice((0, 1, len(module.types), number))
        case 3 if module.types:
            module.types[choose.randrange(len(module.types))] = FuncType(types, types[:choose.randrange(3)])
        case 4:
            module.memories = [_limits(choose) for _ in range(choose.choice((0, 1, 1, 2)))]
        case 5:
            source = choose.choice(["wasi_snapshot_preview1", "wasi", "gothreads", "env", "", title])
            imported = choose.choice(["fd_write", "proc_exit", "thread-spawn", "nope", "msg_call", "args_get", "memory",
                                      title])
            described = {Kind.FUNC: uleb(choose.choice((0, number))), Kind.TABLE: b"\x70" + MemoryLimits(1).encode(),
                         Kind.MEMORY: _limits(choose).encode(), Kind.GLOBAL: b"\x7f\0",
                         Kind.TAG: b"\0" + uleb(choose.choice((0, number)))}[kind]
            module.imports.insert(choose.randrange(len(module.imports) + 1), Import(source, imported, kind, described))
        case 6:
            address = choose.choice((None, 0, 100, 4096, 65535, 65536, (1 << 32) - 1))
            module.data.append(DataSegment(address, choose.randbytes(choose.choice((0, 1, 300)))))
        case 7:
            module.raw[Section.START] = uleb(number)
        case _:
            module.customs.append((choose.choice(["name", "gothreads", "go:buildid", title]),
                                   choose.randbytes(choose.randrange(30))))
    return module.encode()


def _limits(choose: random.Random) -> MemoryLimits:
    least = choose.choice((0, 1, 2, 100, 65535, 65536, 65537, (1 << 32) - 1))
    most = choose.choice((None, 0, 1, least, 65536, (1 << 32) - 1))
    return MemoryLimits(least, most, most is not None and choose.random() < 0.5)


#: Those that are more often worth trying are there several times.
_MUTATIONS = (_bytes, _bytes, _cut, _splice, _leb, _sections, _sections, _inside, _inside, _inside, _model, _model,
              _model)
