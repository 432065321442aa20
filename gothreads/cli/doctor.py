"""`gothreads doctor`: checks whether gothreads can run on this machine, and says what a missing part would add."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import pwd
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import wasmtime

from gothreads import cache
from gothreads.build.toolchain import Toolchain, find_go
from gothreads.cli.command import Command
from gothreads.engine import extension
from gothreads.engine.settings import new_engine
from gothreads.errors import GothreadsError
from gothreads.files import cache_folder, reason
from gothreads.launch import available_processors
from gothreads.output.terminal import Terminal
from gothreads.requirements import EXTRAS, UVICORN, WASMTIME, install, missing_modules
from gothreads.runtime.options import Limits
from gothreads.version import __version__, installed_package

#: With fewer descriptors, `gothreads serve` takes fewer than its 2,048 clients.
_DESCRIPTORS = 8192
#: Free space that a first build and its machine code need, in bytes.
_FREE = 1 << 30

_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Check:
    """One result. `state`: ok; warning: gothreads runs, but slower, with less, or untested; problem: it does not
    run.
    """

    name: str
    state: Literal["ok", "absent", "warning", "problem"]
    words: str


def findings() -> Iterator[Check]:
    """Run all checks, in the order of the report."""
    yield _package()
    yield _python()
    yield _wasmtime()
    yield _calls()
    processors = available_processors()
    yield (Check("processors", "ok", f"{processors}") if processors > 1 else
           Check("processors", "warning", "1, so threads will not run at the same time"))
    yield _descriptors()
    yield _threads()
    yield _cache()
    try:
        go = find_go()
        yield Check("go", "ok", str(go))
        yield _go_cache(go)
    except GothreadsError as error:
        yield Check("go", "warning", f"only modules that are already built can run: {error}")
    yield _compiler()
    yield from map(_extra, EXTRAS)


def _package() -> Check:
    installed = installed_package()
    where = f"{__version__}, in {_PACKAGE}"
    if installed is None:
        return Check("gothreads", "ok", f"{where}, which is not installed")
    if installed.resolve() == _PACKAGE:
        return Check("gothreads", "ok", where)
    return Check("gothreads", "warning",
                 f"{where}, which shadows the gothreads installed in {installed}. Run it from another folder, "
                 f"or by the command `gothreads`, or install these sources: pip install -e {_PACKAGE.parent}")


def _python() -> Check:
    what = f"{platform.python_version()}, {platform.system()} on {platform.machine()}"
    if not extension.FREE_THREADED:
        return Check("python", "ok", f"{what}, with the GIL")
    gil = "on" if getattr(sys, "_is_gil_enabled", lambda: True)() else "off"
    return Check("python", "warning",
                 f"{what}, a free-threaded build with the GIL {gil}. gothreads is tested with the GIL, and "
                 "little without. For production, use a build with the GIL")


def _wasmtime() -> Check:
    module = "(module (memory 1 1 shared) (func (result i32) (i32.atomic.load (i32.const 0))))"
    found = version("wasmtime")
    try:
        engine = new_engine(Limits().stack)
        wasmtime.Module(engine, module).close()
        engine.close()
    except (wasmtime.WasmtimeError, GothreadsError) as error:
        return Check("wasmtime", "problem",
                     f"{found} cannot compile modules with threads here: {str(error).splitlines()[0]}")
    if WASMTIME.warning is not None:
        return Check("wasmtime", "warning", WASMTIME.warning)
    return Check("wasmtime", "ok", f"{found}, a tested version (>={WASMTIME.least},<{WASMTIME.below}). Threads are "
                 "Tier 2 in wasmtime: docs/security.md says what that means")


def _calls() -> Check:
    if extension.compiled is not None:
        return Check("calls", "ok", "in C")
    return Check("calls", "warning",
                 "through ctypes, which is correct, and about twenty times slower than the C extension. "
                 f"The extension is not in use: {extension.missing}")


def _descriptors() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = f"; run, call and serve raise this to {_count(hard)}" if soft != hard else ""
    what = f"{_count(soft)} (ulimit -n){raised}"
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        return Check("descriptors", "warning",
                     f"{what}, so serve takes fewer than 2,048 clients. Raise the hard limit to {_DESCRIPTORS:,}")
    return Check("descriptors", "ok", what)


def _threads() -> Check:
    """The smallest of the limits on threads. (The user's does not bind root.)"""
    limits = {"the system (kernel.threads-max)": _number(Path("/proc/sys/kernel/threads-max"))}
    if os.geteuid() != 0:
        limits["this user (ulimit -u)"] = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    for folder in _control_groups():
        limits[f"the control group ({folder / 'pids.max'})"] = _number(folder / "pids.max")
    bound = {what: most for what, most in limits.items() if most != resource.RLIM_INFINITY}
    if not bound:
        return Check("threads", "ok", "unlimited")
    what, most = min(bound.items(), key=lambda item: item[1])
    needed = Limits().threads
    if most < needed:
        return Check(
            "threads",
            "warning",
            f"at most {most:,} for {what}, and a module may use {needed:,}. Raise it, or use --limit threads=N",
        )
    return Check("threads", "ok", f"at most {most:,} for {what}")


def _control_groups() -> Iterator[Path]:
    """The folder of this process's control group (version 2), and those above it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                folder = Path("/sys/fs/cgroup") / line[3:].lstrip("/")
                yield from (f for f in (folder, *folder.parents) if f.is_relative_to("/sys/fs/cgroup"))


def _number(file: Path) -> int:
    """The number in a file; RLIM_INFINITY for "max", or if there is none."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return resource.RLIM_INFINITY


def _count(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit:,}"


def _go_cache(go: Toolchain) -> Check:
    """Go's own cache, without which it builds nothing."""
    done = subprocess.run([go.go, "env", "GOCACHE"], env=os.environ | {"GOTOOLCHAIN": "local"}, capture_output=True,
                          text=True, check=False)
    folder = Path(done.stdout.strip())
    there = next((above for above in (folder, *folder.parents) if above.exists()), folder)
    if done.returncode == 0 and folder.is_absolute() and there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Check("GOCACHE", "ok", f"{folder}, writable")
    return Check("GOCACHE", "warning", f"only modules that are already built can run: Go cannot write to its cache, "
                 f"{folder}. Set GOCACHE to a folder that can be written")


def _cache() -> Check:
    try:
        folder = cache_folder()
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
        owner = folder.stat().st_uid
    except GothreadsError as error:
        return Check("cache", "problem", str(error))
    except OSError as error:
        return Check("cache", "problem", f"cannot write to {error.filename or 'the cache'}: {reason(error)}. "
                     "Set GOTHREADS_CACHE to a folder that can be written")
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"user {owner}"
    found = cache.contents()
    limit = "no limit" if found.limit is None else f"limit {found.limit / 1e6:,.0f} MB"
    what = f"{folder}, {found.size / 1e6:,.0f} MB ({cache.LIMIT}: {limit}), writable, owned by {name}"
    if found.limit is not None and found.bounded > found.limit:
        return Check("cache", "warning", f"{what}. It is over its limit, since what was used in the last hour stays; "
                                         "`gothreads cache --clean` empties it")
    if free < _FREE:
        return Check("cache", "warning", f"{what}. The disk has only {free / 1e6:,.0f} MB left")
    return Check("cache", "ok", what)


def _compiler() -> Check:
    """The C compiler: only `gothreads compare` runs it, and an installation of gothreads from source."""
    named = shlex.split(os.environ.get("CC", ""))[:1]
    path = next(filter(None, map(shutil.which, named or ("cc", "gcc", "clang"))), None)
    if path is None:
        state: Literal["absent", "warning"] = "warning" if named else "absent"
        return Check("cc", state,
                     f"{f'CC={named[0]} is not there' if named else 'not installed'} (optional: for native Go in "
                     "`gothreads compare`, and to install gothreads from source)")
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("cc", "warning", f"{path} does not work: {error}")
    return Check("cc", "ok", f"{path}: {(done.stdout.splitlines() or ['?'])[0]}")


def _extra(extra: str) -> Check:
    if missing := missing_modules(extra):
        return Check(extra, "absent", f"not installed (optional: `gothreads {extra}` needs {', '.join(missing)}): "
                                      f"{install(extra)}")
    wrong = (UVICORN.problem or UVICORN.warning) if extra == "serve" else None
    return Check(extra, "warning", wrong) if wrong else Check(extra, "ok", "installed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the checks and print the results; returns the exit code."""
    found = list(findings())
    usable = all(finding.state != "problem" for finding in found)
    if arguments.json:
        terminal.data({"findings": [asdict(finding) for finding in found], "ok": usable})
    else:
        width = max(len(finding.name) for finding in found)
        for finding in found:
            terminal.out(f"{finding.state:7}  {finding.name.ljust(width)}  {finding.words}")
    return 0 if usable else 1


DOCTOR = Command("doctor", "check whether gothreads can run on this machine; if not, the exit code is 1", """\
  gothreads doctor
  gothreads doctor --json""", add_arguments, run)
