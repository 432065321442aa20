"""Encodes WebAssembly instructions as bytes, and Go's calling convention in terms of them.

Go on WebAssembly (cmd/internal/obj/wasm, runtime/asm_wasm.s): a function takes one i32, the point to resume at. It
returns 0 for a normal return, and 1 when the stack unwinds to switch goroutines. Arguments lie on the goroutine's stack
from 8(SP), followed by results, each aligned to 8. The return address is at 0(SP); the callee pops it. Registers are
globals.
"""

from __future__ import annotations

from typing import NamedTuple

from gothreads.wasm.binary import FuncType
from gothreads.wasm.leb import sleb, uleb

SP, CTXT, G, RET0, RET1, RET2, RET3, PAUSE = range(8)

I32, I64, F32, F64 = b"\x7f", b"\x7e", b"\x7d", b"\x7c"
VOID = FuncType(b"", b"")
GO_FUNC = FuncType(I32, I32)

END = b"\x0b"
UNREACHABLE = b"\x00"
LEAVE = b"\x0f"  # WebAssembly's return, of the values on its stack
DROP = b"\x1a"
LOOP, IF, ELSE = b"\x03\x40", b"\x04\x40", b"\x05"
I32_ADD, I32_SUB, I32_EQ, I32_AND, I32_OR = b"\x6a", b"\x6b", b"\x46", b"\x71", b"\x72"
I32_GE_U, I32_GT_S, I32_SHL, I32_SHR_U = b"\x4f", b"\x4a", b"\x74", b"\x76"
I64_ADD, I64_EQ, I64_AND, I64_OR = b"\x7c", b"\x51", b"\x83", b"\x84"
I64_MUL, I64_XOR, I64_SHL, I64_SHR_U = b"\x7e", b"\x85", b"\x86", b"\x88"
WRAP, EXTEND_U = b"\xa7", b"\xad"
FENCE = b"\xfe\x03\x00"
NOTIFY, WAIT32 = b"\xfe\x00\x02\x00", b"\xfe\x01\x02\x00"


def i32_const(value: int) -> bytes:
    return b"\x41" + sleb(value)


def i64_const(value: int) -> bytes:
    return b"\x42" + sleb(value)


def local_get(index: int) -> bytes:
    return b"\x20" + uleb(index)


def local_set(index: int) -> bytes:
    return b"\x21" + uleb(index)


def local_tee(index: int) -> bytes:
    return b"\x22" + uleb(index)


def global_get(index: int) -> bytes:
    return b"\x23" + uleb(index)


def global_set(index: int) -> bytes:
    return b"\x24" + uleb(index)


def br(label: int) -> bytes:
    return b"\x0c" + uleb(label)


def br_if(label: int) -> bytes:
    return b"\x0d" + uleb(label)


def call(function: int) -> bytes:
    return b"\x10" + uleb(function)


def i32_load(offset: int) -> bytes:
    return b"\x28\x02" + uleb(offset)


def i64_load(offset: int) -> bytes:
    return b"\x29\x03" + uleb(offset)


def i32_load8(offset: int) -> bytes:
    return b"\x2d\x00" + uleb(offset)


def i32_store(offset: int) -> bytes:
    return b"\x36\x02" + uleb(offset)


def i64_store(offset: int) -> bytes:
    return b"\x37\x03" + uleb(offset)


def i32_store8(offset: int) -> bytes:
    return b"\x3a\x00" + uleb(offset)


def atomic(opcode: int, width: int) -> bytes:
    """An atomic access of `width` bytes at the address on the stack."""
    alignment = {1: 0, 4: 2, 8: 3}[width]
    return b"\xfe" + bytes([opcode, alignment]) + b"\x00"


def memory_init(segment: int) -> bytes:
    return b"\xfc\x08" + uleb(segment) + b"\x00"


def data_drop(segment: int) -> bytes:
    return b"\xfc\x09" + uleb(segment)


def body(code: bytes, locals_: bytes = b"") -> bytes:
    """A function body. `locals_` are the types of its locals other than parameters."""
    return uleb(len(locals_)) + b"".join(b"\x01" + bytes([t]) for t in locals_) + code + END


# In terms of Go's convention:

class LocalFrame(NamedTuple):
    """Where a function's arguments are.

    address: the code that pushes the base address.
    above: how many bytes below the base an argument with the offset 0 would lie.
    """

    address: bytes
    above: int

    def argument(self, offset: int, width: int) -> bytes:
        """Push the value at an offset: an i64 if it is 8 bytes wide, else an i32."""
        return self.address + {1: i32_load8, 4: i32_load, 8: i64_load}[width](offset - self.above)

    def result(self, offset: int, width: int, value: bytes) -> bytes:
        """Store a value at an offset."""
        return self.address + value + {1: i32_store8, 4: i32_store, 8: i64_store}[width](offset - self.above)


#: In the called function; and in the caller before it pushes the return address, where local 1 has SP.
CALLED, CALLING = LocalFrame(global_get(SP), 0), LocalFrame(local_get(1), 8)
#: At offset(SP), in the called function.
argument, result = CALLED.argument, CALLED.result


def move_sp(by: int) -> bytes:
    return global_get(SP) + i32_const(abs(by)) + (I32_ADD if by > 0 else I32_SUB) + global_set(SP)


#: Pop the return address, return normally.
RETURN = move_sp(8) + i32_const(0)


def call_go(function: int) -> bytes:
    """Call a Go function from its beginning, and drop its result. The return address must be on Go's stack already."""
    return i32_const(0) + call(function) + DROP
