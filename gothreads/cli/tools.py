"""`gothreads compare` and `gothreads stress`. What they need from an extra is imported when they run."""

from __future__ import annotations

import argparse

from gothreads.cli.command import Command
from gothreads.cli.values import parse_count, parse_seconds
from gothreads.errors import GothreadsError
from gothreads.output.terminal import Terminal
from gothreads.requirements import lacking
from gothreads.tools.compare import options as compare_options
from gothreads.tools.stress import options as stress_options
from gothreads.tools.stress.command import stress


def compare(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run `compare`. GothreadsError if the extra is missing."""
    if (problem := lacking("compare")) is not None:
        raise GothreadsError(problem)
    from gothreads.tools.compare.command import run
    return run(arguments, terminal)


def _add_stress_arguments(parser: argparse.ArgumentParser) -> None:
    stress_options.add_options(parser, parse_seconds, parse_count)


COMPARE = Command("compare", compare_options.HELP, compare_options.EXAMPLES, compare_options.add_options, compare)
STRESS = Command("stress", stress_options.HELP, stress_options.EXAMPLES, _add_stress_arguments, stress)
