"""Runs go commands that compile packages, which takes long, and reports how many they have compiled."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.request import Request
from gothreads.build.toolchain import Toolchain
from gothreads.output.progress import BUILD, reporting
from gothreads.wasm.metadata import THREADED

#: A line that -v prints.
_PACKAGE = re.compile(r"[\w.~-]+(/[\w.~@+-]+)*")


@dataclass(frozen=True)
class Finished:
    """What a go command has done. compiled: how many packages. messages: its standard error without their names."""

    returncode: int
    compiled: int
    stdout: str
    messages: str


def compiling(command: Sequence[str | Path], *, work: Path, environment: Mapping[str, str], packages: int | None = None,
              stage: str = BUILD) -> Finished:
    """Run a go command that has -v among its flags. packages: the most that it may compile, if that is known."""
    messages: list[str] = []
    compiled = 0
    with (tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as out,
          reporting(stage, (0, packages)) as report,
          subprocess.Popen(command, cwd=work, env=environment, stdout=out, stderr=subprocess.PIPE, text=True,
                           errors="replace") as process):
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if _PACKAGE.fullmatch(line.rstrip("\n")):
                    compiled += 1
                    report(compiled, packages)
                else:
                    messages.append(line)
        except BaseException:
            process.kill()
            raise
        returncode = process.wait()
        out.seek(0)
        return Finished(returncode, compiled, out.read(), "".join(messages))


@dataclass(frozen=True)
class GoCommand:
    """How to run go for a request: in the folder `work`."""

    toolchain: Toolchain
    request: Request
    work: Path
    environment: Mapping[str, str]


def go_environment(model: str, *, preemption: bool) -> dict[str, str]:
    """The environment for Go's tools: the current one, for WebAssembly. The user's Go experiments stay."""
    environment = dict(os.environ) | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    experiments = [e for e in environment.get("GOEXPERIMENT", "").split(",") if e]
    if model == THREADED and preemption:
        experiments.append("preemptibleloops")
    environment["GOEXPERIMENT"] = ",".join(dict.fromkeys(experiments))
    environment.pop("GOROOT", None)
    return environment
