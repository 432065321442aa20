"""The overlay: edited copies of a few of Go's own files, for `go build -overlay`. GOROOT itself is not modified."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from gothreads.build.edit import SUPPORTED, Edit
from gothreads.build.edits import ALIASES, EDITS, LEFT_OUT, TESTS_LEFT_OUT
from gothreads.build.go_test_edits import TEST_EDITS
from gothreads.build.simulation_edits import SIMULATION_EDITS
from gothreads.build.toolchain import Toolchain
from gothreads.errors import ToolchainError
from gothreads.files import cache_key, keep_exactly, reported

log = logging.getLogger("gothreads")

#: Go files that are added to GOROOT. Its subfolders are folders of GOROOT/src.
ADDED = Path(__file__).parent / "goroot"
GUEST = "gothreads/guest"
#: The packages that every program can import: path below GUEST -> path.
GUEST_PACKAGES = {"": GUEST} | {name: f"{GUEST}/{name}" for name in ("idle", "slot", "wire")}
#: Packages that get threads, sockets and signals.
FOLDERS = ("runtime", "syscall", "time", "internal/poll", "internal/syscall/unix", "net")
#: The code that rewrites modules; rewriting.finish() has the order of the passes.
WASM = Path(__file__).parent.parent / "wasm"
#: A file of the guest package in GOROOT. Go writes the paths of overlaid files into what it compiles, and takes that
#: from its cache although it was made below another GOROOT. With this file, stacks name the guest package below this
#: one.
_COMPILED_WITH = "package guest\n\n// Compiled with the Go in {}.\n"


def edited(toolchain: Toolchain, edits: Iterable[Edit]) -> dict[str, str]:
    """Name relative to GOROOT/src -> edited text. Raises ToolchainError when an expected text is missing.

    Test files may be missing, as some distributions of Go leave them out, or may differ.
    """
    texts: dict[str, str] = {}
    for edit in edits:
        if not edit.applies_to(toolchain.minor):
            continue
        if edit.file.endswith("_test.go") and not (toolchain.goroot / "src" / edit.file).exists():
            continue
        path = toolchain.goroot / "src" / edit.file
        if edit.file not in texts:
            with reported(f"read {path} of {toolchain.version}", ToolchainError):
                texts[edit.file] = path.read_text()
        found = texts[edit.file].count(edit.expect)
        if found != edit.count and edit.file.endswith("_test.go"):
            log.warning("%s: %s is not as expected, and some of its tests stay skipped (%s)", toolchain.version,
                        edit.file, edit.why)
            continue
        if found != edit.count:
            raise ToolchainError(
                f"{toolchain.version}: {edit.file} does not have the text that gothreads edits ({edit.why}): expected "
                f"{edit.count} times, found {found}: {edit.expect.strip()[:80]!r}. Supported: Go "
                f"{', '.join(SUPPORTED)}, unmodified")
        texts[edit.file] = texts[edit.file].replace(edit.expect, edit.replace)
    return texts


def added(folder: str) -> dict[str, Path]:
    """The files that gothreads adds to one folder of GOROOT/src."""
    return {f"{folder}/{path.name}": path for path in sorted((ADDED / folder).iterdir())
            if path.suffix in (".go", ".s")}


def write_overlay(toolchain: Toolchain, cache: Path, *, threaded: bool, testing: bool = False,
                  simulate: bool = False, guest: Path | None = None,
                  extra: Mapping[Path, str] | None = None) -> Path:
    """Write an overlay file, and the files it refers to, below `cache`; returns its path.

    threaded: add threads to Go's runtime.
    testing: tell Go's own tests that there is parallelism.
    simulate: let a seed decide what Go's one thread runs. Not with threads.
    guest: the folder that the program's go.mod names for the guest package. By default the package goes into GOROOT,
    where every program finds it. Every build gets it.
    extra: further files to overlay: absolute path -> text.

    Files are named by their content, so that processes may share the folder and Go's build cache recognises them.
    """
    source = toolchain.goroot / "src"
    in_goroot = guest is None
    guest = guest or source / GUEST
    replace = {str(guest / below / path.name): str(path) for below, package in GUEST_PACKAGES.items()
               for path in added(package).values()}
    if not in_goroot:  # a copy that another gothreads has made may have more files
        replace = {str(path): "" for name in GUEST_PACKAGES for path in (guest / name).glob("*.go")} | replace
    texts: dict[Path, str] = dict(extra or {})
    if in_goroot:
        texts[guest / "zz_goroot.go"] = _COMPILED_WITH.format(toolchain.goroot)
    if threaded:
        texts |= {source / name: text
                  for name, text in edited(toolchain, EDITS + (TEST_EDITS if testing else ())).items()}
        replace |= {str(source / name): str(path) for folder in FOLDERS for name, path in added(folder).items()}
        replace |= {str(source / name): "" for name in (*LEFT_OUT, *(TESTS_LEFT_OUT if testing else ()))}
        replace |= {str(source / name): str(source / of) for name, of in ALIASES.items()}
    elif simulate:
        texts |= {source / name: text for name, text in edited(toolchain, SIMULATION_EDITS).items()}
        replace |= {str(source / "runtime" / path.name): str(path) for path in added("simulation").values()}
    for target, text in texts.items():
        copy = cache / "overlay" / f"{cache_key(text)}-{target.name}"
        keep_exactly(copy, text.encode())
        replace[str(target)] = str(copy)
    content = json.dumps({"Replace": dict(sorted(replace.items()))}, indent=1)
    overlay = cache / "overlay" / f"{cache_key(content)}.json"
    keep_exactly(overlay, content.encode())
    return overlay


def fingerprint() -> str:
    """A hash that changes whenever the code that gothreads adds to modules changes."""
    added = (part for folder, _, names in sorted(os.walk(ADDED)) for name in sorted(names)
             for part in (name, (Path(folder) / name).read_bytes()))
    passes = (path.read_bytes() for path in (*sorted(WASM.rglob("*.py")), Path(__file__).parent / "rewriting.py"))
    return cache_key(*added, *passes, repr((EDITS, SIMULATION_EDITS, sorted(LEFT_OUT), sorted(ALIASES))))
