"""Finds calls to undefined functions in a module that Go has linked.

Go's linker for WebAssembly does not reject such calls, as it does for other systems ("relocation target not defined").
An undefined function has the address 0, so its index comes out as the number of imports minus the number from which Go
counts functions (FIRST_FUNCTION_PC). That is negative; decoded as the unsigned number that an index is, it refers to no
function or, in a large program, to the wrong one.
"""

from __future__ import annotations

import re

from gothreads.wasm.binary import Module
from gothreads.wasm.instructions import find
from gothreads.wasm.leb import sleb
from gothreads.wasm.parsing import function_names
from gothreads.wasm.passes.threads import FIRST_FUNCTION_PC

_CALL = b"\x10"


def callers_of_undefined(module: Module) -> list[str]:
    """The functions that contain such a call, by name where the name is known.

    No other index has this encoding, since Go writes all indices as signed numbers.
    """
    imported = len(module.imported_functions)
    call = _CALL + sleb(imported - FIRST_FUNCTION_PC)
    places = [place for place, body in enumerate(module.bodies) if call in body and any(find(body, re.escape(call)))]
    if not places:
        return []
    titles = {index: title for title, index in function_names(module).items()}
    return [titles.get(imported + place, f"function {imported + place}") for place in places]


def symbol(name: str) -> str:
    """The name that the name section gives to a Go function."""
    return re.sub(r"[^\w.]", "_", name, flags=re.ASCII)
