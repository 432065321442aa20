"""Reads the signatures of exported and imported functions from Go source, with Go's own parser.

The parser is in a small Go program, signatures_go, which is compiled for the host machine on first use.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gothreads.errors import BuildError
from gothreads.files import is_kept, make_folder, reason, seal
from gothreads.wasm.signature import ImportSignature, Signature

_SOURCE = Path(__file__).parent / "signatures_go"
_DIRECTIVES = (b"//go:wasmexport", b"//go:wasmimport")


@dataclass(frozen=True)
class Signatures:
    """The signatures of a program, sorted by name; imports by module first."""

    exports: tuple[Signature, ...] = ()
    imports: tuple[ImportSignature, ...] = ()


def read_signatures(go: Path, files: Sequence[Path], cache: Path) -> Signatures:
    """The signatures of the functions that a program exports to its host, or imports from it.

    go: the go command.
    files: the Go source files of the program's packages, as the build selects them.
    cache: a folder for the compiled reader, created if missing. Threads and processes may share it.

    Files that do not parse are skipped: the compiler reports them. Raises BuildError when a file cannot be
    read, or when the reader cannot be compiled or run.
    """
    try:
        folders = {file.parent for file in files if any(directive in file.read_bytes() for directive in _DIRECTIVES)}
        if not folders:
            return Signatures()
        # The other files of a package may declare the types that these functions use.
        sources = [str(file) for file in files if file.parent in folders]
        found = json.loads(_run([_reader(go, cache), *sources]))
        return Signatures(tuple(map(Signature.from_json, found["exports"])), tuple(map(ImportSignature.from_json, found["imports"])))
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        raise BuildError(f"cannot read the signatures of exported and imported functions: {file}{reason(error)}") from error


def _reader(go: Path, cache: Path) -> Path:
    """The compiled signatures_go, built unless it is in the cache."""
    env = _native()
    identity = hashlib.sha256(_run([go, "version"], env).encode())
    for source in sorted(path for path in _SOURCE.iterdir() if path.suffix in (".go", ".mod")):
        identity.update(source.read_bytes())
    suffix = ".exe" if sys.platform == "win32" else ""
    reader = cache.absolute() / f"signatures-{identity.hexdigest()[:16]}{suffix}"
    if not is_kept(reader):
        make_folder(reader.parent, BuildError)
        # Several processes may build it at the same time: each uses its own folder, and the last to finish wins.
        with tempfile.TemporaryDirectory(dir=reader.parent, prefix="signatures-") as folder:
            built = Path(folder) / reader.name
            # No VCS stamp: git may refuse the folder in which this package is installed, which would fail the build.
            _run([go, "build", "-C", _SOURCE, "-trimpath", "-buildvcs=false", "-o", built, "."], env)
            built.replace(reader)
        seal(reader)
    return reader


def _native() -> dict[str, str]:
    """The environment in which go builds for this machine, whatever the user's settings are."""
    env = {key: value for key, value in os.environ.items() if key not in ("GOOS", "GOARCH", "GOEXPERIMENT")}
    # GOENV=off: otherwise settings saved by `go env -w` would apply to the variables that are unset or empty here.
    return env | {"GOENV": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}


def _run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    """The command's standard output. Raises BuildError, with its standard error, when it fails."""
    done = subprocess.run(command, env=env, check=False, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise BuildError(f"{command[0]} failed:\n{done.stderr.strip()}")
    return done.stdout
