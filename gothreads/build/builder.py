"""Builds a Go program into a module.

    link()    go list ─▶ typed functions ─▶ overlay ─▶ go build
    build()   link ─▶ rewrite (threaded) ─▶ custom section ─▶ strip ─▶ file

`go build` decides what is stale. The linked file is kept, so that an unchanged program is not linked again. The
rewritten module is found by the hash of the linked one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gothreads.version
from gothreads.build import optimizer
from gothreads.build.go_command import compiling
from gothreads.build.guest import guest_folder
from gothreads.build.overlay import GUEST, fingerprint, write_overlay
from gothreads.build.packages import go_failed, is_refused_cache, relative_to_here
from gothreads.build.signatures import Signatures, read_signatures
from gothreads.build.toolchain import Toolchain, find_go
from gothreads.build.typed import GoPackage, Typed, generate
from gothreads.errors import BuildError, CompileError, MisuseError, listed
from gothreads.files import cache_folder, is_kept, keep, locked, make_folder, seal, where
from gothreads.output.progress import WAIT, timed
from gothreads.wasm.binary import Module
from gothreads.wasm.host_calls import HOST
from gothreads.wasm.metadata import BUILD_MODELS, BUILD_MODES, SECTION, THREADED, Metadata
from gothreads.wasm.parsing import function_names, parse
from gothreads.wasm.passes.inline import inline_atomics
from gothreads.wasm.passes.jumps import shorten_jumps
from gothreads.wasm.passes.sharpen import check_model, check_seed, sharpen
from gothreads.wasm.passes.threads import add_threads
from gothreads.wasm.undefined import callers_of_undefined, symbol

#: A file that imports into every program the part of the guest package that the host needs, to pass bytes and strings.
_GUEST_FILE = "zz_gothreads_guest.go"
#: At the beginning of a line: gives a local name to a function of another package.
_LINKNAME = re.compile(r"^//go:linkname[ \t]+(\S+)[ \t]+(\S+)")
_USES_C = re.compile(rb"^[ \t]*(?:import[ \t]+)?\"C\"[ \t\r]*(?://.*|;.*)?$", re.MULTILINE)
_INSTEAD_OF_CGO = ("Use a package, or a build tag, without cgo; or let the host call C, and Go the host "
                   "(docs/what-works.md has more)\n")
_INSTEAD_OF_TYPES = ("Exports and imports take int32, int64, uint32, uint64, float32, float64, bool and string, and "
                     "have one result at most, which is no string. Use int64 for int, and a handler for anything else: "
                     "guest.Handle for bytes, guest.HandleJSON for values (docs/calling.md)\n")


@dataclass(frozen=True)
class Request:
    """What to build. Raises MisuseError for values that are not valid.

    package: a folder, an import path, or a .go file.
    sharpen: a seed (wasm/passes/sharpen.py).
    optimize: give functions fast bodies (build/optimizer.py).
    flags: passed to go build.
    """

    package: str
    model: str = THREADED
    buildmode: str | None = None
    go: str | None = None
    strip: bool = False
    preemption: bool = True
    sharpen: int | None = None
    flags: tuple[str, ...] = ()
    optimize: bool = False

    def __post_init__(self) -> None:
        if self.model not in BUILD_MODELS:
            raise MisuseError(f"there is no model {self.model!r} to build for; there are: {', '.join(BUILD_MODELS)}")
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
        """The build mode. exe runs main; c-shared does not. Stock Go calls exports only in the latter."""
        return self.buildmode or ("exe" if self.model == THREADED else "c-shared")


@dataclass(frozen=True)
class Built:
    """A module in gothreads' cache. `cached`: nothing had to be compiled or rewritten."""

    path: Path
    toolchain: Toolchain
    metadata: Metadata
    cached: bool
    seconds: float


@dataclass(frozen=True)
class _Program:
    """The output of go list.

    folder: of the main package.
    own: the packages outside the standard library.
    packages: the number of all packages.
    ignored: import path -> the files of that package that are not for this system.
    """

    folder: Path
    own: tuple[GoPackage, ...]
    packages: int
    ignored: Mapping[str, tuple[Path, ...]]

    @property
    def files(self) -> tuple[Path, ...]:
        """The Go files of all packages outside the standard library."""
        return tuple(file for package in self.own for file in package.files)


@dataclass(frozen=True)
class _GoCommand:
    """How to run go for a request: in the folder `work`."""

    toolchain: Toolchain
    request: Request
    work: Path
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Linked:
    """What Go's linker made of a program, before gothreads rewrites it.

    files: the Go files of all packages outside the standard library.
    compiled: how many packages had to be compiled.
    schema: of the typed functions (build/typed.py).
    """

    content: bytes
    toolchain: Toolchain
    files: tuple[Path, ...]
    compiled: int
    schema: Mapping[str, Any] | None = None


def build(request: Request) -> Built:
    """Build a module, or find it in the cache.

    Raises CompileError, with Go's own output; ToolchainError; BuildError.
    """
    begin = time.monotonic()
    linked, cache = link(request), cache_folder()
    signatures = _signatures(linked.files)
    metadata = Metadata(gothreads.version.__version__, linked.toolchain.version, request.model, request.mode,
                        _uses_guest(linked.files), signatures.exports, _options(request), signatures.imports,
                        typed=linked.schema)
    edition = [optimizer.identity()] if metadata.optimized else []
    path = cache / "modules" / f"{_digest(linked.content, metadata.encode(), fingerprint(), *edition)}.wasm"
    rewritten = is_kept(path)
    if not rewritten:
        module = parse(linked.content)
        if callers := callers_of_undefined(module):
            raise CompileError(f"{request.package}: the program calls functions that are not defined",
                               _undefined(module, callers, linked.files))
        keep(path, finish(module, metadata, strip=request.strip, go=linked.toolchain.go).encode())
    return Built(path, linked.toolchain, metadata, rewritten and linked.compiled == 0, time.monotonic() - begin)


def link(request: Request) -> Linked:
    """Compile and link a program with go build. Raises the same errors as `build`."""
    toolchain = find_go(request.go)
    cache = cache_folder()
    work, target = _locate(request.package)
    go = _GoCommand(toolchain, request, work, go_environment(request.model, preemption=request.preemption))
    guest = guest_folder(work)
    program = _list(go, write_overlay(toolchain, cache, threaded=False, guest=guest), target)
    threaded = request.model == THREADED

    def export_data(packages: Sequence[str]) -> Mapping[str, str]:
        return _export_data(go, write_overlay(toolchain, cache, threaded=threaded, guest=guest), packages,
                            most=program.packages)
    typed = generate(request.package, program.own, toolchain, cache, work=work, export_data=export_data)
    overlay = write_overlay(toolchain, cache, threaded=threaded, guest=guest,
                            extra={program.folder / _GUEST_FILE: _guest_source(threaded=threaded), **typed.files})
    targets = [target] if not target.endswith(".go") else [target, *_added_to(program.folder, typed)]
    identity = _digest(str(work), *targets, request.model, request.mode, str(request.preemption), *request.flags,
                       toolchain.version, str(toolchain.goroot))
    folder = make_folder(cache / "linked" / identity)
    with locked(folder / "lock", timed(WAIT, None)):
        file = folder / "linked.wasm"
        if not is_kept(file):  # Go checks only the build ID in the file, not the rest
            file.unlink(missing_ok=True)
        compiled = _go_build(go, overlay, targets, file, program=program)
        seal(file)
        return Linked(file.read_bytes(), toolchain, program.files, compiled, typed.schema)


def finish(linked: Module, metadata: Metadata, *, strip: bool, go: Path | None = None) -> Module:
    """Turn the module that Go linked into the one that is run.

    go: the go command, for the optimizer (default: the first that is found).
    """
    module = linked
    if metadata.threaded:
        seed = metadata.options.get("sharpen")
        threaded = add_threads(linked)
        module = shorten_jumps(inline_atomics(threaded) if seed is None else sharpen(threaded, seed))
    if metadata.optimized:  # before names are dropped, which it uses
        module = parse(optimizer.optimized(go or find_go().go, module.encode(), cache_folder()))
    dropped = ("name", "producers", SECTION) if strip else (SECTION,)
    customs = [(title, body) for title, body in module.customs
               if title not in dropped and not (strip and title.startswith(".debug"))]
    return replace(module, customs=[*customs, (SECTION, metadata.encode())])


def _undefined(module: Module, callers: Sequence[str], files: Sequence[Path]) -> str:
    """Describe undefined functions: their callers, and each //go:linkname that names a missing function."""
    names = function_names(module)
    missing = []
    for file in files:
        lines = file.read_text(errors="replace").splitlines()
        bodies = {line[5:].partition("(")[0] for line in lines if line.startswith("func ") and "{" in line}
        for number, line in enumerate(lines, 1):
            pulled = _LINKNAME.match(line)  # for a function with a body, it is the name for other packages
            if pulled is not None and pulled[1] not in bodies and symbol(pulled[2]) not in names:
                missing.append(f"{file}:{number}: relocation target {pulled[2]} not defined (//go:linkname "
                               f"{pulled[1]})\n")
    return "".join(missing) + f"Called by: {listed(callers)}\n"


def _options(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {"preemption": request.preemption, "strip": request.strip}
    if request.sharpen is not None:
        options["sharpen"] = request.sharpen
    if request.optimize or optimizer.by_default():
        options["optimize"] = True
    return options


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


def go_environment(model: str, *, preemption: bool) -> dict[str, str]:
    """The environment for Go's tools: the current one, for WebAssembly. The user's Go experiments stay."""
    environment = dict(os.environ) | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    experiments = [e for e in environment.get("GOEXPERIMENT", "").split(",") if e]
    if model == THREADED and preemption:
        experiments.append("preemptibleloops")
    environment["GOEXPERIMENT"] = ",".join(dict.fromkeys(experiments))
    environment.pop("GOROOT", None)
    return environment


def _list(go: _GoCommand, overlay: Path, target: str) -> _Program:
    # With the user's flags: -tags and -mod decide which files belong to the build.
    request = go.request
    command = [str(go.toolchain.go), "list", "-deps", "-e", "-overlay", str(overlay),
               "-json=Dir,Name,GoFiles,IgnoredGoFiles,Standard,ImportPath,DepOnly,Imports,ImportMap,Error",
               *request.flags, target]
    done = subprocess.run(command, cwd=go.work, env=go.environment, capture_output=True, text=True)
    packages = list(json_values(done.stdout))
    mains = [p for p in packages if not p.get("DepOnly")]
    if done.returncode or len(mains) != 1:
        if len(mains) > 1:
            raise BuildError(f"{target} is {len(mains)} packages; build one at a time")
        if target.endswith(".go") and (cgo := _cgo({"main": (go.work / target,)})):
            raise CompileError(f"{request.package}: the program uses cgo, which Go does not support on WebAssembly",
                               cgo)
        raise go_failed(done.stderr, go.work, request.package if os.path.isdir(request.package) else None)
    main = mains[0]
    ignored = {p["ImportPath"]: tuple(Path(p["Dir"]) / name for name in p["IgnoredGoFiles"]) for p in packages
               if not p.get("Standard") and p.get("Dir") and p.get("IgnoredGoFiles")}
    if main.get("Name") not in ("main", "", None) and "Error" not in main:
        raise BuildError(f"{main['ImportPath']} is package {main['Name']}, not a program (package main). To call a "
                         "library, build a program that imports it (docs/go-libraries.md)")
    if not main.get("Dir") or ("Error" in main and not main.get("GoFiles")):
        output = (main.get("Error") or {}).get("Err", "") + "\n"
        if is_refused_cache(output):
            raise go_failed(output, go.work)
        if cgo := _cgo({path: files for path, files in ignored.items() if path == main["ImportPath"]}):
            raise CompileError(f"{request.package}: the package uses cgo, which Go does not support on WebAssembly",
                               cgo)
        raise CompileError(f"{request.package}: there is no such package", relative_to_here(output, go.work))
    own = [GoPackage(p["ImportPath"], p.get("Name", ""), Path(p["Dir"]),
                     tuple(Path(p["Dir"]) / name for name in p.get("GoFiles") or ()), tuple(p.get("Imports") or ()),
                     p.get("ImportMap") or {}) for p in packages if not p.get("Standard") and p.get("Dir")]
    return _Program(Path(main["Dir"]), tuple(own), len(packages), ignored)


def _export_data(go: _GoCommand, overlay: Path, packages: Sequence[str], *, most: int) -> Mapping[str, str]:
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


def _go_build(go: _GoCommand, overlay: Path, targets: Sequence[str], output: Path, *, program: _Program) -> int:
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
        cgo = _cgo({path: files for path, files in program.ignored.items() if {path, path.rpartition("/")[2]} & named})
        types = _INSTEAD_OF_TYPES if "go:wasmexport: " in errors or "go:wasmimport: " in errors else ""
        raise CompileError(f"{request.package}: go build failed", relative_to_here(errors, go.work) + cgo + types)
    return done.compiled


def _cgo(ignored: Mapping[str, Sequence[Path]]) -> str:
    """A line for each of these packages that uses cgo, with the files that do, and one that says what to do; or ""."""
    using = {path: [file.name for file in files if _USES_C.search(file.read_bytes())]
             for path, files in ignored.items()}
    lines = [f"package {path} uses cgo, which Go does not support on WebAssembly: {', '.join(names)}\n"
             for path, names in using.items() if names]
    return "".join([*lines, _INSTEAD_OF_CGO] if lines else ())


def _signatures(files: Sequence[Path]) -> Signatures:
    """The signatures of the program's own exports and imports, without those of a copy of the guest package."""
    found = read_signatures(files)
    return Signatures(tuple(s for s in found.exports if not s.name.startswith("gothreads_")),
                      tuple(s for s in found.imports if s.module != HOST))


def _guest_source(*, threaded: bool) -> str:
    return "package main\n\n" + "".join(f'import _ "{GUEST}/{name}"\n'
                                        for name in (["slot"] if threaded else ["slot", "idle"]))


def _uses_guest(files: Sequence[Path]) -> bool:
    return any(b'"gothreads/guest"' in file.read_bytes() for file in files if file.name != _GUEST_FILE)


def json_values(text: str) -> list[dict[str, Any]]:
    """The objects that a go command's -json prints, one after the other."""
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


