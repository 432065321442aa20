"""Gives the functions of a linked module fast bodies, with the Go program optimizer_go.

Builds use it only when GOTHREADS_OPTIMIZE=1 is set, which is for tests. optimizer_go/fast/fast.go says how it works,
and what is not there yet.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Literal

from gothreads.build.go_programs import compiled, run

_SOURCE = Path(__file__).parent / "optimizer_go"
Passes = Literal["fast", "rewrite"]


def optimized(go: Path, module: bytes, cache: Path, passes: Passes = "fast") -> bytes:
    """The module, optimized.

    go: the go command.
    cache: a folder for the compiled optimizer, created if missing. Threads and processes may share it.
    passes: "fast" for fast bodies; "rewrite" only writes each function anew, which tests the optimizer.

    Raises BuildError when it is not a module of Go's, or when the optimizer cannot be compiled or run.
    """
    program = compiled(go, _SOURCE, cache)
    with tempfile.TemporaryDirectory(prefix="gothreads-") as folder:
        source, target = Path(folder, "module.wasm"), Path(folder, "optimized.wasm")
        source.write_bytes(module)
        run([program, "-passes", passes, "-o", target, source])
        return target.read_bytes()


def edition(go: Path, cache: Path) -> str:
    """What tells this optimizer from others, for the names of what it makes."""
    return compiled(go, _SOURCE, cache).name


def is_on() -> bool:
    """Whether threaded modules get fast bodies. The environment variable is for tests, until this is complete."""
    return os.environ.get("GOTHREADS_OPTIMIZE") == "1"
