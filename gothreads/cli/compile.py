"""`gothreads compile`: makes a module's machine code beforehand, in the cache or in a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from gothreads.engine.precompiled import digest_of, pack
from gothreads.engine.settings import precompile
from gothreads.files import write_atomically
from gothreads.launch import RUN_MODELS, find
from gothreads.runtime.options import Limits
from gothreads.terminal import Terminal

HELP = "compile a module to machine code before it is run"
EXAMPLES = ("  gothreads compile app.wasm                  into the cache, so that the first start is fast\n"
            "  gothreads compile app.wasm -o app.cwasm     into a file, for a container image with the same gothreads, wasmtime and processor\n"
            "  gothreads run --trust DIGEST app.cwasm      run it, with the digest that was printed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE")
    parser.add_argument("-o", dest="output", metavar="FILE", help="write the module and its machine code there (default: only into the cache)")
    parser.add_argument("--model", choices=RUN_MODELS, help="the model to build a package for (default: threaded)")
    parser.add_argument("--go", metavar="PATH", help="the go command to build with")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """For the commands that open modules."""
    parser.add_argument("--trust", metavar="DIGEST", default="",
                        help="the digest of a file with machine code (gothreads compile -o), which is not opened otherwise; or: any")


def trusted(text: str) -> bool | str:
    """The value of --trust, for `find`."""
    return True if text == "any" else text


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    loaded = find(arguments.module, model=arguments.model, go=arguments.go, progress=terminal.progress)
    terminal.clear()
    compiled, precompiled = precompile(loaded.wasm, Limits().stack, threads=loaded.model == "threaded")
    how = "already compiled" if compiled.seconds is None else f"compiled in {compiled.seconds:.1f} s"
    about = {"module": arguments.module, "cached": compiled.seconds is None, "seconds": compiled.seconds, "machine_code": len(precompiled.code)}
    digest = None
    if arguments.output:
        content = pack(loaded.wasm, precompiled)
        write_atomically(Path(arguments.output), content)
        digest = digest_of(content)
        about |= {"file": arguments.output, "bytes": len(content), "digest": digest}
    if arguments.json:
        terminal.data(about)
        return 0
    terminal.say(f"{arguments.module}: {len(precompiled.code) / 1e6:.1f} MB of machine code, {how}")
    if digest is not None:
        terminal.say(f"{arguments.output}: open it with --trust {digest}")
    return 0
