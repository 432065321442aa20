"""Finds the lines of the Go program at which the frames of a trap are.

WebAssembly's stack has functions and offsets. Before a call, Go's code stores the PC that the call returns to, a
constant with the function's number in it. So the last such constant before a frame's offset tells the PC, also in the
bodies that the optimizer makes. Go's own table (wasm/pclntab.py) has the lines of PCs.

For all frames but the innermost this is exact, as each is at a call. A trap itself lies somewhere behind the last call:
if that is the one for nil pointers, which comes right before a memory access, at its line; else at one that is near.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gothreads.engine.ffi import TrapFrame
from gothreads.engine.settings import StopCheck, as_compiled
from gothreads.errors import Frame, LazyFrames, ModuleError
from gothreads.runtime.module_file import LoadedModule
from gothreads.wasm.binary import Module
from gothreads.wasm.code import i64_const
from gothreads.wasm.go_functions import GoFunctions
from gothreads.wasm.instructions import LEB
from gothreads.wasm.leb import number
from gothreads.wasm.parsing import parse
from gothreads.wasm.pclntab import LineTable, go_version

_BEFORE_A_MEMORY_ACCESS = "runtime.sigpanic"


class TrapFrames:
    """For one loaded module. `stop_check`: as its engine has it. Any thread may use it."""

    def __init__(self, loaded: LoadedModule, stop_check: StopCheck) -> None:
        self._loaded, self._stop_check = loaded, stop_check
        self._program: _Program | None = None  # once there was a trap: in a pool, there may be more

    def frames(self, frames: Sequence[TrapFrame]) -> LazyFrames:
        """The same frames with their lines, and with a frame for each call that was inlined; else, as they are."""
        return LazyFrames(lambda: self._find(frames))

    def _find(self, frames: Sequence[TrapFrame]) -> tuple[Frame, ...]:
        try:
            if self._program is None:
                self._program = _Program.of(self._loaded)
            return tuple(self._program.frames(frames, self._stop_check))
        except (ModuleError, OSError, ValueError, RecursionError):
            return tuple(Frame(frame.name, frame.offset) for frame in frames)


@dataclass(frozen=True)
class _Program:
    module: Module
    table: LineTable
    functions: GoFunctions
    before_access: int  # the index of the function that is called for a nil pointer
    threaded: bool

    @classmethod
    def of(cls, loaded: LoadedModule) -> _Program:
        module = parse(loaded.read_again())
        table = LineTable.of(module, loaded.metadata.go if loaded.metadata is not None else go_version(module))
        functions = GoFunctions(module, table)
        return cls(module, table, functions, functions.index(table.function(_BEFORE_A_MEMORY_ACCESS)), loaded.threaded)

    def frames(self, frames: Sequence[TrapFrame], stop_check: StopCheck) -> Iterator[Frame]:
        bodies = self._compiled({frame.function for frame in frames}, stop_check)
        inner = None
        for place, frame in enumerate(frames):
            function = self.functions.number(frame.function)
            pc = None
            if function is not None and frame.function in bodies and frame.within >= 0:
                pc = self._pc(bodies[frame.function], function, frame.within, at_call=place > 0)
            if pc is None and function is not None and function == inner:
                continue  # the old body of a fast one
            inner = function
            lines = [] if function is None else self.table.places(pc if pc is not None else function << 16)
            yield from (replace(line, offset=frame.offset) for line in lines or [Frame(frame.name)])

    def _compiled(self, functions: set[int], stop_check: StopCheck) -> dict[int, bytes]:
        """The bodies of these functions, as they are compiled."""
        first, bodies = self.functions.first, self.module.bodies
        own = sorted(function for function in functions if first <= function < first + len(bodies))
        few = replace(self.module, bodies=[bodies[function - first] for function in own])
        return dict(zip(own, (as_compiled(few, stop_check) if self.threaded else few).bodies, strict=False))

    def _pc(self, body: bytes, function: int, within: int, *, at_call: bool) -> int | None:
        """The PC of a frame at this offset; None before the function's first call."""
        for last in deque(_pcs(function).finditer(body, 0, within), 1):
            pc, called = _value(last[1]), last[2]
            return pc - 1 if at_call or (called and number(called) == self.before_access) else pc
        return None


def _pcs(function: int) -> re.Pattern[bytes]:
    """Finds the PCs of a function in code, as constants; and if a call of a function follows, the number of that."""
    first, *rest = _constant(function << 2)  # PC_B has 16 bits: two bytes of seven, and two bits
    third = b"".join(b"\\x%02x" % (first + high) for high in range(4))
    return re.compile(rb"\x42([\x80-\xff]{2}[" + third + b"]" + re.escape(bytes(rest)) + b")"
                      rb"(?:\x37\x03\0(?:\x20\0\x24\0)?(?:\x41\0)?\x10(" + LEB + b"))?", re.DOTALL)


def _constant(value: int) -> bytes:
    """The operand of an i64.const, without its opcode."""
    return i64_const(value)[1:]


def _value(constant: bytes) -> int:
    """The value of such an operand that is not negative."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(constant))
