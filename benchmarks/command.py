"""The command line that benchmarks share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.document import missing, put
from gothreads.tools.compare.machine import why_calls_use_ctypes


def check_calls_in_c(parser: argparse.ArgumentParser) -> None:
    """Refuse to measure calls through ctypes by accident."""
    if (reason := why_calls_use_ctypes()) is not None:
        parser.error(f"calls would go through ctypes. The extension in C is not in use: {reason}. "
                     "To measure without it all the same: GOTHREADS_FAST=0")


def run(doc: str | None, measure: Callable[..., dict[str, Any]], show: Callable[[dict[str, Any], int], None],
        rounds: int = 7, document: tuple[str, Callable[[dict[str, Any]], str]] | None = None,
        *, plot: Callable[[dict[str, Any], Path], None] | None = None, **numbers: int) -> int:
    """Measure for some rounds, then show the figures or print them as JSON. Returns the exit code.

    `document`: what --write puts into a document: the name of its place there, and what makes the text.
    `plot`: what --plot draws, with matplotlib.
    `numbers`: further options, which `measure` takes by name, with their defaults.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    if document is not None:
        parser.add_argument("--write", type=Path, metavar="FILE",
                            help=f"put the table there, between <!-- {document[0]}: begin --> and end")
    if plot is not None:
        parser.add_argument("--plot", type=Path, metavar="FILE", help="a PNG file; needs pip install '.[plots]'")
    arguments = parser.parse_args()
    check_calls_in_c(parser)
    target = arguments.write if document is not None else None
    if document is not None and target is not None and (why := missing(target, document[0])) is not None:
        parser.error(why)
    figures = measure(arguments.rounds, **{name: getattr(arguments, name) for name in numbers})
    if arguments.json:
        json.dump(figures, sys.stdout, indent=2)
    else:
        show(figures, arguments.rounds)
    if plot is not None and arguments.plot is not None:
        plot(figures, arguments.plot)
    if document is not None and target is not None:
        put(target, document[0], document[1](figures))
    return 0
