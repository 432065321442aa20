"""Provides the package gothreads/guest to programs.

A build overlays it on GOROOT, so a program needs no set-up. Editors and `go vet` do not see the overlay, so
`gothreads init` puts a copy beside the program and names it in go.mod. A build of such a program overlays the copy with
the package of this gothreads, so the compiled package always fits the host.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from gothreads.build.overlay import GUEST, GUEST_PACKAGES, added
from gothreads.build.toolchain import Toolchain
from gothreads.errors import BuildError, CompileError
from gothreads.files import make_folder, write_atomically

#: The folder's name begins with a dot, so it is not part of `./...`.
COPY = Path(".gothreads") / "guest"
_REPLACED = re.compile(rf"(?m)^[ \t]*(?:replace[ \t]+)?{GUEST}(?:[ \t]+v\S+)?[ \t]*=>[ \t]*(\S+)[ \t\r]*$")
_EXAMPLE = '''package main

import (
	"strings"

	"gothreads/guest"
)

// add is called by the host: app.exports.add(2, 3), or POST /api/call/add.
//
//go:wasmexport add
func add(a, b int32) int32 { return a + b }

func init() {
	guest.Handle("upper", func(payload []byte) ([]byte, error) {
		return []byte(strings.ToUpper(string(payload))), nil
	})
}

func main() {
	select {} // the module runs on; calls come at any time, from any thread
}
'''


def guest_folder(work: Path) -> Path | None:
    """The folder that go.mod names for gothreads/guest, for a program in `work`; None when it names none."""
    for folder in (work, *work.parents):
        if (folder / "go.mod").is_file():
            match = _REPLACED.search((folder / "go.mod").read_text(errors="replace"))
            return (folder / match[1].strip('"`')).resolve() if match else None
    return None


def init(folder: Path, toolchain: Toolchain) -> list[str]:
    """Make gothreads/guest known to editors and go vet; returns the written files, relative to the folder.

    A folder without Go files gets a small program. Raises BuildError when the folder cannot be made or a go command
    fails, and GothreadsError when a file cannot be written.
    """
    written = []
    make_folder(folder, BuildError)
    if not (folder / "go.mod").exists():
        _go(toolchain, folder, "mod", "init", re.sub(r"[^\w.-]", "-", folder.resolve().name) or "app")
        _go(toolchain, folder, "mod", "edit", f"-go={toolchain.minor}")
        written.append("go.mod")
    for below, package in GUEST_PACKAGES.items():
        make_folder(folder / COPY / below, BuildError)
        for path in added(package).values():
            write_atomically(folder / COPY / below / path.name, path.read_bytes())
    write_atomically(folder / COPY / "go.mod", f"module {GUEST}\n\ngo 1.25\n".encode())
    _go(toolchain, folder, "mod", "edit", f"-require={GUEST}@v0.0.0", f"-replace={GUEST}=./{COPY.as_posix()}")
    written.append(str(COPY))
    if not list(folder.glob("*.go")):
        write_atomically(folder / "main.go", _EXAMPLE.encode())
        written.append("main.go")
    return written


def _go(toolchain: Toolchain, folder: Path, *arguments: str) -> None:
    done = subprocess.run([str(toolchain.go), *arguments], cwd=folder,
                          env=os.environ | {"GOTOOLCHAIN": "local", "GOWORK": "off"},
                          capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"go {' '.join(arguments[:2])} failed", done.stderr)
