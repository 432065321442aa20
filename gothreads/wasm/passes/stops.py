"""Puts checks of the stop flag into all code of a module with threads, so that whatever runs can be ended.

A check is an atomic load of the flag and a branch to `unreachable`. It is cheaper than the engine's epochs, whose check
calls a function that returns: around such a call, an engine keeps everything in memory. The load is atomic, since any
other may be moved out of a loop. The flag lies in the notes (waits.py), which the module's code cannot name.

There is a check at the beginning of each function, and of each `loop`. Invariant: between two checks a thread runs no
instruction of a body twice. For a branch leads forward, or to the beginning of a `loop`; and everything else that is
run again belongs to a function that was entered again, by whatever kind of call. (A host function, and an instruction
that moves much memory, take as long as they take: epochs do not end them, either. Waits are ended by waits.py.)

    host      H1 sets the app's cause   H2 sets the flag, for good   H3 wakes parked threads
    thread    T1 loads the flag at a check

If T1 comes before H2, the thread gets to its next check; otherwise it traps, and the trap finds the cause that H1 has
set, so it is not taken for one of the module's own.

As with waits, nothing that the file says of itself is believed: this happens whenever a module is loaded.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from gothreads.wasm import code
from gothreads.wasm.binary import Module
from gothreads.wasm.instructions import after_locals, find, replaced
from gothreads.wasm.passes.waits import LOAD_STOP_FLAG

#: Increases with each change of this pass's output, since compiled modules are cached.
EDITION = 1

CHECK = LOAD_STOP_FLAG + code.IF + code.UNREACHABLE + code.END
_LOOP = b"\x03"


def add_stop_checks(module: Module) -> Module:
    """The module, with checks. It must come from `rewrite_waits`.

    Raises ModuleError when it has unknown instructions.
    """
    return replace(module, bodies=[_checked(body) for body in module.bodies])


def _checked(body: bytes) -> bytes:
    begin = after_locals(body)
    loops = find(body, _LOOP, begin=begin) if _LOOP in body else ()  # most functions have no loop
    places = itertools.chain([begin], (loop.end for loop in loops))
    return replaced(body, ((place, place, CHECK) for place in places))
