"""Reads the signatures of exported and imported functions from Go source, with Go's own parser.

The parser is in a small Go program, signatures_go, which is compiled for the host machine on first use.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.go_programs import compiled, run
from gothreads.errors import BuildError
from gothreads.files import reason
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
        found = json.loads(run([compiled(go, _SOURCE, cache), *sources]))
        return Signatures(tuple(map(Signature.from_json, found["exports"])), tuple(map(ImportSignature.from_json, found["imports"])))
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        raise BuildError(f"cannot read the signatures of exported and imported functions: {file}{reason(error)}") from error
