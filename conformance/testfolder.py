"""The programs of Go's own test/ folder: each must end as natively, with the same exit code, stdout and stderr.

To build a thousand programs one by one takes hours. So a hundred of them become packages of one program, which runs them one
after another, in one process; it writes a mark to both streams before and after each. What ends the process (a panic,
os.Exit) ends that one of them, and the next process goes on behind it. A program that does not do there what the folder says
that it must (it looks at the names of its types, it prints before main), or that differs from native, is built and run once more,
alone and as it is; only that counts.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from conformance.building import build, environment, runner
from gothreads.build.toolchain import Toolchain
from gothreads.errors import CompileError, MisuseError
from gothreads.files import write_atomically

#: Debian's package of Go's sources, and where it has the folder.
DEBIAN, FOLDER = "golang-1.24-src", "usr/share/go-1.24/test"
#: The language that its programs are written in.
_GO = "1.24"

#: What CI runs.
SMOKE = ("chan/*", "ken/*")

BATCH = 100
_SECONDS, _START_SECONDS = 120, 900
_READY = b"\x01ready\x01"
_BEGIN, _END = re.compile(rb"\x01begin (p\d+)\x01"), re.compile(rb"\x01end (p\d+)\x01")
#: Of a program's output: what is read, and what is kept where it differs.
_MOST, _KEPT = 64 << 20, 400

#: Programs that differ from native, and why.
DIFFERENT: dict[str, str] = {}

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
    """How a program ended: its exit code, or that it took too long; what it wrote."""

    code: int | str
    out: str
    err: str

    @property
    def compared(self) -> tuple[int | str, str, str]:
        """Of a crash, the message up to the stacks, without addresses."""
        if self.code == 0:
            return self.code, self.out, self.err
        said = re.split(r"(?m)^(?:goroutine |runtime stack:|gothreads: |\[signal )", self.err)[0]
        return self.code, self.out, re.sub(r"0x[0-9a-f]+", "0x…", said).strip()


@dataclass
class Result:
    """One program. `state` says whether it is the same as native, or what else it is; `detail`, what it did."""

    name: str
    state: str
    detail: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        return self.state in ("differs", "does not compile, threaded")


def names(folder: Path, patterns: Sequence[str] = ()) -> list[str]:
    """The programs that are run without flags, of these patterns: those of one file, then those of a folder of packages."""
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*.go")))
    actions = {str(file): _action((folder / file).read_text(errors="surrogateescape")) for file in files
               if not any(part.endswith(".dir") for part in file.parts)}
    found = [name for wanted in ("run", "rundir") for name, action in actions.items() if action == wanted]
    chosen = [name for name in found if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if not chosen:
        raise MisuseError(f"Go's test folder has no program to run called {' or '.join(patterns)}. Patterns are those of a shell: 'chan/*'")
    return chosen


class Programs:
    """The programs of a folder, built and run in `work`."""

    def __init__(self, toolchain: Toolchain, folder: Path, work: Path, progress: Progress) -> None:
        self.toolchain, self.folder, self.work, self.progress = toolchain, folder, work.absolute(), progress

    def perform(self, names: Sequence[str]) -> list[Result]:
        """Run these programs, in one batch as far as that goes."""
        packages = self._packages(names)
        elsewhere = self._elsewhere(packages)
        results = {packages[package]: Result(packages[package], state) for package, state in elsewhere.items()}
        broken = self._broken([package for package in packages if package not in elsewhere])
        fit = self._that_start({package: name for package, name in packages.items() if package not in elsewhere and package not in broken})
        native = self._run_all(fit, "native")
        good = {package: name for package, name in fit.items() if self._as_it_must(name, native.get(package), "p")}
        threaded = self._run_all(good, "threaded")
        for package, name in packages.items():
            if package in good and package in threaded and threaded[package].compared == native[package].compared:
                results[name] = Result(name, "same")
            elif name not in results:
                results[name] = self._alone(name)
        return [results[name] for name in names]

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text(errors="surrogateescape")

    def _as_it_must(self, name: str, done: Outcome | None, package: str = "main") -> bool:
        """A program ends with 0 and writes what is in the .out file beside it, or nothing. Names of its types begin with its package's."""
        expected = (self.folder / name).with_suffix(".out")
        text = re.sub(r"\bmain\.", f"{package}.", expected.read_text(errors="surrogateescape")) if expected.exists() else ""
        return done is not None and done.code == 0 and text in (done.out + done.err, done.err + done.out)

    def _packages(self, names: Sequence[str]) -> dict[str, str]:
        """Make a package of each program; package -> name."""
        packages = {f"p{number}": name for number, name in enumerate(names)}
        for package, name in packages.items():
            for file, text in self._sources(name, f"gotest/{package}").items():
                self._write(f"{package}/{file}", re.sub(r"(?m)^package main\b", "package p", text, count=1))
            self._write(f"{package}/zz_run.go", "package p\n\nfunc Run_() { main() }\n")
        self._write("go.mod", f"module gotest\n\ngo {_GO}\n")
        return packages

    def _sources(self, name: str, module: str) -> dict[str, str]:
        """A program's files. Those of a folder are several packages; they import each other as ./file, by the first of a package."""
        text = self._text(name)
        if _action(text) != "rundir":
            return {_untested(name): text}
        found, places = {}, {"main": ""}
        for path in sorted((self.folder / name).with_suffix(".dir").glob("*.go")):
            text = path.read_text(errors="surrogateescape")
            package = re.search(r"(?m)^package (\w+)", text)
            place = places.setdefault(package[1] if package else "main", f"{path.stem}/")
            found[f"{place}{_untested(path.name)}"] = re.sub(r'(?m)^((?:import)?\s*[\w.]*\s*")\./(\w+")', rf"\1{module}/\2", text)
        return found

    def _write(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, errors="surrogateescape")

    def _elsewhere(self, packages: dict[str, str]) -> dict[str, str]:
        """What is for other systems: package -> for which it is not."""
        constrained = [package for package, name in packages.items() if "//go:build" in self._text(name)]
        here = {package: "not for this machine" for package in constrained if self._is_ignored(package, "native")}
        return {package: "not for WebAssembly" for package in constrained if self._is_ignored(package, "threaded")} | here

    def _broken(self, packages: list[str]) -> set[str]:
        """What does not compile in a batch with this Go."""
        broken: set[str] = set()
        for kind in ("native", "threaded"):
            self.progress(f"compiling {len(packages)} programs, {kind}")
            more = {""}
            while more:  # an import that is not there keeps all from being compiled
                said = self._go(kind, "build", *(f"./{package}" for package in packages if package not in broken)).stderr
                more = {package for package in re.findall(r"(?m)^(?:# gotest/)?(p\d+)\b", said) if package in packages} - broken
                broken |= more
        return broken

    def _is_ignored(self, package: str, kind: str) -> bool:
        return Path(self._go(kind, "list", "-f", "{{.IgnoredGoFiles}}", f"./{package}").stdout.strip()[1:-1]).name != ""

    def _go(self, kind: str, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self.toolchain.go), *command], cwd=self.work, env=environment(kind), capture_output=True, text=True)

    def _that_start(self, packages: dict[str, str]) -> dict[str, str]:
        """Without those that do not link, and that write, fail or end before main; found by halves."""
        with contextlib.suppress(CompileError):
            if not packages or self._process(self._link(packages, "native"), "native", []) == (0, _READY, _READY):
                return packages
        return _of_halves(self._that_start, packages)

    def _link(self, packages: dict[str, str], kind: str) -> Path:
        """The program that runs the programs."""
        self._write("main.go", _MAIN % ("\n".join(f'\t{package} "gotest/{package}"' for package in packages),
                                        ", ".join(f'"{package}": {package}.Run_' for package in packages)))
        return build(self.toolchain, self.work, self.work / f"batch-{kind}", kind)

    def _run_all(self, packages: dict[str, str], kind: str) -> dict[str, Outcome]:
        """Package -> how it ended, without those that do not link. Behind one that ends the process, another goes on."""
        done: dict[str, Outcome] = {}
        left = list(packages)
        if not left:
            return done
        try:
            file = self._link(packages, kind)
        except CompileError:
            return _of_halves(lambda half: self._run_all(half, kind), packages)
        while left:
            self.progress(f"running {len(left)} programs, {kind}")
            ended = _taken_apart(*self._process(file, kind, left))
            if not ended:
                break
            done |= ended
            left = [package for package in left if package not in done]
        return done

    def _alone(self, name: str) -> Result:
        """A program as it is, in a process of its own."""
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
        return Result(name, "differs" if self._as_it_must(name, done["native"]) else "fails natively", _shown(done))

    def _process(self, file: Path, kind: str, arguments: list[str]) -> tuple[int | str, bytes, bytes]:
        """Run it until it ends, or one of its programs takes too long."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, \
                subprocess.Popen([*runner(kind), str(file), *arguments], cwd=self.work, stdin=subprocess.DEVNULL, stdout=out, stderr=err) as process:
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


def _of_halves(perform: Callable[[dict[str, str]], dict[str, T]], packages: dict[str, str]) -> dict[str, T]:
    """What it makes of each half; of a single package, which has no halves, nothing."""
    both, half = list(packages.items()), len(packages) // 2
    return perform(dict(both[:half])) | perform(dict(both[half:])) if half else {}


def _untested(name: str) -> str:
    """The name of a file that go build takes: to it x_test.go is no part of a program."""
    return re.sub(r"_test\.go$", "_test_.go", Path(name).name)


def _action(text: str) -> str:
    """What Go's own runner of this folder does with this file."""
    return next((line for line in text.splitlines() if line.strip() and not line.startswith("//go:build")), "").removeprefix("//").strip()


def _taken_apart(code: int | str, out: bytes, err: bytes) -> dict[str, Outcome]:
    """From what a batch wrote to what each program did. The last one that began and did not end has ended the process."""
    streams: list[dict[str, str]] = []
    ended = set(_END.findall(out))
    for stream in (out, err):
        parts = _BEGIN.split(stream)[1:]
        streams.append({number.decode(): _text(_END.sub(b"", said)) for number, said in zip(parts[::2], parts[1::2], strict=True)})
    return {package: Outcome(0 if package.encode() in ended else code, said, streams[1].get(package, "")) for package, said in streams[0].items()}


def _text(content: bytes) -> str:
    return content.decode(errors="surrogateescape")


def _shown(done: dict[str, Outcome]) -> list[str]:
    return [f"{kind}: exit code {one.code}, stdout {one.out[:_KEPT]!r}, stderr {one.err[:_KEPT]!r}" for kind, one in done.items()]


def load(path: Path, key: str) -> list[Result] | None:
    """What an earlier run has saved under the same key."""
    try:
        content = json.loads(path.read_text())
        return [Result(*one) for one in content["results"]] if content["key"] == key else None
    except (OSError, ValueError, LookupError, TypeError):  # none, or cut short
        return None


def save(path: Path, key: str, results: Sequence[Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"key": key, "results": [[one.name, one.state, one.detail] for one in results]}, indent=1).encode())


def findings(results: Sequence[Result]) -> list[Result]:
    """What differs without a reason."""
    return [one for one in results if one.bad and one.name not in DIFFERENT]


def outdated(results: Sequence[Result]) -> list[str]:
    """Programs that have a reason to differ and do not."""
    return [one.name for one in results if not one.bad and one.name in DIFFERENT]


def summary(results: Sequence[Result]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(one.state for one in results).most_common())


def figures(results: Sequence[Result]) -> dict[str, Any]:
    """The record: all that is not the same as native."""
    states: dict[str, list[str]] = {}
    for one in results:
        states.setdefault(one.state, []).append(one.name)
    return {"same": len(states.pop("same", []))} | states


def markdown(results: Sequence[Result]) -> list[str]:
    """The table's lines."""
    counts = Counter(one.state for one in results)
    bad = [one for one in results if one.bad]
    compared = counts["same"] + len(bad)
    lines = ["The programs of Go's test/ folder that run without flags: the exit code, stdout and stderr, against native.", "",
             f"{counts['same']} of {compared} are the same on threads as native. Differ without a reason: **{len(findings(results))}**.", "",
             "| of the others | |", "|---|--:|", *(f"| {state} | {count} |" for state, count in counts.most_common() if state != "same")]
    if bad:
        lines += ["", "| differs | why |", "|---|---|", *(f"| {one.name} | {DIFFERENT.get(one.name) or f'**{one.state}**'} |" for one in bad)]
    return lines
