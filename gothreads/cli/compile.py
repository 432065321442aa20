"""`gothreads compile`: makes a module's machine code beforehand, in the cache or in a file."""

from __future__ import annotations

import argparse

from gothreads.cli.aside import aside
from gothreads.cli.command import Command
from gothreads.cli.module_options import add_option, add_package_options
from gothreads.cli.values import parse_output
from gothreads.engine.precompiled import digest_of, pack
from gothreads.engine.settings import StopCheck, precompile
from gothreads.files import write_atomically
from gothreads.launch import find
from gothreads.output.terminal import Terminal
from gothreads.runtime.models import MODELS
from gothreads.runtime.options import Limits, OpenOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE", help="a module, or a Go package, which is built first")
    parser.add_argument("-o", dest="output", metavar="FILE",
                        help="write the module and its machine code to this file (default: only into the cache)")
    add_option(parser, "--model", OpenOptions, "model", choices=MODELS)
    add_package_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    output = parse_output(arguments.output) if arguments.output else None
    loaded = find(arguments.module, model=arguments.model, go=arguments.go, optimize=arguments.optimize)
    # In the cache, what Python code needs that opens the module, and what commands need. A file is for both.
    checks = [StopCheck.EPOCH] if output else list(dict.fromkeys(loaded.stop_check(main_calls=calls)
                                                                 for calls in (True, False)))
    made = aside(lambda: [precompile(loaded.wasm, Limits().stack, threads=loaded.threaded, stop_check=check)
                          for check in checks])
    precompiled = made[0][1]
    seconds = sum(compiled.seconds or 0.0 for compiled, _ in made) or None
    how = "already compiled" if seconds is None else f"compiled in {seconds:.1f} s"
    about = {"module": arguments.module, "cached": seconds is None, "seconds": seconds,
             "machine_code": len(precompiled.code)}
    digest = None
    if output is not None:
        content = pack(loaded.wasm, precompiled)
        write_atomically(output, content)
        digest = digest_of(content)
        about |= {"file": arguments.output, "bytes": len(content), "digest": digest}
    if arguments.json:
        terminal.data(about)
        return 0
    terminal.say(f"{arguments.module}: {len(precompiled.code) / 1e6:.1f} MB of machine code, {how}")
    if digest is not None:
        terminal.say(f"{arguments.output}: open it with --trust {digest}")
    return 0


COMPILE = Command("compile", "compile a module to machine code before it is run", """\
  gothreads compile app.wasm                  into the cache, so that the first start is fast
  gothreads compile app.wasm -o app.cwasm     into a file, for a container image with the same gothreads and wasmtime
  gothreads run --trust DIGEST app.cwasm      run that file, with the digest that was printed""", add_arguments, run)
