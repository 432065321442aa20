"""The programs that the runtime's own tests build and run: panics, deadlocks, fatal errors, stack overflow.

Those tests need a compiler and other processes, which WebAssembly does not have. So the programs are built outside, for
native, stock and threaded Go; their output and their exit codes must be the same.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from conformance.building import KINDS, build, runner
from gothreads.build.toolchain import Toolchain
from gothreads.files import write_atomically

FOLDER = "src/runtime/testdata/testprog"
_SECONDS = 60
#: A line of the collector's list of a span's slots, which differs from run to run.
_SLOT = re.compile(r"0x[0-9a-f]+ (alloc|free ) +(un)?marked")

#: Programs that differ from native Go, and why.
DIFFERENT = {
    "Abort": "a breakpoint ends WebAssembly with a trap", "Breakpoint": "a breakpoint ends WebAssembly with a trap",
    "BadTraceback": "shows memory", "CheckAVX": "for amd64", "FramePointerAdjust": "for amd64 and arm64",
    "SignalBogus": "signals", "LockOSThreadVgetrandom": "for Linux",
    "GoNil": "WebAssembly checks the nil before, and the panic is recovered, in stock too",
    "DetectFinalizerAndCleanupLeaks": "main's end and a finalizer race, native too",
    "concurrentMapIterateWrite": "found by chance, native too", "concurrentMapReadWrite": "found by chance, native too",
    "concurrentMapWrites": "found by chance, native too",
}


@dataclass
class Program:
    """One program. `done`: by kind, its exit code and the first lines of its output, without what differs from run to
    run.
    """

    name: str
    done: dict[str, tuple[int | str, list[str]]] = field(default_factory=dict)

    def same(self, kind: str) -> bool:
        return self.done[kind] == self.done["native"]

    @property
    def ok(self) -> bool:
        return self.same("threaded") or self.name in DIFFERENT


def load(path: Path, key: str) -> list[Program] | None:
    """What an earlier run with the same key saved."""
    try:
        content = json.loads(path.read_text())
        if content["key"] != key:
            return None
        return [Program(name, {kind: (code, lines) for kind, (code, lines) in done.items()})
                for name, done in content["programs"].items()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # there is none, or it is incomplete
        return None


def save(path: Path, key: str, programs: list[Program]) -> None:
    content = {"key": key, "programs": {program.name: program.done for program in programs}}
    write_atomically(path, json.dumps(content, indent=1).encode())


def names(toolchain: Toolchain) -> list[str]:
    """The programs' names, from the tests that run them."""
    tests = "".join(path.read_text() for path in sorted((toolchain.goroot / "src/runtime").glob("*_test.go")))
    return sorted(set(re.findall(r'runTestProg\(t, "testprog", "(\w+)"', tests)))


def perform(toolchain: Toolchain, folder: Path, progress: Callable[[str], None]) -> list[Program]:
    """Build and run all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    progress("building Go's crash programs")
    source = toolchain.goroot / FOLDER
    commands = {}
    for kind in KINDS:
        left_out = () if kind == "native" else (source / "signal_bogus.go",)  # does not compile for wasip1
        commands[kind] = [*runner(kind), str(build(toolchain, source, folder / f"programs-{kind}", kind, left_out))]
    programs = []
    for name in names(toolchain):
        progress(name)
        program = Program(name, {kind: _run([*command, name]) for kind, command in commands.items()})
        if program.done["native"] != (0, [f"unknown function: {name}"]):  # otherwise it is for another system
            programs.append(program)
    return programs


def _run(command: list[str]) -> tuple[int | str, list[str]]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, errors="replace")
    except subprocess.TimeoutExpired:
        return "timeout", []
    return done.returncode, _first_lines(done.stdout + done.stderr)


def _first_lines(text: str) -> list[str]:
    """The lines before the stacks, without addresses, numbers and names of temporary files."""
    lines = []
    for line in text.splitlines():
        if line.startswith(("goroutine ", "runtime stack:", "gothreads: ")):
            break
        if line.strip() and not _SLOT.match(line):
            lines.append(re.sub(r"0x[0-9a-f]+|/tmp/\w+|\b\d{3,}\b", "…", line))
    return lines[:12]


def markdown(programs: list[Program]) -> list[str]:
    """The table's lines."""
    lines = ["", "## The programs that the runtime's tests run", "",
             "Panics, deadlocks and fatal errors, built outside: the output before the stacks, and the exit code, "
             "compared with native Go.", "",
             f"{sum(p.same('threaded') for p in programs)} of {len(programs)} are the same on threads as native, "
             f"{sum(p.same('single') for p in programs)} in stock Go on WebAssembly.", "",
             "| program | native | stock | threaded | says |", "|---|---|---|---|---|"]
    for program in programs:
        code, output = program.done["native"]
        cells = [str(code)] + ["same" if program.same(kind) else f"differs, {program.done[kind][0]}"
                               for kind in ("single", "threaded")]
        if not program.same("threaded"):
            cells[2] = f"{cells[2]} ({DIFFERENT[program.name]})" if program.name in DIFFERENT else f"**{cells[2]}**"
        last = output[-1][:80].replace("|", " ") if output else ""
        lines.append(f"| {program.name} | {' | '.join(cells)} | {last} |")
    return lines
