"""What the host asks of a module of which it takes a profile, and what the module answers.

The other side is build/goroot/runtime/profile_gothreads.go. What an answer points to is copied in the same turn of the
inspector's thread, since Go keeps it until the next question. The module is not trusted: the memory checks addresses
and lengths, and what is kept is bounded.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from typing import TypeVar

from gothreads.callback_m import CallbackM
from gothreads.errors import GothreadsError, MemoryAccessError
from gothreads.profiles.samples import Line
from gothreads.runtime.inspector import Inspector
from gothreads.shared_memory import SharedMemory
from gothreads.text import printable
from gothreads.wasm import abi, layout

T = TypeVar("T")

#: How long Go may take to answer, in seconds; a garbage collection may come first.
ANSWER_SECONDS = 30.0
#: The most words of an answer; the most different PCs that are kept, and characters of their names.
MOST_WORDS, _MOST_LINES, _MOST_CHARACTERS = 2 << 20, 500_000, 64 << 20
_LONGEST_NAME, _MOST_LABELS = 1000, 16


class Question(IntEnum):
    """As profile_gothreads.go has them."""

    START = 0
    STOP = 1
    SAMPLES = 2
    RATES = 3
    RECORDS = 4
    FRAME = 5
    TRACE = 6
    UNTRACE = 7
    TRACED = 8
    FORGET = 9


class Questions:
    """Asks one module. `name`: the module's."""

    def __init__(self, name: str, inspector: Inspector, memory: SharedMemory) -> None:
        self.name, self._inspector, self._memory = name, inspector, memory
        #: What is at the PCs of stacks; None: nothing that is shown. Changed on the inspector's thread only.
        self._lines: dict[int, Line | None] = {}
        self._characters = 0  # of the names in them

    def in_module(self, look: Callable[[CallbackM], T]) -> T:
        """Run `look` on the inspector's thread, with its caller. TimeoutError: Go does not answer.

        GothreadsError: the app has ended, or an answer makes no sense.
        """
        try:
            return self._inspector.ask(look, ANSWER_SECONDS)
        except TimeoutError:
            raise TimeoutError(f"{self.name}: Go does not answer: loops that cannot be preempted hold all its "
                               "processors") from None
        except MemoryAccessError as error:
            raise GothreadsError(f"{self.name}: the module's answer makes no sense ({error})") from None

    def is_so(self, question: Question, *given: int) -> bool:
        """Ask one question, of which only whether it is so matters. Raises as in_module."""
        return self.in_module(lambda caller: self.ask(caller, question, *given)[0])

    def ask(self, caller: CallbackM, question: Question, *given: int) -> tuple[bool, list[int]]:
        """Ask a question: whether it is so, and words. For what in_module runs."""
        for index, value in enumerate(given):
            self._memory.write_u64(layout.COUNTS + 8 * index, value & (1 << 64) - 1)
        answer = caller.function(abi.PROFILE, "iI", "?")(question, layout.COUNTS)
        return bool(answer), [self._memory.read_u64(layout.COUNTS + 8 * index) for index in range(6)]

    def bytes(self, address: int, length: int) -> builtins.bytes:
        self._check(length // 8)
        return self._memory.read(address, length)

    def words(self, address: int, count: int) -> list[int]:
        """A copy of words of the module's memory."""
        if not count:
            return []
        self._check(count)
        return memoryview(self._memory.read(address, 8 * count)).cast("Q").tolist()

    def _check(self, words: int) -> None:
        if words > MOST_WORDS:
            raise GothreadsError(f"{self.name}: the module's answer has {words:,} words")

    def labels(self, address: int) -> tuple[tuple[str, str], ...]:
        """The labels of a goroutine, as pprof.Do has set them: a slice of pairs of strings, in all versions of Go."""
        if not address:
            return ()
        pairs, count = self.words(address, 2)
        words = self.words(pairs, 4 * min(count, _MOST_LABELS))
        texts = [self._text(words[at], words[at + 1]) for at in range(0, len(words), 2)]
        return tuple(zip(texts[::2], texts[1::2], strict=True))

    def _text(self, address: int, length: int) -> str:
        return printable(self._memory.read(address, min(length, _LONGEST_NAME)).decode(errors="replace"))

    def line(self, caller: CallbackM, pc: int) -> Line | None:
        """What is at a PC; None: nothing that is shown."""
        if pc in self._lines or len(self._lines) >= _MOST_LINES or self._characters > _MOST_CHARACTERS:
            return self._lines.get(pc)
        _, words = self.ask(caller, Question.FRAME, pc)
        line = None
        if words[1]:
            line = Line(shortened(self._text(words[0], words[1])), self._text(words[2], words[3]),
                        words[4] & 0x7FFFFFFF, words[5] & 0x7FFFFFFF)
            self._characters += len(line.function) + len(line.file)
        self._lines[pc] = None if line is not None and line.function == "runtime.goexit" else line
        return self._lines[pc]

    def resolved(self, pcs: Sequence[int]) -> tuple[Line, ...]:
        """The stack at these PCs. Raises as in_module."""
        if any(pc not in self._lines for pc in pcs):
            self.in_module(lambda caller: [self.line(caller, pc) for pc in pcs])
        return self.stack(pcs)

    def stack(self, pcs: Iterable[int]) -> tuple[Line, ...]:
        """The stack at PCs that `line` has been asked for."""
        return tuple(line for pc in pcs if (line := self._lines.get(pc)) is not None)


def records(words: Sequence[int], header: int) -> Iterator[tuple[int, ...]]:
    """Records, each of which begins with its length. header: how many words that counts itself."""
    at = 0
    while at < len(words):
        length = words[at] - header
        if length < 3 - header or length > len(words) - at - 1:
            return
        yield tuple(words[at + 1:at + 1 + length])
        at += 1 + length


def shortened(function: str) -> str:
    """The name of a function, with [...] for type arguments, as Go prints it."""
    begin, end = function.find("["), function.rfind("]")
    return f"{function[:begin]}[...]{function[end + 1:]}" if 0 <= begin < end else function
