"""How Go's runtime says why it ends the program: what it writes to standard error (runtime/panic.go, printpanics and throw).

    panic: on purpose [recovered]          fatal error: concurrent map writes
            panic: again
    [signal SIGSEGV ...]                    a line that is there or not

    goroutine 7 [running]:                 or "runtime stack:"

When several threads give up at the same moment, as they do when memory is out, what they say is mixed, since throw writes it in pieces,
before it takes the runtime's lock (a panic is written behind it). What follows has "gp=" then, which only throw's stacks have:

    fatal error: runtime: out of memory: cannot allocate 1048576-byte block (80478208 in use)
    fatal error: out of memory
    out of memory

    goroutine 38 gp=0x383880 m=10 mp=0x39f808 [running]:

and lines of the one may stand between any two of the other's.

A program may write lines that begin so by itself, when it logs what it has recovered from, and debug.Stack() after them. Those are told
apart by what follows.
"""

from __future__ import annotations

import re

_THROWN = b"fatal error: "
_SAID = rb"^(?:panic: |fatal error: ).*"
_STACK = rb"(?:\n\t.*|\n\[.*)*\n\n(?:goroutine \d+ .*\n(?!runtime/debug\.)|runtime stack:)"
_WITH_STACK = re.compile(_SAID + _STACK, re.MULTILINE)
_MIXED = re.compile(rb"^fatal error: .*(?:\n.*){0,20}?\n(?:goroutine \d+ gp=.*\n|runtime stack:)", re.MULTILINE)
#: With GOTRACEBACK=none no stack follows, and nothing else. Blank lines at the end are left out before: a pattern that takes them as what they
#: may be, lines of the panic or space behind it, tries all the ways to divide them.
_AT_THE_END = re.compile(_SAID + rb"(?:\n\t.*|\n\[.*)*\Z", re.MULTILINE)


def begins(text: bytes | bytearray) -> int | None:
    """Where a panic begins; of several, which threads may have at the same time, the first."""
    found = _WITH_STACK.search(text) or _MIXED.search(text)
    return None if found is None else found.start()


def reason(text: str) -> str | None:
    """The line that says what a panic was; None when there was none."""
    encoded = text.encode(errors="replace")
    end = encoded.find(b"\n", len(encoded.rstrip()))
    found = _WITH_STACK.search(encoded) or _AT_THE_END.search(encoded, 0, len(encoded) if end < 0 else end)
    said = b"" if found is None else found[0].split(b"\n")[0]
    if not said.replace(_THROWN, b"") and (mixed := _MIXED.search(encoded)) is not None:
        said = _thrown(mixed[0].split(b"\n"))
    return said.decode(errors="replace").strip() or None


def _thrown(lines: list[bytes]) -> bytes:
    """What threads have thrown that were mixed: the last that stands behind its beginning, or else the first line that can be one."""
    said = [line for line in lines if line.replace(_THROWN, b"")]
    begun = [line for line in said if line.startswith(_THROWN)]
    return begun[-1] if begun else _THROWN + said[0]
