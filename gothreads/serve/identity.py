"""Who sends a request, and what they may do.

A right is a path after /api/, where * stands for anything: call/add, request/*, signal/order, */upper. metrics is for
/metrics and the dashboard, inspect for what the dashboard shows of stacks, restart for replacing the app, * for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gothreads.errors import MisuseError
from gothreads.text import cut

#: Where a request's scope has the Identity of its client, once that is known.
IDENTITY = "gothreads.identity"
#: The right to read /metrics.
METRICS = "metrics"
#: The right to see the stacks of goroutines, and of errors.
INSPECT = "inspect"
#: The right to replace the app by a new instance.
RESTART = "restart"
_RIGHT = re.compile(r"\*|metrics|inspect|restart|(call|request|signal|\*)/[^\s#]+")
#: fnmatch's other wildcards are letters of a name here.
_LETTERS = str.maketrans({"?": "[?]", "[": "[[]"})


@dataclass(frozen=True)
class Identity:
    """An authenticated client. kind: what it has shown: a key, a token or a certificate, which may have one name."""

    kind: str
    name: str
    rights: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def may(self, what: str) -> bool:
        return any(fnmatchcase(what, right.translate(_LETTERS)) for right in self.rights)


def is_right(text: str) -> bool:
    return _RIGHT.fullmatch(text) is not None


def check_rights(where: str, rights: Iterable[str]) -> tuple[str, ...]:
    """Rights that somebody has written. MisuseError if one is none; `where` is in the message."""
    found = tuple(rights)
    for right in found:
        if not is_right(right):
            raise MisuseError(f"{where}{cut(right)} is not a right; expected call/NAME, request/NAME or signal/NAME, "
                              "where NAME may have * (call/*), metrics, inspect, restart, or * for everything")
    if not found:
        raise MisuseError(f"{where}there are no rights; * is for everything")
    return found
