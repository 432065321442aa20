"""Provides the package gothreads/guest to programs.

A build overlays it on GOROOT, so a program needs no set-up. Editors and `go vet` do not see the overlay, so
`gothreads init` puts a copy beside the program and names it in go.mod. A build of such a program overlays the copy with
the package of this gothreads, so the compiled package always fits the host.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from gothreads.build.overlay import GUEST, GUEST_PACKAGES, added, fingerprint
from gothreads.build.toolchain import Toolchain
from gothreads.errors import BuildError, CompileError
from gothreads.files import cache_folder, keep_exactly, make_folder, write_atomically

#: The folder's name begins with a dot, so it is not part of `./...`.
COPY = Path(".gothreads") / "guest"
_REPLACED = re.compile(rf"(?m)^[ \t]*(?:replace[ \t]+)?{GUEST}(?:[ \t]+v\S+)?[ \t]*=>[ \t]*(\S+)[ \t\r]*$")
_VERSION = re.compile(r"(?m)^[ \t]*go[ \t]+([0-9]{1,3})\.([0-9]{1,3})")
_GUEST_VERSION = (1, 25)
_GUEST_MODULE = f"module {GUEST}\n\ngo {_GUEST_VERSION[0]}.{_GUEST_VERSION[1]}\n".encode()
_EXAMPLE = '''package main

import (
	"strings"

	"gothreads/guest"
)

// Add is called by the host: app.add(2, 3) in Python, or POST /api/call/add.
//
//gothreads:export
func Add(a, b int) int { return a + b }

func init() { // not in main, which runs in the model threaded only
	guest.Handle("upper", func(payload []byte) ([]byte, error) {
		return []byte(strings.ToUpper(string(payload))), nil
	})
}

func main() {
	select {} // the module runs on; calls come at any time, from any thread
}
'''


def guest_folder(work: Path) -> Path | None:
    """The folder that go.mod names for gothreads/guest, for a program in `work`; None when it names none.

    BuildError if it is not there, which Go needs though the overlay has its content.
    """
    if (root := module_root(work)) is None:
        return None
    match = _REPLACED.search((root / "go.mod").read_text(errors="replace"))
    named = (root / match[1].strip('"`')).resolve() if match else None
    if named is not None and not (named / "go.mod").is_file() and not (root / "vendor").is_dir():
        raise BuildError(f"{root / 'go.mod'} says that gothreads/guest is in {named}, and it is not (is that in "
                         f".gitignore?). To write it: gothreads init {root}")
    return named


def module_root(work: Path) -> Path | None:
    """The folder with the go.mod of the Go module that `work` is in; None if it is in none."""
    return next((folder for folder in (work, *work.parents) if (folder / "go.mod").is_file()), None)


def named_in_copy(work: Path, folder: Path) -> tuple[Path, Path] | None:
    """Write a copy of the program's go.mod that names gothreads/guest, for go's -modfile; and the package.

    For vet, which go runs in each package's folder: a package that exists in the overlay only has none. Returns the
    copy of go.mod, in `folder`, and the package's folder. None if go.mod names the package itself, or a copy would not
    do: in a workspace, with a vendor folder, or for an older Go, which may not depend on a module for a newer one.
    """
    root = module_root(work)
    if root is None or guest_folder(work) is not None or (root / "vendor").is_dir() or in_workspace(work):
        return None
    text = (root / "go.mod").read_text(errors="replace")
    version = _VERSION.search(text)
    if version is None or (int(version[1]), int(version[2])) < _GUEST_VERSION:
        return None
    package = cache_folder() / "overlay" / f"guest-{fingerprint()}"
    for below, name in GUEST_PACKAGES.items():
        for path in added(name).values():
            keep_exactly(package / below / path.name, path.read_bytes())
    keep_exactly(package / "go.mod", _GUEST_MODULE)
    write_atomically(folder / "go.mod",
                     f"{text}\nrequire {GUEST} v0.0.0\nreplace {GUEST} => {json.dumps(str(package))}\n".encode())
    if (root / "go.sum").is_file():
        write_atomically(folder / "go.sum", (root / "go.sum").read_bytes())
    return folder / "go.mod", package


def in_workspace(work: Path) -> bool:
    """Whether Go would use a workspace (go.work) in that folder."""
    named = os.environ.get("GOWORK")
    if named:
        return named != "off"
    return any((above / "go.work").is_file() for above in (work, *work.parents))


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
    write_atomically(folder / COPY / "go.mod", _GUEST_MODULE)
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
