"""The command line of `gothreads compare`. Imports nothing from an extra until the command runs."""

from __future__ import annotations

import argparse

from gothreads.text import cut, whole_number

#: The names of the workloads, in order; catalogue.py has the workloads.
NAMES = ("cpu", "loops", "alloc", "short", "lock", "shards", "ring", "callback", "bytes", "blocking", "meet",
         "background", "timers", "idle-cpu",
         "start", "start-cold", "memory", "memory-data")
HELP = "measure one Go program run in different ways: on threads, as stock Go, in a pool, natively"
EXAMPLES = ("  gothreads compare --quick                 all workloads, in about two minutes on a quiet machine\n"
            "  gothreads compare --out report            report/report.html, with plots; report/report.json\n"
            "  gothreads compare cpu blocking --json     two workloads, for a program to read\n"
            "  gothreads compare --list                  what each workload measures\n"
            "Ctrl-C ends a run early, and shows what was measured until then.\n"
            f"workloads:\n  {', '.join(NAMES[:9])},\n  {', '.join(NAMES[9:])}")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workloads", nargs="*", default=[], metavar="WORKLOAD",
                        help="what to measure (default: all; --list describes them)")
    parser.add_argument("--out", metavar="DIR", help="write report.html, report.json, table.md and the plots there")
    parser.add_argument("--quick", action="store_true", help="fewer points, shorter samples: a look, not a measurement")
    parser.add_argument("--repeat", type=_repeats, metavar="N",
                        help="rounds through all designs (default: 5, and 3 for workloads with a fresh process each; "
                             "--quick: 3, and 1)")
    parser.add_argument("--list", action="store_true", help="list the workloads, and what each measures")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of the table")
    parser.add_argument("--go", metavar="PATH", help="the go command to build with")


def _repeats(text: str) -> int:
    number = whole_number(text, 1000)
    if not number:
        raise argparse.ArgumentTypeError(f"{cut(text)} is not a whole number from 1 to 1000")
    return number
