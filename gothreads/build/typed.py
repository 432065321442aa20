"""Finds what //gothreads:export and //gothreads:import mark, and generates the Go code that encodes the values.

The generator is a Go program (build/typed_go), because only Go's own type checker knows types. It is compiled once for
each toolchain, with the toolchain that the program is built with: the compiler's export data is of that version.
A program without the comment costs a look at its files, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gothreads.build.go_command import compiling
from gothreads.build.packages import relative_to_here
from gothreads.build.toolchain import Toolchain
from gothreads.errors import BuildError, CompileError
from gothreads.files import cache_key, is_kept, locked, make_folder, seal
from gothreads.output.progress import TOOLS

_GENERATOR = Path(__file__).parent / "typed_go"
_DIRECTIVE = re.compile(rb"^//gothreads:(?:ex|im)port[ \t\r]*(?:\S.*)?$", re.MULTILINE)

#: The most lines about what cannot be exported or imported.
_MOST_ERRORS = 100


@dataclass(frozen=True)
class GoPackage:
    """A package of the program, outside the standard library.

    files: absolute paths. imports: the packages that it imports. import_map: what it calls them, where that differs.
    """

    path: str
    name: str
    folder: Path
    files: tuple[Path, ...]
    imports: tuple[str, ...]
    import_map: Mapping[str, str]

    @property
    def typed(self) -> bool:
        """Whether one of its files has the comment."""
        try:
            return any(_DIRECTIVE.search(file.read_bytes()) for file in self.files)
        except OSError:  # the compiler reports it
            return False


@dataclass(frozen=True)
class Typed:
    """files: the generated Go files, for the overlay. schema: what Python needs to know; None without functions.

    broken: why there is neither: the first error of each package that is no correct Go. The compiler has all of them.
    """

    files: Mapping[Path, str] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    broken: Sequence[str] = ()


#: Lists packages, with the files of the compiler's export data: import path -> file.
ExportData = Callable[[Sequence[str]], Mapping[str, str]]


def generate(package: str, packages: Sequence[GoPackage], toolchain: Toolchain, cache: Path, *,
             work: Path, export_data: ExportData) -> Typed:
    """Generate the code for a program's packages. CompileError: something cannot be exported or imported.

    package: the program's name, for messages. work: the folder in which go runs.
    """
    typed = [each for each in packages if each.typed]
    if not typed:
        return Typed()
    imported = {each.import_map.get(name, name) for each in typed for name in each.imports} - {"C", "unsafe"}
    request = {
        "Packages": [{"Path": each.path, "Name": each.name, "Dir": str(each.folder), "ImportMap": dict(each.import_map),
                      "Files": [file.name for file in each.files], "Typed": each in typed} for each in packages],
        "Exports": dict(export_data(sorted(imported))) if imported else {}}
    done = subprocess.run([_generator(toolchain, cache)], input=json.dumps(request), capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"the generator of typed functions failed: {done.stderr.strip() or done.returncode}")
    response = json.loads(done.stdout)
    if response["Broken"]:
        return Typed(broken=response["Broken"])
    if errors := response["Errors"]:
        exports = any("be exported" in line or "//gothreads:export" in line for line in errors)
        what = "a function cannot be exported" if exports else "a variable cannot be imported"
        if (more := len(errors) - _MOST_ERRORS) > 0:
            errors = [*errors[:_MOST_ERRORS], f"and {more} more"]
        raise CompileError(f"{package}: {what}", relative_to_here("".join(f"{line}\n" for line in errors), work))
    return Typed({Path(path): text for path, text in response["Files"].items()}, response["Schema"])


def _generator(toolchain: Toolchain, cache: Path) -> Path:
    """The generator's program, compiled by this toolchain."""
    sources = sorted(_GENERATOR.glob("*.go"))
    folder = make_folder(cache / "generators")
    program = folder / cache_key(toolchain.version, str(toolchain.goroot), *(source.read_bytes() for source in sources))
    if is_kept(program):
        return program
    with locked(program.with_suffix(".lock")):
        if not is_kept(program):
            made = program.with_suffix(".new")
            done = compiling([toolchain.go, "build", "-v", "-o", made, *sources], work=folder,
                             environment=_host_environment(), stage=TOOLS)
            if done.returncode:
                raise CompileError("the generator of typed functions cannot be compiled", done.messages)
            made.replace(program)
            seal(program)
    return program


def _host_environment() -> dict[str, str]:
    """The environment for a Go program that runs here, without what the user has set for the module's build."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("GOOS", "GOARCH", "GOFLAGS", "GOEXPERIMENT", "GOROOT")}
    return environment | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GO111MODULE": "off", "GOWORK": "off"}
