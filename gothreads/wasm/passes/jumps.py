"""Turns forward jumps within a function into direct branches.

Go's compiler has jumps but no blocks. So it compiles a function to a loop around nested blocks, one for each jump
target and for each point to resume at after a call, with a branch table in the innermost block
(cmd/internal/obj/wasm: preprocess). Local 0 selects the target:

    block                     left to unwind
      loop
        block ... block
          local.get 0
          br_table ...
        end                   of the innermost block
        code
        end                   of the next block, and so on
        code ...

A jump sets local 0 and branches to the loop, which costs an epoch check, a bounds check of the table and an indirect
branch. But code behind the end of an outer block can be reached by leaving that block, so a forward jump becomes a
plain branch out of it. The branch need not set local 0: only the table reads it (and a call through a pointer, which
has just set it and uses it as scratch). Backward jumps stay as they are, since they need the loop. In a function
without backward jumps the loop becomes a block, which checks no epoch.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gothreads.wasm import code
from gothreads.wasm.binary import Module
from gothreads.wasm.instructions import CLOSES, LEB, OPENS, after_locals, find, replaced
from gothreads.wasm.leb import Reader, number

#: How such a function begins, after its locals: perhaps a read of SP; the loop; the blocks; the table.
_BEGINNING = re.compile(rb"(?:\x23\0\x21\x01)?\x02\x40(\x03)\x40((?:\x02\x40)+)\x20\0\x0e")
#: A jump, or another branch.
_BRANCH = re.compile(rb"(?:\x41(" + LEB + rb")\x21\0\x0c|[\x0c\x0d])(" + LEB + b")")
#: Part of a call through a pointer: it sets local 0 and reads it again.
_SCRATCH = b"\x21\0\x41\0\x20\0"
#: What has to be inspected: branches, the beginnings and ends of blocks, and what such a function otherwise lacks:
#: other tables and reads of local 0.
_LOOKED_AT = (
    rb"\x41"
    + LEB
    + rb"\x21\0\x0c|"
    + re.escape(_SCRATCH)
    + b"|["
    + re.escape(bytes(sorted(OPENS | CLOSES)))
    + rb"\x0c\x0d]|\x0e|[\x20\x22]\0"
)
_BLOCK = b"\x02"


def shorten_jumps(module: Module) -> Module:
    """The same module, with direct jumps. Functions of another form than Go's compiler emits are left unchanged."""
    return replace(module, bodies=[_shortened(body) for body in module.bodies])


def _shortened(body: bytes) -> bytes:
    begin = _BEGINNING.match(body, after_locals(body))
    if begin is None:
        return body
    blocks = len(begin[2]) // 2
    table = Reader(body, "code")
    table.at = begin.end()
    places = [table.u32() for _ in range(table.u32() + 1)]
    direct: list[tuple[int, int, bytes]] = []
    seen = 0  # the body has been inspected up to here
    ended = within = 0  # the table's blocks that have ended; other blocks that are open
    loops = False
    for found in find(body, _LOOKED_AT, begin=table.at):
        if found.offset < seen:  # the second half of the previous match
            continue
        if found.opcode in OPENS:
            within += 1
        elif found.opcode in CLOSES:
            ended, within = (ended, within - 1) if within else (ended + 1, 0)
        elif body.startswith(_SCRATCH, found.offset):
            seen = found.offset + len(_SCRATCH)
        elif (branch := _BRANCH.match(body, found.offset)) is None:
            return body
        elif number(branch[2]) == within + blocks - ended:
            place = places[min(number(branch[1]), len(places) - 1)] if branch[1] is not None else -1
            if place < ended:
                loops = True
            else:
                direct.append((branch.start(), branch.end(), code.br(place - ended + within)))
                seen = branch.end()
    return replaced(body, direct if loops else [(*begin.span(1), _BLOCK), *direct])
