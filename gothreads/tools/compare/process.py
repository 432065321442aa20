"""The other end of child.py: a process for a design, asked for one sample after the other. For one thread."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from gothreads.errors import GothreadsError
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Sample
from gothreads.tools.compare.plan import Plan
from gothreads.tools.compare.programs import Programs
from gothreads.tools.compare.workload import WrongResult

#: How long one sample may take, in seconds: far longer than any does. Then its process is ended.
PATIENCE = 300.0
#: Where this gothreads is: a process imports the same, and nothing from the folder that it happens to be in.
_OURS = str(Path(__file__).parent.parent.parent.parent)


class NotMeasured(GothreadsError):
    """A sample could not be measured: the message says why."""


class Process:
    """A design's own process. Not in the terminal's group of processes: Ctrl-C is for the one that has begun it, which ends it."""

    def __init__(self, design: Design, programs: Programs, environment: Mapping[str, str] | None = None) -> None:
        self.design = design
        own = {"GOMAXPROCS": str(design.procs)} if design.model == "native" else {}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._after: Callable[[], None] = lambda: None
        paths = os.pathsep.join(filter(None, (_OURS, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen([sys.executable, "-P", "-m", "gothreads.tools.compare.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._errors, text=True, start_new_session=True,
                                         env={**os.environ, "PYTHONPATH": paths, **own, **(environment or {})})
        try:
            self._ask({"do": "begin", "design": asdict(design), "programs": programs.to_json()})
        except BaseException:
            self.kill()
            raise

    def measure(self, workload: str, point: int, plan: Plan) -> Sample:
        """WrongResult; NotMeasured when it failed, or the process has ended."""
        return Sample.from_json(self._ask({"do": "measure", "workload": workload, "point": point, "plan": asdict(plan)})["sample"])

    def close_program(self) -> None:
        """Close what is open. The process stays."""
        self._ask({"do": "close"})

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End it, whatever it does, and wait until it has."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # what was not written to it
                stream.close()
        self._errors.close()
        self._after()

    def when_killed(self, after: Callable[[], None]) -> None:
        """Do that when it has ended."""
        self._after = after

    def __enter__(self) -> Process:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        self.kill()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
                self._process.kill()
                raise NotMeasured(f"no answer within {PATIENCE:g} s")
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line.endswith("\n"):
            code = self._process.wait()
            raise NotMeasured(f"its process ended ({code}){self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "wrong" in answer:
            raise WrongResult(answer["wrong"])
        if "failed" in answer:
            raise NotMeasured(answer["failed"])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""
