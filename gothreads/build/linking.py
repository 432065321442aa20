"""Compiles and links a program with Go's own toolchain: go list ─▶ typed functions ─▶ overlay ─▶ go build.

`go build` decides what is stale. The linked file is kept, so that an unchanged program is not linked again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gothreads.build.go_command import GoCommand, compiling, go_environment
from gothreads.build.go_list import INSTEAD_OF_NO_MAIN, Program, cgo_in, json_values, list_program
from gothreads.build.guest import guest_folder
from gothreads.build.overlay import GUEST, write_overlay
from gothreads.build.packages import relative_to_here
from gothreads.build.request import Request
from gothreads.build.signatures import Signatures, read_signatures
from gothreads.build.toolchain import Toolchain, find_go
from gothreads.build.typed import Typed, generate
from gothreads.errors import BuildError, CompileError
from gothreads.files import cache_folder, cache_key, is_kept, locked, make_folder, seal, where
from gothreads.output.progress import WAIT, timed
from gothreads.wasm.host_calls import HOST
from gothreads.wasm.metadata import THREADED

log = logging.getLogger("gothreads")

#: A file that imports into every program the part of the guest package that the host needs, to pass bytes and strings.
_GUEST_FILE = "zz_gothreads_guest.go"
#: The clock of the file system's times: some milliseconds slow.
_CLOCK_REALTIME_COARSE = 5
#: How often a program is built whose sources change meanwhile.
_MOST_BUILDS = 5
_INSTEAD_OF_TYPES = ("Exports and imports take int32, int64, uint32, uint64, float32, float64, bool and string, and "
                     "have one result at most, which is no string. Use int64 for int, and a handler for anything else: "
                     "guest.Handle for bytes, guest.HandleJSON for values (docs/calling.md)\n")


@dataclass(frozen=True)
class Linked:
    """What Go's linker made of a program, before gothreads rewrites it.

    files: the Go files of all packages outside the standard library.
    compiled: how many packages had to be compiled.
    signatures: of its own exports and imports.
    uses_guest: whether it imports the guest package.
    schema: of the typed functions (build/typed.py).
    """

    content: bytes
    toolchain: Toolchain
    files: tuple[Path, ...]
    compiled: int
    signatures: Signatures
    uses_guest: bool
    schema: Mapping[str, Any] | None = None


def link(request: Request) -> Linked:
    """Compile and link a program with go build. Raises the same errors as `build`.

    A build reads the sources several times. If an editor saves one meanwhile, the readings do not fit together, or one
    is of half a file, and all is done again.
    """
    before: dict[Path, int | None] = {}
    for _ in range(_MOST_BUILDS):
        began = time.time_ns()
        while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) <= began:  # so what is saved from now on is later than that
            time.sleep(0.001)
        made: Linked | CompileError | FileNotFoundError
        files: list[Path] = []
        try:
            made = _link(request, files)
        except (CompileError, FileNotFoundError) as error:
            made = error
        late = {file: when for file in files or _beside(request) if (when := _saved_at(file)) is None or when > began}
        # Later than this build, but not than the one before: the clock of the file system is ahead.
        if not late or (late == before and None not in late.values()):
            if isinstance(made, Exception):
                raise made
            for warning in made.signatures.warnings:  # not of a build that is done again
                log.warning("%s", warning)
            return made
        before = late
    raise BuildError(f"{request.package}: its sources go on changing while they are built. Build it when they rest")


def _beside(request: Request) -> list[Path]:
    """What go list has read, where it has failed: the Go files of the folder, without an editor's own."""
    return [file for file in _locate(request.package)[0].glob("*.go") if file.name[0] not in "._"]


def _saved_at(file: Path) -> int | None:
    """When the file was changed; None: it is not there. A link that leads nowhere is there."""
    for look in (file.stat, file.lstat):
        with contextlib.suppress(OSError):
            return look().st_ctime_ns  # not the time of its content, which some programs set back
    return None


def _link(request: Request, files: list[Path]) -> Linked:
    """`files`: gets the names of those that are read, when they are known."""
    toolchain = find_go(request.go)
    cache = cache_folder()
    work, target = _locate(request.package)
    go = GoCommand(toolchain, request, work, go_environment(request.model, preemption=request.preemption))
    guest = guest_folder(work)
    program = list_program(go, write_overlay(toolchain, cache, threaded=False, guest=guest), target)
    files.extend(program.files)
    threaded = request.model == THREADED

    def export_data(packages: Sequence[str]) -> Mapping[str, str]:
        overlay = write_overlay(toolchain, cache, threaded=threaded, simulate=request.simulate, guest=guest)
        return _export_data(go, overlay, packages, most=program.packages)
    typed = generate(request.package, program.own, toolchain, cache, work=work, export_data=export_data)
    overlay = write_overlay(toolchain, cache, threaded=threaded, simulate=request.simulate, guest=guest,
                            extra={program.folder / _GUEST_FILE: _guest_source(threaded=threaded), **typed.files})
    targets = [target] if not target.endswith(".go") else [target, *_added_to(program.folder, typed)]
    identity = cache_key(str(work), *targets, request.model, request.mode, str(request.preemption),
                         str(request.simulate), *request.flags, toolchain.version, str(toolchain.goroot))
    folder = make_folder(cache / "linked" / identity)
    with locked(folder / "lock", timed(WAIT, None)):
        file = folder / "linked.wasm"
        if not is_kept(file):  # Go checks only the build ID in the file, not the rest
            file.unlink(missing_ok=True)
        compiled = _go_build(go, overlay, targets, file, program=program)
        if typed.broken:  # nothing of this is known: the compiler had found nothing wrong
            raise CompileError(f"{request.package}: the program's types cannot be read",
                               relative_to_here("".join(f"{line}\n" for line in typed.broken), work))
        seal(file)
        return Linked(file.read_bytes(), toolchain, program.files, compiled, _signatures(program.files),
                      _uses_guest(program.files), typed.schema)


def _locate(package: str) -> tuple[Path, str]:
    """The folder in which to run go, and the package's name there."""
    path = Path(package)
    if os.path.isdir(path):  # not Path.is_dir, which raises if the name is too long
        return path.resolve(), "."
    if path.suffix == ".go":
        if not os.path.isfile(path):
            raise BuildError(f"there is no file {package}{where(package)}")
        return path.parent.resolve(), path.name
    if package.startswith((".", "/")):
        raise BuildError(f"there is no folder {package}{where(package)}")
    return Path.cwd(), package


def _export_data(go: GoCommand, overlay: Path, packages: Sequence[str], *, most: int) -> Mapping[str, str]:
    """Compile packages, and all that they import; returns the files with the compiler's export data.

    most: how many packages the program has.
    """
    command = [str(go.toolchain.go), "list", "-deps", "-e", "-export", "-v", "-overlay", str(overlay),
               "-json=ImportPath,Export", *go.request.flags, *packages]
    done = compiling(command, work=go.work, environment=go.environment, packages=most)
    return {p["ImportPath"]: p["Export"] for p in json_values(done.stdout) if p.get("Export")}


def _added_to(folder: Path, typed: Typed) -> list[str]:
    """The names of the files that the overlay adds to the main package, for a target that names its files."""
    return [_GUEST_FILE, *(file.name for file in typed.files if file.parent == folder)]


def _go_build(go: GoCommand, overlay: Path, targets: Sequence[str], output: Path, *, program: Program) -> int:
    """Run go build; returns how many packages had to be compiled."""
    request = go.request
    command = [str(go.toolchain.go), "build", "-v", "-overlay", str(overlay), f"-buildmode={request.mode}",
               *request.flags, "-o", str(output), *targets]
    done = compiling(command, work=go.work, environment=go.environment, packages=program.packages)
    if done.returncode:
        errors = done.messages
        # Go's output names the package, after "#" or "imports", or something in it.
        words = {word.rstrip(":") for word in errors.split()}
        named = words | {word.partition(".")[0] for word in words}
        cgo = cgo_in({path: files for path, files in program.ignored.items()
                      if {path, path.rpartition("/")[2]} & named})
        hints = _INSTEAD_OF_TYPES if "go:wasmexport: " in errors or "go:wasmimport: " in errors else ""
        if "function main is undeclared in the main package" in errors:
            hints += INSTEAD_OF_NO_MAIN
        raise CompileError(f"{request.package}: go build failed", relative_to_here(errors, go.work) + cgo + hints)
    return done.compiled


def _guest_source(*, threaded: bool) -> str:
    return "package main\n\n" + "".join(f'import _ "{GUEST}/{name}"\n'
                                        for name in (["slot"] if threaded else ["slot", "idle"]))


def _signatures(files: Sequence[Path]) -> Signatures:
    """The signatures of the program's own exports and imports, without those of a copy of the guest package."""
    found = read_signatures(files)
    return replace(found, exports=tuple(s for s in found.exports if not s.name.startswith("gothreads_")),
                   imports=tuple(s for s in found.imports if s.module != HOST))


def _uses_guest(files: Sequence[Path]) -> bool:
    return any(b'"gothreads/guest"' in file.read_bytes() for file in files if file.name != _GUEST_FILE)
