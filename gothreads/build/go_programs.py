"""Compiles the Go programs that gothreads needs at build time, on first use, for this machine.

Their source is part of this package; they use nothing but Go's standard library.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gothreads.errors import BuildError
from gothreads.files import is_kept, make_folder, seal


def compiled(go: Path, source: Path, cache: Path) -> Path:
    """The program whose source is in a folder named NAME_go, built unless it is in the cache.

    go: the go command.
    cache: a folder, created if missing. Threads and processes may share it.
    """
    env = _native()
    identity = hashlib.sha256(run([go, "version"], env).encode())
    for file in sorted(path for path in source.rglob("*") if path.suffix in (".go", ".mod")):
        if not file.name.endswith("_test.go") and "testdata" not in file.parts:
            identity.update(file.read_bytes())
    name = source.name.removesuffix("_go")
    suffix = ".exe" if sys.platform == "win32" else ""
    program = cache.absolute() / f"{name}-{identity.hexdigest()[:16]}{suffix}"
    if not is_kept(program):
        make_folder(program.parent, BuildError)
        # Several processes may build it at the same time: each uses its own folder, and the last to finish wins.
        with tempfile.TemporaryDirectory(dir=program.parent, prefix=f"{name}-") as folder:
            built = Path(folder) / program.name
            # No VCS stamp: git may refuse the folder in which this package is installed, which would fail the build.
            run([go, "build", "-C", source, "-trimpath", "-buildvcs=false", "-o", built, "."], env)
            built.replace(program)
        seal(program)
    return program


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    """The command's standard output. Raises BuildError, with its standard error, when it fails."""
    done = subprocess.run(command, env=env, check=False, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise BuildError(f"{command[0]} failed:\n{done.stderr.strip()}")
    return done.stdout


def _native() -> dict[str, str]:
    """The environment in which go builds for this machine, whatever the user's settings are."""
    env = {key: value for key, value in os.environ.items() if key not in ("GOOS", "GOARCH", "GOEXPERIMENT")}
    # GOENV=off: otherwise settings saved by `go env -w` would apply to the variables that are unset or empty here.
    return env | {"GOENV": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
