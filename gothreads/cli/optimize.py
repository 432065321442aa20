"""`gothreads optimize`: gives a module that Go has linked faster code."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from gothreads.build.optimizer import optimized
from gothreads.build.toolchain import find_go
from gothreads.cli.command import Command
from gothreads.cli.module_options import add_go
from gothreads.cli.values import parse_output
from gothreads.errors import MisuseError, ModuleError
from gothreads.files import cache_folder, reason, write_atomically
from gothreads.output.terminal import Terminal
from gothreads.wasm.metadata import SECTION, decode
from gothreads.wasm.parsing import parse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE", help="a module that gothreads or Go has built (GOOS=wasip1 or js)")
    parser.add_argument("-o", dest="output", metavar="FILE", required=True, help="where to write the result")
    parser.add_argument("--baseline", action="store_true",
                        help="for engines without vectors: use no WebAssembly feature that the module does not use "
                             "(default: also SIMD, to search and compare memory)")
    add_go(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    path, output = Path(arguments.module), parse_output(arguments.output)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModuleError(f"cannot read {path}: {reason(error)}") from None
    module = parse(content)
    if section := module.custom(SECTION):
        metadata = decode(section)
        if metadata.optimized:
            raise MisuseError(f"{path} is optimized already")
        metadata = replace(metadata, options={**metadata.options, "optimize": True})
        customs = [(title, metadata.encode() if title == SECTION else body) for title, body in module.customs]
        content = replace(module, customs=customs).encode()
    result = optimized(find_go(arguments.go).go, content, cache_folder(), baseline=arguments.baseline)
    write_atomically(output, result)
    if arguments.json:
        terminal.data({"file": str(output), "bytes": len(result), "bytes_before": len(content)})
    else:
        terminal.say(f"{output}: {len(result) / 1e6:.1f} MB, instead of {len(content) / 1e6:.1f}")
    return 0


OPTIMIZE = Command("optimize", "make a module that Go has linked run faster", """\
  gothreads optimize app.wasm -o fast.wasm
  GOOS=wasip1 GOARCH=wasm go build -o app.wasm && gothreads optimize app.wasm -o fast.wasm    for any host""",
                   add_arguments, run)
