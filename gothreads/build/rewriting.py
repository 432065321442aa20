"""Turns what Go's linker made of a program into the module that is run: passes ─▶ optimizer ─▶ custom section."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gothreads.build import optimizer
from gothreads.build.toolchain import find_go
from gothreads.errors import listed
from gothreads.files import cache_folder
from gothreads.wasm.binary import Module
from gothreads.wasm.metadata import SECTION, Metadata
from gothreads.wasm.parsing import function_names, parse
from gothreads.wasm.passes.inline import inline_atomics
from gothreads.wasm.passes.jumps import shorten_jumps
from gothreads.wasm.passes.sharpen import sharpen
from gothreads.wasm.passes.threads import add_threads
from gothreads.wasm.undefined import symbol

#: At the beginning of a line: gives a local name to a function of another package.
_LINKNAME = re.compile(r"^//go:linkname[ \t]+(\S+)[ \t]+(\S+)")


def finish(linked: Module, metadata: Metadata, *, strip: bool, go: Path | None = None) -> Module:
    """Turn the module that Go linked into the one that is run.

    go: the go command, for the optimizer (default: the first that is found).
    """
    module = linked
    if metadata.threaded:
        seed = metadata.options.get("sharpen")
        threaded = add_threads(linked)
        module = shorten_jumps(inline_atomics(threaded) if seed is None else sharpen(threaded, seed))
    if metadata.optimized:  # before names are dropped, which it uses
        module = parse(optimizer.optimized(go or find_go().go, module.encode(), cache_folder()))
    dropped = ("name", "producers", SECTION) if strip else (SECTION,)
    customs = [(title, body) for title, body in module.customs
               if title not in dropped and not (strip and title.startswith(".debug"))]
    return replace(module, customs=[*customs, (SECTION, metadata.encode())])


def undefined(module: Module, callers: Sequence[str], files: Sequence[Path]) -> str:
    """Describe undefined functions: their callers, and each //go:linkname that names a missing function."""
    names = function_names(module)
    missing = []
    for file in files:
        lines = file.read_text(errors="replace").splitlines()
        bodies = {line[5:].partition("(")[0] for line in lines if line.startswith("func ") and "{" in line}
        for number, line in enumerate(lines, 1):
            pulled = _LINKNAME.match(line)  # for a function with a body, it is the name for other packages
            if pulled is not None and pulled[1] not in bodies and symbol(pulled[2]) not in names:
                missing.append(f"{file}:{number}: relocation target {pulled[2]} not defined (//go:linkname "
                               f"{pulled[1]})\n")
    return "".join(missing) + f"Called by: {listed(callers)}\n"
