"""Builds and runs the programs of Go's own test/ folder: each must end as natively, with the same exit code, stdout and
stderr.

Building a thousand programs one by one takes hours. So a hundred of them become packages of one program, which runs
them one after another in one process, and writes a marker to both streams before and after each. A panic or os.Exit
ends the process and the program that it is in; another process then runs the remaining ones. Some programs cannot do in
a batch what the folder expects of them: they print the names of their types, or before main. Those, and programs that
differ from native, are built and run once more, alone and unmodified, and only that counts.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from conformance.building import build, environment, runner
from conformance.testfolder_results import Result
from gothreads.build.toolchain import Toolchain
from gothreads.errors import CompileError, MisuseError

#: Debian's package of Go's sources, and where it has the folder.
DEBIAN, FOLDER = "golang-1.24-src", "usr/share/go-1.24/test"
#: The version of the language that its programs are written in.
_GO = "1.24"

#: What CI runs.
SMOKE = ("chan/*", "ken/*")

#: How many programs are built into one.
BATCH = 100
#: How long a program may run, and how long a batch may take to start, which includes its compilation. Seconds.
_SECONDS, _START_SECONDS = 120, 900
_READY = b"\x01ready\x01"
_BEGIN, _END = re.compile(rb"\x01begin (p\d+)\x01"), re.compile(rb"\x01end (p\d+)\x01")
#: How many bytes of a stream are read, and how many characters are kept of an output that differs.
_MOST, _KEPT = 64 << 20, 400

#: Called with what is being done.
Progress = Callable[[str], None]
T = TypeVar("T")

_MAIN = """package main

import (
	"os"
	"syscall"

%s
)

var programs = map[string]func(){%s}

func main() {
	packages := os.Args[1:]
	os.Args = os.Args[:1]
	mark("ready")
	for _, name := range packages {
		mark("begin " + name)
		programs[name]()
		mark("end " + name)
	}
}

func mark(what string) {
	for _, stream := range []int{1, 2} {
		syscall.Write(stream, []byte("\\x01"+what+"\\x01"))
	}
}
"""


@dataclass(frozen=True)
class Outcome:
    """`code`: the exit code, or "timeout"; `out` and `err`: what the program wrote."""

    code: int | str
    out: str
    err: str

    @property
    def compared(self) -> tuple[int | str, str, str]:
        """What must be the same as natively. Of a crash: the message before the stacks, without addresses."""
        if self.code == 0:
            return self.code, self.out, self.err
        message = re.split(r"(?m)^(?:goroutine |runtime stack:|gothreads: |\[signal )", self.err)[0]
        return self.code, self.out, re.sub(r"0x[0-9a-f]+", "0x…", message).strip()


def names(folder: Path, patterns: Sequence[str] = ()) -> list[str]:
    """The programs that are run without flags and match a pattern: single files first, then folders of packages."""
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*.go")))
    actions = {str(file): _action((folder / file).read_text(errors="surrogateescape")) for file in files
               if not any(part.endswith(".dir") for part in file.parts)}
    found = [name for wanted in ("run", "rundir") for name, action in actions.items() if action == wanted]
    chosen = [name for name in found if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if not chosen:
        raise MisuseError(f"Go's test folder has no program that matches {' or '.join(patterns)}. Patterns are like a "
                          "shell's: 'chan/*'")
    return chosen


class Programs:
    """The programs of a folder, built and run in `work`."""

    def __init__(self, toolchain: Toolchain, folder: Path, work: Path, progress: Progress) -> None:
        self.toolchain, self.folder, self.work, self.progress = toolchain, folder, work.absolute(), progress

    def perform(self, names: Sequence[str]) -> list[Result]:
        """Run these programs: in one batch, and alone those that do not work in it."""
        packages = self._write_packages(names)
        excluded = self._excluded(packages)
        results = {packages[package]: Result(packages[package], state) for package, state in excluded.items()}
        broken = self._broken([package for package in packages if package not in excluded])
        startable = self._startable({package: name for package, name in packages.items()
                                     if package not in excluded and package not in broken})
        native = self._run_batch(startable, "native")
        good = {package: name for package, name in startable.items()
                if self._as_expected(name, native.get(package), "p")}
        threaded = self._run_batch(good, "threaded")
        for package, name in packages.items():
            if package in good and package in threaded and threaded[package].compared == native[package].compared:
                results[name] = Result(name, "same")
            elif name not in results:
                results[name] = self._run_alone(name)
        return [results[name] for name in names]

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text(errors="surrogateescape")

    def _as_expected(self, name: str, done: Outcome | None, package: str = "main") -> bool:
        """Whether a program has ended with 0, and has written what is in the .out file beside it, or nothing."""
        expected = (self.folder / name).with_suffix(".out")
        text = expected.read_text(errors="surrogateescape") if expected.exists() else ""
        text = re.sub(r"\bmain\.", f"{package}.", text)  # names of types begin with the package
        return done is not None and done.code == 0 and text in (done.out + done.err, done.err + done.out)

    def _write_packages(self, names: Sequence[str]) -> dict[str, str]:
        """Make a package of each program. Returns the programs by package."""
        packages = {f"p{number}": name for number, name in enumerate(names)}
        for package, name in packages.items():
            for file, text in self._sources(name, f"gotest/{package}").items():
                self._write(f"{package}/{file}", re.sub(r"(?m)^package main\b", "package p", text, count=1))
            self._write(f"{package}/zz_run.go", "package p\n\nfunc Run_() { main() }\n")
        self._write("go.mod", f"module gotest\n\ngo {_GO}\n")
        return packages

    def _sources(self, name: str, module: str) -> dict[str, str]:
        """A program's files. In a folder, they are several packages, which import each other as ./file, by a package's
        first file.
        """
        text = self._text(name)
        if _action(text) != "rundir":
            return {_file_name(name): text}
        found, places = {}, {"main": ""}
        for path in sorted((self.folder / name).with_suffix(".dir").glob("*.go")):
            text = path.read_text(errors="surrogateescape")
            package = re.search(r"(?m)^package (\w+)", text)
            place = places.setdefault(package[1] if package else "main", f"{path.stem}/")
            relative_import = r'(?m)^((?:import)?\s*[\w.]*\s*")\./(\w+")'
            found[f"{place}{_file_name(path.name)}"] = re.sub(relative_import, rf"\1{module}/\2", text)
        return found

    def _write(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, errors="surrogateescape")

    def _excluded(self, packages: dict[str, str]) -> dict[str, str]:
        """The packages that build constraints exclude, each with the target that it is not for."""
        constrained = [package for package, name in packages.items() if "//go:build" in self._text(name)]
        native = {package: "not for this machine" for package in constrained if self._is_ignored(package, "native")}
        return {package: "not for WebAssembly" for package in constrained
                if self._is_ignored(package, "threaded")} | native

    def _broken(self, packages: list[str]) -> set[str]:
        """The packages that this Go does not compile in a batch."""
        broken: set[str] = set()
        for kind in ("native", "threaded"):
            self.progress(f"compiling {len(packages)} programs, {kind}")
            more = {""}
            while more:  # repeated, since a missing import keeps Go from compiling anything
                rest = [f"./{package}" for package in packages if package not in broken]
                errors = self._go(kind, "build", *rest).stderr
                more = set(re.findall(r"(?m)^(?:# gotest/)?(p\d+)\b", errors)) & set(packages) - broken
                broken |= more
        return broken

    def _is_ignored(self, package: str, kind: str) -> bool:
        return self._go(kind, "list", "-f", "{{join .IgnoredGoFiles \" \"}}", f"./{package}").stdout.strip() != ""

    def _go(self, kind: str, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self.toolchain.go), *command], cwd=self.work, env=environment(kind),
                              capture_output=True, text=True)

    def _startable(self, packages: dict[str, str]) -> dict[str, str]:
        """The packages that link, and do not write, fail or end before main. Found by bisection."""
        with contextlib.suppress(CompileError):
            if not packages or self._process(self._link(packages, "native"), "native", []) == (0, _READY, _READY):
                return packages
        return _by_halves(self._startable, packages)

    def _link(self, packages: dict[str, str], kind: str) -> Path:
        """The program that runs the packages."""
        self._write("main.go", _MAIN % ("\n".join(f'\t{package} "gotest/{package}"' for package in packages),
                                        ", ".join(f'"{package}": {package}.Run_' for package in packages)))
        return build(self.toolchain, self.work, self.work / f"batch-{kind}", kind)

    def _run_batch(self, packages: dict[str, str], kind: str) -> dict[str, Outcome]:
        """The outcome of each package that links. After one that ends the process, another process runs the rest."""
        done: dict[str, Outcome] = {}
        left = list(packages)
        if not left:
            return done
        try:
            file = self._link(packages, kind)
        except CompileError:
            return _by_halves(lambda half: self._run_batch(half, kind), packages)
        while left:
            self.progress(f"running {len(left)} programs, {kind}")
            ended = _outcomes(*self._process(file, kind, left))
            if not ended:
                break
            done |= ended
            left = [package for package in left if package not in done]
        return done

    def _run_alone(self, name: str) -> Result:
        """Run a program unmodified, in its own process."""
        done = {}
        if (self.work / "alone").exists():
            shutil.rmtree(self.work / "alone")
        self._write("alone/go.mod", f"module test\n\ngo {_GO}\n")
        for source, text in self._sources(name, "test").items():
            self._write(f"alone/{source}", text)
        for kind in ("native", "threaded"):
            self.progress(f"{name} alone, {kind}")
            try:
                file = build(self.toolchain, self.work / "alone", self.work / f"alone-{kind}", kind)
            except CompileError as error:
                return Result(name, f"does not compile, {kind}", error.output.splitlines()[:10])
            code, out, err = self._process(file, kind, [])
            done[kind] = Outcome(code, _text(out), _text(err))
        if done["native"].compared == done["threaded"].compared:
            return Result(name, "same")
        return Result(name, "differs" if self._as_expected(name, done["native"]) else "fails natively", _details(done))

    def _process(self, file: Path, kind: str, arguments: list[str]) -> tuple[int | str, bytes, bytes]:
        """Run a batch, or a program alone, until it ends or writes nothing for too long."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, \
                subprocess.Popen([*runner(kind), str(file), *arguments], cwd=self.work, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=err) as process:
            code: int | str | None = None
            try:
                size, until = 0, time.monotonic() + _START_SECONDS
                while code is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        code = process.wait(0.2)
                    if (now := os.fstat(out.fileno()).st_size) != size:
                        size, until = now, time.monotonic() + _SECONDS
                    if code is None and time.monotonic() > until:
                        code = "timeout"
            finally:
                process.kill()
            out.seek(0)
            err.seek(0)
            return code, out.read(_MOST), err.read(_MOST)


def _by_halves(perform: Callable[[dict[str, str]], dict[str, T]], packages: dict[str, str]) -> dict[str, T]:
    """The results for each half of the packages; none for a single package."""
    both, half = list(packages.items()), len(packages) // 2
    return perform(dict(both[:half])) | perform(dict(both[half:])) if half else {}


def _file_name(name: str) -> str:
    """The name under which go build accepts a file: it leaves out x_test.go."""
    return re.sub(r"_test\.go$", "_test_.go", Path(name).name)


def _action(text: str) -> str:
    """What Go's own runner of this folder does with this file: the first line says it."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("//go:build")), "")
    return first.removeprefix("//").strip()


def _outcomes(code: int | str, out: bytes, err: bytes) -> dict[str, Outcome]:
    """The outcome of each program, from the output of a batch. A program that began and did not end has ended the
    process.
    """
    streams: list[dict[str, str]] = []
    ended = set(_END.findall(out))
    for stream in (out, err):
        parts = _BEGIN.split(stream)[1:]
        streams.append({package.decode(): _text(_END.sub(b"", written))
                        for package, written in zip(parts[::2], parts[1::2], strict=True)})
    return {package: Outcome(0 if package.encode() in ended else code, written, streams[1].get(package, ""))
            for package, written in streams[0].items()}


def _text(content: bytes) -> str:
    return content.decode(errors="surrogateescape")


def _details(done: dict[str, Outcome]) -> list[str]:
    return [f"{kind}: exit code {one.code}, stdout {one.out[:_KEPT]!r}, stderr {one.err[:_KEPT]!r}"
            for kind, one in done.items()]
