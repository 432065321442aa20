"""`gothreads stubs`: writes a Python package for a module's typed functions."""

from __future__ import annotations

import argparse
from pathlib import Path

from gothreads.cli.command import Command
from gothreads.cli.module_options import add_go, add_option
from gothreads.errors import MisuseError
from gothreads.launch import find
from gothreads.output.terminal import Terminal
from gothreads.packages.stubs import write_package
from gothreads.runtime.models import MODELS
from gothreads.runtime.options import OpenOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE", help="a module, or a Go package, which is built first")
    parser.add_argument("-o", dest="output", metavar="FOLDER", required=True, help="the package's folder")
    add_option(parser, "--model", OpenOptions, "model", choices=MODELS)
    add_go(parser)


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    folder = Path(arguments.output)
    if not folder.resolve().name.isidentifier():
        raise MisuseError(f"-o {arguments.output}: the folder's name is the package's, and must be a name in Python")
    written = write_package(find(arguments.module, model=arguments.model, go=arguments.go), folder)
    terminal.say(f"{folder}: {', '.join(written)}")
    return 0


STUBS = Command("stubs", "write a Python package for typed functions", """\
  gothreads stubs ./fit -o fit               import fit; fit.fit([1, 2], [3, 4])""", add_arguments, run)
