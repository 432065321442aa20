"""Builds the program of the workloads: with threads, stock, and natively where there is a C compiler."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import Toolchain
from gothreads.errors import BuildError, CompileError
from gothreads.files import cache_folder, cache_key, is_kept, keep, locked
from gothreads.output.progress import WAIT, timed

#: The Go program that comes with gothreads.
SOURCE = Path(__file__).parent / "workloads"


@dataclass(frozen=True)
class Programs:
    """The path of each build. `native` is None when there is none, and `no_native` says why; `exports`: the number of
    arguments of each.
    """

    threaded: Path
    single: Path
    native: Path | None
    no_native: str | None
    exports: dict[str, int]
    go: str

    def to_json(self) -> dict[str, Any]:
        return {"threaded": str(self.threaded), "single": str(self.single),
                "native": None if self.native is None else str(self.native),
                "no_native": self.no_native, "exports": self.exports, "go": self.go}

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Programs:
        native = about["native"]
        return cls(Path(about["threaded"]), Path(about["single"]), None if native is None else Path(native),
                   about["no_native"], about["exports"], about["go"])


def build_programs(go: str | None = None, source: Path = SOURCE, *, native: bool = True) -> Programs:
    """Makes all builds. BuildError, CompileError, ToolchainError; a native build that fails is only recorded."""
    threaded = build(Request(str(source), "threaded", go=go))
    single = build(Request(str(source), "single", go=go))
    exports = {signature.name: len(signature.params) for signature in threaded.metadata.exports}
    library, why = None, None if native else "it was not asked for"
    if native:
        try:
            library = build_native(threaded.toolchain, source)
        except BuildError as error:
            why = getattr(error, "message", str(error))
    return Programs(threaded.path, single.path, library, why, exports, threaded.toolchain.version)


def build_native(toolchain: Toolchain, source: Path = SOURCE) -> Path:
    """The program as a C library, from the cache if possible. BuildError without a C compiler; CompileError."""
    environment = os.environ | {"CGO_ENABLED": "1", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    for name in ("GOOS", "GOARCH", "GOROOT"):
        environment.pop(name, None)
    compiler = subprocess.run([str(toolchain.go), "env", "CC"], capture_output=True, text=True,
                              env=environment).stdout.strip()
    command = (shlex.split(compiler) or ["gcc"])[0]
    if shutil.which(command) is None:
        raise BuildError(f"there is no C compiler ({command}), which cgo needs")
    sources = (part for path in sorted((*source.glob("*.go"), source / "go.mod"))
               for part in (path.name, path.read_bytes()))
    folder = cache_folder() / "compare"
    folder.mkdir(exist_ok=True)
    library = folder / f"{cache_key(toolchain.version, compiler, *sources)}.so"
    with locked(folder / "lock", timed(WAIT, None)):
        if not is_kept(library):
            made = folder / "made.so"
            done = subprocess.run([str(toolchain.go), "build", "-buildmode=c-shared", "-o", str(made), "."], cwd=source,
                                  env=environment, capture_output=True, text=True)
            if done.returncode:
                raise CompileError("go build -buildmode=c-shared failed", done.stderr)
            keep(library, made.read_bytes())
            made.unlink()
            (folder / "made.h").unlink(missing_ok=True)
    return library
