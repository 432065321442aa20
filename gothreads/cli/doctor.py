"""`gothreads doctor`: checks whether this machine has what gothreads needs, and says what a missing part would add."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Literal

import wasmtime

from gothreads.build.toolchain import find_go
from gothreads.cli.command import Command
from gothreads.engine import extension
from gothreads.engine.settings import new_engine
from gothreads.errors import GothreadsError
from gothreads.files import cache_folder
from gothreads.launch import available_processors
from gothreads.requirements import EXTRAS, UVICORN, WASMTIME, lacking
from gothreads.runtime.options import Limits
from gothreads.terminal import Terminal
from gothreads.version import __version__


@dataclass(frozen=True)
class Check:
    """One result. `state`: ok, warning (untested version), less (slower, or a feature is missing), bad (unusable)."""

    name: str
    state: Literal["ok", "warning", "less", "bad"]
    words: str


def findings() -> Iterator[Check]:
    """Run all checks, in the order of the report."""
    yield Check("gothreads", "ok", f"{__version__}, Python {platform.python_version()}, {platform.system()} on {platform.machine()}")
    yield _wasmtime()
    if extension.compiled is not None:
        yield Check("calls", "ok", "in C")
    else:
        yield Check("calls", "less", "through ctypes, which is correct and some twenty times slower. "
                      f"The extension in C is not in use: {extension.missing}")
    processors = available_processors()
    yield Check("processors", "ok" if processors > 1 else "less", f"{processors}" if processors > 1 else "1: threads will not run at the same time")
    yield _cache()
    try:
        yield Check("go", "ok", str(find_go()))
    except GothreadsError as error:
        yield Check("go", "less", f"only modules that are built already can be run: {error}")
    compiler = next((name for name in (os.environ.get("CC", "cc"), "gcc", "clang") if shutil.which(name)), None)
    yield Check("cc", "ok" if compiler else "less", compiler or "there is no C compiler, so `gothreads compare` leaves native Go out")
    for extra in EXTRAS:
        untested = UVICORN.warning if extra == "serve" else None
        if (problem := lacking(extra)) is not None:
            yield Check(extra, "less", problem)
        else:
            yield Check(extra, "warning" if untested else "ok", untested or "installed")


def _wasmtime() -> Check:
    try:
        engine = new_engine(Limits().stack)
        wasmtime.Module(engine, '(module (memory 1 1 shared) (func (result i32) (i32.atomic.load (i32.const 0))))').close()
        engine.close()
    except (wasmtime.WasmtimeError, GothreadsError) as error:
        return Check("wasmtime", "bad", f"{version('wasmtime')} cannot compile modules with threads here: {str(error).splitlines()[0]}")
    if WASMTIME.warning is not None:
        return Check("wasmtime", "warning", WASMTIME.warning)
    return Check("wasmtime", "ok", f"{version('wasmtime')}, with threads (which its authors support as Tier 2: docs/security.md)")


def _cache() -> Check:
    try:
        folder = cache_folder()
        with tempfile.TemporaryFile(dir=folder):
            pass
        size = sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)
    except (GothreadsError, OSError) as error:
        return Check("cache", "bad", str(error))
    return Check("cache", "ok", f"{folder}, {size / 1e6:,.0f} MB")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the checks and print the results; returns the exit code."""
    found = list(findings())
    if arguments.json:
        terminal.data({"findings": [asdict(finding) for finding in found], "ok": all(finding.state != "bad" for finding in found)})
    else:
        width, states = max(len(finding.name) for finding in found), max(4, *(len(finding.state) for finding in found))
        for finding in found:
            terminal.out(f"{finding.state.ljust(states)}  {finding.name.ljust(width)}  {finding.words}")
    return int(any(finding.state == "bad" for finding in found))


DOCTOR = Command("doctor", "check whether gothreads can run on this machine",
                 "  gothreads doctor\n  gothreads doctor --json", add_arguments, run)
