"""What defines a command of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from gothreads.output.terminal import Terminal


@dataclass(frozen=True)
class Command:
    """A command: `gothreads NAME`.

    help: one line, without a full stop. examples: lines, indented by two spaces.
    run: runs the command; returns the exit code.
    own_arguments: for commands that pass arguments on to the module, how many positional arguments come first.
    last_is_optional: whether the last of these may be missing; it is "" then. (argparse's own nargs="?" takes nothing
        if options come before the argument.)
    last_is_optional_with: options in whose presence it may be missing.
    passes_on_dashes: what is passed on: everything after --. "": nothing is.
    variables: how the names of environment variables begin that stand for its options; "": there are none.
    """

    name: str
    help: str
    examples: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Terminal], int]
    own_arguments: int | None = None
    last_is_optional: bool = False
    last_is_optional_with: tuple[str, ...] = ()
    passes_on_dashes: str = ""
    variables: str = ""


@dataclass(frozen=True)
class RawCommand:
    """A command that parses its own arguments, `argv`. `usage` is its whole help; `quiet`: show warnings only."""

    name: str
    help: str
    usage: str
    run: Callable[[list[str]], int]
    quiet: bool = False
