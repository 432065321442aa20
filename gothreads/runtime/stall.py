"""Detects that a module has stalled: calls are in it, all of them wait, and nothing is left that could end the wait.

Go calls that a deadlock and ends the program. But a module that keeps running may still be called, and the next call
may be what all wait for. So the stall is reported, once, and the app goes on or ends, as configured.

Go is not asked while calls come and go: only when all calls in the module have been in it for the whole time, and none
has begun since the last look.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gothreads.callback_m import CallbackM, CallbackMCache
from gothreads.errors import GothreadsError
from gothreads.runtime.inspector import Goroutine, Inspector

log = logging.getLogger("gothreads")

#: How long Go may take to answer, in seconds. If it takes longer, something runs.
_ANSWER_SECONDS = 5.0
#: How many goroutines a message shows.
_SHOWN = 100


@dataclass(frozen=True)
class Stall:
    """`calls`: the seconds that each call has been in the module, longest first.

    `goroutines`: all of them, with their stacks.
    """

    calls: tuple[float, ...]
    goroutines: tuple[Goroutine, ...]

    def __str__(self) -> str:
        waiting = (f"{len(self.calls)} call{'s' if len(self.calls) > 1 else ''} (the longest for {self.calls[0]:.1f} "
                   f"s), and all goroutines wait"
                   if self.calls else "all goroutines wait")
        stacks = [str(g) for g in self.goroutines[:_SHOWN]]
        if len(self.goroutines) > _SHOWN:
            stacks.append(f"… and {len(self.goroutines) - _SHOWN:,} goroutines more")
        return "\n\n".join([f"stalled: {waiting}; nothing runs, no timer is set, no host call is open", *stacks])


class StallWatch:
    """A thread that looks for stalls, and calls `report` once for each. `idle_too`: even if no call is in the module.

    A stall is two looks in a row, a pause apart, at the same calls, all of them in for that long. Both find, with the
    world stopped, every caller's goroutine waiting and nothing busy. The callers are counted before and after each
    look: that shows a caller that was taken and has not entered Go yet.
    """

    def __init__(self, inspector: Inspector, seconds: float, callers: CallbackMCache, *, running: Callable[[], bool],
                 ended: threading.Event, report: Callable[[Stall], None], idle_too: bool) -> None:
        self._inspector, self._seconds, self._callers, self._running = inspector, seconds, callers, running
        self._ended, self._report, self._idle_too = ended, report, idle_too

    def start(self) -> None:
        threading.Thread(target=self._watch, name="gothreads-stall", daemon=True).start()

    def _watch(self) -> None:
        pause = min(max(self._seconds / 4, 0.02), 1.0)
        seen: dict[CallbackM, float] | None = None  # the calls at the last look
        reported: dict[CallbackM, float] | None = None
        since, still = 0.0, 0
        while not self._ended.wait(pause):
            calls, now = self._callers.in_flight(), time.monotonic()
            if calls != seen or not self._running():
                seen, since, still = calls, now, 0
            elif calls != reported and now - since >= self._seconds and (calls or self._idle_too):
                try:
                    still = still + 1 if self._is_still(calls) else 0
                    if still == 2:
                        reported = calls
                        self._tell(Stall(tuple(sorted((now - begun for begun in calls.values()), reverse=True)),
                                         tuple(self._inspector.goroutines(_ANSWER_SECONDS))))
                except TimeoutError:
                    still = 0
                except GothreadsError:  # the app ends
                    return

    def _is_still(self, calls: dict[CallbackM, float]) -> bool:
        counts = self._inspector.counts(_ANSWER_SECONDS)
        return (counts.busy == 0 and counts.blocked == len(calls) == self._callers.in_use
                and self._callers.in_flight() == calls)

    def _tell(self, stall: Stall) -> None:
        try:
            self._report(stall)
        except Exception:
            log.exception("on_stall raised")
