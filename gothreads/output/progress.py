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
from dataclasses import dataclass
from typing import TextIO

log = logging.getLogger("gothreads")

#: The stages. BUILD counts packages, of the program, TOOLS those of gothreads' own Go programs, and OPTIMIZE functions.
#: COMPILE counts seconds, and its total is an estimate, or None. WAIT counts seconds, too.
TOOLS, BUILD, OPTIMIZE, COMPILE, WAIT = "tools", "build", "optimize", "compile", "wait"
#: What gothreads test shows, too: when nothing had to be compiled before, and how often it has run simulated tests.
LINK, SIMULATE = "link", "simulate"
#: Called with the stage, how much is done, and of how much (None if unknown). When a stage ends, both are equal.
Progress = Callable[[str, float, float | None], None]
#: From so many packages on, Go's standard library is among those that are compiled, which takes long.
MANY_PACKAGES = 20
_ONCE = "(once for each version of Go and of gothreads)"
STANDARD_LIBRARY = f"compiling Go's standard library for WebAssembly {_ONCE}"

_STAGES = {TOOLS: f"compiling a Go program that gothreads needs {_ONCE}", BUILD: "compiling Go packages",
           LINK: "linking", OPTIMIZE: "optimizing functions", COMPILE: "compiling to machine code",
           SIMULATE: "simulating runs", WAIT: "waiting for another build of this program"}
#: From so many seconds on, a stage is logged.
_LONG_SECONDS = 5.0
#: After so many seconds, a stage that goes on is logged again.
_AGAIN_SECONDS = 30.0
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
        self._shown = ""

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
        if text == self._shown:  # a notebook's file would keep it again and again
            return
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width, self._shown = len(text), text

    def clear(self) -> None:
        """Erase the line."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width, self._shown = 0, ""


def _text(stage: str, done: float, total: float | None, seconds: float) -> str:
    if stage in (LINK, WAIT):
        return f"{_STAGES[stage]}: {seconds:.0f} s"
    if stage == BUILD and not done:  # Go looks what it must compile, or links
        return f"building the Go program: {seconds:.0f} s"
    if stage in (TOOLS, BUILD, OPTIMIZE, SIMULATE):
        of = "" if total is None else f" (of {'up to ' if stage == BUILD else ''}{total:.0f})"
        what = " packages" if stage == TOOLS else ""
        return f"{_STAGES[stage]}: {done:.0f}{what}{of}, {seconds:.0f} s"
    expected = f" of about {total:.0f} s" if total is not None and done < total else " s"
    return f"{_STAGES[stage]} (once for each build): {done:.0f}{expected}"


class ProgressLog:
    """Shows progress as lines of a log: one when a stage takes long, and then one every 30 s.

    after: how many seconds that is. Sooner: for Go's standard library, which takes long for certain, and for a wait,
        which may be in vain.
    """

    def __init__(self, say: Callable[[str], None], after: float) -> None:
        self._say, self._after = say, after
        self._stage, self._begun = "", 0.0
        self._said: float | None = None  # when
        self._library = False  # whether that was said

    def __call__(self, stage: str, done: float, total: float | None) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun, self._said, self._library = stage, now, None, False
        since, pause = (self._begun, self._after) if self._said is None else (self._said, _AGAIN_SECONDS)
        if done == total:
            self._stage = ""
        elif stage == BUILD and done >= MANY_PACKAGES and not self._library:
            self._library = True
            self._say_at(now, STANDARD_LIBRARY)
        elif self._said is None and stage == WAIT:
            if now - self._begun >= min(_LONG_SECONDS, self._after):
                self._say_at(now, _STAGES[stage])
        elif now - since >= pause:
            self._say_at(now, _text(stage, done, total, now - self._begun))

    def _say_at(self, now: float, text: str) -> None:
        self._said = now
        self._say(text)


def _warn(text: str) -> None:
    """Log what takes long. (`engine.settings` logs what it compiles, at INFO.)

    It is a warning, so that Python prints it if the program has not configured logging: otherwise a script would be
    silent for a minute, and seem to hang. Python prints only the message then, so that names the sender.
    """
    log.warning("%s", text if log.hasHandlers() else f"gothreads: {text}")


def _ignore(_stage: str, _done: float, _total: float | None) -> None:
    """Progress for nobody. The log says what takes long."""


def _is_shown() -> bool:
    """Whether a person sees standard error: in a terminal or a notebook."""
    if sys.stderr is None:  # pythonw, for example
        return False
    ipython = sys.modules.get("IPython")
    return sys.stderr.isatty() or (ipython is not None and ipython.get_ipython() is not None)


@dataclass(frozen=True)
class _Watcher:
    """Who is told.

    again: whether it is told the same again while nothing changes, because it shows the time.
    """

    tell: Progress
    again: bool


#: What is called in this context. None: progress is shown where the user sees it.
_watcher: ContextVar[_Watcher | None] = ContextVar("gothreads.output.progress", default=None)


@contextlib.contextmanager
def watching(progress: bool | Progress | None, *, again: bool = False) -> Iterator[None]:
    """What happens with progress meanwhile: the option `progress` of gothreads.open. None changes nothing.

    again: tell a function the same again while nothing changes.
    """
    if progress is None:
        yield
        return
    line = ProgressLine(sys.stderr) if progress is True and sys.stderr is not None else None
    if line is not None:
        watcher = _Watcher(line, again=True)
    else:
        watcher = _Watcher(_ignore if isinstance(progress, bool) else progress, again)
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)
        if line is not None:
            line.clear()


def _current() -> _Watcher:
    if (watcher := _watcher.get()) is not None:
        return watcher
    return _Watcher(ProgressLine(sys.stderr) if _is_shown() else ProgressLog(_warn, _LONG_SECONDS), again=True)


class _Reports:
    """What a stage reports, to the watcher of this context.

    The stage's own thread and the ticker report, so a lock keeps one report after the other.
    """

    def __init__(self, stage: str, begin: tuple[float, float | None] | None = None) -> None:
        """begin: what to report if there is no other report soon."""
        self._stage, self._lock = stage, threading.RLock()
        self._begin, self._begun = begin, time.monotonic()
        watcher = _current()
        self._tell, self.again = watcher.tell, watcher.again
        self._last: tuple[float, float | None] | None = None

    def report(self, done: float, total: float | None) -> None:
        """An exception of the function that is told is logged, and it is not called again: the work does not depend
        on it.
        """
        with self._lock:
            self._last = done, total
            try:
                self._tell(self._stage, done, total)
            except Exception:
                log.exception("gothreads' progress function failed, and is not called any more")
                self._tell = _ignore

    def repeat(self) -> None:
        """Report the same again: only the time has changed."""
        with self._lock:
            last = self._last
            if last is None and time.monotonic() - self._begun >= _SHORT_SECONDS:
                last = self._begin
            if last is not None:
                self.report(*last)

    def end(self) -> None:
        """Report the end of the stage, if its beginning was."""
        if self._last is not None:
            done, total = self._last
            end = done if total is None else total
            self.report(end, end)


@contextlib.contextmanager
def reporting(stage: str, begin: tuple[float, float | None] | None = None
              ) -> Iterator[Callable[[float, float | None], None]]:
    """For the code that works: yields a function to call with how much is done, and of how much.

    begin: these, to be shown while it was not called yet.
    """
    reports = _Reports(stage, begin)
    try:
        with _ticking(reports.repeat) if reports.again else contextlib.nullcontext():
            yield reports.report
    finally:
        reports.end()


@contextlib.contextmanager
def timed(stage: str, expected: float | None) -> Iterator[None]:
    """Report the seconds of a stage that says nothing while it lasts. `expected`: an estimate."""
    reports, begun = _Reports(stage), time.monotonic()

    def tick() -> None:
        seconds = time.monotonic() - begun
        reports.report(seconds, None if expected is None or seconds >= expected else expected)
    try:
        with _ticking(tick):
            yield
    finally:
        reports.end()


@contextlib.contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call a function again and again meanwhile, on a thread."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(_INTERVAL_SECONDS):
            tick()
    ticker = threading.Thread(target=run, name="gothreads-progress", daemon=True)
    ticker.start()
    try:
        yield
    finally:
        ended.set()
        ticker.join()
