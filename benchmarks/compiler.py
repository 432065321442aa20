"""A large real program: Go's compiler, built for WebAssembly (56 MB), compiles go/types on one proc, on two, and
natively.

    python -m benchmarks.compiler [--rounds 5] [--json]

Each round runs all in turn. The object files must be identical. The time that the compiler takes to print its version,
with machine code in the cache, is its start-up cost: a Python process, opening 56 MB, Go's initialisation.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import run
from benchmarks.side_by_side import print_table, side_by_side
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go

PACKAGE = "go/types"
#: How many functions the compiler compiles at a time.
CONCURRENCY = 4


def measure(rounds: int) -> dict[str, Any]:
    toolchain = find_go()

    def go(*arguments: str) -> str:
        return subprocess.run([str(toolchain.go), *arguments], check=True, capture_output=True, text=True).stdout
    source = toolchain.goroot / "src" / PACKAGE
    with tempfile.TemporaryDirectory() as scratch:
        imports, compiled = Path(scratch, "importcfg"), Path(scratch, "package.a")
        imports.write_text(go("list", "-deps", "-export", "-f",
                              "{{if .Export}}packagefile {{.ImportPath}}={{.Export}}{{end}}", PACKAGE))
        files = [str(source / name) for name in go("list", "-f", "{{range .GoFiles}}{{.}}\n{{end}}", PACKAGE).split()]
        arguments = ["-o", str(compiled), "-p", PACKAGE, "-std", "-complete", "-importcfg", str(imports),
                     f"-c={CONCURRENCY}", *files]
        module = build(Request("cmd/compile")).path
        mounts = {scratch: "", str(source): ":ro", go("env", "GOCACHE").strip(): ":ro"}
        prefix = [sys.executable, "-m", "gothreads", "run", "--no-mount-args", "--env", "GOOS=linux", "--env",
                  "GOARCH=amd64",
                  *(part for folder, how in mounts.items() for part in ("--mount", f"{folder}:{folder}{how}"))]
        native = go("tool", "-n", "compile").strip()
        version = [*prefix, str(module), "-V"]
        subprocess.run(version, check=True, capture_output=True)  # generates machine code into the cache
        compiles = side_by_side({
            "one proc": [*prefix, "--procs", "1", str(module), *arguments],
            "two procs": [*prefix, "--procs", "2", str(module), *arguments],
            "native, one": ["env", "GOMAXPROCS=1", native, *arguments],
            "native, two": ["env", "GOMAXPROCS=2", native, *arguments],
        }, rounds, compiled)
        return {"compile": compiles, "version": side_by_side({"version": version}, rounds)}


def show(figures: dict[str, Any], rounds: int) -> None:
    print(f"Go's compiler compiles {PACKAGE}, the same object file from all (medians of {rounds} rounds)")
    print_table(figures["compile"])
    print(f"its version, from the start of the process to the end: {figures['version']['version']['seconds']:.2f} s")


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=5))
