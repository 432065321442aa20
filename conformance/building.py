"""Builds programs with Go's own command: for this machine, and for WebAssembly, stock and threaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from gothreads.build.go_command import go_environment
from gothreads.build.overlay import write_overlay
from gothreads.build.toolchain import Toolchain
from gothreads.errors import CompileError
from gothreads.files import cache_folder

#: The targets that a program is built for.
KINDS = ("native", "single", "threaded")


def environment(kind: str) -> dict[str, str]:
    """The environment for Go's tools."""
    if kind != "native":
        return go_environment(kind, preemption=True)
    inherited = {name: value for name, value in os.environ.items()
                 if name not in ("GOOS", "GOARCH", "GOEXPERIMENT", "GOROOT")}
    return inherited | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}


def build(toolchain: Toolchain, source: Path, output: Path, kind: str, left_out: tuple[Path, ...] = ()) -> Path:
    """Build the package in the folder `source`, without the files `left_out`. CompileError with Go's own output."""
    replace = {str(path): "" for path in left_out}
    if kind == "threaded":
        threaded = write_overlay(toolchain, cache_folder(), threaded=True, testing=True)
        replace |= json.loads(threaded.read_text())["Replace"]
    overlay = output.with_suffix(".overlay").absolute()
    overlay.write_text(json.dumps({"Replace": replace}))
    command = [str(toolchain.go), "build", "-overlay", str(overlay), "-o", str(output.absolute()), "."]
    done = subprocess.run(command, cwd=source, env=environment(kind), capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{source.name} does not build, {kind}", done.stderr)
    return output.absolute()


def runner(kind: str) -> list[str]:
    """The command that runs a program, to which its path is appended."""
    return [] if kind == "native" else [sys.executable, "-m", "gothreads", "go-exec"]
