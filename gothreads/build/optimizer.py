"""Writes a linked module anew, with the Go program optimizer_go.

No build uses it yet: what is there so far reads each function as basic blocks and writes it again with loops.
"""

from __future__ import annotations

from pathlib import Path

from gothreads.build.go_programs import compiled, run

_SOURCE = Path(__file__).parent / "optimizer_go"


def optimize(go: Path, module: Path, target: Path, cache: Path) -> None:
    """Write `module` to `target`, optimized.

    go: the go command.
    cache: a folder for the compiled optimizer, created if missing. Threads and processes may share it.

    Raises BuildError when it is not a module of Go's, or when the optimizer cannot be compiled or run.
    """
    run([compiled(go, _SOURCE, cache), "-o", target, module])
