"""`gothreads top`: what an app is doing, live, in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from gothreads.cli.aside import aside
from gothreads.cli.command import Command
from gothreads.cli.live_figures import Figures, of_module, of_server
from gothreads.cli.module_options import add_build_options, add_option, add_run_options, open_module
from gothreads.cli.profile_sources import ServerSource, is_server, read_key
from gothreads.cli.values import parse_seconds
from gothreads.errors import GothreadsError, MisuseError
from gothreads.output.terminal import Terminal
from gothreads.runtime.options import LoadedOptions, OpenOptions
from gothreads.text import shown, words

#: What calls are sorted by: a field of the server's figures.
_SORTS = ("calls", "failed", "p50", "p99", "name")
#: Begins a screen anew.
_HOME = "\x1b[H\x1b[J"
#: How many lines there are where the output is no terminal.
_LINES = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE|URL",
                        help="a program, which runs meanwhile: a module, or a Go package; or the address of a server "
                        "of gothreads serve")
    parser.add_argument("--every", type=parse_seconds, default=2.0, metavar="S",
                        help="how often to look, in seconds; Go stops for a moment each time, for the stacks (default: "
                        "%(default)g)")
    parser.add_argument("--once", action="store_true", help="look once, and end")
    parser.add_argument("--sort", choices=_SORTS, default="calls", help="the order of calls (default: %(default)s)")
    parser.add_argument("--filter", default="", metavar="TEXT",
                        help="only calls, and places of goroutines, with this text in them")
    parser.add_argument("--json", action="store_true", help="print JSON, an object a line")
    parser.add_argument("--key-file", metavar="FILE",
                        help="of a server: a file with an API key of the rights metrics and inspect")
    parser.add_argument("--app", default="", metavar="NAME", help="of a server of several apps: which one")
    add_build_options(parser)
    add_run_options(parser)
    add_option(parser, "--listen", OpenOptions, "listen", action="append", metavar="HOST:PORT")
    parser.set_defaults(no_calls=True, stall_timeout=None, on_stall="report")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with contextlib.ExitStack() as opened:
        if is_server(arguments.module):
            server = ServerSource(arguments.module, read_key(arguments.key_file), arguments.app)
            found = of_server(server, arguments.every)
        elif arguments.app or arguments.key_file:
            raise MisuseError("--app and --key-file are for servers, such as http://127.0.0.1:8080, not for "
                              f"{arguments.module}")
        else:
            errors = opened.enter_context(open(2, "wb", buffering=0, closefd=False))
            app = opened.enter_context(open_module(arguments, terminal, **LoadedOptions(stdout=errors)))
            found = of_module(app, arguments.every)
        try:
            aside(lambda: _show_all(found, arguments, terminal))
        except (KeyError, TypeError, ValueError) as error:
            if not is_server(arguments.module):
                raise
            raise GothreadsError(f"{arguments.module} does not answer as this version of `gothreads serve` does "
                                 f"({words(error)})") from None
    return 0


def _show_all(found: Iterator[Figures], arguments: argparse.Namespace, terminal: Terminal) -> None:
    is_live = terminal.stdout.isatty() and not arguments.once
    for figures in found:
        if arguments.json:
            about = {**figures.app, "places": figures.places and [asdict(place) for place in figures.places]}
            terminal.out(json.dumps(about))
        else:
            lines = list(_lines(figures, arguments.sort, arguments.filter))
            size = shutil.get_terminal_size((120, _LINES))
            if is_live:
                lines = [line[:size.columns] for line in lines[:size.lines - 1]]
                terminal.stdout.write(_HOME)
            terminal.out("\n".join(lines))
        terminal.stdout.flush()
        if arguments.once:
            return


def _lines(figures: Figures, sort: str, wanted: str) -> Iterator[str]:
    app = figures.app
    yield (f"{app['model']}, {app['state']}, for {app['uptime']:,.0f} s; {app['in_progress']:,} calls in progress; "
           f"memory {app['memory'] / 1e6:,.0f} MB of {app['memory_limit'] / 1e6:,.0f}")
    if (go := app.get("go")) is not None:
        yield (f"goroutines {go['goroutines']:,}: {go['running']:,} run, {go['runnable']:,} could, {go['waiting']:,} "
               f"wait, {go['syscalls']:,} in host calls; procs {go['busy_procs']:,} of {go['procs']:,} busy; "
               f"Ms {go['ms']:,}; timers {go['timers']:,}")
        yield (f"heap {go['heap'] / 1e6:,.1f} MB; {go['collections']:,} collections, which have stopped all for "
               f"{go['pause_seconds'] * 1e3:,.1f} ms")
    if (callers := app.get("callers")) is not None:
        yield (f"callers {callers['in_use']:,} in use, {callers['idle']:,} idle; {callers['waiting']:,} threads wait "
               "for one")
    if app["calls"] is not None:
        yield ""
        yield f"{'calls/s':>10} {'failed/s':>10} {'p50':>10} {'p99':>10}  call"
        for call in _sorted(app["calls"]["by_name"], sort):
            name = f"{call['kind']} {call['name']}"
            if wanted in name:
                yield (f"{call['calls']:>10,.1f} {call['failed']:>10,.1f} {_time(call['p50']):>10} "
                       f"{_time(call['p99']):>10}  {shown(name)}")
    yield ""
    if figures.places is None:
        yield f"where goroutines are cannot be seen: {figures.no_places}"
        return
    yield f"{'goroutines':>10}  {'do, or wait for':<26} in"
    for place in figures.places:
        if wanted in place.function or wanted in place.state:
            yield f"{place.count:>10,}  {place.state:<26} {place.function}"


def _sorted(calls: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    if by == "name":
        return sorted(calls, key=lambda call: (call["kind"], call["name"]))
    return sorted(calls, key=lambda call: -(call[by] or 0))


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:,.2f} ms"


TOP = Command("top", "show what a program, or an app on a server, is doing, live", """\
  gothreads top http://127.0.0.1:8080                 calls, latencies, goroutines and where they wait, heap
  gothreads top http://127.0.0.1:8080 --sort p99 --filter sell
  gothreads top ./app -- ARG…                         of a program, which runs meanwhile
  gothreads top https://example.org --key-file key --app search --once --json""",
              add_arguments, run, passes_on_dashes="arguments of the program")
