"""`gothreads build`: builds Go packages into modules."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gothreads.build.builder import Built, build
from gothreads.build.go_command import go_environment
from gothreads.build.packages import check_flag, main_packages
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go
from gothreads.cli.command import Command
from gothreads.cli.module_options import add_build_options
from gothreads.cli.values import parse_output
from gothreads.errors import MisuseError
from gothreads.files import write_atomically
from gothreads.output.terminal import Terminal
from gothreads.wasm.metadata import BUILD_MODES, THREADED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", nargs="?", default=".", metavar="PACKAGE",
                        help="a folder, an import path, a .go file, or a pattern such as ./... for all programs in it "
                        "(default: the current folder)")
    parser.add_argument("-o", dest="output", metavar="FILE",
                        help="where to write the module: a file, or a folder (default: NAME.wasm, by the package's "
                             "name)")
    add_build_options(parser)
    parser.add_argument("--buildmode", choices=BUILD_MODES,
                        help="exe: main runs (default for threaded); c-shared: main does not run (default for single)")
    parser.add_argument("--strip", action="store_true",
                        help="omit names: smaller, but stack traces of traps show numbers only")
    parser.add_argument("--no-preemption", action="store_true",
                        help="no checks in loops: tight loops run faster, but delay garbage collection")
    parser.add_argument("--sharpen", type=int, metavar="SEED",
                        help="delay atomics, locks and wake-ups at random, to expose races (slow: for tests)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    model, flags = arguments.model or THREADED, tuple(arguments.args)
    for flag in flags:
        check_flag(flag, "build")
    several = "..." in arguments.package
    packages = [arguments.package]
    if several:
        environment = go_environment(model, preemption=not arguments.no_preemption)
        folders = main_packages(find_go(arguments.go), arguments.package, environment, flags)
        packages = [os.path.relpath(folder) for folder in folders]
    outputs = _outputs(packages, arguments.output, several=several)
    results = []
    for package, output in zip(packages, outputs, strict=True):
        built = build(Request(package, model, arguments.buildmode, arguments.go, arguments.strip,
                              not arguments.no_preemption,
                              arguments.sharpen, flags, arguments.optimize))
        content = built.path.read_bytes()
        write_atomically(output, content)
        terminal.detail(f"{package}: {built.path} in the cache")
        if not arguments.json:
            how = "from the cache, " if built.cached else ""
            terminal.say(f"{output}: {len(content) / 1e6:.1f} MB, {built.metadata.model}, {built.toolchain}, "
                         f"{how}{built.seconds:.1f} s")
        results.append(_as_json(built, output, len(content)))
    if arguments.json:
        terminal.data(results if several else results[0])
    return 0


def _outputs(packages: Sequence[str], option: str | None, *, several: bool) -> list[Path]:
    """Where to write each package's module. `option`: -o, a file, or a folder for NAME.wasm."""
    in_folder = option is not None and (several or option.endswith("/") or os.path.isdir(option))
    if option is not None and not in_folder:
        return [parse_output(option)]
    if option is not None and os.path.exists(option) and not os.path.isdir(option):
        raise MisuseError(f"-o {option} is a file; for several programs, or with a / at the end, it must be a folder")
    outputs: dict[Path, str] = {}
    for package in packages:
        output = parse_output(os.path.join(option or "", f"{_name(package)}.wasm"))
        if output in outputs:
            raise MisuseError(f"{outputs[output]} and {package} would both be written to {output}. Build them one by "
                              f"one, with -o")
        outputs[output] = package
    return list(outputs)


def _as_json(built: Built, output: Path, size: int) -> dict[str, Any]:
    return {"file": str(output), "bytes": size, "go": built.toolchain.version, "toolchain": str(built.toolchain.go),
            "found": built.toolchain.found, "model": built.metadata.model, "buildmode": built.metadata.buildmode,
            "cached": built.cached,
            "seconds": round(built.seconds, 3), "exports": [e.name for e in built.metadata.exports]}


def _name(package: str) -> str:
    path = Path(package)
    if path.suffix == ".go":
        return path.stem
    return path.resolve().name if os.path.isdir(path) else package.rstrip("/").rsplit("/", 1)[-1]


BUILD = Command("build", "build a Go package into a module", """\
  gothreads build ./app -o app.wasm
  gothreads build ./... -o modules/           all programs, each as NAME.wasm
  gothreads build ./app --model single        for stock Go, on one thread
  gothreads build ./app -- -tags debug        with flags for go build""", add_arguments, run,
                passes_on_dashes="flags for go build")
