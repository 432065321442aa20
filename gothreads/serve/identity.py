"""Who sends a request, and what they may do.

A right is a path after /api/, with wildcards: call/add, request/*, signal/order. metrics is for /metrics, * for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gothreads.errors import MisuseError
from gothreads.text import cut

#: The right to read /metrics.
METRICS = "metrics"
_RIGHT = re.compile(r"\*|metrics|(call|request|signal|\*)/\S+")


@dataclass(frozen=True)
class Identity:
    """An authenticated client. name: for limits and logs."""

    name: str
    rights: tuple[str, ...]

    def may(self, what: str) -> bool:
        return any(fnmatchcase(what, right) for right in self.rights)


def check_rights(where: str, rights: Iterable[str]) -> tuple[str, ...]:
    """Rights that somebody has written. MisuseError if one is none; `where` is in the message."""
    found = tuple(rights)
    for right in found:
        if not _RIGHT.fullmatch(right):
            raise MisuseError(f"{where}{cut(right)} is not a right; expected call/NAME, request/NAME or signal/NAME, "
                              "where NAME may have wildcards (call/*), metrics, or * for everything")
    if not found:
        raise MisuseError(f"{where}there are no rights; * is for everything")
    return found
