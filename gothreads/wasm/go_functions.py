"""Which function of the Go program each function of a module is, by the table of lines."""

from __future__ import annotations

import re
from dataclasses import replace

from gothreads.wasm.binary import Module
from gothreads.wasm.instructions import LEB
from gothreads.wasm.leb import number, uleb, vector
from gothreads.wasm.passes.threads import FIRST_FUNCTION_PC
from gothreads.wasm.pclntab import LineTable

#: How an old body goes over to its fast one (build/optimizer_go/fast/lower.go: enter): it reads SP, and calls that.
_TO_FAST = re.compile(rb"\x23\0\x22\x01\x10(" + LEB + b")")


class GoFunctions:
    """The functions of a module that Go has made. `first`: the index of the first one in the code."""

    def __init__(self, module: Module, table: LineTable) -> None:
        self.first = len(module.imported_functions)
        self._table = table
        self._old = {number(found[1]): place for place, body in enumerate(module.bodies)
                     for found in _TO_FAST.finditer(body)}

    def number(self, function: int) -> int | None:
        """The number in PCs (PC_F) of a function, or of the one whose fast body it is; None if Go did not make it."""
        pc = function - self.first + FIRST_FUNCTION_PC
        if self._table.has(pc):
            return pc
        return self._old[function] + FIRST_FUNCTION_PC if function in self._old else None

    def index(self, number: int) -> int:
        """The index of the function with this number in PCs."""
        return number - FIRST_FUNCTION_PC + self.first


def with_go_names(module: Module) -> Module:
    """The module with the names that functions have in Go, such as sync.(*Mutex).Lock, for profilers.

    Go's linker writes sync.__Mutex_.Lock. As it was, if there is no table of lines.
    """
    try:
        table = LineTable.of(module, "")
    except ValueError:
        return module
    functions = GoFunctions(module, table)
    names = ((index, name) for index in range(functions.first, functions.first + len(module.bodies))
             if (number := functions.number(index)) is not None and (name := table.name(number)))
    entries = [uleb(index) + vector(name.encode()) for index, name in names]
    section = b"\x01" + vector(uleb(len(entries)) + b"".join(entries))
    customs = [(title, content) for title, content in module.customs if title != "name"]
    return replace(module, customs=[*customs, ("name", section)])
