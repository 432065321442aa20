"""`gothreads test`: runs `go test` in WebAssembly on threads, using Go's command with the overlay and our own -exec.

Flags, output and exit codes are Go's. A test sees the machine's files, the working directory and the environment, as
tests do on other systems: this is for running your own code, not for sandboxing that of others.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.builder import finish, go_environment
from gothreads.build.guest import guest_folder
from gothreads.build.overlay import write_overlay
from gothreads.build.toolchain import find_go
from gothreads.errors import MisuseError, ModuleError, listed
from gothreads.files import cache_folder
from gothreads.runtime.module_file import LoadedModule, inspect_module
from gothreads.runtime.options import Limits
from gothreads.version import __version__
from gothreads.wasi.definitions import Mount
from gothreads.wasm.metadata import MODELS, SECTION, Metadata
from gothreads.wasm.parsing import parse
from gothreads.wasm.passes.sharpen import check_model, check_seed
from gothreads.wasm.undefined import callers_of_undefined

TEST_HELP = """usage: gothreads test [--model threaded|single] [--no-preemption] [--sharpen SEED] [--go PATH] [PACKAGES] [GO TEST FLAGS]

Go's own `go test`, with the tests compiled to WebAssembly and run on many threads.

  --model single     stock Go, one thread: the baseline to compare with
  --no-preemption    no checks in loops
  --sharpen SEED     delay atomics, locks and wake-ups at random, so that races show

examples:
  gothreads test ./...
  gothreads test -run TestServer -v -count 3 -cpu 1,2,4 ./server
  gothreads test sync sync/atomic
"""

EXEC_HELP = """usage: gothreads go-exec [--sharpen SEED] FILE [ARGS…]

Run a WebAssembly program that Go has linked, with the machine's files and this environment: what go test and go run want as
-exec. A program linked with gothreads' overlay runs on threads.

example:
  GOOS=wasip1 GOARCH=wasm go test -exec 'gothreads go-exec' ./...
"""

#: Go's own tests recurse deeper and use more threads than a service does.
EXEC_LIMITS = Limits(stack=32 << 20, threads=2200)


_NAMES = "-s=false"

#: Flags of go test that Go does not support for WebAssembly -> what to do instead.
_NOT_HERE = {
    "-race": "find races natively, with `go test -race`; `gothreads test --sharpen SEED` makes them show more often here",
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


def options(argv: Sequence[str]) -> TestOptions:
    """Extract our options from the command line. Whatever follows -args belongs to the test."""
    ours = {"--model": "threaded", "--go": None, "--sharpen": None}
    preemption, rest = True, []
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
        elif name in ("-exec", "--exec", "-overlay", "--overlay"):
            raise MisuseError(f"gothreads test sets {name} itself")
        elif (flag := f"-{name.lstrip('-')}") in _NOT_HERE and name.startswith("-") and value != "false":
            raise MisuseError(f"Go has no {flag} for WebAssembly: {_NOT_HERE[flag]} (docs/what-works.md)")
        else:
            rest.append(word)
    if ours["--model"] not in MODELS:
        raise MisuseError(f"there is no model {ours['--model']!r}; there are: {', '.join(MODELS)}")
    seed = _seed(ours["--sharpen"])
    if seed is not None:
        check_model(str(ours["--model"]))
    return TestOptions(str(ours["--model"]), preemption, ours["--go"], tuple(rest), seed)


def exec_options(argv: Sequence[str]) -> tuple[int | None, list[str]]:
    """The --sharpen seed that a `gothreads go-exec` command line may begin with; then the file and its arguments."""
    if argv[:1] != ["--sharpen"]:
        return None, list(argv)
    if len(argv) < 3:
        raise MisuseError("gothreads go-exec --sharpen needs a seed and a file")
    return _seed(argv[1]), list(argv[2:])


def _seed(text: str | None) -> int | None:
    try:
        return None if text is None else check_seed(int(text))
    except ValueError:
        raise MisuseError(f"--sharpen needs a whole number, not {text!r}") from None


def command(chosen: TestOptions) -> tuple[list[str], dict[str, str]]:
    """The go test command, and its environment."""
    toolchain = find_go(chosen.go)
    overlay = write_overlay(toolchain, cache_folder(), threaded=chosen.model == "threaded", guest=guest_folder(Path.cwd()), testing=True)
    sharpened = [] if chosen.sharpen is None else ["--sharpen", str(chosen.sharpen)]
    run = shlex.join([sys.executable, "-m", "gothreads", "go-exec", *sharpened])
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


def test(argv: Sequence[str]) -> int:
    """`gothreads test`; returns go test's exit code."""
    arguments, environment = command(options(argv))
    with subprocess.Popen(arguments, env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # go test has received it too, and ends by itself
                process.send_signal(signal.SIGINT)


def load_linked(path: Path, sharpen: int | None = None) -> LoadedModule:
    """Load a program that Go has linked, or a module.

    A program that was linked with the overlay is rewritten first, and sharpened if there is a seed.
    """
    try:
        content = path.read_bytes()
        module = parse(content)
        if module.custom(SECTION) is None and any(e.name == "gt_attach" for e in module.exports):
            if callers := callers_of_undefined(module):
                raise ModuleError("the program calls functions that are not defined (a //go:linkname to what is not there?), "
                                  f"in {listed(callers)}")
            settings = {} if sharpen is None else {"sharpen": sharpen}
            metadata = Metadata(__version__, "go", "threaded", "exe", handlers=False, options=settings)
            module = finish(module, metadata, strip=False)
            content = module.encode()
        return inspect_module(path.name, content)
    except OSError as error:
        raise ModuleError(f"cannot read {path}: {error.strerror}") from None
    except ModuleError as error:
        raise ModuleError(f"{path}: {error}") from None


def machine_mounts() -> list[Mount]:
    """The machine's whole file system, under the same paths."""
    return [Mount(Path("/"), "/")]


def machine_environment() -> dict[str, str]:
    """This process's environment, with the working directory in PWD, where Go on WASI looks for it."""
    return dict(os.environ) | {"PWD": os.getcwd()}
