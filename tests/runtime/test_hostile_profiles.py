"""A module that answers what a profiler asks so that there is always more: it costs neither time nor memory for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from gothreads.callback_m import CallbackM
from gothreads.engine.settings import new_engine
from gothreads.errors import GothreadsError
from gothreads.runtime import profile_questions, profiler
from gothreads.runtime.inspector import Inspector
from gothreads.runtime.profile_questions import Questions
from gothreads.runtime.profiler import Profiler, _CpuSamples, _scaled, _Trace
from gothreads.shared_memory import SharedMemory
from gothreads.wasm import layout
from gothreads.wasm.binary import PAGE

PAGES = 2 + layout.COUNTS // PAGE
#: Where there is room in the memory.
AT = PAGE * (PAGES - 1)


class Hostile:
    """The side of such a module, and its inspector: to each question, there is more, and it is at these words."""

    def __init__(self, *answer: int, records: tuple[int, ...] = ()) -> None:
        self.memory = SharedMemory(new_engine(6 << 20), PAGES, PAGES)
        for index, word in enumerate(records):
            self.memory.write_u64(AT + 8 * index, word)
        self._answer = answer
        self.questions = Questions("hostile", cast(Inspector, self), self.memory)

    @property
    def caller(self) -> CallbackM:
        return cast(CallbackM, self)

    def ask(self, look: Callable[[CallbackM], Any], _timeout: float) -> Any:
        return look(self.caller)

    def function(self, _name: str, _params: str, _result: str) -> Callable[[int, int], int]:
        def profile(_question: int, at: int) -> int:
            for index, word in enumerate(self._answer):
                self.memory.write_u64(at + 8 * index, word)
            return 1
        return profile


@pytest.mark.parametrize("record", [(3, 0, 0), (4, 0, 0, 7), (5, 0, 1, 7, 8)])
def test_samples_that_are_nothing_new_end(record: tuple[int, ...]) -> None:
    hostile = Hostile(AT, len(record), 0, 0, 0, 0, records=record)
    _CpuSamples(hostile.questions).fetch(hostile.caller)


def test_samples_end_when_their_labels_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three samples with one label. Its name and value have 1,000 NUL each, which are shown with four letters each.
    samples = [word for pc in (1, 2, 3) for word in (4, 0, 1, pc)]
    labels, text = [AT + 8 * 15] * 3, [AT + 8 * 17, 1, AT + 8 * 21, 1000, AT + 8 * 21, 1000]
    hostile = Hostile(AT, len(samples), AT + 8 * 12, 3, 0, 0, records=(*samples, *labels, *text))
    taken = _CpuSamples(hostile.questions)
    monkeypatch.setattr(profiler, "MOST_WORDS", 1500)
    taken.fetch(hostile.caller)
    assert taken.is_full
    assert len(taken.counts) == 2


def test_names_have_only_so_many_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_questions, "_MOST_CHARACTERS", 10_000)
    hostile = Hostile(AT, 1000, AT, 1000, 1, 1)
    for pc in range(100):
        hostile.questions.line(hostile.caller, pc)
    assert sum(len(line.function) for line in hostile.questions._lines.values() if line is not None) < 20_000


def test_a_trace_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = Hostile(AT, 10, 0, 0, 0, 0)
    trace = _Trace(hostile.questions, {"trace"})
    trace.fetch(hostile.caller)
    assert len(trace.data) == 10 * profiler._MOST_TRACED
    monkeypatch.setattr(profiler, "ANSWER_SECONDS", 0.01)
    with pytest.raises(TimeoutError, match="hostile: Go has not ended the trace"):
        Profiler(hostile.questions, is_there=True)._end(trace)
    monkeypatch.setattr(profiler, "_MOST_TRACE", 1000)
    with pytest.raises(GothreadsError, match="hostile: the trace has no end after"):
        trace.fetch(hostile.caller)


def test_an_answer_is_only_so_long() -> None:
    hostile = Hostile(AT, 1 << 31, 0, 0, 0, 0)
    with pytest.raises(GothreadsError, match="hostile: the module's answer has 268,435,456 words"):
        _Trace(hostile.questions, {"trace"}).fetch(hostile.caller)


def test_a_rate_may_be_as_large_as_it_likes() -> None:
    assert _scaled(1, 1, 1 << 60) == (1 << 60, 1 << 60)
    assert _scaled(2, 16, (1 << 64) - 1)[1] > 0
    assert _scaled(1, (1 << 64) - 1, 2) == (1, (1 << 64))
