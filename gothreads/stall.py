"""Noticing that a module has come to a standstill: calls are in it, all of them wait, and nothing that could end it is left.

Go calls that a deadlock and ends the program, but a module that runs on may still be called, and the next call may be what
all wait for. So it is reported, once, and the app goes on or ends as told.

Nobody asks Go anything while calls come and go: only when all that are in the module have been in it for the whole time, and
none has begun since the last look.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gothreads.callback_m import CallbackM
from gothreads.errors import GothreadsError
from gothreads.inspector import Goroutine, Inspector

log = logging.getLogger("gothreads")

#: How long Go may take to answer, in seconds. If it takes longer, something runs.
_ANSWER_SECONDS = 5.0
#: How many goroutines a message shows.
_SHOWN = 100


@dataclass(frozen=True)
class Stall:
    """`calls`: how long each call has been in the module, in seconds, longest first. `goroutines`: all, with their stacks."""

    calls: tuple[float, ...]
    goroutines: tuple[Goroutine, ...]

    def __str__(self) -> str:
        waiting = (f"{len(self.calls)} call{'s' if len(self.calls) > 1 else ''} (the longest for {self.calls[0]:.1f} s), and all goroutines wait"
                   if self.calls else "all goroutines wait")
        stacks = [str(g) for g in self.goroutines[:_SHOWN]]
        if len(self.goroutines) > _SHOWN:
            stacks.append(f"… and {len(self.goroutines) - _SHOWN:,} goroutines more")
        return "\n\n".join([f"stalled: {waiting}; nothing runs, no timer is set, no host call is open", *stacks])


class StallWatch:
    """A thread that looks. `report` is called with each stall, once. `idle_too`: no calls can come, so none need be in."""

    def __init__(self, inspector: Inspector, seconds: float, in_flight: Callable[[], dict[CallbackM, float]], running: Callable[[], bool],
                 ended: threading.Event, report: Callable[[Stall], None], idle_too: bool) -> None:
        self._inspector, self._seconds, self._in_flight, self._running = inspector, seconds, in_flight, running
        self._ended, self._report, self._idle_too = ended, report, idle_too

    def start(self) -> None:
        threading.Thread(target=self._watch, name="gothreads-stall", daemon=True).start()

    def _watch(self) -> None:
        pause = min(max(self._seconds / 4, 0.02), 1.0)
        reported: dict[CallbackM, float] | None = None
        seen: dict[CallbackM, float] = {}  # the calls at the last look, and since when they are the same
        since = time.monotonic()
        while not self._ended.wait(pause):
            calls, now = self._in_flight(), time.monotonic()
            if calls != seen or not self._running():
                seen, since = calls, now
                continue
            if calls == reported or now - since < self._seconds or not (calls or self._idle_too):
                continue
            try:
                moment = self._inspector.moment(_ANSWER_SECONDS)
                if not moment.still or moment.calls != calls:
                    since = now
                    continue
                stall = Stall(tuple(sorted((now - begun for begun in calls.values()), reverse=True)),
                              tuple(self._inspector.goroutines(_ANSWER_SECONDS)))
            except TimeoutError:
                since = now
                continue
            except GothreadsError:  # the app ends
                return
            reported = calls
            try:
                self._report(stall)
            except Exception:
                log.exception("on_stall raised")
