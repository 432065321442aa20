"""Real atomic instructions for internal/runtime/atomic.

On wasm all functions of that package are kept out of line, with bodies that assume one thread. Each gets a body here;
sync/atomic's functions jump to them. Functions built only on these (methods, loops around Cas) need none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gothreads.wasm import code, layout
from gothreads.wasm.code import LocalFrame

PACKAGE = "internal_runtime_atomic."

#: Functions of the package that are correct unchanged: they call the others.
BUILT_ON_OTHERS = frozenset({"storePointer", "casPointer", "Xchg8", "And32", "Or32", "And64", "Or64", "Anduintptr",
                             "Oruintptr"})

# Opcodes of the threads proposal, by width in bytes.
_LOAD = {1: 0x12, 4: 0x10, 8: 0x11}
_STORE = {1: 0x19, 4: 0x17, 8: 0x18}
_ADD = {4: 0x1E, 8: 0x1F}
_AND = {1: 0x2E, 4: 0x2C, 8: 0x2D}
_OR = {1: 0x35, 4: 0x33, 8: 0x34}
_EXCHANGE = {1: 0x43, 4: 0x41, 8: 0x42}
_COMPARE_EXCHANGE = {4: 0x48, 8: 0x49}
# The same in plain instructions. Exchange is missing: it just stores the new value.
_PLAIN = {0x1E: code.I32_ADD, 0x1F: code.I64_ADD, 0x2C: code.I32_AND, 0x2D: code.I64_AND, 0x33: code.I32_OR,
          0x34: code.I64_OR}


@dataclass(frozen=True)
class Operation:
    """One of the package's functions: two code sequences that do the same with its arguments.

    Atomic instructions trap when an address is not a multiple of the width. Go's compiler aligns, but code with unsafe
    may not, and works on other 64-bit machines. So for unaligned addresses a lock word guards plain instructions. For
    accesses of one width an address is either always aligned or always unaligned, so the two kinds never meet at one
    address; accesses of 4 and of 8 bytes to the same unaligned word would.
    """

    width: int
    aligned: Callable[[LocalFrame], bytes]
    plain: Callable[[LocalFrame], bytes]

    def if_unaligned(self, frame: LocalFrame, then: bytes, otherwise: bytes) -> bytes:
        """Choose by the alignment of the address. A single byte is always aligned."""
        if self.width == 1:
            return otherwise
        return (_pointer(frame) + code.i32_const(self.width - 1) + code.I32_AND + code.IF + then + code.ELSE
                + otherwise + code.END)

    @property
    def body(self) -> bytes:
        """The body of the function itself."""
        lock = code.i32_const(layout.UNALIGNED_LOCK)
        take = (code.LOOP + lock + code.i32_const(0) + code.i32_const(1) + code.atomic(_COMPARE_EXCHANGE[4], 4)
                + code.br_if(0) + code.END)
        give = lock + code.i32_const(0) + code.atomic(_STORE[4], 4)
        guarded = take + self.plain(code.CALLED) + give if self.width > 1 else b""
        return code.body(self.if_unaligned(code.CALLED, guarded, self.aligned(code.CALLED)) + code.RETURN)

    def in_place_of_call(self, call: bytes) -> bytes:
        """The code that replaces a call. `call` is that call, which stays for unaligned addresses."""
        return self.if_unaligned(code.CALLING, call, self.aligned(code.CALLING))


def _pointer(frame: LocalFrame) -> bytes:
    """Push the pointer: always the first argument, at 8(SP). A value follows at 16(SP)."""
    return frame.argument(8, 4)


def _plain_load(frame: LocalFrame, width: int) -> bytes:
    return _pointer(frame) + {4: code.i32_load, 8: code.i64_load}[width](0)


def _plain_store(frame: LocalFrame, width: int, value: bytes) -> bytes:
    return _pointer(frame) + value + {4: code.i32_store, 8: code.i64_store}[width](0)


def _load(width: int) -> Operation:
    """func(ptr *T) T"""
    return Operation(width, lambda frame: frame.result(16, width, _pointer(frame) + code.atomic(_LOAD[width], width)),
                     lambda frame: frame.result(16, width, _plain_load(frame, width)))


def _store(width: int) -> Operation:
    """func(ptr *T, val T)"""
    return Operation(width,
                     lambda frame: _pointer(frame) + frame.argument(16, width) + code.atomic(_STORE[width], width),
                     lambda frame: _plain_store(frame, width, frame.argument(16, width)))


def _plain_modify(frame: LocalFrame, opcodes: dict[int, int], width: int) -> bytes:
    value = frame.argument(16, width)
    return _plain_store(frame, width, value if opcodes is _EXCHANGE
                        else _plain_load(frame, width) + value + _PLAIN[opcodes[width]])


def _modify(opcodes: dict[int, int], width: int) -> Operation:
    """func(ptr *T, val T)"""
    return Operation(
        width,
        lambda frame: _pointer(frame) + frame.argument(16, width) + code.atomic(opcodes[width], width) + code.DROP,
        lambda frame: _plain_modify(frame, opcodes, width),
    )


def _modify_get_old(opcodes: dict[int, int], width: int) -> Operation:
    """func(ptr *T, val T) (old T)"""
    return Operation(
        width,
        lambda frame: frame.result(
            24, width, _pointer(frame) + frame.argument(16, width) + code.atomic(opcodes[width], width)
        ),
        lambda frame: frame.result(24, width, _plain_load(frame, width)) + _plain_modify(frame, opcodes, width),
    )


def _add_get_new(width: int) -> Operation:
    """func(ptr *T, delta T) (new T)"""
    def aligned(frame: LocalFrame) -> bytes:
        delta = frame.argument(16, width)
        return frame.result(24, width,
                            _pointer(frame) + delta + code.atomic(_ADD[width], width) + delta + _PLAIN[_ADD[width]])
    return Operation(width, aligned,
                     lambda frame: _plain_modify(frame, _ADD,
                                                 width) + frame.result(24, width, _plain_load(frame, width)))


def _compare_and_swap(width: int) -> Operation:
    """func(ptr *T, old, new T) (swapped bool)"""
    equal = code.I32_EQ if width == 4 else code.I64_EQ
    swapped = 16 + 8 * (width // 4)

    def aligned(frame: LocalFrame) -> bytes:
        old, new = frame.argument(16, width), frame.argument(16 + width, width)
        return frame.result(swapped, 1,
                            _pointer(frame) + old + new + code.atomic(_COMPARE_EXCHANGE[width], width) + old + equal)

    def plain(frame: LocalFrame) -> bytes:
        old, new = frame.argument(16, width), frame.argument(16 + width, width)
        return (frame.result(swapped, 1, _plain_load(frame, width) + old + equal)
                + frame.argument(swapped, 1) + code.IF + _plain_store(frame, width, new) + code.END)
    return Operation(width, aligned, plain)


def _operations() -> Iterator[tuple[str, Operation]]:
    yield from ((name, _load(1)) for name in ("Load8",))
    yield from ((name, _load(4)) for name in ("Load", "LoadAcq", "Loadint32"))
    yield from ((name, _load(8))
                for name in ("Loadp", "Load64", "LoadAcq64", "LoadAcquintptr", "Loaduintptr", "Loaduint", "Loadint64"))
    yield from ((name, _store(1)) for name in ("Store8",))
    yield from ((name, _store(4)) for name in ("Store", "StoreRel", "Storeint32"))
    yield from ((name, _store(8))
                for name in ("Store64", "StoreRel64", "StoreReluintptr", "Storeuintptr", "Storeint64", "StorepNoWB"))
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


#: By function name, without the package.
OPERATIONS: dict[str, Operation] = dict(_operations())
BODIES: dict[str, bytes] = {name: operation.body for name, operation in OPERATIONS.items()}
