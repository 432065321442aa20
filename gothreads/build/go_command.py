"""Runs go commands that compile packages, which takes long, and reports how many they have compiled."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gothreads.output.progress import BUILD, reporting

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
    with (tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as out, reporting(stage) as report,
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
