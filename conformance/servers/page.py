"""The table of docs/servers.md."""

from __future__ import annotations

from conformance.debian import RELEASE
from conformance.servers.cases import Server
from conformance.servers.serving import Served


def table(results: dict[Server, Served], versions: dict[str, str], go: str, clients: int) -> str:
    """A line for each server."""
    lines = [f"{go}, Debian {RELEASE}, {clients} clients at once.", "",
             "| server | program | library | an exchange | exchanges |", "|---|---|---|---|--:|"]
    for server, served in results.items():
        path = f"conformance/servers/gopath/src/{server.program}"
        program = f"`{_short(server.program)}`" if server.is_unchanged else f"[`{server.program}`](../{path})"
        library = f"{server.debian} {versions[server.debian]}" if server.debian else "std"
        lines.append(f"| {server.about} | {program} | {library} | {server.exchange} | {served.exchanges:,} "
                     f"in {served.seconds:.0f} s |")
    return "\n".join(lines) + "\n"


def _short(program: str) -> str:
    return program.removeprefix("gocode/src/").removeprefix("doc/")
