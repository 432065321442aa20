"""`gothreads build`: builds Go packages into modules."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from gothreads.build.builder import Built, Request, build
from gothreads.cli.command import Command
from gothreads.cli.module_options import add_build_options
from gothreads.files import write_atomically
from gothreads.terminal import Terminal
from gothreads.wasm.metadata import BUILD_MODES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", nargs="?", default=".", metavar="PACKAGE",
                        help="a folder, an import path, or a .go file (default: the current folder)")
    parser.add_argument("-o", dest="output", metavar="FILE", help="where to write the module (default: PACKAGE.wasm)")
    add_build_options(parser)
    parser.add_argument("--buildmode", choices=BUILD_MODES,
                        help="exe: main runs (default for threaded); c-shared: main does not run (default for single)")
    parser.add_argument("--strip", action="store_true", help="omit names: smaller, but stack traces of traps show numbers only")
    parser.add_argument("--no-preemption", action="store_true",
                        help="no checks in loops: tight loops run faster, but delay garbage collection")
    parser.add_argument("--sharpen", type=int, metavar="SEED",
                        help="delay atomics, locks and wake-ups at random, to expose races (slow: for tests)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    built = build(Request(arguments.package, arguments.model or "threaded", arguments.buildmode, arguments.go, arguments.strip,
                          not arguments.no_preemption, arguments.sharpen, tuple(arguments.args)), terminal.progress)
    output = Path(arguments.output or f"{_name(arguments.package)}.wasm")
    content = built.path.read_bytes()
    write_atomically(output, content)
    if arguments.json:
        terminal.data(_as_json(built, output, len(content)))
    else:
        how = "unchanged, " if built.cached else ""
        terminal.say(f"{output}: {len(content) / 1e6:.1f} MB, {built.metadata.model}, {built.toolchain}, {how}{built.seconds:.1f} s")
    return 0


def _as_json(built: Built, output: Path, size: int) -> dict[str, Any]:
    return {"file": str(output), "bytes": size, "go": built.toolchain.version, "toolchain": str(built.toolchain.go),
            "found": built.toolchain.found, "model": built.metadata.model, "buildmode": built.metadata.buildmode, "cached": built.cached,
            "seconds": round(built.seconds, 3), "exports": [e.name for e in built.metadata.exports]}


def _name(package: str) -> str:
    path = Path(package)
    if path.suffix == ".go":
        return path.stem
    return path.resolve().name if os.path.isdir(path) else package.rstrip("/").rsplit("/", 1)[-1]


BUILD = Command("build", "build a Go package into a module", """\
  gothreads build ./app -o app.wasm
  gothreads build ./app --model single        for stock Go, on one thread
  gothreads build ./app -- -tags debug        with flags for go build""", add_arguments, run, passes_on_dashes=True)
