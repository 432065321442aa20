"""Walks over the instructions of a function body, so that some can be found and replaced reliably.

It knows the instructions of the core specification 3.0 without garbage collection: MVP, sign extension, saturating
conversions, multi-value, bulk memory, reference types and typed references, tail calls, SIMD (also relaxed), exceptions
(also legacy ones); and the proposals for threads, multiple memories and wide arithmetic. Any other instruction is an
error, as its length is unknown. Operands are not checked for validity: the compiler does that.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gothreads.errors import ModuleError

CALL_INDIRECT = b"\x11"
#: Opcodes after a prefix byte are numbered prefix << 12 | number.
WAIT32, WAIT64 = 0xFE001, 0xFE002
_PREFIXES = (0xFC, 0xFD, 0xFE)
_BLOCK, _LOOP, _IF, _TRY, _TRY_TABLE = 0x02, 0x03, 0x04, 0x06, 0x1F
_DELEGATE, _END = 0x18, 0x0B
OPENS = frozenset({_BLOCK, _LOOP, _IF, _TRY, _TRY_TABLE})
CLOSES = frozenset({_END, _DELEGATE})
#: How many instructions `find` passes by in one step.
_LONGEST_RUN = 1000
#: A pattern for a number in operands.
LEB = rb"[\x80-\xff]*+[\0-\x7f]"


class Instruction(NamedTuple):
    """`offset` and `end` delimit its bytes in the body; `operands` is where its operands begin, after the opcode."""

    offset: int
    opcode: int
    operands: int
    end: int


class MemoryArgument(NamedTuple):
    """The operands of a memory access. The address is `offset` plus the one on the stack."""

    align: int
    memory: int
    offset: int


def instructions(body: bytes, base: int = 0) -> Iterator[Instruction]:
    """All instructions of a function body, which begins with its locals and ends with the function's `end`.

    Raises ModuleError when the body is malformed or has an unknown instruction. `base`: the body's offset, for errors.
    """
    at, depth = after_locals(body, base), 1
    while depth:
        found = _read(body, at, base)
        if found.opcode in OPENS:
            depth += 1
        elif found.opcode in CLOSES:
            depth -= 1
        at = found.end
        yield found
    if at != len(body):
        raise _fail(at, base, "bytes are left over at the end of a function")


def find(body: bytes, pattern: bytes, base: int = 0, begin: int | None = None) -> Iterator[Instruction]:
    """The instructions at which the body matches a pattern (of module re), up to fifty times as fast as `instructions`.

    It does not check that blocks are closed. `begin` is the offset of the first instruction to consider.
    """
    wanted, pass_by = re.compile(pattern, re.DOTALL), _all_but(pattern)
    at = after_locals(body, base) if begin is None else begin
    while True:
        passed = pass_by.match(body, at)
        assert passed is not None  # the pattern matches the empty string
        if (at := passed.end()) >= len(body):
            return
        found = _read(body, at, base)
        if wanted.match(body, at) is not None:
            yield found
        at = found.end


def replaced(body: bytes, others: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The body with replacements (begin, end, bytes), which must be in order."""
    parts, last = [], 0
    for begin, end, other in others:
        parts += [body[last:begin], other]
        last = end
    return b"".join(parts) + body[last:]


@functools.cache
def _all_but(pattern: bytes) -> re.Pattern[bytes]:
    """Matches a run of instructions, up to one that the pattern matches or one whose operands have no simple form.

    The run may also end because it is long.
    """
    short, long = (rb"[\x80-\xff]{0,%d}+[\0-\x7f]" % (longest - 1) for longest in (5, 10))
    forms = {"": b"", _INDEX: short, _I32: short, _I64: long, _F32: b".{4}", _F64: b".{8}",
             _TYPE: rb"[\x40-\x62\x65-\x7f]", _MEMORY: rb"[\0-\x3f]" + long}
    opcodes: dict[str, list[int]] = {}
    for code, shape in _SHAPES.items():
        if code < 0x100 and shape in forms:
            opcodes.setdefault(shape, []).append(code)
    each = (b"[" + b"".join(b"\\x%02x" % code for code in codes) + b"]" + forms[shape]
            for shape, codes in opcodes.items())
    # Not possessive: before 3.11.5 Python goes too far when a lookahead ends such a repeat (python/cpython#106052). So
    # each round takes 100 bytes, and the run is bounded, as a function may have millions of instructions.
    return re.compile(b"(?:(?!" + pattern + b")(?:" + b"|".join(each) + b")){0,%d}" % _LONGEST_RUN, re.DOTALL)


def after_locals(body: bytes, base: int = 0) -> int:
    """The offset of the first instruction. Raises the same errors as `instructions`."""
    try:
        return _after_locals(body)
    except IndexError:
        raise _ends_early(body, base) from None
    except _Malformed as problem:
        raise _fail(0, base, str(problem)) from None


def _read(body: bytes, begin: int, base: int) -> Instruction:
    """The instruction at `begin`."""
    try:
        opcode, at = body[begin], begin + 1
        if opcode in _PREFIXES:
            number, at = _leb(body, at, 5)
            opcode = opcode << 12 | number if number < 1 << 12 else -1
        operands = at
        shape = _SHAPES.get(opcode)
        if shape is None:
            raise _fail(begin, base, f"instruction {body[begin:at].hex(' ')} is not known to gothreads")
        for kind in shape:
            at = _after(body, at, kind)
        if at > len(body):
            raise IndexError
    except IndexError:
        raise _ends_early(body, base) from None
    except _Malformed as problem:
        raise _fail(begin, base, str(problem)) from None
    return Instruction(begin, opcode, operands, at)


def _ends_early(body: bytes, base: int) -> ModuleError:
    return _fail(len(body), base, "a function ends early")


def memory_argument(body: bytes, instruction: Instruction) -> MemoryArgument:
    """The memory argument of an instruction that has one, in a body that was walked."""
    flags, at = _leb(body, instruction.operands, 5)
    memory = 0
    if flags & _HAS_MEMORY:
        memory, at = _leb(body, at, 5)
    return MemoryArgument(flags & ~_HAS_MEMORY, memory, _leb(body, at, 10)[0])


class _Malformed(Exception):
    pass


#: A flag bit beside the alignment: a memory index follows.
_HAS_MEMORY = 1 << 6

# Kinds of operands, a letter each.
_INDEX = "i"
_LABELS = "l"       # a count, that many labels, and one more
_MEMORY = "m"       # alignment, memory, offset
_I32, _I64, _F32, _F64 = "w", "x", "4", "8"
_BYTE, _VECTOR = "b", "v"  # one byte; sixteen bytes
# Of a value, a block or the target of a reference: a signed number, and another after (ref null ...) and (ref ...).
_TYPE = "t"
_TYPES = "s"
_CATCHES = "c"
_FIXED = {_BYTE: 1, _F32: 4, _F64: 8, _VECTOR: 16}
_LONGEST = {_INDEX: 5, _I32: 5, _I64: 10}
_REFERENCES = (0x63, 0x64)


def _shapes() -> dict[int, str]:
    """Opcode -> the kinds of its operands."""
    shapes = dict.fromkeys((0x00, 0x01, 0x05, 0x0A, 0x0B, 0x0F, 0x19, 0x1A, 0x1B, 0xD1, 0xD3, 0xD4,
                            *range(0x45, 0xC5)), "")
    shapes |= dict.fromkeys((_BLOCK, _LOOP, _IF, _TRY, 0xD0), _TYPE)
    shapes |= dict.fromkeys((0x07, 0x08, 0x09, 0x0C, 0x0D, 0x10, 0x12, 0x14, 0x15, _DELEGATE, *range(0x20, 0x27), 0x3F,
                             0x40, 0xD2, 0xD5, 0xD6), _INDEX)
    shapes |= dict.fromkeys((0x11, 0x13), _INDEX * 2)
    shapes |= {0x0E: _LABELS, 0x1C: _TYPES, _TRY_TABLE: _TYPE + _CATCHES, 0x41: _I32, 0x42: _I64, 0x43: _F32,
               0x44: _F64}
    shapes |= dict.fromkeys(range(0x28, 0x3F), _MEMORY)

    def prefixed(prefix: int, *parts: tuple[range, str]) -> None:
        shapes.update({prefix << 12 | number: shape for numbers, shape in parts for number in numbers})
    prefixed(0xFC, (range(8), ""), (range(8, 18), _INDEX), (range(19, 23), ""))  # 8-17: memories, tables, segments
    prefixed(0xFC, *((range(number, number + 1), _INDEX * 2) for number in (8, 10, 12, 14)))  # init and copy
    prefixed(0xFD, (range(0x114), ""), (range(12), _MEMORY), (range(12, 14), _VECTOR), (range(0x15, 0x23), _BYTE),
             (range(0x54, 0x5C), _MEMORY + _BYTE), (range(0x5C, 0x5E), _MEMORY))
    prefixed(0xFE, (range(3), _MEMORY), (range(3, 4), _BYTE), (range(0x10, 0x4F), _MEMORY))
    return shapes


_SHAPES = _shapes()


def _after(body: bytes, at: int, kind: str) -> int:
    """Where an operand ends. If the body ends first: IndexError, or an offset past its end."""
    if (longest := _LONGEST.get(kind)) is not None:
        return _leb_end(body, at, longest)
    if (fixed := _FIXED.get(kind)) is not None:
        return at + fixed
    if kind == _TYPE:
        return _leb_end(body, at + 1 if body[at] in _REFERENCES else at, 5)
    if kind == _MEMORY:
        flags, at = _leb(body, at, 5)
        if flags & _HAS_MEMORY:
            at = _leb_end(body, at, 5)
        return _leb_end(body, at, 10)
    count, at = _leb(body, at, 5)
    each = {_LABELS: _INDEX, _TYPES: _TYPE, _CATCHES: ""}[kind]
    for _ in range(count):
        if kind == _CATCHES:
            clause, at = body[at], at + 1
            if clause > 3:
                raise _Malformed(f"there is no catch clause {clause}")
            each = _INDEX if clause & 2 else _INDEX * 2  # a label; without catch_all, a tag before it
        for operand in each:
            at = _after(body, at, operand)
    return _after(body, at, _INDEX) if kind == _LABELS else at


def _after_locals(body: bytes) -> int:
    count, at = _leb(body, 0, 5)
    for _ in range(count):
        at = _after(body, _leb_end(body, at, 5), _TYPE)
    return at


def _leb_end(body: bytes, at: int, longest: int) -> int:
    last = at + longest
    while body[at] & 0x80:
        at += 1
        if at == last:
            raise _Malformed("a number is too long")
    return at + 1


def _leb(body: bytes, at: int, longest: int) -> tuple[int, int]:
    """An unsigned number, and the offset of its end."""
    end = _leb_end(body, at, longest)
    value = 0
    for byte in reversed(body[at:end]):
        value = value << 7 | byte & 0x7F
    return value, end


def _fail(at: int, base: int, problem: str) -> ModuleError:
    return ModuleError(f"not a valid WebAssembly module, or one that gothreads cannot rewrite: code section, offset "
                       f"{base + at:#x}: {problem}")
