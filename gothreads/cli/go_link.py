"""Runs after Go's linker, in `gothreads test`: rewrites the program and compiles it to machine code, both into the
cache.

So the time in go test's "ok" lines is the tests' own. A failure is left to `gothreads go-exec`, which does the same
when the program is not in the cache, and reports it.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gothreads.cli.go_exec import LIMITS, load_linked, rewriting
from gothreads.engine.settings import precompile
from gothreads.errors import GothreadsError
from gothreads.output.progress import COMPILE, watching

#: What is noted, with + and -, when a program is compiled to machine code.
MACHINE_CODE = "machine-code"


class _Notes:
    """Notes the beginning and the end of compiling, as a gothreads.output.progress.Progress."""

    def __init__(self, log: Path) -> None:
        self._log, self._begun = log, False

    def __call__(self, stage: str, done: float, total: float | None) -> None:
        if stage != COMPILE:
            return
        if done == total or not self._begun:
            with self._log.open("a") as file:
                file.write(f"{'-' if self._begun else '+'}{MACHINE_CODE}\n")
            self._begun = not self._begun


def run(argv: Sequence[str]) -> None:
    """argv: the file for notes, options of go-exec, and the linker's command."""
    log, *options = argv
    how, linker = rewriting(options)
    program = Path(linker[linker.index("-o") + 1])
    with contextlib.suppress(GothreadsError), watching(_Notes(Path(log))):
        loaded = load_linked(program, how)
        precompile(loaded.wasm, LIMITS.stack, threads=loaded.threaded,
                   stop_check=loaded.stop_check(main_calls=False))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python would wait for the compiler
    run(sys.argv[1:])
