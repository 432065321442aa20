"""Progress of what may take long: building a Go program, and compiling a module to machine code.

The code that works uses `reporting`, or `timed`. `watching` says what is called, for the code that runs within it. By
default progress is shown to the user: on a line of standard error that changes, in a terminal or a notebook; otherwise
in the log.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TextIO

log = logging.getLogger("gothreads")

#: The stages. BUILD counts packages, OPTIMIZE functions; COMPILE counts seconds, and its total is an estimate, or None.
BUILD, OPTIMIZE, COMPILE = "build", "optimize", "compile"
#: Called with the stage, how much is done, and of how much (None if unknown). When a stage ends, both are equal.
Progress = Callable[[str, float, float | None], None]
#: From so many packages on, Go's standard library is among those that are compiled, which takes long.
MANY_PACKAGES = 20
STANDARD_LIBRARY = "compiling Go's standard library for WebAssembly (once for each version of Go and of gothreads)"

_STAGES = {BUILD: "compiling Go packages", OPTIMIZE: "optimizing functions", COMPILE: "compiling to machine code"}
#: From so many seconds on, a stage is logged.
_LONG_SECONDS = 5.0
#: Stages that end within so many seconds are not shown.
_SHORT_SECONDS = 0.5
_INTERVAL_SECONDS = 0.2


class ProgressLine:
    """Shows progress on a stream, on a line that changes. Several threads may call it, one after the other."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""
        self._begun = 0.0
        self._width = 0

    def __call__(self, stage: str, done: float, total: float | None) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun = stage, now
        if done == total:
            self._stage = ""
            self.clear()
            return
        if now - self._begun < _SHORT_SECONDS:
            return
        text = f"gothreads: {_text(stage, done, total, now - self._begun)}"
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)

    def clear(self) -> None:
        """Erase the line."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0


def _text(stage: str, done: float, total: float | None, seconds: float) -> str:
    if stage in (BUILD, OPTIMIZE):
        of = "" if total is None else f" (of {'up to ' if stage == BUILD else ''}{total:.0f})"
        return f"{_STAGES[stage]}: {done:.0f}{of}, {seconds:.0f} s"
    expected = f" of about {total:.0f} s" if total is not None and done < total else " s"
    return f"{_STAGES[stage]} (once for each build): {done:.0f}{expected}"


class _LogLine:
    """Progress for the log: one line when a stage takes long. (`engine.settings` logs what it compiles, at INFO.)

    It is a warning, so that Python prints it if the program has not configured logging: otherwise a script would be
    silent for a minute, and seem to hang.
    """

    def __init__(self) -> None:
        self._begun, self._said = time.monotonic(), False

    def __call__(self, stage: str, done: float, total: float | None) -> None:
        if self._said or done == total:
            return
        if stage == BUILD and done >= MANY_PACKAGES:
            self._say(STANDARD_LIBRARY)
        elif time.monotonic() - self._begun >= _LONG_SECONDS:
            about = "" if stage in (BUILD, OPTIMIZE) or total is None else f", which takes about {total:.0f} s"
            self._say(f"{_STAGES[stage]} (once for each build){about}")

    def _say(self, text: str) -> None:
        self._said = True
        log.warning("%s", text)


def _ignore(_stage: str, _done: float, _total: float | None) -> None:
    """Progress for nobody. The log says what takes long."""


def _is_shown() -> bool:
    """Whether a person sees standard error: in a terminal or a notebook."""
    if sys.stderr is None:  # pythonw, for example
        return False
    ipython = sys.modules.get("IPython")
    return sys.stderr.isatty() or (ipython is not None and ipython.get_ipython() is not None)


#: What is called in this context. None: progress is shown where the user sees it.
_watcher: ContextVar[Progress | None] = ContextVar("gothreads.output.progress", default=None)


@contextlib.contextmanager
def watching(progress: bool | Progress | None) -> Iterator[None]:
    """What happens with progress meanwhile: the option `progress` of gothreads.open. None changes nothing."""
    if progress is None:
        yield
        return
    line = ProgressLine(sys.stderr) if progress is True and sys.stderr is not None else None
    token = _watcher.set(line or (_ignore if isinstance(progress, bool) else progress))
    try:
        yield
    finally:
        _watcher.reset(token)
        if line is not None:
            line.clear()


def _current() -> Progress:
    if (watcher := _watcher.get()) is not None:
        return watcher
    return ProgressLine(sys.stderr) if _is_shown() else _LogLine()


@contextlib.contextmanager
def reporting(stage: str) -> Iterator[Callable[[float, float | None], None]]:
    """For the code that works: yields a function to call with how much is done, and of how much.

    The end of the stage is reported if its beginning was. An exception of the function that is told is logged, and it
    is not called again: the work does not depend on it.
    """
    watcher = _current()
    last: float | None = None

    def report(done: float, total: float | None) -> None:
        nonlocal watcher, last
        try:
            watcher(stage, done, total)
        except Exception:
            log.exception("gothreads' progress function failed, and is not called any more")
            watcher = _ignore
        last = done if total is None else total
    try:
        yield report
    finally:
        if last is not None:
            report(last, last)


@contextlib.contextmanager
def timed(stage: str, expected: float | None) -> Iterator[None]:
    """Report the seconds of a stage that says nothing while it lasts, on a thread. `expected`: an estimate."""
    with reporting(stage) as report:
        begun, ended = time.monotonic(), threading.Event()

        def tick() -> None:
            while not ended.wait(_INTERVAL_SECONDS):
                seconds = time.monotonic() - begun
                report(seconds, None if expected is None or seconds >= expected else expected)
        ticker = threading.Thread(target=tick, name="gothreads-progress", daemon=True)
        ticker.start()
        try:
            yield
        finally:
            ended.set()
            ticker.join()
