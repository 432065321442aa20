"""`gothreads profile`: takes profiles of a program that it runs, or of an app on a server."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gothreads.cli.aside import begin, waited
from gothreads.cli.command import Command
from gothreads.cli.module_options import (
    add_build_options,
    add_option,
    add_run_options,
    lines_ended,
    open_module,
)
from gothreads.cli.profile_sources import ServerSource, is_server, read_key
from gothreads.cli.values import parse_environment, parse_environment_files, parse_seconds
from gothreads.errors import GuestError, MisuseError
from gothreads.files import make_folder, reported, write_atomically
from gothreads.output.progress import timed
from gothreads.output.terminal import Terminal
from gothreads.profiles.profile import Profile
from gothreads.runtime.options import LoadedOptions, OpenOptions
from gothreads.runtime.profiler import KINDS

#: Takes a profile of a kind, for so many seconds; it ends early when the event is set.
Take = Callable[[str, float | None, threading.Event], Profile]

_KINDS = {
    "cpu": "which code runs, for S seconds (10)",
    "block": "where goroutines wait, for S seconds (10)",
    "mutex": "which code makes others wait for its locks, for S seconds (10)",
    "trace": "what the scheduler does, for S seconds (1), for go tool trace",
    "goroutine": "what each goroutine does now",
    "heap": "what is allocated; with S, what is in that time",
}
#: How many functions are shown.
_SHOWN = 10


@dataclass(frozen=True)
class _Wanted:
    """A profile to take. seconds: None: as long as is usual."""

    kind: str
    seconds: float | None

    @property
    def expected(self) -> float:
        return KINDS[self.kind].seconds if self.seconds is None else self.seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="FILE|PACKAGE|URL",
                        help="a program, which runs meanwhile: a module, or a Go package; the address of a server of "
                        "gothreads serve; or a profile (.pb.gz), of any Go program, to be shown")
    for kind, what in _KINDS.items():
        if kind == "goroutine":
            parser.add_argument("--goroutine", action="store_const", const=True, help=what)
        else:
            parser.add_argument(f"--{kind}", nargs="?", type=parse_seconds, const=True, metavar="S", help=what)
    parser.add_argument("-o", dest="output", default="profiles", metavar="DIR",
                        help="the folder for the files (default: %(default)s)")
    parser.add_argument("--key-file", metavar="FILE", help="of a server: a file with an API key of the right inspect")
    parser.add_argument("--app", default="", metavar="NAME", help="of a server of several apps: which one")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_build_options(parser)
    add_run_options(parser)
    add_option(parser, "--listen", OpenOptions, "listen", action="append", metavar="HOST:PORT")
    parser.set_defaults(no_calls=True, stall_timeout=None, on_stall="report")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    wanted = [_Wanted(kind, None if given is True else given) for kind in _KINDS
              if (given := getattr(arguments, kind)) is not None]
    wanted = wanted or [_Wanted("cpu", None)]
    folder, module = Path(arguments.output), arguments.module
    if module.endswith(".pb.gz"):
        shown = [(Profile.load(module), Path(module))]
        _write_graph(*shown[0])
    elif is_server(module):
        source = ServerSource(module, read_key(arguments.key_file), arguments.app)
        make_folder(folder)
        shown = _Session(source.take, folder, terminal).run(wanted, can_end_early=False)
    else:
        if arguments.app or arguments.key_file:
            raise MisuseError(f"--app and --key-file are for servers, such as http://127.0.0.1:8080, not for {module}")
        make_folder(folder)
        if any(each.kind == "heap" for each in wanted):
            arguments.env, arguments.env_file = _sampling(arguments.env, arguments.env_file), []
        with contextlib.ExitStack() as opened:
            own = LoadedOptions()
            if arguments.json:  # which is all that standard output gets
                own["stdout"] = opened.enter_context(open(2, "wb", buffering=0, closefd=False))
            app = opened.enter_context(open_module(arguments, terminal, **own))
            opened.enter_context(lines_ended(app, terminal, stdout_is_shown=True))

            def take(kind: str, seconds: float | None, stop: threading.Event) -> Profile:
                return app.profile(kind, seconds=seconds, stop=stop)
            shown = _Session(take, folder, terminal).run(wanted, can_end_early=True)
    _show(shown, terminal, as_json=arguments.json)
    return 0


def _sampling(settings: list[str], files: list[str]) -> list[str]:
    """The environment, with which Go samples allocations from the start, unless the program's own GODEBUG says how."""
    env = parse_environment_files(files) | parse_environment(settings)
    env["GODEBUG"] = ",".join(filter(None, ("memprofilerate=524288", env.get("GODEBUG"))))
    return [f"{name}={value}" for name, value in env.items()]


class _Session:
    """Takes profiles one after the other, since each disturbs the next, and writes each as soon as it is there."""

    def __init__(self, take: Take, folder: Path, terminal: Terminal) -> None:
        self._take, self._folder, self._terminal = take, folder, terminal
        self._stop = threading.Event()

    def run(self, wanted: list[_Wanted], *, can_end_early: bool) -> list[tuple[Profile, Path]]:
        """Ctrl-C ends the profile that is being taken early, if that is possible; the second one ends all."""
        taking = begin(lambda: list(self._all(wanted)))
        try:
            return waited(taking)
        except KeyboardInterrupt:
            self._stop.set()
            if not can_end_early:
                raise
            self._terminal.say("Ctrl-C: writing what there is (once more: not even that)")
            return waited(taking)

    def _all(self, wanted: list[_Wanted]) -> Iterator[tuple[Profile, Path]]:
        taken = False
        for each in wanted:
            if self._stop.is_set() and each.expected:
                continue
            try:
                profile = self._one(each)
            except GuestError as error:
                if not taken or error.code:
                    raise
                self._terminal.error(f"the program has ended, so there is no profile of the kind {each.kind}")
                continue
            taken = True
            path = self._folder / f"{each.kind}{profile.suffix}"
            profile.save(path)
            _write_graph(profile, path)
            yield profile, path

    def _one(self, wanted: _Wanted) -> Profile:
        with timed(f"profiling: {wanted.kind}", wanted.expected or None):
            return self._take(wanted.kind, wanted.expected or None, self._stop)  # servers have times of their own


def _graph_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".pb.gz") + ".svg")


def _write_graph(profile: Profile, path: Path) -> None:
    if profile.kind != "trace":
        with reported(f"write {_graph_of(path)}"):
            write_atomically(_graph_of(path), profile.flame_graph().encode(errors="replace"))


def _show(shown: list[tuple[Profile, Path]], terminal: Terminal, *, as_json: bool) -> None:
    terminal.clear()
    if as_json:
        terminal.data({"profiles": [_described(profile, path) for profile, path in shown]})
        return
    for number, (profile, path) in enumerate(shown):
        if number:
            terminal.out("")
        terminal.out(str(profile) if profile.kind == "trace" else profile.top(_SHOWN))
        if profile.kind == "trace":
            terminal.say(f"go tool trace {path}")
        else:
            terminal.say(f"{path}, for go tool pprof; {_graph_of(path)}, for a browser")


def _described(profile: Profile, path: Path) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": profile.kind, "file": str(path), "seconds": profile.seconds}
    if profile.kind == "trace":
        return about
    return about | {
        "flame_graph": str(_graph_of(path)), "note": profile.note, "value": profile.types[-1].name,
        "unit": profile.types[-1].unit, "total": profile.total,
        "functions": [row._asdict() for row in profile.functions()[:100]]}


PROFILE = Command("profile", "take profiles of a program, or of an app on a server", """\
  gothreads profile ./app                                   CPU, for 10 seconds or until the program ends
  gothreads profile ./app --cpu 30 --heap --trace -o out    several, one after the other
  gothreads profile ./app --cpu -- ARG…                     with arguments for the program
  gothreads profile http://127.0.0.1:8080 --goroutine       of an app of gothreads serve on this machine
  gothreads profile https://example.org --key-file key --app search --mutex 5
  gothreads profile cpu.pb.gz                               show a profile of any Go program, with its flame graph""",
                  add_arguments, run, passes_on_dashes="arguments of the program")
