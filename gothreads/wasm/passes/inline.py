"""Inlines atomics at their call sites.

Go's compiler has no intrinsics for them on wasm, so each is a call, which costs more than the operation.

Go compiles every call to the same code (cmd/internal/obj/wasm: preprocess), so the replacement is always the same, too.
It works on the arguments where the caller has stored them, and leaves SP and the stack as they would be after the call.
An atomic never unwinds, so nothing resumes after it; the block that ends there stays, for the br_table at the
beginning of the function.

The functions stay, too: for unaligned addresses, and for uses as values. A sharpened module (sharpen.py) keeps its
calls.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gothreads.wasm import atomic_operations, code
from gothreads.wasm.binary import Module
from gothreads.wasm.instructions import LEB, find, replaced
from gothreads.wasm.leb import number
from gothreads.wasm.parsing import function_names

#: SP (local 1 and the global) goes down by 8; a return address is stored; ...
_BEGINNING = b"\x20\x01\x41\x08\x6b\x22\x01\x24\0\x20\x01\x42"
#: ... the function is called from its beginning; SP is read again; if the callee unwinds, so does the caller; the block
#: before the point to resume at ends.
_CALL = re.compile(
    b"(" + re.escape(_BEGINNING) + LEB + rb"\x37\x03\0\x41\0\x10(" + LEB + rb")\x23\0\x21\x01)\x0d" + LEB + rb"\x0b",
    re.DOTALL,
)
#: A function that only jumps to another: sync/atomic has one, in assembly, for each of internal/runtime/atomic's.
_JUMP = re.compile(rb"\x01\x01\x7f\x23\0\x21\x01\x41\0\x10(" + LEB + rb")\x23\0\x21\x01\x0f\0\x0b", re.DOTALL)


def inline_atomics(module: Module) -> Module:
    """The same module, with its atomics inlined. It must come from threads.add_threads() and have its names."""
    operations = _operations(module)
    return replace(module, bodies=[_inlined(body, operations) for body in module.bodies])


def _operations(module: Module) -> dict[int, atomic_operations.Operation]:
    """The operations, by the indices of the functions that perform them."""
    names, imported = function_names(module), len(module.imported_functions)
    found = {names[title]: operation for name, operation in atomic_operations.OPERATIONS.items()
             if (title := atomic_operations.PACKAGE + name) in names}
    for place, body in enumerate(module.bodies):
        if (jump := _JUMP.fullmatch(body)) is not None and (operation := found.get(number(jump[1]))) is not None:
            found[imported + place] = operation
    return found


def _inlined(body: bytes, operations: dict[int, atomic_operations.Operation]) -> bytes:
    calls = (call for found in find(body, re.escape(_BEGINNING))
             if (call := _CALL.match(body, found.offset)) is not None)
    return replaced(body, ((call.start(), call.end(), operation.in_place_of_call(call[1] + code.DROP) + code.END)
                           for call in calls if (operation := operations.get(number(call[2]))) is not None))
