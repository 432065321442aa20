"""Files: one of a gigabyte read from its beginning to its end, many small ones written, read and removed, and a walk
through GOROOT/src, by the same program (benchmarks/files) natively, on threads, and as stock Go's WebAssembly.

    python -m benchmarks.files [--rounds 3] [--count 100000] [--megabytes 1024] [--json]

Each round runs all in turn. The files are in the page cache, so the time is the processor's, not the disk's. The
program measures itself: its start is not in the figures.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import run
from benchmarks.samples import relative
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go
from gothreads.tools.compare.rounds import interleaved

PROGRAM = Path(__file__).parent / "files"


def commands(folder: Path) -> dict[str, list[str]]:
    """How to run the program under each design, in a folder that all may use."""
    native = folder / "native"
    subprocess.run([find_go().go, "build", "-o", native, "."], cwd=PROGRAM, check=True,
                   env=os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
    designs = {"native": [str(native)]}
    for model in ("threaded", "single"):
        module = build(Request(str(PROGRAM), model=model, buildmode="exe")).path
        designs[model] = [sys.executable, "-m", "gothreads", "run", "--mount", f"{folder}:{folder}",
                          "--mount", f"{source()}:{source()}:ro", "--no-mount-args", str(module)]
    return designs


def source() -> Path:
    return find_go().goroot / "src"


def seconds(command: Sequence[str], work: str, *arguments: object) -> float:
    """How long the program says that it took."""
    return float(subprocess.run([*command, work, *map(str, arguments)], check=True, capture_output=True).stdout)


def small(command: Sequence[str], folder: Path, count: int) -> float:
    folder.mkdir()
    try:
        return seconds(command, "small", folder, count)
    finally:
        shutil.rmtree(folder)


def measure(rounds: int, count: int, megabytes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        big = folder / "big"
        with big.open("wb") as file:
            for _ in range(megabytes):
                file.write(bytes(1 << 20))
        designs = commands(folder)
        for command in designs.values():  # machine code into the cache, the file into the page cache
            seconds(command, "read", big)
        taken = {f"read {megabytes:,} MB": interleaved(
            {name: functools.partial(seconds, command, "read", big) for name, command in designs.items()}, rounds)}
        big.unlink()
        taken[f"{count:,} small files"] = interleaved(
            {name: functools.partial(small, command, folder / "small", count) for name, command in designs.items()},
            rounds)
        taken["walk GOROOT/src"] = interleaved(
            {name: functools.partial(seconds, command, "walk", str(source())) for name, command in designs.items()},
            rounds)
    return {what: relative(by_name, "seconds", "native") for what, by_name in taken.items()}


def show(figures: dict[str, Any], rounds: int) -> None:
    for what, rows in figures.items():
        for name, row in rows.items():
            print(f"{what:20} {name:10} {row['seconds']:8.2f} s   {row['ratio']:.2f} of native "
                  f"(medians of {rounds} rounds)")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3, count=100_000, megabytes=1024))
