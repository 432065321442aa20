"""Builds the tests' modules with the real toolchains and keeps them, with their machine code, in the cache.

`prepare` builds before the tests start what they will need, as far as their text tells. Anything else is built when a
test asks for it, outside that test's timeout, while other workers of pytest-xdist that want the same wait for it.

Go takes a second to find out that nothing is stale, so a stamp in the cache records each build: a file whose name is a
hash of everything that the module depends on, and whose text is the module's path.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gothreads
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.build.toolchain import find_go
from gothreads.engine.settings import StopCheck, compile_module, compile_threaded, new_engine
from gothreads.errors import CompileError
from gothreads.files import cache_folder, locked, write_atomically
from gothreads.runtime import models
from gothreads.runtime.module_file import load
from tests.support.waiting import PATIENCE

#: What surrounds a build. In tests it stops the test's time (tests/conftest.py).
outside_timeout: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests"
MODULES = TESTS / "modules"
NATIVE = TESTS / "modules_native"
MODELS = list(models.MODELS)

_WASI_THREADS = ("cc", "-target", "wasm32-freestanding", "-mcpu=generic+atomics+bulk_memory", "-O2", "-nostdlib",
                 "-Wl,--no-entry", "-Wl,--import-memory",
                 "-Wl,--shared-memory", "-Wl,--max-memory=67108864", "-Wall", "-Wextra", "-Werror", "-o")

#: Zig's arguments for the sources of tests/modules_native, to which the output's name is appended. (In Zig 0.17,
#: std.Thread does not link for WASI, and its libc has no pthreads there: so threads.c is C, with our own header.)
_ZIG = {"strings.c": ("cc", "-target", "wasm32-wasi", "-O2", "-mexec-model=reactor", "-o"),
        "strings.zig": ("build-exe", "-target", "wasm32-freestanding", "-OReleaseSmall", "-fno-entry", "-rdynamic",
                        "-femit-bin="),
        "threads.c": _WASI_THREADS, "program.c": _WASI_THREADS}

#: How a test names a module that it builds; if its name is in a variable, any literal of the text may be one.
_NAMED = re.compile(r"\b(?:built\(|opened\(|started\(|MODULES / )\"(\w+)\"")
_IN_A_VARIABLE = re.compile(r"^from tests\.support\.modules import .*\b(built|opened)\b(?! as)(?s:.*)\b\1\([a-z]\w*[,)]",
                            re.MULTILINE)
_LITERAL = re.compile(r"\"(\w+)\"")


@dataclass(frozen=True)
class _Build:
    """A module to be built by `make`, which returns its path. stamp: the file that records the path."""

    title: str
    stamp: Path
    make: Callable[[], Path]

    def made(self) -> Path | None:
        try:
            path = Path(self.stamp.read_text())
        except FileNotFoundError:
            return None
        return path if path.exists() else None

    def path(self) -> Path:
        if (path := self.made()) is not None:
            return path
        with outside_timeout(), locked(self.stamp.with_suffix(".lock")):
            if (path := self.made()) is None:
                path = self.make()
                _compile(path)
                write_atomically(self.stamp, str(path).encode())
        return path


@functools.cache
def built(name: str, model: str = "threaded", **options: object) -> Path:
    """Build a module of tests/modules or of examples, or stress/chaos."""
    return _go_build(name, model, **options).path()


@functools.cache
def written(folder: Path, source: str) -> Path:
    """Make the folder a Go program of one file, without other modules."""
    folder.mkdir(exist_ok=True)
    (folder / "go.mod").write_text("module program\n\ngo 1.25\n")
    (folder / "main.go").write_text(source)
    return folder


def native(source: str) -> Path:
    """Build a module of tests/modules_native with Zig, which includes a C compiler."""
    return _zig_build(source).path()


def _go_build(name: str, model: str, **options: object) -> _Build:
    folder = next(folder for parent in (MODULES, ROOT / "examples", ROOT / "stress")
                  if (folder := parent / name).is_dir())
    request = Request(str(folder), model=model, **options)  # type: ignore[arg-type]
    stamp = _stamp(repr(request), *_go(), _content([folder]))
    return _Build(f"{name} ({model})", stamp, lambda: build(request).path)


def _zig_build(source: str) -> _Build:
    *flags, output = _ZIG[source]
    stamp = _stamp(source, version("ziglang"), *flags, _content([NATIVE]))

    def make() -> Path:
        path, made = stamp.with_suffix(".wasm"), stamp.with_suffix(".made")
        to = [output + str(made)] if output.endswith("=") else [output, str(made)]
        done = subprocess.run([sys.executable, "-m", "ziglang", *flags, str(NATIVE / source), *to],
                              env=os.environ | zig_environment(),
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompileError(f"{source} does not compile", done.stderr)
        write_atomically(path, made.read_bytes())
        made.unlink()
        return path
    return _Build(source, stamp, make)


@functools.cache
def _go() -> tuple[str, ...]:
    """What a module that is built from Go depends on besides its sources."""
    toolchain = find_go()
    return str(toolchain.goroot), toolchain.version, *(os.environ.get(name, "") for name in ("GOEXPERIMENT", "GOFLAGS", "GOTHREADS_OPTIMIZE"))


@functools.cache
def _builder() -> str:
    package = Path(gothreads.__file__).parent
    return _content([package / "build", package / "wasm"]) + gothreads.__version__ + version("wasmtime")


def _stamp(*parts: str) -> Path:
    folder = cache_folder() / "tests"
    folder.mkdir(exist_ok=True)
    return folder / hashlib.sha256("\0".join((_builder(), *parts)).encode()).hexdigest()[:24]


def _content(folders: Iterable[Path]) -> str:
    """A hash of all files in these folders, with their names."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in folders for file in folder.rglob("*") if file.is_file()
                       and file.suffix != ".pyc"):
        digest.update(f"{file}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _compile(path: Path) -> None:
    """Fill the cache of machine code, as opening the module would, trusted or not."""
    loaded, stack = load(path, trust=True), gothreads.Limits().stack
    if loaded.model != "threaded":
        compile_module(new_engine(stack, threads=False), loaded.wasm, stack)
        return
    for check in {loaded.stop_check(main_calls=True), StopCheck.EPOCH}:
        compile_threaded(new_engine(stack, stop_check=check), loaded.wasm, stack, stop_check=check)


def zig_environment() -> dict[str, str]:
    zig = str(cache_folder() / "tests" / "zig")
    return {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}


def opened(name: str, model: str = "threaded", **options: Any) -> gothreads.App:
    """Open a module of tests/modules in one of the models. It is trusted: see LoadedModule.stop_check."""
    return gothreads.open(built(name, model="threaded" if model == "threaded" else "single"), model=model,
                          **{"trust": True, **options})


def ended(module: Path, *args: str, allow_net: list[str] | None = None) -> tuple[int, str, str]:
    """A program that was run to its end: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with gothreads.open(module, args=args, allow_net=allow_net or [], stdout=out, stderr=err) as app:
            code = app.wait(PATIENCE)
    except gothreads.GuestExit as error:  # as early as that
        code = error.code
    return code, out.getvalue(), err.getvalue()


def prepare(places: Iterable[Path], report: Callable[[str], None], *, long: bool) -> None:
    """Build the modules that test files name and that are not there yet; report on each.

    A build that fails is reported, too. The tests that need the module repeat it and fail with its output.

    places: test files, and folders with test files.
    long: also what only tests marked `long` name.
    """
    texts = _texts(places)
    missing = [build for build in _named(texts if long else map(_without_long_tests, texts)) if build.made() is None]
    if missing:
        report(f"building {len(missing)} modules for the tests (the first time only)")
    with ThreadPoolExecutor(2) as threads:
        running = {threads.submit(build.path): build.title for build in missing}
        for number, done in enumerate(as_completed(running), 1):
            error = done.exception()
            report(f"{number}/{len(missing)} {running[done]}" + (f" FAILED: {error}" if error else ""))


def _texts(places: Iterable[Path]) -> Iterator[str]:
    """The text of the test files, and of the files of tests/support that they import."""
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    for file in files:  # which grows
        text = file.read_text()
        yield text
        for name in re.findall(r"^from tests\.support\.(\w+) import", text, re.MULTILINE):
            if name != "modules" and (path := TESTS / "support" / f"{name}.py") not in files:
                files.append(path)


def _without_long_tests(text: str) -> str:
    if re.search(r"^pytestmark = \[?pytest\.mark\.long", text, re.MULTILINE):
        return ""
    return _without(_without(text, "pytest.mark.long"), "pytest.fixture", unused=True)


def _without(text: str, decorator: str, *, unused: bool = False) -> str:
    """A file's text without the functions that are decorated so; `unused`: only those that nothing else names."""
    lines = text.splitlines()
    for node in reversed(ast.parse(text).body):
        if (isinstance(node, ast.FunctionDef) and any(ast.unparse(each).startswith(decorator)
                                                      for each in node.decorator_list)
                and not (unused and len(re.findall(rf"\b{node.name}\b", text)) > 1)):
            del lines[node.decorator_list[0].lineno - 1:node.end_lineno]
    return "\n".join(lines)


def _named(texts: Iterable[str]) -> list[_Build]:
    """The modules that these texts build or open. (`calls` has fixtures: tests/conftest.py.)"""
    known = {folder.name for parent in (MODULES, ROOT / "examples") for folder in parent.iterdir()
             if (folder / "go.mod").exists()}
    found: dict[str, _Build] = {}
    for text in texts:
        literal = _LITERAL if _IN_A_VARIABLE.search(text) else _NAMED
        names = known & {*literal.findall(text), *re.findall(r"\bcalls\b", text)}
        builds = [_go_build(name, "threaded") for name in sorted(names)]
        if re.search(r"\bMODELS\b|\"(single|idle|pool)\"|\bcalls_single\b", text):
            in_other_models = names & {*literal.findall(re.sub(r"built\(\"\w+\"\)", "", text)), "calls"}
            builds += [_go_build(name, "single") for name in sorted(in_other_models)]
        builds += [_zig_build(source) for source in sorted(_ZIG.keys() & set(re.findall(r"\"(\w+\.\w+)\"", text)))]
        found |= {build.title: build for build in builds}
    return list(found.values())
