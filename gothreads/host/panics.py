"""How Go's runtime says why it ends the program: what it writes to standard error (runtime/panic.go, printpanics and throw).

    panic: on purpose [recovered]          fatal error: concurrent map writes
            panic: again
    [signal SIGSEGV ...]                    a line that is there or not

    goroutine 7 [running]:                 or "runtime stack:"

A program may write lines that begin so by itself, when it logs what it has recovered from, and debug.Stack() after them. Those are told
apart by what follows.
"""

from __future__ import annotations

import re

_SAID = rb"^(?:panic: |fatal error: ).*"
_STACK = rb"(?:\n\t.*|\n\[.*)*\n\n(?:goroutine \d+ .*\n(?!runtime/debug\.)|runtime stack:)"
_WITH_STACK = re.compile(_SAID + _STACK, re.MULTILINE)
#: With GOTRACEBACK=none no stack follows, and nothing else.
_AT_THE_END = re.compile(_SAID + rb"(?:\n\t.*|\n\[.*)*\s*\Z", re.MULTILINE)


def begins(text: bytes | bytearray) -> int | None:
    """Where a panic begins; of several, which threads may have at the same time, the first."""
    found = _WITH_STACK.search(text)
    return None if found is None else found.start()


def reason(text: str) -> str | None:
    """The line that says what a panic was; None when there was none."""
    encoded = text.encode(errors="replace")
    found = _WITH_STACK.search(encoded) or _AT_THE_END.search(encoded)
    return None if found is None else found[0].split(b"\n")[0].decode(errors="replace").strip()
