"""A child process that answers requests, both ends: `ChildProcess` in the parent, `answer_requests` in the child.

`gothreads compare` and the benchmarks give each design such a process. Requests and answers are JSON objects, one a
line: to the child's standard input and from its standard output. The child ends when its input does, and so with its
parent, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gothreads.errors import GothreadsError
from gothreads.tools.compare.workload import IncorrectResult

#: How long one answer may take, in seconds: far longer than any sample does. After that the process is killed.
PATIENCE = 300.0
#: The folder that this gothreads was imported from: the child imports the same one, and nothing from the current
#: directory.
_IMPORTED_FROM = str(Path(__file__).parent.parent.parent.parent)

#: Turns a request into an answer.
Handler = Callable[[dict[str, Any]], dict[str, Any]]


class NotMeasured(GothreadsError):
    """A sample could not be measured; the message says why."""


class ChildProcess:
    """The parent's end. For one thread.

    The child is not in the terminal's process group: Ctrl-C reaches only the parent, which then kills the child.
    """

    def __init__(self, module: str, arguments: Sequence[str] = (),
                 environment: Mapping[str, str] | None = None) -> None:
        """Starts `python -m module arguments`; `environment` is added to this process's own."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._when_killed: Callable[[], None] = lambda: None
        paths = os.pathsep.join(filter(None, (_IMPORTED_FROM, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen([sys.executable, "-P", "-m", module, *arguments], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=self._errors, text=True, start_new_session=True,
                                         env={**os.environ, "PYTHONPATH": paths, **(environment or {})})

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request. IncorrectResult; NotMeasured when the child failed or has ended."""
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
            raise NotMeasured(f"its process ended ({code}){self._last_error_line()}")
        answer: dict[str, Any] = json.loads(line)
        if "wrong" in answer:
            raise IncorrectResult(answer["wrong"])
        if "failed" in answer:
            raise NotMeasured(answer["failed"])
        return answer

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the process, whatever it is doing, and wait until it has ended."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # a request that was not written
                stream.close()
        self._errors.close()
        self._when_killed()

    def when_killed(self, action: Callable[[], None]) -> None:
        """Run an action once the process has been killed."""
        self._when_killed = action

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None,
                 _traceback: TracebackType | None) -> None:
        self.kill()

    def _last_error_line(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def answer_requests(handle: Handler) -> None:
    """The child's end: answers requests until there are no more, then ends the process.

    What is printed meanwhile goes to standard error: it is not an answer. Native goroutines may still run at the end,
    so the interpreter is not shut down in order.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    while line := sys.stdin.readline():
        try:
            answer = handle(json.loads(line))
        except IncorrectResult as error:
            answer = {"wrong": str(error)}
        except (GothreadsError, MemoryError, OSError, RuntimeError) as error:  # RuntimeError: no more threads
            answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)
    sys.stderr.flush()
    os._exit(0)
