"""`gothreads go-exec`: runs a program that Go has linked, as -exec of `go test` and `go run`.

The program sees the machine's files, the working directory, the environment and the network, as on other systems. This
is for running one's own code, not for sandboxing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gothreads.build.builder import finish
from gothreads.build.optimizer import by_default, optimized
from gothreads.build.toolchain import find_go
from gothreads.cli.aside import aside
from gothreads.cli.command import RawCommand
from gothreads.cli.values import parse_seed
from gothreads.errors import MisuseError, ModuleError, listed
from gothreads.files import cache_folder, reason
from gothreads.launch import open_loaded
from gothreads.runtime.module_file import LoadedModule, inspect_module
from gothreads.runtime.options import Limits
from gothreads.version import __version__
from gothreads.wasi.settings import Mount
from gothreads.wasm.metadata import SECTION, THREADED, Metadata
from gothreads.wasm.parsing import parse
from gothreads.wasm.undefined import callers_of_undefined

_USAGE = """usage: gothreads go-exec [--sharpen SEED] [--optimize] FILE [ARGS…]

Runs a WebAssembly program that Go has linked, with this machine's files, environment and network: for -exec of go test
and go run. A program linked with gothreads' overlay runs on many threads.

example:
  GOOS=wasip1 GOARCH=wasm go test -exec 'gothreads go-exec' ./...
"""

#: Go's own tests recurse deeper and use more threads than a service does.
_LIMITS = Limits(stack=32 << 20, threads=2200)


def run(argv: Sequence[str]) -> int:
    """Run a program; returns its exit code."""
    if not argv:
        print(_USAGE, file=sys.stderr)
        return 2
    settings, (file, *args) = _options(argv)
    with open_loaded(_load_linked(Path(file), settings), args=args, env=dict(os.environ) | {"PWD": os.getcwd()},
                     mounts=[Mount(Path("/"), "/")], allow_net=["*:*", "unix:*"], limits=_LIMITS, callers=1,
                     no_calls=True) as app:
        return aside(app.wait)


def _options(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """How to rewrite the program (as in its metadata); then the file and its arguments."""
    settings: dict[str, Any] = {"optimize": True} if by_default() else {}
    left = list(argv)
    while left[:1] in (["--sharpen"], ["--optimize"]):
        if left.pop(0) == "--optimize":
            settings["optimize"] = True
        elif len(left) < 2:
            raise MisuseError("gothreads go-exec --sharpen needs a seed and a file")
        else:
            settings["sharpen"] = parse_seed(left.pop(0))
    if not left:
        raise MisuseError("gothreads go-exec needs a file")
    return settings, left


def _load_linked(path: Path, settings: Mapping[str, Any]) -> LoadedModule:
    """Load a program that Go has linked, or a module. A program that was linked with the overlay is rewritten first."""
    try:
        content = path.read_bytes()
        module = parse(content)
        if module.custom(SECTION) is None and any(e.name == "gt_attach" for e in module.exports):
            if callers := callers_of_undefined(module):
                raise ModuleError("the program calls functions that are not defined (a //go:linkname to what is not "
                                  f"there?), in {listed(callers)}")
            metadata = Metadata(__version__, "go", THREADED, "exe", handlers=False, options=settings)
            module = finish(module, metadata, strip=False)
            content = module.encode()
        elif settings.get("optimize") and module.custom(SECTION) is None:
            content = optimized(find_go().go, content, cache_folder())
        return inspect_module(path.name, content)
    except OSError as error:
        raise ModuleError(f"cannot read {path}: {reason(error)}") from None
    except ModuleError as error:
        raise ModuleError(f"{path}: {error}") from None


GO_EXEC = RawCommand("go-exec", "run a program that Go has linked (-exec of go test)", _USAGE, run, quiet=True)
