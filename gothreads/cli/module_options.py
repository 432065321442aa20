"""The options of the commands that open a module (run, call, serve), and how they open it."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

from gothreads.bridge.host_registry import load_host
from gothreads.cli.aside import aside
from gothreads.cli.values import (
    parse_count,
    parse_environment,
    parse_environment_files,
    parse_limits,
    parse_mount,
    parse_seconds,
    parse_trust,
)
from gothreads.errors import GothreadsError, MisuseError, NotCallable
from gothreads.launch import LoadedOptions, find, open_loaded
from gothreads.output.terminal import Terminal, Verbosity
from gothreads.runtime.app import App
from gothreads.runtime.keywords import definition
from gothreads.runtime.models import MODELS
from gothreads.runtime.module_file import LoadedModule
from gothreads.runtime.options import OpenOptions
from gothreads.supervise.app import Supervised
from gothreads.supervise.options import RestartOptions, restart_policy
from gothreads.supervise.restarts import Restart
from gothreads.wasi.settings import Mount
from gothreads.wasm.metadata import BUILD_MODELS

#: How long requests wait for a new instance, in seconds, before they get 503.
DOWN_SECONDS = 10.0


def add_module(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE", help="a module, or a Go package, which is built first")
    parser.add_argument("args", nargs="*", default=[], metavar="ARG",
                        help="everything after the module is passed to it, options too")


def add_option(parser: argparse.ArgumentParser, flag: str, options: type, name: str, *, more: str = "",
               **settings: Any) -> None:
    """Add a flag that stands for an option of `open` or `supervise`, with the help and default from its definition.

    more: what to add to the help about this flag. settings: for add_argument.
    """
    option = definition(options)[name]
    if isinstance(option.default, str | int | float):
        settings["default"] = option.default
        if option.default is not False:
            more += f" (default: %(default){'g' if isinstance(option.default, float) else 's'})"
    elif settings.get("action") == "append":
        settings["default"] = []
    parser.add_argument(flag, help=option.phrase + more, **settings)


def add_build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=BUILD_MODELS, help="the model to build a package for (default: threaded)")
    add_package_options(parser)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--model", OpenOptions, "model", choices=MODELS)
    add_option(parser, "--instances", OpenOptions, "instances", type=parse_count, metavar="N")
    add_package_options(parser)


def add_go(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--go", OpenOptions, "go", metavar="PATH")


def add_package_options(parser: argparse.ArgumentParser) -> None:
    add_go(parser)
    add_option(parser, "--optimize", OpenOptions, "optimize", action="store_true")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--procs", OpenOptions, "procs", type=parse_count, metavar="N")
    add_option(parser, "--env", OpenOptions, "env", action="append", metavar="NAME[=VALUE]",
               more=": set one; without =VALUE, to its value here")
    parser.add_argument("--env-file", action="append", default=[], metavar="FILE",
                        help="read such lines from a file, as docker does: # begins a comment, quotes are kept; --env "
                             "takes precedence")
    add_option(parser, "--mount", OpenOptions, "mounts", action="append", metavar="HOST:GUEST[:ro]",
               more=": the folder HOST under the path GUEST; with :ro, only to read (also a file); :rw is the default")
    parser.add_argument("--no-mount-args", action="store_true",
                        help="do not let the module read files and folders that its arguments name")
    add_option(parser, "--allow-net", OpenOptions, "allow_net", action="append", metavar="HOST:PORT")
    add_option(parser, "--python", OpenOptions, "host", metavar="FILE",
               more=", and its handlers, from a Python file with `host = gothreads.Host()`")
    parser.add_argument("--memory", metavar="SIZE",
                        help="short for --limit memory=SIZE, such as 512M (default: 3.75G, the maximum)")
    add_option(parser, "--limit", OpenOptions, "limits", action="append", metavar="NAME=N",
               more=": memory, stack (of each thread) or output, such as output=10M; threads; files (open at once); "
               "seconds (of running time, with --restart of each instance)")
    add_option(parser, "--trust", OpenOptions, "trust", metavar="DIGEST", type=parse_trust, more="; any: of any file")
    add_option(parser, "--perf", OpenOptions, "perf", action="store_true")


def add_service_options(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--listen", OpenOptions, "listen", action="append", metavar="HOST:PORT")
    add_option(parser, "--stall-timeout", OpenOptions, "stall_timeout", type=parse_seconds, metavar="S")
    add_option(parser, "--on-stall", OpenOptions, "on_stall", choices=("report", "exit"), more=" with exit code 2")
    option = definition(RestartOptions)["restart"]  # not add_option: the flag alone stands for the default
    parser.add_argument("--restart", nargs="?", const=option.default, choices=("on-failure", "always"),
                        help=f"{option.phrase}. There is a pause before each restart, which grows from 0.1 to 30 s "
                        "(default: never; without a value: on-failure)")


def raise_file_limit() -> None:
    """Raise the soft limit on open files, as Go programs do at start: the soft limit is for users of select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_module(arguments: argparse.Namespace, terminal: Terminal, **own: Unpack[LoadedOptions]) -> App:
    """Open the module. `own`: the command's own options, besides those that the user has given."""
    loaded, options = _options(arguments, terminal, own)
    return aside(lambda: open_loaded(loaded, **options))


@contextlib.contextmanager
def lines_ended(app: App | Supervised, terminal: Terminal, *, stdout_is_shown: bool) -> Iterator[None]:
    """Context for what the module does: the message about an error begins on a line of its own.

    stdout_is_shown: whether the module's standard output is where messages are.
    """
    try:
        yield
    except GothreadsError:
        tails = [] if isinstance(app, Supervised) else app._tails()[0 if stdout_is_shown else 1:]
        if any(tail and not tail.endswith("\n") for tail in tails):
            terminal.raw("\n")
        raise


def open_or_supervise(arguments: argparse.Namespace, terminal: Terminal,
                      **own: Unpack[LoadedOptions]) -> App | Supervised:
    """Open the module, under supervision with --restart."""
    if arguments.restart is None:
        return open_module(arguments, terminal, **own)
    loaded, options = _options(arguments, terminal, own)

    def tell(restart: Restart) -> None:
        terminal.say(str(restart))
    given = RestartOptions(restart=arguments.restart, wait_timeout=DOWN_SECONDS, on_restart=tell)
    if "while_down" in arguments:  # serve
        given |= RestartOptions(while_down=arguments.while_down, save_every=arguments.save_every)
    policy = restart_policy(given, arguments.model)
    return aside(lambda: Supervised(loaded, options, policy))


def _options(arguments: argparse.Namespace, terminal: Terminal,
             own: LoadedOptions) -> tuple[LoadedModule, LoadedOptions]:
    """The module, and its options for open_loaded."""
    model = arguments.model
    if arguments.go:
        os.environ["GOTHREADS_GO"] = arguments.go
    # To run its main in stock Go, a package must be built as a program.
    loaded = find(arguments.module, model=model, trust=arguments.trust, optimize=arguments.optimize,
                  buildmode="exe" if model == "single" and arguments.no_calls else None,
                  simulate=getattr(arguments, "simulate", None) is not None)
    terminal.clear()
    if not arguments.no_calls:
        check_takes_calls(loaded, arguments.module, listens=bool(getattr(arguments, "listen", ())))
    env = parse_environment_files(arguments.env_file) | parse_environment(arguments.env)
    mounts = [parse_mount(text) for text in arguments.mount]
    folder = env.setdefault("PWD", working_folder(mounts))
    if not arguments.no_mount_args:
        mounts += argument_mounts(arguments.args, folder, mounts, terminal)
    for text in (*arguments.args, *env.values()):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise MisuseError(f"{text!r} is not UTF-8, as arguments and environment of a module must be")
    limits = parse_limits(arguments.memory, arguments.limit)
    host = load_host(arguments.python) if arguments.python else None
    raise_file_limit()
    options = LoadedOptions(args=arguments.args, env=env, mounts=mounts, procs=arguments.procs, limits=limits,
                            allow_net=arguments.allow_net, model=model, host=host, no_calls=arguments.no_calls,
                            main_calls=False, perf=arguments.perf)
    if terminal.verbosity is not Verbosity.VERBOSE:
        options["instead_of_stacks"] = "(-v shows more stacks)"
    if "simulate" in arguments:  # run
        options["simulate"] = arguments.simulate
    if "instances" in arguments:  # not run
        options["instances"] = arguments.instances
    if "listen" in arguments:  # not call
        options |= LoadedOptions(listen=arguments.listen, stall_timeout=arguments.stall_timeout,
                                 on_stall=arguments.on_stall)
    return loaded, options | own


def check_takes_calls(loaded: LoadedModule, module: str, *, listens: bool) -> None:
    """NotCallable if there is nothing in the module that a command could call.

    listens: whether others reach the program by itself (`serve --listen`). Then it need not have anything else.
    """
    if not loaded.takes_calls:
        why = "" if loaded.foreign else " on one thread (build it with --model threaded, or --buildmode c-shared)"
        raise NotCallable(f"{module} is a program, which takes no calls{why}. Run it: gothreads run {module}")
    if not (listens or loaded.foreign or loaded.exports or loaded.has_typed or loaded.has_messages):
        raise NotCallable(f"{module} has no exports (//go:wasmexport, //gothreads:export) and no handlers "
                          "(guest.Handle), which `gothreads serve` offers over HTTP and `gothreads call` calls. To run "
                          "its main, as a server that listens by itself: gothreads run --listen 127.0.0.1:8080 "
                          f"{module} (serve takes --listen, too, and adds probes, metrics and --watch)")


def working_folder(mounts: Sequence[Mount]) -> str:
    """The module's working folder: where it sees the one that we are in; if it is not mounted, under its own path."""
    here = Path.cwd()
    seen = [Path(mount.guest, here.relative_to(host)) for mount in mounts
            if here.is_relative_to(host := mount.host.resolve())]
    return str(here if not seen or here in seen else seen[0])


def argument_mounts(args: Sequence[str], folder: str, mounts: Sequence[Mount], terminal: Terminal) -> list[Mount]:
    """Mounts, read-only, for files and folders that arguments name (FILE, or -flag=FILE), where the module looks.

    folder: the module's working folder.
    """
    names = [name for arg in args for name in (arg, _value(arg)) if name]
    named = {os.path.normpath(os.path.join("/", folder, name)): Path(os.path.abspath(name)) for name in names}
    found: list[Mount] = []
    for is_wanted in (os.path.isdir, os.path.isfile):  # folders first: they cover files
        found += [Mount(path, guest, read_only=True) for guest, path in named.items()
                  if is_wanted(path) and "/" not in (guest, str(path)) and not _covered(guest, [*mounts, *found])]
    for mount in found:
        if mount.host.is_dir():
            terminal.say(f"the module may read {mount.host}, but change nothing there (to allow that: --mount "
                         f"{shlex.quote(f'{mount.host}:{mount.guest}')}; to prevent reading: --no-mount-args)")
        else:
            terminal.say(f"the module may read {mount.host} (to prevent this: --no-mount-args)")
    return found


def _value(arg: str) -> str:
    """The value in an argument -flag=VALUE; else empty."""
    flag, _, value = arg.partition("=")
    return value if flag.startswith("-") else ""


def _covered(path: str, mounts: Sequence[Mount]) -> bool:
    """Whether a mount already covers this path in the module."""
    return any(Path(path).is_relative_to(mount.guest) for mount in mounts)
