"""What go list says about a program: its packages and their files."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gothreads.build.go_command import GoCommand
from gothreads.build.packages import go_failed, is_refused_cache, relative_to_here
from gothreads.build.typed import GoPackage
from gothreads.errors import BuildError, CompileError

_USES_C = re.compile(rb"^[ \t]*(?:import[ \t]+)?\"C\"[ \t\r]*(?://.*|;.*)?$", re.MULTILINE)
_INSTEAD_OF_CGO = ("Use a package, or a build tag, without cgo; or let the host call C, and Go the host "
                   "(docs/what-works.md has more)\n")
INSTEAD_OF_NO_MAIN = "A program needs one. If it is only to be called: func main() { select {} }\n"


@dataclass(frozen=True)
class Program:
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


def list_program(go: GoCommand, overlay: Path, target: str) -> Program:
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
        if target.endswith(".go") and (cgo := cgo_in({"main": (go.work / target,)})):
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
        if cgo := cgo_in({path: files for path, files in ignored.items() if path == main["ImportPath"]}):
            raise CompileError(f"{request.package}: the package uses cgo, which Go does not support on WebAssembly",
                               cgo)
        raise CompileError(f"{request.package}: there is no such package", relative_to_here(output, go.work))
    own = [GoPackage(p["ImportPath"], p.get("Name", ""), Path(p["Dir"]),
                     # Not what only the overlay has: of the guest package, if the program's copy is an older one.
                     tuple(file for name in p.get("GoFiles") or () if (file := Path(p["Dir"]) / name).exists()),
                     tuple(p.get("Imports") or ()), p.get("ImportMap") or {})
           for p in packages if not p.get("Standard") and p.get("Dir")]
    if "Error" not in main and not all(_may_have_main(each) for each in own if each.path == main["ImportPath"]):
        raise CompileError(f"{request.package}: the program has no func main", INSTEAD_OF_NO_MAIN)
    return Program(Path(main["Dir"]), tuple(own), len(packages), ignored)


def _may_have_main(package: GoPackage) -> bool:
    """Whether a file has the word more often than in its package clause. Else the linker would fail, after minutes."""
    try:
        return sum(file.read_bytes().count(b"main") for file in package.files) > len(package.files)
    except OSError:  # the compiler reports it
        return True


def cgo_in(ignored: Mapping[str, Sequence[Path]]) -> str:
    """A line for each of these packages that uses cgo, with the files that do, and one that says what to do; or ""."""
    using = {path: [file.name for file in files if _USES_C.search(file.read_bytes())]
             for path, files in ignored.items()}
    lines = [f"package {path} uses cgo, which Go does not support on WebAssembly: {', '.join(names)}\n"
             for path, names in using.items() if names]
    return "".join([*lines, _INSTEAD_OF_CGO] if lines else ())


def json_values(text: str) -> list[dict[str, Any]]:
    """The objects that a go command's -json prints, one after the other."""
    decoder, values, at = json.JSONDecoder(), [], 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        values.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
    return values
