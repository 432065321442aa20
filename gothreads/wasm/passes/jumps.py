"""Jumps forward within a function, made direct.

Go's compiler knows no blocks, only jumps. So a function of Go's is a loop around as many blocks as there are places to jump to, or to go on at after
a call, with a table of branches in the innermost (cmd/internal/obj/wasm: preprocess). Local 0 says where to:

    block                     for who unwinds
      loop
        block ... block
          local.get 0
          br_table ...
        end                   of the innermost
        code
        end                   of the next, and so on
        code ...

A jump sets local 0 and branches to the loop: through a look at the epoch, a comparison with the table's size, and an indirect branch. But what lies
behind the end of a block further out can be reached by leaving that block, and that is what it comes to. Who leaves
a block need not set local 0, for nothing but the table reads it (and a call through a pointer, which has just set it: there it is scratch). Jumps
back stay as they are: they need the loop. Where there are none it is a block, and looks at no epoch.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gothreads.wasm import code
from gothreads.wasm.binary import Module
from gothreads.wasm.instructions import CLOSES, LEB, OPENS, after_locals, find, replaced
from gothreads.wasm.leb import Reader, number

#: How such a function begins, behind its locals: SP is read, perhaps; the loop; the blocks; the table.
_BEGINNING = re.compile(rb"(?:\x23\0\x21\x01)?\x02\x40(\x03)\x40((?:\x02\x40)+)\x20\0\x0e")
#: A jump, or another branch.
_BRANCH = re.compile(rb"(?:\x41(" + LEB + rb")\x21\0\x0c|[\x0c\x0d])(" + LEB + b")")
#: A call through a pointer: it sets local 0, and reads it again.
_SCRATCH = b"\x21\0\x41\0\x20\0"
#: What has to be looked at: branches; what begins and ends blocks; and what no such function has besides: other tables, and what reads local 0.
_LOOKED_AT = rb"\x41" + LEB + rb"\x21\0\x0c|" + re.escape(_SCRATCH) + b"|[" + re.escape(bytes(sorted(OPENS | CLOSES))) + rb"\x0c\x0d]|\x0e|[\x20\x22]\0"
_BLOCK = b"\x02"


def shorten_jumps(module: Module) -> Module:
    """The same module, with direct jumps. Functions that are not as Go's compiler makes them stay as they are."""
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
    seen = 0  # up to where the body was looked at
    ended = within = 0  # of the blocks; and those that are open besides
    loops = False
    for found in find(body, _LOOKED_AT, begin=table.at):
        if found.offset < seen:  # the second half of what was found before
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
