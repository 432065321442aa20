"""Gives the functions of a module fast bodies, with the Go program optimizer_go (its package fast says how).

The program is compiled on first use, with the user's Go and for this machine. It uses only Go's standard library.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gothreads.build.go_command import compiling
from gothreads.errors import BuildError
from gothreads.files import cache_key, is_kept, make_folder, seal
from gothreads.output.progress import OPTIMIZE, TOOLS, reporting

SOURCE = Path(__file__).parent / "optimizer_go"
Passes = Literal["fast", "rewrite"]


def optimized(go: Path, module: bytes, cache: Path, passes: Passes = "fast", *, baseline: bool = False) -> bytes:
    """The module, optimized.

    go: the go command.
    cache: a folder for the compiled optimizer, created if missing. Threads and processes may share it.
    passes: "fast" for fast bodies; "rewrite" only writes each function anew, which tests the optimizer.
    baseline: use no instructions for vectors (SIMD), which an engine may lack.

    Raises BuildError when Go's linker did not make the module, or when the optimizer cannot be compiled or run.
    """
    program = compiled(go, cache)
    with tempfile.TemporaryDirectory(prefix="gothreads-") as folder:
        source, target = Path(folder, "module.wasm"), Path(folder, "optimized.wasm")
        source.write_bytes(module)
        options = ["-baseline"] if baseline else []
        _run([program, "-passes", passes, *options, "-progress", "-o", target, source])
        return target.read_bytes()


@functools.cache
def identity() -> str:
    """A hash that changes whenever the optimizer changes."""
    files = sorted(path for path in SOURCE.rglob("*") if path.suffix in (".go", ".mod")
                   and not path.name.endswith("_test.go") and "testdata" not in path.parts)
    return cache_key(*(part for file in files for part in (str(file.relative_to(SOURCE)), file.read_bytes())))


def by_default() -> bool:
    """Whether modules are optimized when nobody says so: GOTHREADS_OPTIMIZE=1."""
    return os.environ.get("GOTHREADS_OPTIMIZE") == "1"


def compiled(go: Path, cache: Path) -> Path:
    """The optimizer's program, built unless it is in the cache."""
    program = cache.absolute() / f"optimizer-{platform.machine()}-{identity()}"
    if not is_kept(program):
        make_folder(program.parent, BuildError)
        # Several processes may build it at the same time: each uses its own folder, and the last to finish wins.
        with tempfile.TemporaryDirectory(dir=program.parent, prefix="optimizer-") as folder:
            built = Path(folder) / program.name
            # No VCS stamp: git may refuse the folder in which this package is installed, which would fail the build.
            done = compiling([go, "build", "-v", "-trimpath", "-buildvcs=false", "-o", built, "."], work=SOURCE,
                             environment=native_environment(), stage=TOOLS)
            if done.returncode:
                raise BuildError(f"{go} cannot build the optimizer:\n{done.messages.strip()}")
            built.replace(program)
        seal(program)
    return program


def native_environment() -> dict[str, str]:
    """The environment in which go builds for this machine, whatever the user's settings are."""
    env = {key: value for key, value in os.environ.items() if key not in ("GOOS", "GOARCH", "GOEXPERIMENT")}
    # GOENV=off: otherwise settings saved by `go env -w` would apply to the variables that are unset or empty here.
    return env | {"GOENV": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}


def _run(command: Sequence[str | Path]) -> None:
    """Run the optimizer, which prints its progress: lines of two numbers. BuildError when it fails."""
    with (tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors, reporting(OPTIMIZE) as report,
          subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                done, total = map(int, line.split())
                report(done, total)
        except BaseException:
            process.kill()
            raise
        if process.wait():
            errors.seek(0)
            reason = errors.read().strip().removeprefix(f"optimizer: {command[-1]}: ")
            raise BuildError(f"cannot optimize the module: {reason}")
