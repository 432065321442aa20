"""`gothreads go-exec`: runs a program that Go has linked, as -exec of `go test` and `go run`.

The program sees the machine's files, the working directory, the environment and the network, as on other systems. This
is for running one's own code, not for sandboxing.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gothreads.build.optimizer import by_default
from gothreads.build.test_program import Rewriting, rewritten
from gothreads.cli.aside import aside
from gothreads.cli.command import RawCommand
from gothreads.cli.seeds import parse_seeds, search
from gothreads.cli.values import parse_seed
from gothreads.errors import GuestExit, MisuseError, ModuleError
from gothreads.files import reason
from gothreads.launch import open_loaded
from gothreads.runtime.module_file import LoadedModule, check_module
from gothreads.runtime.options import Limits
from gothreads.wasi.settings import Mount

_USAGE = """usage: gothreads go-exec [--sharpen SEED] [--optimize] [--simulate SEED|A..B] [--again COMMAND]
                         [--notes FILE] [--edition TEXT] FILE [ARGS…]

Runs a WebAssembly program that Go has linked, with this machine's files, environment and network: for -exec of go test
and go run. A program linked with gothreads' overlay runs on many threads.

options:
  --sharpen SEED  delay atomics, locks and wake-ups at random, to expose races
  --optimize      run optimized code, as gothreads build --optimize makes it
  --simulate SEED|A..B
                  the seed of the run, of a program that was linked for that; or run it once for each of these seeds,
                  until a run fails
  --again COMMAND how to say that one run should be repeated, with {} for its seed
  --notes FILE    where to note how many runs there were, for gothreads test
  --edition TEXT  is ignored: go test takes a result from its cache only if -exec is the same, so a changed TEXT
                  makes the tests run again

example:
  GOOS=wasip1 GOARCH=wasm go test -exec 'gothreads go-exec' ./...
"""

#: Go's own tests recurse deeper and use more threads than a service does.
LIMITS = Limits(stack=32 << 20, threads=2200)

#: Where a simulated program has its temporary files.
_TEMPORARY = "/gothreads-tmp"
#: A folder in which go test links and runs a test program.
_WORK = re.compile(r"/go-build\d+/b\d+$")
#: The first argument of every test program that go test runs.
_OF_GO_TEST = "-test.paniconexit0"
#: With any other argument after it, such as -test.count, go test does not cache the result.
_CACHEABLE = re.compile(r"-test\.(benchtime|coverprofile|cpu|failfast|fullpath|gocoverdir|list|outputdir|parallel|run"
                        r"|short|skip|timeout|v)=")


@dataclass(frozen=True)
class _Invocation:
    """What `gothreads go-exec` is to run."""

    file: Path
    args: list[str]
    how: Rewriting
    seeds: range | None = None


def run(argv: Sequence[str]) -> int:
    """Run a program; returns its exit code."""
    if not argv:
        print(_USAGE, file=sys.stderr)
        return 2
    options, how, rest = _parsed(argv)
    if not rest:
        raise MisuseError("gothreads go-exec needs a file")
    wanted = _Invocation(Path(rest[0]), rest[1:], how, parse_seeds("--simulate", options.get("--simulate")))
    loaded = load_linked(wanted.file, wanted.how)
    if wanted.seeds is None:
        with open_loaded(loaded, args=[*_test_log(wanted), *wanted.args], env=_environment(),
                         mounts=[Mount(Path("/"), "/")], allow_net=["*:*", "unix:*"], limits=LIMITS, callers=1,
                         no_calls=True, main_calls=False) as app:
            return aside(app.wait)
    if len(wanted.seeds) == 1:
        return _simulated(loaded, wanted.args, wanted.seeds[0])
    return search(wanted.seeds, lambda seed, output: _simulated(loaded, wanted.args, seed, output),
                  options.get("--again", "--simulate {}"), options.get("--notes", os.devnull))


def _environment() -> dict[str, str]:
    return dict(os.environ) | {"PWD": os.getcwd()}


def _simulated(loaded: LoadedModule, args: Sequence[str], seed: int, output: BinaryIO | None = None) -> int:
    """Run a program as this seed decides; returns its exit code.

    It has a folder of its own for temporary files: whether a name is free there depends on the seed only.
    """
    with tempfile.TemporaryDirectory(prefix="gothreads-simulated-") as folder:
        try:
            with open_loaded(loaded, args=args, env=_environment() | {"TMPDIR": _TEMPORARY},
                             mounts=[Mount(Path("/"), "/"), Mount(Path(folder), _TEMPORARY)], limits=LIMITS,
                             no_calls=True, main_calls=False, simulate=seed, stdout=output, stderr=output) as app:
                return aside(app.wait)
        except GuestExit as error:  # as early as that
            return error.code


def rewriting(argv: Sequence[str]) -> tuple[Rewriting, list[str]]:
    """How to rewrite the program, by the options that come first; then the other arguments."""
    _, how, rest = _parsed(argv)
    return how, rest


def _parsed(argv: Sequence[str]) -> tuple[dict[str, str], Rewriting, list[str]]:
    """The options that come first, how to rewrite the program by them, and the other arguments."""
    options: dict[str, str] = {}
    optimize, rest = by_default(), list(argv)
    while rest and rest[0] in ("--sharpen", "--edition", "--optimize", "--simulate", "--again", "--notes"):
        if rest[0] == "--optimize":
            optimize = True
            del rest[0]
            continue
        if len(rest) < 3:
            raise MisuseError(f"gothreads go-exec {rest[0]} needs a value and a file")
        options[rest[0]] = rest[1]
        del rest[:2]
    return options, Rewriting(parse_seed(options.get("--sharpen")), optimize), rest


def _test_log(wanted: _Invocation) -> list[str]:
    """The flag with which a test program lists the files and variables that it has read, where go test looks for it.

    go test caches a result under its inputs, and prints "(cached)" when they are unchanged. With -exec it does not give
    the flag, because the program may see other files. Here it sees the same.
    """
    folder = str(wanted.file.parent)
    if (wanted.args[:1] != [_OF_GO_TEST] or not _WORK.search(folder)
            or not all(map(_CACHEABLE.match, wanted.args[1:]))):
        return []
    return [f"-test.testlogfile={folder}/testlog.txt"]


def load_linked(path: Path, how: Rewriting) -> LoadedModule:
    """Load a program that Go has linked, or a module. A program that was linked with the overlay is rewritten first."""
    try:
        return check_module(path.name, rewritten(path.read_bytes(), how))
    except OSError as error:
        raise ModuleError(f"cannot read {path}: {reason(error)}") from None
    except ModuleError as error:
        raise ModuleError(f"{path}: {error}") from None


GO_EXEC = RawCommand("go-exec", "run a program that Go has linked (-exec of go test)", _USAGE, run, quiet=True)
