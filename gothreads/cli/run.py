"""`gothreads run`: runs a module's main."""

from __future__ import annotations

import argparse
import contextlib
import os

from gothreads.cli.aside import aside
from gothreads.cli.command import Command
from gothreads.cli.module_options import (
    add_build_options,
    add_module,
    add_option,
    add_run_options,
    add_service_options,
    lines_ended,
    open_or_supervise,
)
from gothreads.cli.signals import forwarded
from gothreads.cli.values import parse_count_or_zero
from gothreads.errors import GothreadsError, GuestError, ModuleError
from gothreads.output.terminal import Terminal
from gothreads.runtime.app import App
from gothreads.runtime.options import OpenOptions
from gothreads.supervise.app import Supervised
from gothreads.wasi.inherited import of_systemd

#: How long to wait before checking whether main does anything, in seconds.
_IDLE_SECONDS = 2.0
#: A main that only waits for calls has no more goroutines than this, with those of the guest package.
_FEW_GOROUTINES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_module(parser)
    add_build_options(parser)
    add_run_options(parser)
    add_service_options(parser)
    add_option(parser, "--simulate", OpenOptions, "simulate", type=parse_count_or_zero, metavar="SEED")
    parser.set_defaults(no_calls=True)


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    sockets, names = of_systemd()
    arguments.listen = [*(f"fd:{number}" for number in sockets), *arguments.listen]  # so their numbers are systemd's
    if names:
        arguments.env = [f"LISTEN_FDNAMES={names}", *arguments.env]
    with forwarded(), open_or_supervise(arguments, terminal) as app:
        if app.loaded.entry != "_start":
            if app.loaded.foreign:
                raise ModuleError(f"{arguments.module} has no main (_start), so there is nothing to run. Call its "
                                  f"exports: gothreads call")
            raise ModuleError(f"{arguments.module} was built without main (--buildmode c-shared), so there is nothing "
                              "to run. Build it with --buildmode exe, or call its exports: gothreads call")
        with lines_ended(app, terminal, stdout_is_shown=os.isatty(1)):
            return aside(lambda: _wait(app, arguments.module, terminal))


def _wait(app: App | Supervised, module: str, terminal: Terminal) -> int:
    """Wait for main to end. If main only waits for calls, as `gothreads serve` expects, say so once."""
    with contextlib.suppress(TimeoutError):
        return _ended(app, app.wait(_IDLE_SECONDS), terminal)
    for address in app._not_taken_up:
        terminal.say(f"the program does not listen on {address} yet: until it does, connections wait")
    with contextlib.suppress(TimeoutError, GothreadsError):
        if app.loaded.threaded and not app.loaded.foreign and _only_to_be_called(app):
            terminal.say(f"main only waits (select {{}}). To call the module's exports and handlers: gothreads serve "
                         f"{module}")
    return _ended(app, app.wait(), terminal)


def _ended(app: App | Supervised, code: int, terminal: Terminal) -> int:
    """Returns the exit code, after adding advice that Go itself cannot give."""
    if isinstance(app.error, GuestError) and app.error.hint:
        terminal.error(app.error.hint)
    return code


def _only_to_be_called(app: App | Supervised) -> bool:
    """Whether main waits for ever and is the only goroutine (apart from the guest package's).

    Go stops the world to print all stacks: for a second, in a server with thousands of goroutines. So they are counted
    first, which stops nothing.
    """
    go = app.statistics().go
    if go is None or go.goroutines > _FEW_GOROUTINES:
        return False
    own = [goroutine for goroutine in app.goroutines(_IDLE_SECONDS)
           if "created by gothreads/guest." not in goroutine.stack]
    return [goroutine.state.partition(",")[0] for goroutine in own] == ["select (no cases)"]


RUN = Command("run", "run a program to its end; the exit code is the program's", """\
  gothreads run app.wasm ARG…
  gothreads run --procs 4 --mount ./data:/data:ro ./app -v /data
  gothreads run --listen 127.0.0.1:8080 --allow-net api.example.org:443 ./app
  gothreads run --simulate 7 ./app
  gothreads run --stall-timeout 10 --on-stall exit ./app""", add_arguments, run, own_arguments=1)
