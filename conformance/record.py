"""Runs go test, and records the results."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conformance.building import environment
from conformance.plan import Run
from gothreads.build.optimizer import by_default
from gothreads.build.test_program import Rewriting
from gothreads.build.toolchain import find_go
from gothreads.cli.go_test import TestOptions, command
from gothreads.files import write_atomically

#: A line that t.Skip, t.Error and t.Log write.
_LOGGED = re.compile(r"\s+[\w./-]+\.go:\d+: (.*)")
#: How much of a test's output is kept: lines, and characters of each.
_KEPT_LINES, _KEPT_CHARACTERS = 60, 300
#: A test that has begun and has not ended.
RUNNING = "running"

#: Called with the name of each test as it begins.
Progress = Callable[[str], None]


@dataclass
class Record:
    """`verdict` and the values of `tests` are go test's: pass, fail, skip; build-fail: the tests did not compile."""

    package: str
    variant: str
    model: str
    key: str
    verdict: str = "fail"
    seconds: float = 0.0
    tests: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # why tests were skipped
    output: dict[str, list[str]] = field(default_factory=dict)  # the last lines of failed tests; "": of the package

    def count(self, verdict: str) -> int:
        return sum(1 for value in self.tests.values() if value == verdict)

    @classmethod
    def load(cls, path: Path) -> Record | None:
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):  # there is none, or it is incomplete
            return None

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(self), indent=1).encode())


def perform(run: Run, model: str, *, go: str | None, key: str, count: int, progress: Progress) -> Record:
    """Run go test: threaded, stock or native."""
    left_out = () if run.left_out is None else (f"-skip={run.left_out[0]}",)
    # -vet=off: vet reads files itself, and finds an overlaid folder incomplete.
    rest = ("-json", "-vet=off", f"-count={count}", "-timeout=20m", *run.flags, *left_out, run.package,
            *run.binary_flags)
    arguments, variables = (([str(find_go(go).go), "test", *rest], environment("native")) if model == "native"
                            else command(TestOptions(model, preemption=True, go=go, rest=rest,
                                                     how=Rewriting(optimize=by_default()))))
    variables |= run.environment
    record = Record(run.package, run.variant, model, key)
    output: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_KEPT_LINES))
    begin = time.monotonic()
    with subprocess.Popen(arguments, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                _add(record, _event(line), output, progress)
        except BaseException:
            process.terminate()
            raise
    record.seconds = round(time.monotonic() - begin, 1)
    _finish(record, output, process.returncode)
    return record


def _finish(record: Record, output: dict[str, deque[str]], code: int) -> None:
    """Tests that began and did not end have failed, and so has a package when go test's exit code is not 0."""
    unfinished = [test for test, verdict in record.tests.items() if verdict == RUNNING]
    for test in unfinished:
        record.tests[test] = "fail"
        record.output[test] = list(output[test])
    if (unfinished or code) and record.verdict != "build-fail":
        record.verdict = "fail"
    if record.verdict in ("fail", "build-fail"):
        record.output[""] = list(output[""])


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"Action": "output", "Output": line}


def _add(record: Record, event: dict[str, Any], output: dict[str, deque[str]], progress: Progress) -> None:
    action, test = event.get("Action"), event.get("Test", "")
    if action in ("output", "build-output"):
        output[test].append(event.get("Output", "").rstrip("\n")[:_KEPT_CHARACTERS])
    elif action == "run":
        record.tests.setdefault(test, RUNNING)
        progress(test)
    elif action == "build-fail":
        record.verdict = "build-fail"
    elif action in ("pass", "fail", "skip"):
        if test:
            # Of repeated tests, the worst counts.
            record.tests[test] = "fail" if "fail" in (action, record.tests.get(test)) else action
            if action == "skip":
                logged = (found[1] for line in reversed(output[test]) if (found := _LOGGED.match(line)))
                record.reasons[test] = next(logged, "")
            elif action == "fail":
                record.output[test] = list(output[test])
            output.pop(test, None)
        elif record.verdict != "build-fail":
            record.verdict = action
