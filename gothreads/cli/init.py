"""`gothreads init`: starts a new program, or makes the package gothreads/guest known to editors."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gothreads.build.guest import init
from gothreads.build.toolchain import find_go
from gothreads.cli.command import Command
from gothreads.output.terminal import Terminal

_PROGRAM = re.compile(rb"(?m)^package main\b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER",
                        help="the program's folder, created if necessary (default: the current one)")
    parser.add_argument("--go", metavar="PATH", help="the go command to use")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    folder = Path(arguments.folder)
    written = init(folder, find_go(arguments.go))
    programs = [file for file in folder.glob("*.go") if _PROGRAM.search(file.read_bytes())]
    terminal.say(f"{folder}: wrote {', '.join(written)}{f'. Try: gothreads serve {folder}' if programs else ''}")
    return 0


INIT = Command("init", "start a new program, or prepare one for editors and go vet", """\
  gothreads init            in the folder of a program
  gothreads init newapp     a new program""", add_arguments, run)
