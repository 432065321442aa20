"""Real atomic instructions for internal/runtime/atomic.

All its functions are kept out of line on wasm and have bodies that assume one thread. Here is a body for each;
sync/atomic's functions jump to them. What is built only on these (methods, loops around Cas) needs none.
"""

from __future__ import annotations

from collections.abc import Iterator

from gothreads.wasm import code, layout

PACKAGE = "internal_runtime_atomic."

#: Functions of the package that are correct as they are: they call the others.
BUILT_ON_OTHERS = frozenset({"storePointer", "casPointer", "Xchg8", "And32", "Or32", "And64", "Or64", "Anduintptr", "Oruintptr"})

# Opcodes of the threads proposal, by width in bytes.
_LOAD = {1: 0x12, 4: 0x10, 8: 0x11}
_STORE = {1: 0x19, 4: 0x17, 8: 0x18}
_ADD = {4: 0x1E, 8: 0x1F}
_AND = {1: 0x2E, 4: 0x2C, 8: 0x2D}
_OR = {1: 0x35, 4: 0x33, 8: 0x34}
_EXCHANGE = {1: 0x43, 4: 0x41, 8: 0x42}
_COMPARE_EXCHANGE = {4: 0x48, 8: 0x49}
# What they do, in plain instructions. Exchanging is dropping the old value, which is below the new one: so it is not here.
_PLAIN = {0x1E: code.I32_ADD, 0x1F: code.I64_ADD, 0x2C: code.I32_AND, 0x2D: code.I64_AND, 0x33: code.I32_OR, 0x34: code.I64_OR}

# The first argument is always the pointer, at 8(SP); a value follows at 16(SP).
_POINTER = code.argument(8, 4)


def _body(width: int, aligned: bytes, plain: bytes) -> bytes:
    """A function whose two codes do the same.

    The instructions trap where an address is not a multiple of the width. Go's compiler aligns, but code with unsafe may not, and
    works on other 64-bit machines: there a word of its own guards plain instructions. For accesses of one width an address is
    always one or always the other, so the two do not meet; accesses of 4 and of 8 bytes to the same unaligned word would.
    """
    if width == 1:
        return code.body(aligned + code.RETURN)
    lock = code.i32_const(layout.UNALIGNED_LOCK)
    take = code.LOOP + lock + code.i32_const(0) + code.i32_const(1) + code.atomic(_COMPARE_EXCHANGE[4], 4) + code.br_if(0) + code.END
    give = lock + code.i32_const(0) + code.atomic(_STORE[4], 4)
    return code.body(_POINTER + code.i32_const(width - 1) + code.I32_AND + code.IF + take + plain + give + code.ELSE + aligned + code.END + code.RETURN)


def _plain_load(width: int) -> bytes:
    return _POINTER + {4: code.i32_load, 8: code.i64_load}[width](0)


def _plain_store(width: int, value: bytes) -> bytes:
    return _POINTER + value + {4: code.i32_store, 8: code.i64_store}[width](0)


def _load(width: int) -> bytes:
    """func(ptr *T) T"""
    return _body(width, code.result(16, width, _POINTER + code.atomic(_LOAD[width], width)), code.result(16, width, _plain_load(width)) if width > 1 else b"")


def _store(width: int) -> bytes:
    """func(ptr *T, val T)"""
    value = code.argument(16, width)
    return _body(width, _POINTER + value + code.atomic(_STORE[width], width), _plain_store(width, value) if width > 1 else b"")


def _plain_modify(opcodes: dict[int, int], width: int) -> bytes:
    value = code.argument(16, width)
    if width == 1:
        return b""
    return _plain_store(width, value if opcodes is _EXCHANGE else _plain_load(width) + value + _PLAIN[opcodes[width]])


def _modify(opcodes: dict[int, int], width: int) -> bytes:
    """func(ptr *T, val T)"""
    aligned = _POINTER + code.argument(16, width) + code.atomic(opcodes[width], width) + code.DROP
    return _body(width, aligned, _plain_modify(opcodes, width))


def _modify_get_old(opcodes: dict[int, int], width: int) -> bytes:
    """func(ptr *T, val T) (old T)"""
    aligned = code.result(24, width, _POINTER + code.argument(16, width) + code.atomic(opcodes[width], width))
    plain = code.result(24, width, _plain_load(width)) + _plain_modify(opcodes, width) if width > 1 else b""
    return _body(width, aligned, plain)


def _add_get_new(width: int) -> bytes:
    """func(ptr *T, delta T) (new T)"""
    value = _POINTER + code.argument(16, width) + code.atomic(_ADD[width], width) + code.argument(16, width) + _PLAIN[_ADD[width]]
    return _body(width, code.result(24, width, value), _plain_modify(_ADD, width) + code.result(24, width, _plain_load(width)))


def _compare_and_swap(width: int) -> bytes:
    """func(ptr *T, old, new T) (swapped bool)"""
    equal = code.I32_EQ if width == 4 else code.I64_EQ
    old, new = code.argument(16, width), code.argument(16 + width, width)
    swapped = 16 + 8 * (width // 4)
    value = _POINTER + old + new + code.atomic(_COMPARE_EXCHANGE[width], width) + old + equal
    plain = (code.result(swapped, 1, _plain_load(width) + old + equal)
             + code.argument(swapped, 1) + code.IF + _plain_store(width, new) + code.END)
    return _body(width, code.result(swapped, 1, value), plain)


def _bodies() -> Iterator[tuple[str, bytes]]:
    yield from ((name, _load(1)) for name in ("Load8",))
    yield from ((name, _load(4)) for name in ("Load", "LoadAcq", "Loadint32"))
    yield from ((name, _load(8)) for name in ("Loadp", "Load64", "LoadAcq64", "LoadAcquintptr", "Loaduintptr", "Loaduint", "Loadint64"))
    yield from ((name, _store(1)) for name in ("Store8",))
    yield from ((name, _store(4)) for name in ("Store", "StoreRel", "Storeint32"))
    yield from ((name, _store(8)) for name in ("Store64", "StoreRel64", "StoreReluintptr", "Storeuintptr", "Storeint64", "StorepNoWB"))
    yield from ((name, _modify(_AND, width)) for name, width in (("And8", 1), ("And", 4)))
    yield from ((name, _modify(_OR, width)) for name, width in (("Or8", 1), ("Or", 4)))
    yield from ((name, _add_get_new(4)) for name in ("Xadd", "Xaddint32"))
    yield from ((name, _add_get_new(8)) for name in ("Xadd64", "Xadduintptr", "Xaddint64"))
    yield from ((name, _modify_get_old(_EXCHANGE, 1)) for name in ("Xchg8", "goXchg8"))
    yield from ((name, _modify_get_old(_EXCHANGE, 4)) for name in ("Xchg", "Xchgint32"))
    yield from ((name, _modify_get_old(_EXCHANGE, 8)) for name in ("Xchg64", "Xchgint64", "Xchguintptr"))
    yield from ((name, _modify_get_old(_AND, 4)) for name in ("And32",))
    yield from ((name, _modify_get_old(_AND, 8)) for name in ("And64", "Anduintptr"))
    yield from ((name, _modify_get_old(_OR, 4)) for name in ("Or32",))
    yield from ((name, _modify_get_old(_OR, 8)) for name in ("Or64", "Oruintptr"))
    yield from ((name, _compare_and_swap(4)) for name in ("Cas", "Casint32", "CasRel"))
    yield from ((name, _compare_and_swap(8)) for name in ("Cas64", "Casint64", "Casp1", "Casuintptr"))


#: Function name, without the package -> body.
BODIES: dict[str, bytes] = dict(_bodies())
