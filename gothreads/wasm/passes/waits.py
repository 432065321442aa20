"""From a module with threads to one whose threads can be found where they are parked, and ended there.

Nothing interrupts `memory.atomic.wait32`. So each of them becomes a call of an added function that notes the address, looks at the
stop flag, waits, forgets, and looks again. Whoever stops the app sets the flag and notifies the addresses that are noted, again and again,
until all have left.

It is done when a module is loaded, Go's as well as others: a file may come from anybody, whatever it says of itself. And the notes lie in
a second memory, shared too, which the module's own code has no way to name, and so no way to change:

    0      stop flag    u32   not 0: every thread is to leave
    64     notes        u32 for each instance, each in a cache line of its own: the address that its thread waits at, with bit 0
                        set (so that address 0 is one as well); or 0

The start function, which initialises memory, may wait as well. It becomes an export, to be called when the instance has its note.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gothreads.errors import ModuleError
from gothreads.wasm import code
from gothreads.wasm.binary import PAGE, ExportEntry, FuncType, Import, Kind, MemoryLimits, Module, Section, TypeIndices
from gothreads.wasm.instructions import WAIT32, WAIT64, MemoryArgument, instructions, memory_argument, replaced
from gothreads.wasm.leb import Reader, uleb

#: What the second memory is imported as, its size in pages, and what is in it (see above).
NOTES = ("gothreads", "notes")
NOTES_PAGES = 4
STOP_FLAG = 0
FIRST_NOTE = NOTE_SIZE = 64
#: How many instances can be in one memory at a time.
MOST_NOTES = NOTES_PAGES * PAGE // NOTE_SIZE - 1
WAITING = 1
#: Counts up with each change of what is made here: compiled modules are kept.
EDITION = 1

#: Exports that are added. `SETUP` takes the address of the instance's note.
SETUP, START = "gt_note", "gt_start"
#: WebAssembly's loop that does nothing: the engine ends it, whose epoch has moved or is about to.
_LEAVE = code.LOOP + b"\x0c\x00" + code.END
_MEMORY = 1
#: Where a wait may be: the prefix and a number, which may be longer than it needs to be. Most of what fits is something else.
_MAY_WAIT = re.compile(rb"\xfe(?:[\x01\x02]|[\x81\x82]\x80*\x00)")


def rewrite_waits(module: Module) -> Module:
    """The module, with all its waits noted. Its memory is imported, and it has no other. Its code must have been validated before.

    ModuleError when it has instructions that are not known, or exports of the names that are needed.
    """
    return _Waits(module).run()


class _Waits:
    def __init__(self, module: Module) -> None:
        self.module = replace(module, types=list(module.types), imports=list(module.imports), functions=list(module.functions), raw=dict(module.raw),
                              globals=list(module.globals), exports=list(module.exports), bodies=list(module.bodies))
        self.types = TypeIndices(self.module.types)
        self.imported = len(module.imported_functions)
        self.place = sum(i.kind is Kind.GLOBAL for i in module.imports) + len(module.globals)
        self.added: dict[tuple[int, MemoryArgument], int] = {}

    def run(self) -> Module:
        module = self.module
        exported = {e.name for e in module.exports}
        if taken := exported & {SETUP, START}:
            raise ModuleError(f"the module exports {', '.join(sorted(taken))}, names that gothreads needs for itself")
        if any((i.module, i.name) == NOTES for i in module.imports):
            raise ModuleError(f"the module imports {'.'.join(NOTES)}, a name that gothreads needs for itself")
        module.imports.append(Import(*NOTES, Kind.MEMORY, MemoryLimits(NOTES_PAGES, NOTES_PAGES, shared=True).encode()))
        module.globals.append(code.I32 + b"\1" + code.i32_const(FIRST_NOTE) + code.END)
        for index, body in enumerate(list(module.bodies)):  # not those that are added meanwhile
            module.bodies[index] = self.rewritten(body)
        self.add_export(SETUP, FuncType(code.I32, b""), code.body(code.local_get(0) + code.global_set(self.place)))
        if (start := module.raw.pop(Section.START, None)) is not None:
            module.exports.append(ExportEntry(START, Kind.FUNC, Reader(start, "start").u32()))
        if "memory" not in exported:  # where WASI looks for it
            module.exports.append(ExportEntry("memory", Kind.MEMORY, 0))
        # Debuggers' sections have offsets into the code.
        module.customs = [(title, content) for title, content in module.customs if not title.startswith((".debug_", "reloc.", "linking"))]
        return module

    def rewritten(self, body: bytes) -> bytes:
        if _MAY_WAIT.search(body) is None:
            return body
        return replaced(body, ((found.offset, found.end, code.call(self.wait(found.opcode, memory_argument(body, found))))
                               for found in instructions(body) if found.opcode in (WAIT32, WAIT64)))

    def wait(self, opcode: int, argument: MemoryArgument) -> int:
        """The function that stands for such an instruction: (address, expected value, nanoseconds) -> how it ended.

        The order is the invariant: the address is noted before the flag is looked at; the host sets the flag before it reads the notes.
        """
        key = opcode, argument
        if key not in self.added:
            check = code.i32_const(STOP_FLAG) + _notes(0x10) + code.IF + _LEAVE + code.END
            address = code.local_get(0) + _i32(argument.offset) + code.I32_ADD + code.i32_const(WAITING) + code.I32_OR
            note = code.global_get(self.place) + address + _notes(0x17)
            forget = code.global_get(self.place) + code.i32_const(0) + _notes(0x17)
            wait = (b"".join(map(code.local_get, range(3))) + bytes([opcode >> 12, opcode & 0xFFF]) + uleb(argument.align) + uleb(argument.offset))
            kind = FuncType(code.I32 + (code.I32 if opcode == WAIT32 else code.I64) + code.I64, code.I32)
            self.added[key] = self.add_function(kind, code.body(note + check + wait + forget + check))
        return self.added[key]

    def add_function(self, kind: FuncType, body: bytes) -> int:
        """Behind all others, so that theirs stay."""
        module = self.module
        module.functions.append(self.types[kind])
        module.bodies.append(body)
        return self.imported + len(module.functions) - 1

    def add_export(self, title: str, kind: FuncType, body: bytes) -> None:
        self.module.exports.append(ExportEntry(title, Kind.FUNC, self.add_function(kind, body)))


def _notes(opcode: int) -> bytes:
    """An atomic access to 4 bytes of the second memory."""
    return b"\xfe" + bytes([opcode, 2 | 1 << 6]) + uleb(_MEMORY) + b"\x00"


def _i32(value: int) -> bytes:
    return code.i32_const(value - (1 << 32) if value >> 31 else value)
