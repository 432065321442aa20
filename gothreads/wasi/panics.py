"""Finds, in a module's standard error, the message with which Go's runtime ends a program.

The formats (runtime/panic.go, printpanics and throw):

    panic: on purpose [recovered]          fatal error: concurrent map writes
            panic: again
    [signal SIGSEGV ...]                    this line is optional

    goroutine 7 [running]:                 or "runtime stack:"

When several threads throw at the same moment, as they do when memory runs out, their messages are interleaved, since
throw writes its message in pieces before it takes the runtime's lock (a panic is written under the lock). The stack
that follows then contains "gp=", which only throw's stacks do:

    fatal error: runtime: out of memory: cannot allocate 1048576-byte block (80478208 in use)
    fatal error: out of memory
    out of memory

    goroutine 38 gp=0x383880 m=10 mp=0x39f808 [running]:

and the lines of one message may come between any two lines of another.

A program may itself write lines that begin in this way, such as when it logs a recovered panic followed by
debug.Stack(). What follows those lines distinguishes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gothreads.errors import Frame

_THROWN = b"fatal error: "
_FIRST_LINE = rb"^(?:panic: |fatal error: ).*"
_STACK = rb"(?:\n\t.*|\n\[.*)*\n\n(?:goroutine \d+ .*\n(?!runtime/debug\.)|runtime stack:)"
_WITH_STACK = re.compile(_FIRST_LINE + _STACK, re.MULTILINE)
_MIXED = re.compile(rb"^fatal error: .*(?:\n.*){0,20}?\n(?:goroutine \d+ gp=.*\n|runtime stack:)", re.MULTILINE)
#: With GOTRACEBACK=none nothing follows the message, not even a stack. `reason` cuts off trailing blank lines before
#: matching: a pattern that allowed them as lines of the panic or as space after it would try every way to divide them.
_AT_THE_END = re.compile(_FIRST_LINE + rb"(?:\n\t.*|\n\[.*)*\Z", re.MULTILINE)

#: What the functions of Go's runtime say that find no memory left.
_OUT_OF_MEMORY = (b"out of memory", b"cannot allocate")
#: The most that is searched for what precedes the stacks, in bytes.
_BEFORE_STACKS = 512
#: The most frames that are read of one stack. Go itself leaves out some if there are more.
_MOST_FRAMES = 100
#: How much of the stacks of all goroutines is enough, in bytes. Errors keep it, and it takes a tenth of a second.
_ENOUGH = 48 << 10
#: With this piece, on its own, Go's runtime begins a goroutine's stack; and the whole line.
_PIECE = b"goroutine "
_HEADER = re.compile(rb"^goroutine \d+ .*\[.*\]:$", re.MULTILINE)


def begins(text: bytes | bytearray) -> int | None:
    """Offset at which a panic begins; the first, if threads panicked at the same time. None if there is none."""
    found = _WITH_STACK.search(text) or _MIXED.search(text)
    return None if found is None else found.start()


def reason(text: str) -> str | None:
    """The first line of a panic, which states its cause; None if there is no panic."""
    encoded = text.encode(errors="replace")
    end = encoded.find(b"\n", len(encoded.rstrip()))
    found = _WITH_STACK.search(encoded) or _AT_THE_END.search(encoded, 0, len(encoded) if end < 0 else end)
    line = b"" if found is None else found[0].split(b"\n")[0]
    if not line.replace(_THROWN, b"") and (mixed := _MIXED.search(encoded)) is not None:
        line = _thrown(mixed[0].split(b"\n"))
    return line.decode(errors="replace").strip() or None


def frames(text: str) -> list[Frame]:
    """The stack of the goroutine that panicked, innermost first; empty if there is none, or it is the runtime's."""
    found = _WITH_STACK.search(encoded := text.encode(errors="replace"))
    return [] if found is None else list(stack_frames(encoded[found.end():].decode(errors="replace")))


def stack_frames(stack: str) -> Iterator[Frame]:
    """The frames of a goroutine's stack, as Go's runtime writes it: a line with the call, and one with its place.

    In the middle of a long one, a line says how many are left out.
    """
    lines = [line for line in stack.split("\n", 2 * _MOST_FRAMES + 1) if not line.startswith("...")]
    for call, where in zip(lines[::2], lines[1::2], strict=False):
        if not where.startswith("\t") or call.startswith("created by "):
            return
        file, _, rest = where.strip().rpartition(":")
        line = rest.partition(" ")[0]
        yield Frame(call.rpartition("(")[0] or call, file=file,
                    line=int(line) if line.isdecimal() and len(line) < 10 else 0)


def is_out_of_memory(reason: str) -> bool:
    """Whether this is the cause with which Go's runtime ends a program that has no memory left."""
    return _says_out_of_memory(reason.encode(errors="replace"))


def is_before_stacks_of_memory(text: bytearray, last: bytes) -> bool:
    """Whether this text, to which `last` was just added, says that memory has run out, so that the stacks follow.

    An empty line precedes the stacks. Go's runtime writes it on its own, which programs seldom do.
    """
    return last == b"\n" and text.endswith(b"\n\n") and _says_out_of_memory(text[-_BEFORE_STACKS:])


def is_after_stack_of_goroutine(text: bytearray, last: bytes) -> bool:
    """Whether a goroutine's stack ends with this text, to which `last` was just added.

    In the stacks of a program that has no memory left, the first goroutine is the one that wanted some. (The stack of
    its thread in Go's runtime may come before.)
    """
    if last != b"\n" or not text.endswith(b"\n\n"):
        return False
    begin = text.rfind(b"\n\n", 0, len(text) - 1)
    return text.startswith(b"goroutine ", begin + 2)


class StacksOfAll:
    """Watches for the stacks of all goroutines, which Go's runtime writes in pieces before it ends the program.

    There may be 100,000, which takes a minute, and the callers wait meanwhile. What is taken for them ends the program,
    so nothing that a program may write itself must be: each "goroutine " since "fatal error: " was a write of its own.
    """

    def __init__(self) -> None:
        self._pieces = self._size = 0  # since the first piece, or the last look at the text

    def are_enough(self, text: bytearray, coming: bytes) -> bool:
        """Whether the text, which `coming` follows, has so many of them that the rest can be left out."""
        is_piece = coming == _PIECE
        if not (is_piece or self._pieces):
            return False
        self._pieces += is_piece
        self._size += len(coming)
        if not is_piece or self._size < _ENOUGH:
            return False
        pieces, self._pieces, self._size = self._pieces, 0, 0
        begins = [found.start() for found in (_MIXED.search(text), *_WITH_STACK.finditer(text))
                  if found is not None and found[0].startswith(_THROWN)]
        # The text may have two more, since the look before.
        return bool(begins) and 2 <= len(_HEADER.findall(text, min(begins))) <= pieces + 2


def _says_out_of_memory(text: bytes | bytearray) -> bool:
    return _THROWN in text and any(words in text for words in _OUT_OF_MEMORY)


def _thrown(lines: list[bytes]) -> bytes:
    """The cause in interleaved messages: the last that follows its prefix, or else the first line that can be one."""
    messages = [line for line in lines if line.replace(_THROWN, b"")]
    begun = [line for line in messages if line.startswith(_THROWN)]
    return begun[-1] if begun else _THROWN + messages[0]
