"""The command line that benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gothreads.engine import extension


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def check_calls_in_c(parser: argparse.ArgumentParser) -> None:
    """Refuse to measure calls through ctypes by accident, as in a checkout without the compiled extension."""
    if extension.compiled is None and os.environ.get("GOTHREADS_FAST") != "0":
        parser.error(f"calls would go through ctypes. The extension in C is not in use: {extension.missing}. "
                     "To measure without it all the same: GOTHREADS_FAST=0")


def run(doc: str | None, measure: Callable[..., dict[str, Any]], show: Callable[[dict[str, Any], int], None], rounds: int = 7, **numbers: int) -> int:
    """Measure so many rounds, and show the figures, or give them as JSON. The exit code.

    `numbers`: further options that measure takes by name, and their defaults.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    check_calls_in_c(parser)
    found = measure(arguments.rounds, **{name: getattr(arguments, name) for name in numbers})
    if arguments.json:
        json.dump(found, sys.stdout, indent=2)
    else:
        show(found, arguments.rounds)
    return 0
