"""The programs that a pattern such as ./... matches, and Go's messages about them with paths from here."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gothreads.build.toolchain import Toolchain
from gothreads.errors import BuildError, CompileError, MisuseError

#: Flags of go build and go test that Go does not support for WebAssembly -> what to do instead.
_NOT_HERE = {
    "-race": "find races natively, with `{go} -race`; `{gothreads} --sharpen SEED` makes them show more often here",
    "-fuzz": "fuzz natively, with `{go} -fuzz`; `{gothreads}` then runs what was found, in testdata/fuzz",
    "-msan": "use it natively, with `{go} -msan`",
    "-asan": "use it natively, with `{go} -asan`",
}


def check_flag(word: str, verb: str) -> None:
    """MisuseError for a flag of `go build` or `go test`, the verb, that Go does not support for WebAssembly."""
    name, _, value = word.partition("=")
    flag = f"-{name.lstrip('-')}"
    if name.startswith("-") and flag in _NOT_HERE and value != "false":
        instead = _NOT_HERE[flag].format(go=f"go {verb}", gothreads=f"gothreads {verb}")
        raise MisuseError(f"Go has no {flag} for WebAssembly: {instead} (docs/what-works.md)")

#: A position at the beginning of a line of Go's output: a path, then a colon and a line's number.
_POSITION = re.compile(r"(?m)^([ \t]*)([^\s:][^\n:]*\.(?:go|s|mod))(?=:\d)")

#: A file of Go's build cache, as messages name it; and how they end where it cannot be written.
_CACHE_ENTRY = re.compile(r"[0-9a-f]{64}-[ad]: ")
_REFUSALS = ("permission denied", "read-only file system", "not a directory", "no space left on device",
             "disk quota exceeded")


def main_packages(toolchain: Toolchain, pattern: str, environment: dict[str, str],
                  flags: Sequence[str] = ()) -> list[Path]:
    """The folders of the programs (package main) that a pattern matches. BuildError if there are none."""
    work, target = Path.cwd(), pattern
    if pattern.startswith((".", "/")):
        folder, _, rest = pattern.partition("...")
        if rest == "" and (folder.endswith("/") or folder == ""):  # the pattern's folder may be in another module
            work, target = Path(folder or "."), "./..."
    if not os.path.isdir(work):
        raise BuildError(f"there is no folder {work}")
    command = [str(toolchain.go), "list", "-find", "-e", "-f", "{{.Name}}\t{{.Dir}}", *flags, target]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise go_failed(done.stderr, work, work)
    packages = [line.split("\t") for line in done.stdout.splitlines()]
    found = [Path(folder) for name, folder in packages if name == "main" and folder]
    if not found:
        raise BuildError(f"{pattern} matches no program (package main)")
    return found


def is_refused_cache(output: str) -> bool:
    """Whether a go command says that it cannot write to its cache."""
    return any(("build cache" in line or _CACHE_ENTRY.search(line)) and line.rstrip().endswith(_REFUSALS)
               for line in output.splitlines())


def go_failed(output: str, work: Path, folder: object = None) -> CompileError:
    """The error for `go list`, which has failed in `work`. folder: the package, if it is given as a folder."""
    hint = ""
    if is_refused_cache(output):
        hint = ". Go cannot write to its cache: set GOCACHE to a folder that can be written"
    elif folder is not None and ("go.mod file not found" in output or "cannot find main module" in output):
        hint = f". A folder needs a go.mod; this writes one: gothreads init {folder}"
    return CompileError(f"go list failed{hint}", relative_to_here(output, work))


def relative_to_here(output: str, work: Path) -> str:
    """What a go command has printed in the folder `work`, with paths from this process's folder, if that is shorter.

    So editors and terminals find the files.
    """
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return output
    if here == work.resolve():
        return output

    return _POSITION.sub(lambda match: match[1] + _from(here, work.resolve() / match[2]), output)


def path_from_here(file: Path) -> str:
    """A file's path as in what `relative_to_here` returns."""
    try:
        return _from(Path.cwd(), file)
    except OSError:
        return str(file)


def _from(here: Path, file: Path) -> str:
    path = os.path.normpath(file)
    relative = os.path.relpath(path, here)
    if os.sep not in relative:
        relative = f"./{relative}"  # as Go does
    return min(relative, path, key=len)
