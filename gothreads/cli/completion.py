"""`gothreads completion`: prints a shell's completion script, which shtab makes from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from gothreads.cli.command import Command
from gothreads.errors import GothreadsError
from gothreads.output.terminal import Terminal
from gothreads.requirements import lacking

_SHELLS = ("bash", "zsh", "tcsh")
#: The placeholders of arguments that are paths of files; and of folders.
_FILES, _FOLDERS = ("FILE", "FILE|PACKAGE", "PACKAGE", "PATH", "ARG", "HOST:GUEST[:ro]"), ("FOLDER", "DIR")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=_SHELLS, help="the shell")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if (problem := lacking("completion")) is not None:
        raise GothreadsError(problem)
    import shtab
    for action in _actions(arguments.parser):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(arguments.parser, arguments.shell), file=terminal.stdout)
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)


COMPLETION = Command("completion", "print a completion script for a shell", """\
  eval "$(gothreads completion bash)"                                   in ~/.bashrc
  gothreads completion zsh > ~/.zfunc/_gothreads                        with fpath+=~/.zfunc before compinit in ~/.zshrc
  gothreads completion tcsh > ~/.gothreads.csh                          with source ~/.gothreads.csh in ~/.tcshrc""",
                     add_arguments, run)
