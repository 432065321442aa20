"""Watches the tools that go test runs (compiler, linker, vet) through a script, its -toolexec.

The script notes in a file when each tool begins and ends. After the linker, it runs `gothreads.cli.go_link`. Go cannot
say so much itself: `go test -v` does not list the packages that it compiles.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gothreads.build.test_program import Rewriting
from gothreads.cli.go_link import MACHINE_CODE
from gothreads.cli.seeds import PLANNED, RUN

_SCRIPT = """#!/bin/sh
# Runs one of Go's tools, for gothreads test: see gothreads/cli/go_tools.py.
case "$2" in -V*) exec "$@";; esac
note() { echo "$1" >> LOG; }
name=${1##*/}
note "+$name"
"$@"
code=$?
if [ $code = 0 ] && [ "$name" = link ]; then
    PREPARE "$@" < /dev/null > /dev/null 2>&1
fi
note "-$name"
exit $code
"""


@dataclass(frozen=True)
class Work:
    """What the tools have done so far: `packages` compiled, `programs` compiled to machine code; and what they do now.

    building: a tool runs. compiling: a program is compiled to machine code. runs, planned: of simulated programs.
    """

    packages: int = 0
    programs: int = 0
    building: bool = False
    compiling: bool = False
    runs: int = 0
    planned: int = 0


class Tools:
    """The script and its notes, in a folder that is empty, and is removed when go test has ended."""

    def __init__(self, folder: Path, how: Rewriting) -> None:
        self.log = folder / "log"
        self._script = folder / "toolexec"
        prepare = [sys.executable, "-m", "gothreads.cli.go_link", str(self.log), *how.flags]
        self.log.touch()
        self._script.write_text(_SCRIPT.replace("LOG", shlex.quote(str(self.log)))
                                .replace("PREPARE", shlex.join(prepare)))

    @property
    def flag(self) -> str:
        """The flag for go test."""
        return f"-toolexec=sh {shlex.quote(str(self._script))}"  # not the script alone: /tmp may be mounted noexec

    def work(self) -> Work:
        """What the tools have noted by now."""
        notes = Counter(self.log.read_text(errors="replace").split())

        def running(tool: str) -> bool:
            return notes[f"+{tool}"] > notes[f"-{tool}"]
        tools = {note[1:] for note in notes if note[0] in "+-"} - {RUN[1:]}
        planned = sum(int(note.removeprefix(PLANNED)) * times for note, times in notes.items()
                      if note.startswith(PLANNED))
        return Work(notes["+compile"], notes[f"+{MACHINE_CODE}"], any(map(running, tools)), running(MACHINE_CODE),
                    notes[RUN], planned)
