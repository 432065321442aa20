"""A real program: gofmt, built for WebAssembly from Go's source, formats all of GOROOT/src on one proc, on two, and
natively.

    python -m benchmarks.gofmt [--rounds 3] [--json]

Each round runs all in turn. Their output and exit codes must be identical.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.command import run
from benchmarks.side_by_side import print_table, side_by_side
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go


def measure(rounds: int) -> dict[str, dict[str, float]]:
    toolchain = find_go()
    source = toolchain.goroot / "src"
    module = build(Request("cmd/gofmt")).path
    prefix = [sys.executable, "-m", "gothreads", "run", "--mount", f"{source}:{source}:ro", "--no-mount-args"]
    native = toolchain.goroot / "bin" / "gofmt"
    subprocess.run([*prefix, str(module), os.devnull], capture_output=True)  # generates machine code into the cache
    return side_by_side({
        "one proc": [*prefix, "--procs", "1", str(module), str(source)],
        "two procs": [*prefix, "--procs", "2", str(module), str(source)],
        "native, one": ["env", "GOMAXPROCS=1", str(native), str(source)],
        "native, two": ["env", "GOMAXPROCS=2", str(native), str(source)],
    }, rounds)


def show(figures: dict[str, dict[str, float]], rounds: int) -> None:
    files = sum(1 for _ in Path(find_go().goroot / "src").rglob("*.go"))
    print(f"gofmt of {files:,} files, the same output from all (medians of {rounds} rounds)")
    print_table(figures)


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3))
