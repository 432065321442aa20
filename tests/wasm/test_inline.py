"""Inlined atomics in programs that Go has linked. (Their behaviour is tested in test_atomic_operations.py.)"""

from __future__ import annotations

import pytest
import wasmtime

from gothreads.build.rewriting import finish
from gothreads.engine.settings import new_engine
from gothreads.wasm.atomic_operations import OPERATIONS, PACKAGE
from gothreads.wasm.binary import Module
from gothreads.wasm.instructions import instructions
from gothreads.wasm.leb import number
from gothreads.wasm.metadata import Metadata
from gothreads.wasm.parsing import function_names, parse
from gothreads.wasm.passes.inline import inline_atomics
from gothreads.wasm.passes.jumps import shorten_jumps
from gothreads.wasm.passes.sharpen import sharpen
from gothreads.wasm.passes.threads import add_threads


@pytest.fixture(scope="module")
def threaded(linked: bytes) -> Module:
    return add_threads(parse(linked))


def atomics(module: Module) -> set[int]:
    names = function_names(module)
    return {names[PACKAGE + name] for name in OPERATIONS if PACKAGE + name in names}


def calls(body: bytes) -> list[tuple[int, bytes]]:
    """The functions called, and the bytes after each call."""
    found = list(instructions(body))
    return [(number(body[i.operands:i.end]), body[i.end:i.end + 5]) for i in found if i.opcode == 0x10]


@pytest.mark.long
def test_no_atomic_is_called_but_where_its_address_is_not_aligned(threaded: Module) -> None:
    inlined = inline_atomics(threaded)
    wasmtime.Module.validate(new_engine(1 << 20), inlined.encode())
    wanted = atomics(threaded)
    changed = [(before, after) for before, after in zip(threaded.bodies, inlined.bodies, strict=True)
               if before != after]
    assert len(changed) > 200
    for before, after in changed:
        called = [function for function, _ in calls(before)]
        assert [function for function, _ in calls(after)
                if function not in wanted] == [function for function in called if function not in wanted]
        assert all(behind == b"\x23\0\x21\1\x1a" for function, behind in calls(after)
                   if function in wanted), "SP is read again, the answer dropped"
    for before, after in zip(threaded.bodies, inlined.bodies, strict=True):
        if before == after and (left := [behind for function, behind in calls(before) if function in wanted]):
            assert left == [b"\x23\0\x21\1\x0f"], "a function that jumps to it"


def test_what_it_was_made_of_is_left_as_it_was(threaded: Module) -> None:
    before = threaded.encode()
    inline_atomics(threaded)
    assert threaded.encode() == before


@pytest.mark.long
def test_where_races_are_sharpened_atomics_are_called(linked: bytes, threaded: Module) -> None:
    def made(options: dict[str, object]) -> list[bytes]:
        metadata = Metadata("0.1.0", "go1.27.3", "threaded", "exe", handlers=True, options=options)
        return finish(parse(linked), metadata, strip=False).bodies
    assert made({}) == shorten_jumps(inline_atomics(threaded)).bodies
    assert made({"sharpen": 3}) == shorten_jumps(sharpen(threaded, 3)).bodies
