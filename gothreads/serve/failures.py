"""The last calls of an app that have failed, with their stacks. These are for those who run the server: what clients
get has no stacks.

Mistakes of clients are not among them. A failure that repeats itself is counted, not kept again, so that a module that
has ended costs nothing more for each call that it does not answer.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import Any

from gothreads.errors import GothreadsError, GuestError, HostFunctionError, shown_frames
from gothreads.text import printable

#: How many are kept, and how long their texts and stacks may be, in characters.
MOST, LONGEST_TEXT, LONGEST_STACK = 32, 1000, 8000
#: The outcomes that are failures (outcomes.py).
_FAILED = frozenset(("error", "timeout", "busy", "invalid", "ended", "bug"))


@dataclass
class Failure:
    """what: what was called. first, last: when, in seconds since 1970. count: how often it came in a row."""

    what: str
    outcome: str
    text: str
    stack: str
    first: float
    last: float
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Failures:
    """Of one app. On the server's event loop only."""

    def __init__(self) -> None:
        self._kept: deque[Failure] = deque(maxlen=MOST)
        #: How many there have been.
        self.count = 0

    def note(self, what: str, outcome: str, error: BaseException) -> None:
        """A call has ended so."""
        if outcome not in _FAILED:
            return
        self.count += 1
        now, text = time.time(), _text(error)
        for kept in self._kept:
            if (kept.what, kept.outcome, kept.text) == (what, outcome, text):
                kept.last, kept.count = now, kept.count + 1
                return
        self._kept.append(Failure(what, outcome, text, stack_of(error), now, now))

    def to_json(self) -> list[dict[str, Any]]:
        """All that are kept, the latest first."""
        return [kept.to_json() for kept in sorted(self._kept, key=lambda kept: kept.last, reverse=True)]


def _text(error: BaseException) -> str:
    text = error.headline if isinstance(error, GuestError) else str(error) or type(error).__name__
    return printable(text[:LONGEST_TEXT])


def stack_of(error: BaseException) -> str:
    """Where it has failed: what Go has printed, the frames of a trap, or Python's traceback. The end of it, if long."""
    parts = []
    if isinstance(error, GuestError):
        parts += [printable(error.stderr), "\n".join(shown_frames(error.frames))]
    raised = error.__cause__ if isinstance(error, HostFunctionError) else error
    if raised is not None and not isinstance(raised, GothreadsError):
        parts.append(printable("".join(traceback.format_exception(raised, limit=-20))))
    return "\n".join(part.strip() for part in parts if part.strip())[-LONGEST_STACK:]
