"""Builds the tests' modules with the real toolchain, once, and keeps them in the cache."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gothreads
from gothreads.build.builder import Request, build
from gothreads.files import cache_folder, locked, write_atomically
from gothreads.runtime import models

ROOT = Path(__file__).parent.parent.parent


MODULES = ROOT / "tests" / "modules"


NATIVE = ROOT / "tests" / "modules_native"


_WASI_THREADS = ("cc", "-target", "wasm32-freestanding", "-mcpu=generic+atomics+bulk_memory", "-O2", "-nostdlib", "-Wl,--no-entry", "-Wl,--import-memory",
                 "-Wl,--shared-memory", "-Wl,--max-memory=67108864", "-Wall", "-Wextra", "-Werror", "-o")


#: Zig's arguments for the sources of tests/modules_native, to which the output's name is appended. (In Zig 0.17,
#: std.Thread does not link for WASI, and its libc has no pthreads there: so threads.c is C, with our own header.)
_ZIG = {"strings.c": ("cc", "-target", "wasm32-wasi", "-O2", "-mexec-model=reactor", "-o"),
        "strings.zig": ("build-exe", "-target", "wasm32-freestanding", "-OReleaseSmall", "-fno-entry", "-rdynamic", "-femit-bin="),
        "threads.c": _WASI_THREADS, "program.c": _WASI_THREADS}


@functools.cache  # Go's check whether a build is up to date takes as long as many tests
def built(name: str, model: str = "threaded", **options: object) -> Path:
    """Build a module of tests/modules or of examples."""
    folder = MODULES / name
    if not folder.exists():
        folder = ROOT / "examples" / name
    return build(Request(str(folder), model=model, **options)).path  # type: ignore[arg-type]


def native(source: str) -> Path:
    """Build a module of tests/modules_native with Zig, which includes a C compiler, if its sources have changed."""
    *flags, output = _ZIG[source]
    wanted = [version("ziglang"), *flags, *((NATIVE / name).read_text() for name in ("wasi_threads.h", source))]
    folder = cache_folder() / "tests"
    path = folder / f"{source.replace('.', '_')}-{hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]}.wasm"
    folder.mkdir(exist_ok=True)
    with locked(folder / "lock"):
        if not path.exists():
            made = folder / "made.wasm"
            to = [output + str(made)] if output.endswith("=") else [output, str(made)]
            environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(folder / "zig"), "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
            subprocess.run([sys.executable, "-m", "ziglang", *flags, str(NATIVE / source), *to], env=environment, check=True)
            write_atomically(path, made.read_bytes())
    return path


MODELS = list(models.MODELS)


def opened(name: str, model: str = "threaded", **options: Any) -> gothreads.App:
    """Open a module of tests/modules in one of the models."""
    return gothreads.open(built(name, model="threaded" if model == "threaded" else "single"), model=model, **options)
