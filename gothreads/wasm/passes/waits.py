"""Rewrites a module with threads so that its parked threads can be found and ended.

Nothing interrupts `memory.atomic.wait32` or `wait64`. So each becomes a call of an added function that notes the
address, checks the stop flag, waits, clears the note and checks the flag again. To stop the app, the host sets the flag
and notifies the noted addresses again and again, until all threads have left.

This happens when a module is loaded, whether or not it is Go's: a file may come from anybody, so what it claims about
itself is not trusted. The notes lie in a second shared memory, which the module's own code cannot name, and so cannot
change:

    0      stop flag    u32   not 0: every thread must leave
    64     notes        u32 for each instance, each in its own cache line: the address at which its thread waits,
                        with bit 0 set (so that address 0 counts as one as well); or 0

The start function, which initialises memory, may wait as well. It becomes an export, called once the instance has its
note.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gothreads.errors import ModuleError
from gothreads.wasm import code
from gothreads.wasm.binary import PAGE, ExportEntry, FuncType, Import, Kind, MemoryLimits, Module, Section, TypeIndices
from gothreads.wasm.instructions import WAIT32, WAIT64, MemoryArgument, instructions, memory_argument, replaced
from gothreads.wasm.leb import Reader, uleb

#: The import name of the second memory, its size in pages, and its layout (see above).
NOTES = ("gothreads", "notes")
NOTES_PAGES = 4
STOP_FLAG = 0
FIRST_NOTE = NOTE_SIZE = 64
#: The most instances that one memory can have at a time.
MOST_NOTES = NOTES_PAGES * PAGE // NOTE_SIZE - 1
WAITING = 1
#: Increases with each change of this pass's output, since compiled modules are cached.
EDITION = 1

#: The added exports. `SETUP` takes the address of the instance's note.
SETUP, START = "gt_note", "gt_start"
#: An empty endless loop: the engine ends it, as its epoch has moved or is about to; or a check (stops.py) ends it.
_LEAVE = code.LOOP + b"\x0c\x00" + code.END
_MEMORY = 1


def _notes(opcode: int) -> bytes:
    """An atomic access to 4 bytes of the second memory."""
    return b"\xfe" + bytes([opcode, 2 | 1 << 6]) + uleb(_MEMORY) + b"\x00"


#: Pushes the stop flag.
LOAD_STOP_FLAG = code.i32_const(STOP_FLAG) + _notes(0x10)
#: Where a wait may be: the prefix and a number, whose encoding may be longer than necessary. Most matches are something
#: else.
_MAY_WAIT = re.compile(rb"\xfe(?:[\x01\x02]|[\x81\x82]\x80*\x00)")


def rewrite_waits(module: Module) -> Module:
    """The module, with all its waits noted. It must import its only memory, and its code must have been validated.

    Raises ModuleError when it has unknown instructions, or already exports a name that is needed here.
    """
    return _Waits(module).run()


class _Waits:
    def __init__(self, module: Module) -> None:
        self.module = replace(module, types=list(module.types), imports=list(module.imports),
                              functions=list(module.functions), raw=dict(module.raw),
                              globals=list(module.globals), exports=list(module.exports), bodies=list(module.bodies))
        self.types = TypeIndices(self.module.types)
        self.imported = len(module.imported_functions)
        self.place = sum(i.kind is Kind.GLOBAL for i in module.imports) + len(module.globals)
        self.added: dict[tuple[int, MemoryArgument], int] = {}

    def run(self) -> Module:
        module = self.module
        exported = {e.name for e in module.exports}
        if taken := exported & {SETUP, START}:
            raise ModuleError(f"the module exports {', '.join(sorted(taken))}, names that are reserved for gothreads")
        if any((i.module, i.name) == NOTES for i in module.imports):
            raise ModuleError(f"the module imports {'.'.join(NOTES)}, a name that is reserved for gothreads")
        module.imports.append(Import(*NOTES, Kind.MEMORY, MemoryLimits(NOTES_PAGES, NOTES_PAGES, shared=True).encode()))
        module.globals.append(code.I32 + b"\1" + code.i32_const(FIRST_NOTE) + code.END)
        for index, body in enumerate(list(module.bodies)):  # without those added meanwhile
            module.bodies[index] = self.rewritten(body)
        self.add_export(SETUP, FuncType(code.I32, b""), code.body(code.local_get(0) + code.global_set(self.place)))
        if (start := module.raw.pop(Section.START, None)) is not None:
            module.exports.append(ExportEntry(START, Kind.FUNC, Reader(start, "start").u32()))
        if "memory" not in exported:  # WASI looks for it there
            module.exports.append(ExportEntry("memory", Kind.MEMORY, 0))
        # These sections contain offsets into the code, which no longer hold.
        module.customs = [(title, content) for title, content in module.customs
                          if not title.startswith((".debug_", "reloc.", "linking"))]
        return module

    def rewritten(self, body: bytes) -> bytes:
        if _MAY_WAIT.search(body) is None:
            return body
        return replaced(body,
                        ((found.offset, found.end, code.call(self.wait(found.opcode, memory_argument(body, found))))
                               for found in instructions(body) if found.opcode in (WAIT32, WAIT64)))

    def wait(self, opcode: int, argument: MemoryArgument) -> int:
        """The function that replaces such an instruction: (address, expected value, nanoseconds) -> the wait's result.

        Invariant: the address is noted before the flag is checked; the host sets the flag before it reads the notes.
        """
        key = opcode, argument
        if key not in self.added:
            check = LOAD_STOP_FLAG + code.IF + _LEAVE + code.END
            address = code.local_get(0) + _i32(argument.offset) + code.I32_ADD + code.i32_const(WAITING) + code.I32_OR
            note = code.global_get(self.place) + address + _notes(0x17)
            forget = code.global_get(self.place) + code.i32_const(0) + _notes(0x17)
            wait = (
                b"".join(map(code.local_get, range(3)))
                + bytes([opcode >> 12, opcode & 0xFFF])
                + uleb(argument.align)
                + uleb(argument.offset)
            )
            kind = FuncType(code.I32 + (code.I32 if opcode == WAIT32 else code.I64) + code.I64, code.I32)
            self.added[key] = self.add_function(kind, code.body(note + check + wait + forget + check))
        return self.added[key]

    def add_function(self, kind: FuncType, body: bytes) -> int:
        """Append a function; its index. It comes after all others, so that their indices stay valid."""
        module = self.module
        module.functions.append(self.types[kind])
        module.bodies.append(body)
        return self.imported + len(module.functions) - 1

    def add_export(self, title: str, kind: FuncType, body: bytes) -> None:
        self.module.exports.append(ExportEntry(title, Kind.FUNC, self.add_function(kind, body)))


def _i32(value: int) -> bytes:
    return code.i32_const(value - (1 << 32) if value >> 31 else value)
