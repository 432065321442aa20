"""`gothreads wheel`: writes a wheel of a module's typed functions."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from gothreads.cli.command import Command
from gothreads.cli.module_options import add_go, add_option
from gothreads.launch import find
from gothreads.output.terminal import Terminal
from gothreads.packages.wheel import write_wheel
from gothreads.runtime.models import MODELS
from gothreads.runtime.options import OpenOptions
from gothreads.version import __version__


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE", help="a module, or a Go package, which is built first")
    parser.add_argument("-o", dest="output", metavar="FOLDER", default=".", help="where to write it (default: here)")
    parser.add_argument("--name", metavar="NAME", help="what Python imports (default: the module's name)")
    parser.add_argument("--version", metavar="V", default="0.0.0", help="the wheel's version (default: %(default)s)")
    add_option(parser, "--model", OpenOptions, "model", choices=MODELS)
    add_option(parser, "--optimize", OpenOptions, "optimize", action="store_true")
    add_go(parser)


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    loaded = find(arguments.module, model=arguments.model, go=arguments.go, optimize=arguments.optimize)
    name = arguments.name or Path(loaded.name).stem.replace("-", "_")
    written = write_wheel(loaded, Path(arguments.output), name, arguments.version)
    terminal.say(f"pip install {shlex.quote(str(written))} where gothreads {__version__} or later is installed, or "
                 f"where pip finds it; then: import {name}")
    return 0


WHEEL = Command("wheel", "write a wheel of typed functions, which needs no Go", """\
  gothreads wheel ./fit --version 1.0        pip install fit-1.0-py3-none-any.whl; import fit""", add_arguments, run)
