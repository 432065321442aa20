"""A real program: gofmt from Go's own source, built for WebAssembly, formats the whole of GOROOT/src; on one proc, on two, and native.

    python -m benchmarks.gofmt [--rounds 3] [--json]

Each round runs all three, one after the other. What they print, and with what exit code they end, must be the same to the byte.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.command import run
from gothreads.build.builder import Request, build
from gothreads.build.toolchain import find_go


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds, and a digest of all that came of it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        code = subprocess.run(command, stdout=out, stderr=errors).returncode
        seconds = time.perf_counter() - begin
        digest = hashlib.sha256(str(code).encode())
        for stream in (out, errors):
            stream.seek(0)
            digest.update(stream.read())
    return seconds, digest.hexdigest()


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds, and the medians of the rounds' ratios to one proc."""
    toolchain = find_go()
    source = toolchain.goroot / "src"
    module = build(Request("cmd/gofmt")).path
    prefix = [sys.executable, "-m", "gothreads", "run", str(module), "--mount", f"{source}:{source}:ro", "--no-mount-args"]
    native = toolchain.goroot / "bin" / "gofmt"
    commands = {
        "one proc": [*prefix, "--procs", "1", "--", str(source)], "two procs": [*prefix, "--procs", "2", "--", str(source)],
        "native, one": ["env", "GOMAXPROCS=1", str(native), str(source)], "native, two": ["env", "GOMAXPROCS=2", str(native), str(source)],
    }
    subprocess.run([*prefix, "--", os.devnull], capture_output=True)  # machine code is made, and kept
    taken: dict[str, list[float]] = {name: [] for name in commands}
    digests = set()
    for _ in range(rounds):
        for name, command in commands.items():
            seconds, digest = timed(command)
            taken[name].append(seconds)
            digests.add(digest)
    if len(digests) != 1:
        raise SystemExit("the outputs differ")
    return {name: {"seconds": statistics.median(seconds),
                   "ratio": statistics.median(s / one for s, one in zip(seconds, taken["one proc"], strict=True))} for name, seconds in taken.items()}


def show(found: dict[str, dict[str, float]], rounds: int) -> None:
    files = sum(1 for _ in Path(find_go().goroot / "src").rglob("*.go"))
    print(f"gofmt of {files:,} files, the same output from all (medians of {rounds} rounds)")
    for name, figures in found.items():
        print(f"{name:12} {figures['seconds']:7.1f} s   {figures['ratio']:.2f} of one proc")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3))
