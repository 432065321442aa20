"""The options of `gothreads stress`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

HELP = "try to break Go on threads: scenarios that check the result of each operation"
EXAMPLES = """  gothreads stress                                   all scenarios, ten seconds each
  gothreads stress mutex gc --seconds 600            two scenarios, ten minutes each
  gothreads stress --sharpen 7                       with atomics, locks and wake-ups delayed at random
  gothreads stress --list                            what each scenario does and checks
  gothreads stress mutex --seed 7 --broken           with a bug in its Go code: what a failure looks like
  gothreads stress --module app.wasm --exports add,store --pure add
A failure ends the run; the command that repeats it is printed. Exit code: 0 when all passed, 1 after a failure."""


def add_options(parser: argparse.ArgumentParser, seconds: Callable[[str], float], count: Callable[[str], int]) -> None:
    """`seconds` and `count` parse such an option."""
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO",
                        help="the scenarios to run (default: all; --list describes them)")
    parser.add_argument("--seconds", type=seconds, default=10.0, metavar="S",
                        help="how long each runs (default: %(default)g)")
    parser.add_argument("--threads", type=count, default=8, metavar="N",
                        help="Python threads that call in (default: %(default)s)")
    parser.add_argument("--procs", type=count, metavar="N",
                        help="GOMAXPROCS (default: the number of processors, and at least 2)")
    parser.add_argument("--seed", type=_seed, metavar="N",
                        help="the seed of all random choices (default: a different one each time)")
    parser.add_argument("--hang", type=seconds, default=60.0, metavar="S",
                        help="seconds without progress after which a scenario counts as hung (default: %(default)g)")
    parser.add_argument("--sharpen", type=_seed, metavar="SEED",
                        help="widen races: delay atomics, locks and wake-ups at random, by this seed (slower)")
    parser.add_argument("--list", action="store_true", help="list the scenarios, and the invariants that each checks")
    parser.add_argument("--keep", metavar="FILE",
                        help="where to write the details of a failure (default: gothreads-stress-SCENARIO-SEED.txt)")
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON, and nothing else")
    parser.add_argument("--module", metavar="FILE|PACKAGE",
                        help="call the exports of your own module instead, with random arguments of their types")
    parser.add_argument("--exports", type=_names, default=(), metavar="A,B", help="with --module: the exports to call")
    parser.add_argument("--pure", type=_names, default=(), metavar="A,B",
                        help="with --module: exports to call that must return the same for the same arguments")
    parser.add_argument("--python", metavar="FILE",
                        help="with --module: a Python file with `host = gothreads.Host()`: the functions and "
                             "handlers that the module calls")
    parser.add_argument("--broken", action="store_true",
                        help="run scenarios with a bug in their Go code, to see how it is found")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)
