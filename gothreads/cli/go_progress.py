"""Shows what Go's tools do while `gothreads test` runs, beside go test's own output.

On a terminal, that is a line which changes. go test's output goes through a pipe then: the line is erased before each
piece of it, and is not drawn behind the beginning of a line.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from gothreads.cli.go_tools import Tools, Work
from gothreads.output.progress import BUILD, COMPILE, LINK, SIMULATE, Progress, ProgressLine, ProgressLog

_INTERVAL_SECONDS = 0.2
#: The log gets a line about what takes longer.
_LONG_SECONDS = 2.0
#: The summary is omitted if compiling took less.
_SHORT_SECONDS = 1.0
#: How long to wait, when go test has ended, for output of processes that it has left behind.
_LEFT_BEHIND_SECONDS = 1.0


class _OnTerminal:
    """A line on the terminal on which go test prints, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line = ProgressLine(sys.stderr)
        self._at_start = True  # whether go test's output ends with a whole line

    def tell(self, stage: str, done: float, total: float | None) -> None:
        with self._lock:
            if self._at_start or done == total:
                self._line(stage, done, total)

    def write(self, target: int, output: bytes) -> None:
        with self._lock:
            self._line.clear()
            self._at_start = output.endswith(b"\n")
            while output:
                output = output[os.write(target, output):]


class _Watch:
    """Looks at what the tools do, and adds up the time in which they did anything."""

    def __init__(self, tools: Tools, tell: Progress) -> None:
        self._tools, self._tell = tools, tell
        self.seconds = 0.0
        self._compiling_since: float | None = None

    def run(self, ended: threading.Event) -> None:
        before = time.monotonic()
        while not ended.wait(_INTERVAL_SECONDS):
            work, now = self._tools.work(), time.monotonic()
            if work.building:
                self.seconds += now - before
            since = self._compiling_since = (self._compiling_since or now) if work.compiling else None
            if since is not None:
                self._tell(COMPILE, now - since, None)
            elif work.building:
                self._tell(BUILD if work.packages else LINK, work.packages, None)
            elif work.planned > work.runs:
                self._tell(SIMULATE, work.runs, work.planned)
            else:
                self._tell(BUILD, 0, 0)
            before = now
        self._tell(BUILD, 0, 0)


@contextlib.contextmanager
def shown(tools: Tools) -> Iterator[tuple[int | None, int | None]]:
    """Show what the tools do meanwhile, and at the end how long it took.

    Yields go test's standard output and standard error: descriptors, or None for this process's own.
    """
    terminal = _OnTerminal() if sys.stderr.isatty() else None
    watch, ended = _Watch(tools, terminal.tell if terminal else ProgressLog(_print, _LONG_SECONDS)), threading.Event()
    ticker = threading.Thread(target=watch.run, args=(ended,), name="gothreads-progress", daemon=True)
    ticker.start()
    try:
        if terminal is None:
            yield None, None
        else:
            # One pipe for both, if both are the terminal: so what go test prints stays in order.
            both = sys.stdout.isatty()
            with _piped(terminal.write, 1 if both else 2) as write:
                yield write if both else None, write
    finally:
        ended.set()
        ticker.join()
    work = tools.work()
    if (work.packages or work.programs) and watch.seconds >= _SHORT_SECONDS:
        _print(f"compiling took {watch.seconds:.0f} s ({_counted(work)})")


@contextlib.contextmanager
def _piped(write: Callable[[int, bytes], None], target: int) -> Iterator[int]:
    """A pipe, whose output is written to the target."""
    read_end, write_end = os.pipe()

    def relay() -> None:
        with contextlib.suppress(OSError):  # the terminal has gone
            while output := os.read(read_end, 1 << 16):
                write(target, output)
    thread = threading.Thread(target=relay, name="gothreads-output", daemon=True)
    thread.start()
    try:
        yield write_end
    finally:
        os.close(write_end)
        thread.join(_LEFT_BEHIND_SECONDS)


def _counted(work: Work) -> str:
    counted = {"Go package": work.packages, "test program": work.programs}
    return ", ".join(f"{number} {what}{'s' * (number != 1)}" for what, number in counted.items() if number)


def _print(text: str) -> None:
    sys.stderr.write(f"gothreads: {text}\n")
    sys.stderr.flush()
