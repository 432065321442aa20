"""`gothreads test`: runs `go test` in WebAssembly on threads.

It runs Go's own command, with the overlay, and with `gothreads go-exec` as -exec. So flags, output and exit codes are
Go's.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.go_command import go_environment
from gothreads.build.guest import guest_folder, in_workspace, module_root, named_in_copy
from gothreads.build.optimizer import by_default, identity
from gothreads.build.overlay import fingerprint, write_overlay
from gothreads.build.packages import check_flag
from gothreads.build.test_program import Rewriting
from gothreads.build.toolchain import find_go
from gothreads.cli.command import RawCommand
from gothreads.cli.go_progress import shown
from gothreads.cli.go_tools import Tools
from gothreads.cli.seeds import parse_seeds
from gothreads.cli.values import parse_seed
from gothreads.errors import MisuseError
from gothreads.files import cache_folder
from gothreads.version import __version__
from gothreads.wasm.metadata import BUILD_MODELS, SINGLE, THREADED
from gothreads.wasm.passes.sharpen import check_model

_USAGE = """usage: gothreads test [--model threaded|single] [--no-preemption] [--sharpen SEED] [--optimize]
                      [--simulate SEED | --seeds A..B] [--go PATH] [PACKAGES] [GO TEST FLAGS]

Runs `go test`, with the tests compiled to WebAssembly and run on many threads. Tests see this machine's files,
environment and network, as usual: run only code that you trust.

options (all others are go test's):
  --model single     stock Go, on one thread, to compare with
  --no-preemption    no checks in loops: tight loops run faster, but delay garbage collection
  --sharpen SEED     delay atomics, locks and wake-ups at random, to expose races
  --optimize         run optimized code, as gothreads build --optimize makes it
  --simulate SEED    stock Go, on one thread, where the seed decides about time, random numbers and what runs next: the
                     same seed gives the same run. When all goroutines wait for a timer, it expires at once; -timeout
                     is in that time (default: none)
  --seeds A..B       the same for each of these seeds, until a run fails; then print the seed, and the command that
                     repeats the run
  --go PATH          the go command to use

examples:
  gothreads test ./...
  gothreads test -run TestServer -v -count 3 -cpu 1,2,4 ./server
  gothreads test sync sync/atomic
  gothreads test --seeds 1..1000 -run TestCache ./...
  gothreads test --simulate 17 -run TestCache -v ./...
"""

#: The linker flag that keeps function names.
_NAMES = "-s=false"

#: Flags of go test that take no value, so the word after one of them may be a package.
_SWITCHES = frozenset(("-a", "-artifacts", "-benchmem", "-cover", "-failfast", "-fullpath", "-json", "-n", "-short",
                       "-trimpath", "-v", "-work", "-x"))


@dataclass(frozen=True)
class TestOptions:
    """Our options on a `gothreads test` command line; `rest` is for go test."""

    model: str
    preemption: bool
    go: str | None
    rest: tuple[str, ...]
    how: Rewriting
    seeds: range | None = None


def options(argv: Sequence[str]) -> TestOptions:
    """Extract our options from the command line. Whatever follows -args belongs to the test."""
    ours: dict[str, str | None] = dict.fromkeys(("--model", "--go", "--sharpen", "--simulate", "--seeds"))
    preemption, optimize, rest = True, by_default(), []
    left = list(argv)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if word in ("-args", "--args"):
            rest += [word, *left]
            break
        if name in ours:
            if not equals and not left:
                raise MisuseError(f"{name} needs a value")
            ours[name] = value if equals else left.pop(0)
        elif word == "--no-preemption":
            preemption = False
        elif word == "--optimize":
            optimize = True
        else:
            _check_flag(word)
            rest.append(word)
    seeds = _seeds(ours["--simulate"], ours["--seeds"])
    model = ours["--model"] or (SINGLE if seeds else THREADED)
    if model not in BUILD_MODELS:
        raise MisuseError(f"there is no model {model!r}; there are: {', '.join(BUILD_MODELS)}")
    if seeds and model != SINGLE:
        raise MisuseError(f"only stock Go, on one thread, can be simulated, not the model {model}")
    seed = parse_seed(ours["--sharpen"])
    if seed is not None:
        check_model(model)
    return TestOptions(model, preemption, ours["--go"], tuple(rest), Rewriting(seed, optimize), seeds)


def _seeds(one: str | None, several: str | None) -> range | None:
    if one is not None and several is not None:
        raise MisuseError("--simulate is for one seed, and --seeds for several: leave out one of them")
    if one is not None and ".." in one:
        raise MisuseError(f"--simulate is for one seed. For several: --seeds {one}")
    return parse_seeds("--seeds", several) if one is None else parse_seeds("--simulate", one)


def _check_flag(word: str) -> None:
    """MisuseError for a flag of go test that cannot be passed on."""
    name = word.partition("=")[0]
    flag = f"-{name.lstrip('-')}"
    if not name.startswith("-"):
        return
    if flag in ("-exec", "-overlay"):
        raise MisuseError(f"gothreads test sets {name} itself")
    if name in ("-model", "-go", "-sharpen", "-no-preemption", "-optimize", "-simulate", "-seeds"):
        raise MisuseError(f"go test has no {word}. Did you mean -{word}, of gothreads?")
    check_flag(word, "test")


def command(chosen: TestOptions, folder: Path | None = None,
            tools: Tools | None = None) -> tuple[list[str], dict[str, str]]:
    """The go test command, and its environment.

    folder: an empty folder for files that vet needs while it runs. tools: what runs Go's tools.
    """
    toolchain = find_go(chosen.go)
    rest = _named_as_folders(chosen.rest, toolchain.goroot / "src")
    work, rest = _in_their_module(rest)
    guest, more = guest_folder(work), [] if tools is None else [tools.flag]
    if folder is not None and not _has_flag(chosen.rest, "-modfile", "-mod"):
        modfile, guest = named_in_copy(work, folder) or (None, guest)
        more += [] if modfile is None else [f"-modfile={modfile}"]
    if chosen.seeds and not _has_flag(chosen.rest, "-timeout"):  # a timer: with one, there would be no deadlock
        more.append("-timeout=0")
    overlay = write_overlay(toolchain, cache_folder(), threaded=chosen.model == THREADED, guest=guest, testing=True,
                            simulate=chosen.seeds is not None)
    run = shlex.join([sys.executable, "-m", "gothreads", "go-exec", *chosen.how.flags,
                      *_seed_flags(chosen, tools), "--edition",
                      "-".join([__version__, fingerprint(), *([identity()] if chosen.how.optimize else ())])])
    environment = go_environment(chosen.model, preemption=chosen.preemption)
    there = [] if work == Path.cwd() else ["-C", str(work)]  # must be the first flag
    return [str(toolchain.go), "test", *there, "-overlay", str(overlay), "-exec", run, *more,
            *_keep_names(rest)], environment


def _seed_flags(chosen: TestOptions, tools: Tools | None) -> list[str]:
    """For `gothreads go-exec`."""
    if chosen.seeds is None:
        return []
    again = ["gothreads", "test", "--simulate", "{}", *([] if chosen.go is None else ["--go", chosen.go]),
             *(["--optimize"] if chosen.how.optimize and not by_default() else []), *chosen.rest]
    return ["--simulate", f"{chosen.seeds[0]}..{chosen.seeds[-1]}",
            "--again", " ".join(word if word == "{}" else shlex.quote(word) for word in again),
            *([] if tools is None else ["--notes", str(tools.log)])]


def _named_as_folders(rest: Sequence[str], library: Path) -> list[str]:
    """Write ./ before packages that name a folder here, as the other commands understand them. For Go, such a name is
    an import path. Packages of Go's standard library, whose folder is given, stay.
    """
    words = list(rest)
    for place in _packages(rest):
        if _has_go(words[place]) and not os.path.isdir(library / words[place]):
            words[place] = f"./{words[place]}"
    return words


def _packages(words: Sequence[str]) -> list[int]:
    """The places of the words that are packages."""
    places, may_be_package = [], True
    for place, word in enumerate(words):
        if word in ("-args", "--args"):
            break
        if word.startswith("-"):
            may_be_package = "=" in word or f"-{word.lstrip('-')}" in _SWITCHES
        elif not may_be_package:  # the value of a flag
            may_be_package = True
        else:
            places.append(place)
    return places


def _in_their_module(words: Sequence[str]) -> tuple[Path, list[str]]:
    """Where to run go test, and its arguments there: if all packages are folders of one other module, in that.

    As for the other commands. Go itself knows only the module of the folder that it runs in, and a workspace's.
    """
    here, places = Path.cwd(), _packages(words)
    folders = [Path(os.path.abspath(words[place].removesuffix("..."))) for place in places]
    roots = {module_root(folder) for folder in folders if folder.is_dir()}
    named = all(words[place].startswith((".", "/")) for place in places)
    if not (named and len(roots) == 1 and all(map(Path.is_dir, folders))) or in_workspace(here):
        return here, list(words)
    (root,) = roots
    if root is None or root == module_root(here):
        return here, list(words)
    there = list(words)
    for place, folder in zip(places, folders, strict=True):
        there[place] = "." if folder == root else f"./{os.path.relpath(folder, root)}"
        there[place] += "/..." if words[place].endswith("...") else ""
    for place, word in enumerate(words):  # files are still named from here
        if words[place - 1:place] in (["-o"], ["--o"]):
            there[place] = os.path.abspath(word)
    if not _has_flag(words, "-outputdir"):  # of profiles; the flag alone changes nothing
        there.insert(0, f"-outputdir={here}")
    return root, there


def _has_go(word: str) -> bool:
    """Whether a word is a folder with Go files in it, and does not look like a path yet."""
    return (not word.startswith((".", "/")) and os.path.isdir(word)
            and any(name.endswith(".go") for name in os.listdir(word)))


def _has_flag(rest: Sequence[str], *names: str) -> bool:
    """Whether go test is given one of these flags, on the command line or in GOFLAGS."""
    words = [*rest[:rest.index("-args")]] if "-args" in rest else [*rest]
    flags = [word for word in (*words, *os.environ.get("GOFLAGS", "").split()) if word.startswith("-")]
    return any(f"-{flag.lstrip('-').partition('=')[0]}" in names for flag in flags)


def _keep_names(rest: Sequence[str]) -> list[str]:
    """Keep names, which the rewrite needs: put -s=false before the user's -ldflags, since go test links with -s."""
    words = list(rest)
    for place, word in enumerate(words):
        if word in ("-args", "--args"):
            break
        name, equals, value = word.partition("=")
        if name in ("-ldflags", "--ldflags"):
            if equals:
                words[place] = f"-ldflags={_NAMES} {value}"
            elif place + 1 < len(words):
                words[place + 1] = f"{_NAMES} {words[place + 1]}"
            return words
    return [f"-ldflags={_NAMES}", *words]


def run(argv: Sequence[str]) -> int:
    """`gothreads test`; returns go test's exit code."""
    chosen = options(argv)
    with tempfile.TemporaryDirectory(prefix="gothreads-test-") as name:
        folder = Path(name)
        if _has_flag(chosen.rest, "-c", "-n", "-toolexec"):  # no test is run, or the user has a -toolexec
            return _finished(*command(chosen, folder))
        tools = Tools(folder, chosen.how)
        arguments, environment = command(chosen, folder, tools)
        with shown(tools) as (stdout, stderr):
            return _finished(arguments, environment, stdout, stderr)


def _finished(arguments: Sequence[str], environment: Mapping[str, str], stdout: int | None = None,
              stderr: int | None = None) -> int:
    with subprocess.Popen(arguments, env=environment, stdout=stdout, stderr=stderr) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # go test has received it too, and ends by itself
                process.send_signal(signal.SIGINT)


TEST = RawCommand("test", "run go test on many threads", _USAGE, run)
