"""Calls of functions that are not there, in what Go has linked.

Go's linker for WebAssembly does not refuse them, as it does for other systems ("relocation target not defined"). A function
that is not there has the address 0, so its index comes out as the number of imports less what Go numbers functions from.
That is negative; read as an unsigned number, which an index is, it is another: of no function, or, in a large program, of
some other one.
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
    """The functions that have such a call, by name where that is known.

    No other index is encoded in this way, since Go writes all of them as signed numbers.
    """
    imported = len(module.imported_functions)
    call = _CALL + sleb(imported - FIRST_FUNCTION_PC)
    places = [place for place, body in enumerate(module.bodies) if call in body and any(find(body, re.escape(call)))]
    if not places:
        return []
    titles = {index: title for title, index in function_names(module).items()}
    return [titles.get(imported + place, f"function {imported + place}") for place in places]


def symbol(name: str) -> str:
    """What the name section calls a function of Go's."""
    return re.sub(r"[^\w.]", "_", name, flags=re.ASCII)
