"""`gothreads cache`: how much the cache holds, and what may go."""

from __future__ import annotations

import argparse
import shlex

from gothreads import cache
from gothreads.cli.command import Command
from gothreads.output.terminal import Terminal
from gothreads.text import as_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clean", action="store_true", help="remove everything that was not used in the last minute")
    parser.add_argument("--size", action="store_true", help="print only the size, in bytes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    removed = cache.clean() if arguments.clean else None
    found = cache.contents()
    if arguments.json:
        about = {"folder": str(found.folder), "bytes": found.size, "limit": found.limit, "kinds": dict(found.sizes)}
        terminal.data(about | ({} if removed is None else {"removed": removed}))
    elif arguments.size:
        terminal.out(str(found.size))
    else:
        if removed is not None:
            terminal.say(f"removed {as_size(removed)}")
        bound = "no limit" if found.limit is None else (f"of which {as_size(found.bounded)} are in the limit of "
                                                        f"{as_size(found.limit)}")
        terminal.out(f"{found.folder}: {as_size(found.size)}, {bound} ({cache.LIMIT})")
        for kind, size in found.sizes.items():
            if size:
                terminal.out(f"  {as_size(size):>12}  {kind}: {cache.description(kind)}")
        if found.limit is not None and found.bounded > found.limit:
            terminal.out("It is over the limit: what was used in the last hour stays, and the rest goes when machine "
                         "code is added")
        if removed is not None and found.size:
            terminal.say("this stays: what was used in the last minute (edited files of Go: in the last day), and "
                         f"gothreads' own tools. To remove all, if no gothreads is running: rm -r "
                         f"{shlex.quote(str(found.folder))}. Go has a cache of its own: go clean -cache")
    return 0


CACHE = Command("cache", "show how large the cache is, or empty it", """\
  gothreads cache              the folder, and what it holds
  gothreads cache --size       the size in bytes, and nothing else
  gothreads cache --clean      remove what was not used in the last minute; it is made again when needed
                               (it says what stays, and how to remove that)""",
                add_arguments, run)
