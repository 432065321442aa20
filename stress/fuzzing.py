"""What the fuzz programs share: repeatable cases, a watchdog, and what is kept of a finding.

A part is one thing that is tried over and over. Each case is made from its own random generator, seeded with the run's
seed, the part's name and the case's number, so that any case can be repeated alone:

    python -m stress.fuzz_wasm --seed 7 --only parse --first 1234 --count 1

An attempt ends with an outcome in a few words, which is counted. Anything else is a finding: an exception that the part
does not expect, a failed check of the part (`Finding`), a case that does not end, or one for which this process needs
another gigabyte of memory.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import psutil

T = TypeVar("T")

#: How long a case may take, in seconds, and by how much this process may grow meanwhile, in bytes.
CASE_SECONDS = 60.0
CASE_BYTES = 1 << 30
_LOOK_SECONDS = 0.05


class Finding(Exception):
    """Something is wrong; the text says what."""


class Part(ABC, Generic[T]):
    """What is tried. A context manager that holds what the cases need, such as a running app."""

    name: str

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def missing(self) -> str | None:
        """What must be installed before this part can be tried; None when nothing is missing."""
        return None

    @abstractmethod
    def make(self, choose: random.Random) -> T:
        """Makes a case."""

    @abstractmethod
    def attempt(self, case: T) -> str:
        """Tries it. Returns the outcome in words; raises Finding, or any other exception, for an outcome that is not
        allowed.
        """

    def stored(self, case: T) -> bytes:
        """The bytes that are kept of the case of a finding."""
        if isinstance(case, bytes):
            return case
        try:
            return repr(case).encode(errors="backslashreplace")
        except Exception as error:  # its number is enough to repeat it
            return f"{type(case).__name__}, of which there is no repr: {error}".encode()


@dataclass(frozen=True)
class Found:
    """A finding that was kept. `file` has the case, `command` repeats it."""

    part: str
    number: int
    problem: str
    file: str
    command: str


@dataclass
class PartReport:
    """The result of a part: how often each outcome occurred."""

    part: str
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    findings: list[Found] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str | None = None

    @property
    def count(self) -> int:
        return sum(self.outcomes.values()) + len(self.findings)

    def to_json(self) -> dict[str, Any]:
        return {"part": self.part, "count": self.count, "seconds": round(self.seconds, 1), "skipped": self.skipped,
                "outcomes": dict(self.outcomes), "findings": [asdict(found) for found in self.findings]}


@dataclass(frozen=True)
class Plan:
    """The cases to try of each part, and where findings are kept. `seconds`: for each part. `program`: the module for
    `python -m`.
    """

    program: str
    seed: int
    first: int = 0
    count: int | None = None
    seconds: float | None = None
    folder: Path = Path("findings")
    most_findings: int = 20

    def numbers(self) -> Iterator[int]:
        begin, number = time.monotonic(), self.first
        while self.count is None or number < self.first + self.count:
            if self.seconds is not None and time.monotonic() - begin >= self.seconds:
                return
            yield number
            number += 1

    def keep(self, part: Part[Any], number: int, case: Any, problem: str) -> Found:
        """Writes what is needed to investigate a finding."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{part.name}-{self.seed}-{number}"
        file.write_bytes(b"" if case is None else part.stored(case))
        file.with_suffix(".txt").write_text(problem, errors="backslashreplace")
        command = f"python -m {self.program} --seed {self.seed} --only {part.name} --first {number} --count 1"
        return Found(part.name, number, problem, str(file), command)


class Watch:
    """Ends the process when a case does not end or takes too much memory, since nothing else can; calls `report` before
    that.
    """

    def __init__(self, seconds: float = CASE_SECONDS, size: int = CASE_BYTES) -> None:
        self._seconds, self._size = seconds, size
        self._process = psutil.Process()
        self._lock = threading.Lock()
        self._case: tuple[float, int,
                          Callable[[str], None]] | None = None  # guarded by _lock: its start, the memory then, report
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def begins(self, report: Callable[[str], None]) -> None:
        with self._lock:
            self._case = time.monotonic(), self._process.memory_info().rss, report

    def ended(self) -> None:
        with self._lock:
            self._case = None

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._lock:
                if self._case is None:
                    continue
                begin, size, report = self._case
                grown = self._process.memory_info().rss - size
                if time.monotonic() - begin > self._seconds:
                    self._end(report, f"it has not ended after {self._seconds:g} s")
                elif grown > self._size:
                    self._end(report, f"it has taken {grown / 1e6:,.0f} MB")

    @staticmethod
    def _end(report: Callable[[str], None], problem: str) -> None:
        frames = "".join(f"\n{''.join(traceback.format_stack(frame))}" for frame in sys._current_frames().values())
        report(f"{problem}\n{frames}")
        sys.stdout.flush()
        os._exit(1)


def attempts(part: Part[Any], plan: Plan, watch: Watch | None = None,
             progress: Callable[[PartReport], None] = lambda _report: None) -> PartReport:
    """Try the cases of a part that has been entered. A test with its own timeout needs no watch."""
    report, begin = PartReport(part.name), time.monotonic()
    for number in plan.numbers():
        case: Any = None

        def keep(problem: str, number: int = number) -> None:
            report.findings.append(plan.keep(part, number, case, problem))  # noqa: B023 - the current case
            _print_finding(report.findings[-1])
        if watch:
            watch.begins(keep)
        try:
            case = part.make(random.Random(f"{plan.seed} {part.name} {number}"))
            report.outcomes[part.attempt(case)] += 1
        except Finding as finding:
            keep(str(finding))
        except Exception:
            keep(traceback.format_exc())
        if watch:
            watch.ended()
        report.seconds = time.monotonic() - begin
        progress(report)
        if len(report.findings) >= plan.most_findings:
            break
    return report


def main(program: str, parts: Sequence[Part[Any]], description: str, argv: Sequence[str] | None = None) -> int:
    """The command line of a fuzz program. Returns the exit code: 1 when something was found."""
    names = [part.name for part in parts]
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32),
                        help="the same seed makes the same cases")
    parser.add_argument("--count", type=int, help="the number of cases of each part (default: as many as time allows)")
    parser.add_argument("--seconds", type=float, help="for all parts together (default: 60, if no --count is given)")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME",
                        help=f"only this part, may be repeated; there are: {', '.join(names)}")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--folder", type=Path, default=Path("findings"),
                        help="where findings are kept (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    arguments = parser.parse_args(argv)
    chosen = [part for part in parts if arguments.only is None or part.name in arguments.only]
    seconds = arguments.seconds if arguments.seconds or arguments.count else 60.0
    plan = Plan(program, arguments.seed, arguments.first, arguments.count, seconds and seconds / len(chosen),
                arguments.folder)
    watch = Watch()
    reports = []
    for part in chosen:
        if (needed := part.missing()) is not None:
            reports.append(PartReport(part.name, skipped=needed))
            continue
        with part:
            reports.append(attempts(part, plan, watch, _Progress()))
    _Progress.clear()
    if arguments.json:
        print(json.dumps({"program": program, "seed": plan.seed, "parts": [report.to_json() for report in reports]},
                         indent=2))
    else:
        for report in reports:
            _print_report(report, plan.seed)
    return 1 if any(report.findings for report in reports) else 0


def _print_report(report: PartReport, seed: int) -> None:
    if report.skipped:
        print(f"{report.part}: not tried: {report.skipped}")
        return
    print(f"{report.part}: {report.count:,} cases in {report.seconds:.0f} s (seed {seed}), {len(report.findings)} "
          "findings")
    for outcome, count in report.outcomes.most_common():
        print(f"    {count:9,}  {outcome}")


def _print_finding(found: Found) -> None:
    _Progress.clear()
    print(f"FOUND ({found.part}, case {found.number}): {found.problem.rstrip()}\n  kept: {found.file}\n  again: "
          f"{found.command}",
          file=sys.stderr, flush=True)


class _Progress:
    """A changing line, on a terminal."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, report: PartReport) -> None:
        if sys.stderr.isatty() and time.monotonic() > self._next:
            self._next = time.monotonic() + 0.2
            line = f"{report.part}: {report.count:,} cases, {report.seconds:.0f} s, {len(report.findings)} findings"
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    @staticmethod
    def clear() -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
