"""`gothreads test`: runs `go test` in WebAssembly on threads.

It runs Go's own command, with the overlay, and with `gothreads go-exec` as -exec. So flags, output and exit codes are
Go's.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.builder import go_environment
from gothreads.build.guest import guest_folder
from gothreads.build.overlay import write_overlay
from gothreads.build.toolchain import find_go
from gothreads.cli.command import RawCommand
from gothreads.cli.values import parse_seed
from gothreads.errors import MisuseError
from gothreads.files import cache_folder
from gothreads.wasm.metadata import BUILD_MODELS, THREADED
from gothreads.wasm.passes.sharpen import check_model

_USAGE = """usage: gothreads test [--model threaded|single] [--no-preemption] [--sharpen SEED] [--optimize]
                      [--go PATH] [PACKAGES] [GO TEST FLAGS]

Runs `go test`, with the tests compiled to WebAssembly and run on many threads. Tests see this machine's files,
environment and network, as usual: run only code that you trust.

options (all others are go test's):
  --model single     stock Go, on one thread, to compare with
  --no-preemption    no checks in loops: tight loops run faster, but delay garbage collection
  --sharpen SEED     delay atomics, locks and wake-ups at random, to expose races
  --optimize         with optimized code, as gothreads build --optimize makes it
  --go PATH          the go command to use

examples:
  gothreads test ./...
  gothreads test -run TestServer -v -count 3 -cpu 1,2,4 ./server
  gothreads test sync sync/atomic
"""

#: The linker flag that keeps function names.
_NAMES = "-s=false"

#: Flags of go test that Go does not support for WebAssembly -> what to do instead.
_NOT_HERE = {
    "-race": "find races natively, with `go test -race`; `gothreads test --sharpen SEED` makes them show more often "
             "here",
    "-fuzz": "fuzz natively, with `go test -fuzz`; `gothreads test` then runs what was found, in testdata/fuzz",
    "-msan": "use it natively, with `go test -msan`",
    "-asan": "use it natively, with `go test -asan`",
}


@dataclass(frozen=True)
class TestOptions:
    """Our options on a `gothreads test` command line; `rest` is for go test."""

    model: str
    preemption: bool
    go: str | None
    rest: tuple[str, ...]
    sharpen: int | None = None
    optimize: bool = False


def options(argv: Sequence[str]) -> TestOptions:
    """Extract our options from the command line. Whatever follows -args belongs to the test."""
    ours = {"--model": THREADED, "--go": None, "--sharpen": None}
    preemption, optimize, rest = True, False, []
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
        elif name in ("-exec", "--exec", "-overlay", "--overlay"):
            raise MisuseError(f"gothreads test sets {name} itself")
        elif (flag := f"-{name.lstrip('-')}") in _NOT_HERE and name.startswith("-") and value != "false":
            raise MisuseError(f"Go has no {flag} for WebAssembly: {_NOT_HERE[flag]} (docs/what-works.md)")
        else:
            rest.append(word)
    if ours["--model"] not in BUILD_MODELS:
        raise MisuseError(f"there is no model {ours['--model']!r}; there are: {', '.join(BUILD_MODELS)}")
    seed = parse_seed(ours["--sharpen"])
    if seed is not None:
        check_model(str(ours["--model"]))
    return TestOptions(str(ours["--model"]), preemption, ours["--go"], tuple(rest), seed, optimize)


def command(chosen: TestOptions) -> tuple[list[str], dict[str, str]]:
    """The go test command, and its environment."""
    toolchain = find_go(chosen.go)
    overlay = write_overlay(toolchain, cache_folder(), threaded=chosen.model == THREADED,
                            guest=guest_folder(Path.cwd()), testing=True)
    rewritten = [] if chosen.sharpen is None else ["--sharpen", str(chosen.sharpen)]
    if chosen.optimize:
        rewritten.append("--optimize")
    run = shlex.join([sys.executable, "-m", "gothreads", "go-exec", *rewritten])
    environment = go_environment(chosen.model, preemption=chosen.preemption)
    return [str(toolchain.go), "test", "-overlay", str(overlay), "-exec", run, *_keep_names(chosen.rest)], environment


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
    arguments, environment = command(options(argv))
    with subprocess.Popen(arguments, env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # go test has received it too, and ends by itself
                process.send_signal(signal.SIGINT)


TEST = RawCommand("test", "run go test on many threads", _USAGE, run)
