"""Building a Go program into a module.

    go list ─▶ overlay ─▶ go build ─▶ rewrite (threaded) ─▶ custom section ─▶ strip ─▶ file

`go build` decides what is stale; what it linked is kept, so that an unchanged program is not linked again, and the
rewritten module is found by the hash of what was linked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gothreads.version
from gothreads.build.guest import guest_folder
from gothreads.build.overlay import fingerprint, write_overlay
from gothreads.build.signatures import Signatures, read_signatures
from gothreads.build.toolchain import Toolchain, find_go
from gothreads.errors import BuildError, CompileError, MisuseError, listed
from gothreads.files import cache_folder, is_kept, keep, locked, seal
from gothreads.wasm.binary import Module
from gothreads.wasm.metadata import BUILD_MODES, MODELS, SECTION, Metadata
from gothreads.wasm.parsing import function_names, parse
from gothreads.wasm.passes.inline import inline_atomics
from gothreads.wasm.passes.jumps import shorten_jumps
from gothreads.wasm.passes.sharpen import check_model, check_seed, sharpen
from gothreads.wasm.passes.threads import HOST, rewrite
from gothreads.wasm.undefined import callers_of_undefined, symbol

#: Imports the guest package into every program, so that bytes and strings can be handed over.
_GUEST_FILE = "zz_gothreads_guest.go"
_GUEST_SOURCE = "package main\n\nimport _ \"gothreads/guest\"\n"
_PACKAGE_LINE = re.compile(r"[\w.~-]+(/[\w.~@+-]+)*")
#: At the beginning of a line: a local name for another package's function.
_LINKNAME = re.compile(r"^//go:linkname[ \t]+(\S+)[ \t]+(\S+)")
_USES_C = re.compile(rb"^[ \t]*(?:import[ \t]+)?\"C\"[ \t\r]*(?://.*|;.*)?$", re.MULTILINE)

#: Told of progress: packages compiled so far, packages in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What to build. `package` is a folder, an import path, or a .go file; `flags` go to go build. `sharpen`: a seed (wasm/passes/sharpen.py)."""

    package: str
    model: str = "threaded"
    buildmode: str | None = None
    go: str | None = None
    strip: bool = False
    preemption: bool = True
    sharpen: int | None = None
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise MisuseError(f"there is no model {self.model!r} to build for; there are: {', '.join(MODELS)}")
        if self.buildmode not in (None, *BUILD_MODES):
            raise MisuseError(f"there is no build mode {self.buildmode!r}; there are: {', '.join(BUILD_MODES)}")
        if self.sharpen is not None:
            check_seed(self.sharpen)
            check_model(self.model)
        for flag in self.flags:
            if re.match(r"--?(o|overlay|buildmode)\b", flag):
                raise MisuseError(f"gothreads sets {flag.split('=')[0]} itself; use its own options")

    @property
    def mode(self) -> str:
        """exe runs main; c-shared does not. Stock Go calls exports only in the latter."""
        return self.buildmode or ("exe" if self.model == "threaded" else "c-shared")


@dataclass(frozen=True)
class Built:
    """A module, in gothreads' cache. `cached`: nothing had to be compiled or rewritten."""

    path: Path
    toolchain: Toolchain
    metadata: Metadata
    cached: bool
    seconds: float


@dataclass(frozen=True)
class _Program:
    """What go list says: the main package's folder, the Go files of all packages that are not Go's own, how many packages.

    ignored: the files of each package, by its import path, that are not for this system.
    """

    folder: Path
    files: tuple[Path, ...]
    packages: int
    ignored: Mapping[str, tuple[Path, ...]]


def build(request: Request, progress: Progress | None = None) -> Built:
    """Build a module, or find it built. CompileError with Go's own output; ToolchainError; BuildError."""
    begin = time.monotonic()
    toolchain = find_go(request.go)
    cache = cache_folder()
    work, target = _place(request.package)
    environment = go_environment(request.model, request.preemption)
    guest = guest_folder(work)
    program = _list(toolchain, write_overlay(toolchain, cache, threaded=False, guest=guest), request, work, target, environment)
    overlay = write_overlay(toolchain, cache, threaded=request.model == "threaded", guest=guest, extra={program.folder / _GUEST_FILE: _GUEST_SOURCE})
    targets = [target] if not target.endswith(".go") else [target, _GUEST_FILE]
    identity = _digest(str(work), *targets, request.model, request.mode, str(request.preemption), *request.flags, toolchain.version, str(toolchain.goroot))
    folder = cache / "linked" / identity
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        linked = folder / "linked.wasm"
        if not is_kept(linked):  # Go looks at the identity that it has, not at the rest
            linked.unlink(missing_ok=True)
        compiled = _go_build(toolchain, overlay, request, work, targets, linked, environment, program, progress)
        seal(linked)
        content = linked.read_bytes()
    own = _signatures(toolchain, program.files, cache)
    metadata = Metadata(gothreads.version.__version__, toolchain.version, request.model, request.mode, _uses_guest(program.files),
                        own.exports, _options(request), own.imports)
    path = cache / "modules" / f"{_digest(content, metadata.encode(), fingerprint())}.wasm"
    found = is_kept(path)
    if not found:
        module = parse(content)
        if callers := callers_of_undefined(module):
            raise CompileError(f"{request.package}: the program calls functions that are not defined", _undefined(module, callers, program.files))
        keep(path, finish(module, metadata, strip=request.strip).encode())
    return Built(path, toolchain, metadata, found and compiled == 0, time.monotonic() - begin)


def finish(linked: Module, metadata: Metadata, *, strip: bool) -> Module:
    """From what Go linked to what is run."""
    module = linked
    if metadata.model == "threaded":
        seed = metadata.options.get("sharpen")
        module = shorten_jumps(inline_atomics(rewrite(linked)) if seed is None else sharpen(rewrite(linked), seed))
    dropped = ("name", "producers", SECTION) if strip else (SECTION,)
    customs = [(title, body) for title, body in module.customs if title not in dropped and not (strip and title.startswith(".debug"))]
    return replace(module, customs=[*customs, (SECTION, metadata.encode())])


def _undefined(module: Module, callers: Sequence[str], files: Sequence[Path]) -> str:
    """What can be said of them: who calls, and which //go:linkname names what is not there."""
    names = function_names(module)
    said = []
    for file in files:
        lines = file.read_text(errors="replace").splitlines()
        bodies = {line[5:].partition("(")[0] for line in lines if line.startswith("func ") and "{" in line}
        for number, line in enumerate(lines, 1):
            pulled = _LINKNAME.match(line)  # of a function with a body it is the name that others know it by
            if pulled is not None and pulled[1] not in bodies and symbol(pulled[2]) not in names:
                said.append(f"{file}:{number}: relocation target {pulled[2]} not defined (//go:linkname {pulled[1]})\n")
    return "".join(said) + f"Called by: {listed(callers)}\n"


def _options(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {"preemption": request.preemption, "strip": request.strip}
    return options if request.sharpen is None else options | {"sharpen": request.sharpen}


def _place(package: str) -> tuple[Path, str]:
    """The folder to run go in, and what to call the package there."""
    path = Path(package)
    if os.path.isdir(path):  # not Path.is_dir, which raises for a name that is too long
        return path.resolve(), "."
    if path.suffix == ".go":
        if not os.path.isfile(path):
            raise BuildError(f"there is no file {package}")
        return path.parent.resolve(), path.name
    if package.startswith((".", "/")):
        raise BuildError(f"there is no folder {package}")
    return Path.cwd(), package


def go_environment(model: str, preemption: bool) -> dict[str, str]:
    """The environment for Go's tools: this one, for WebAssembly. Of Go's experiments the user's own stay."""
    environment = dict(os.environ) | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    experiments = [e for e in environment.get("GOEXPERIMENT", "").split(",") if e]
    if model == "threaded" and preemption:
        experiments.append("preemptibleloops")
    environment["GOEXPERIMENT"] = ",".join(dict.fromkeys(experiments))
    environment.pop("GOROOT", None)
    return environment


def _list(toolchain: Toolchain, overlay: Path, request: Request, work: Path, target: str, environment: Mapping[str, str]) -> _Program:
    # The user's flags too: -tags and -mod decide which files there are.
    command = [str(toolchain.go), "list", "-deps", "-e", "-overlay", str(overlay), "-json=Dir,Name,GoFiles,IgnoredGoFiles,Standard,ImportPath,DepOnly,Error",
               *request.flags, target]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    packages = list(_json_values(done.stdout))
    mains = [p for p in packages if not p.get("DepOnly")]
    if done.returncode or len(mains) != 1:
        if len(mains) > 1:
            raise BuildError(f"{target} is {len(mains)} packages; build one at a time")
        needs_init = "go.mod file not found" in done.stderr and Path(request.package).is_dir()
        hint = f". A folder needs a go.mod; this writes one: gothreads init {request.package}" if needs_init else ""
        raise CompileError(f"go list failed{hint}", done.stderr)
    main = mains[0]
    ignored = {p["ImportPath"]: tuple(Path(p["Dir"]) / name for name in p["IgnoredGoFiles"]) for p in packages
               if not p.get("Standard") and p.get("Dir") and p.get("IgnoredGoFiles")}
    if main.get("Name") not in ("main", "", None) and "Error" not in main:
        raise BuildError(f"{main['ImportPath']} is package {main['Name']}, not a program (package main)")
    if not main.get("Dir") or ("Error" in main and not main.get("GoFiles")):
        said = (main.get("Error") or {}).get("Err", "") + "\n"
        if cgo := _cgo({path: files for path, files in ignored.items() if path == main["ImportPath"]}):
            raise CompileError(f"{request.package}: the package uses cgo, which WebAssembly has not", cgo)
        raise CompileError(f"{request.package}: there is no such package", said)
    files = [Path(p["Dir"]) / name for p in packages if not p.get("Standard") and p.get("Dir") for name in p.get("GoFiles") or ()]
    return _Program(Path(main["Dir"]), tuple(files), len(packages), ignored)


def _go_build(toolchain: Toolchain, overlay: Path, request: Request, work: Path, targets: Sequence[str], output: Path,
              environment: Mapping[str, str], program: _Program, progress: Progress | None) -> int:
    """Returns how many packages had to be compiled."""
    command = [str(toolchain.go), "build", "-v", "-overlay", str(overlay), f"-buildmode={request.mode}", *request.flags, "-o", str(output), *targets]
    said: list[str] = []
    compiled = 0
    with subprocess.Popen(command, cwd=work, env=environment, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if _PACKAGE_LINE.fullmatch(line.rstrip("\n")):  # what -v prints
                    compiled += 1
                    if progress is not None:
                        progress(compiled, program.packages)
                else:
                    said.append(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        told = "".join(said)
        # What Go says names the package, after "#" or "imports", or something of it.
        words = {word.rstrip(":") for word in told.split()}
        named = words | {word.partition(".")[0] for word in words}
        cgo = _cgo({path: files for path, files in program.ignored.items() if {path, path.rpartition("/")[2]} & named})
        raise CompileError(f"{request.package}: go build failed", told + cgo)
    return compiled


def _cgo(ignored: Mapping[str, Sequence[Path]]) -> str:
    """Which of these packages use cgo, in which of these files."""
    using = {path: [file.name for file in files if _USES_C.search(file.read_bytes())] for path, files in ignored.items()}
    return "".join(f"package {path} uses cgo, which WebAssembly has not: {', '.join(names)}\n" for path, names in using.items() if names)


def _signatures(toolchain: Toolchain, files: Sequence[Path], cache: Path) -> Signatures:
    """Of the program's own exports and imports; a copy of the guest package has some too."""
    found = read_signatures(toolchain.go, files, cache)
    return Signatures(tuple(s for s in found.exports if not s.name.startswith("gothreads_")),
                      tuple(s for s in found.imports if s.module != HOST))


def _uses_guest(files: Sequence[Path]) -> bool:
    return any(b'"gothreads/guest"' in file.read_bytes() for file in files if file.name != _GUEST_FILE)


def _json_values(text: str) -> list[dict[str, Any]]:
    """Go's -json prints one object after the other."""
    decoder, values, at = json.JSONDecoder(), [], 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        values.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
    return values


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:32]


