"""Go servers on threads, with many native clients at once, and no error.

    python -m conformance.servers                          all of them
    python -m conformance.servers nats grpc --seconds 60
    python -m conformance.servers --page docs/servers.md   writes the table

The sources are Debian's packages. The exit code is 1 when a server or a client fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import document
from conformance.debian import Debian
from conformance.servers.cases import SERVERS, Server, select
from conformance.servers.page import table
from conformance.servers.serving import Failed, Programs, Served, serve
from gothreads.build.toolchain import find_go
from gothreads.errors import CompileError, GothreadsError
from gothreads.files import cache_folder

_TABLE = "servers"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.servers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", metavar="NAME",
                        help=f"of {', '.join(one.name for one in SERVERS)} (default: all)")
    parser.add_argument("--clients", type=int, default=64, help="at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="for each server (default: %(default)s)")
    parser.add_argument("--go", metavar="PATH", help="the go command to use")
    parser.add_argument("--page", type=Path, metavar="FILE",
                        help=f"put the table between <!-- {_TABLE}: begin --> and <!-- {_TABLE}: end --> in this file")
    arguments = parser.parse_args()
    if arguments.page and (problem := document.missing(arguments.page, _TABLE)):
        parser.error(problem)
    console = Console(stderr=True, highlight=False)
    try:
        return _run(arguments, console)
    except GothreadsError as error:
        console.print(str(error), markup=False)
        return 1


def _run(arguments: argparse.Namespace, console: Console) -> int:
    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)
    chosen, toolchain = select(arguments.servers), find_go(arguments.go)
    debian = Debian(cache_folder() / "debian")
    versions = debian.provide({name for one in chosen for name in (one.debian, *one.needs) if name}, say)
    results: dict[Server, Served] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        programs = Programs(toolchain, debian, work, say)
        for server in chosen:
            try:
                module, client = programs.server(server), programs.client(server.client)
                results[server] = served = serve(server, module, client, work, clients=arguments.clients,
                                                 seconds=arguments.seconds)
                say(f"{server.name}: {served.exchanges} exchanges in {served.seconds:.1f} s")
            except (Failed, CompileError) as error:
                say(f"{server.name}: {error}")
    failed = [server.name for server in chosen if server not in results]
    if arguments.page and not failed:
        document.put(arguments.page, _TABLE, table(results, versions, toolchain.version, arguments.clients))
    say(f"{len(results)} servers without an error" + (f"; {', '.join(failed)} failed" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
