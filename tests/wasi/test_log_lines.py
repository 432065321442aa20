"""stdout= and stderr= may be loggers: each line of the module's output becomes a record."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gothreads
from gothreads.wasi.log_lines import LONGEST, LogLines
from tests.support.modules import MODELS, opened
from tests.support.waiting import PATIENCE, together

LOGGER = logging.getLogger("tests.log_lines")


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.levelno, record.getMessage()))

    @property
    def lines(self) -> list[str]:
        return [line for _, line in self.kept]


@pytest.fixture
def records() -> Iterator[Records]:
    yield from recording()


def recording() -> Iterator[Records]:
    handler = Records()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        yield handler
    finally:
        LOGGER.removeHandler(handler)


@given(st.lists(st.text(st.sampled_from("ab\n"))))
def test_lines_are_the_same_however_they_are_written(parts: list[str]) -> None:
    for records in recording():
        file = LogLines(LOGGER, logging.INFO)
        for part in parts:
            file.write(part)
        file.flush()
        file.flush()
        text = "".join(parts)
        assert records.lines == text.removesuffix("\n").split("\n") * bool(text)


@pytest.mark.parametrize("size", [LONGEST - 1, LONGEST, LONGEST + 1, 3 * LONGEST])
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_long_lines_are_logged_in_pieces(records: Records, size: int, step: int) -> None:
    file = LogLines(LOGGER, logging.INFO)
    text = "x" * size + "\nnext\n"
    for start in range(0, len(text), step):
        file.write(text[start:start + step])
        assert len(file._rest) <= LONGEST
    *pieces, last = records.lines
    assert ("".join(pieces), last) == ("x" * size, "next")
    assert len(pieces) == -(-size // LONGEST)
    assert max(map(len, pieces)) <= LONGEST


def test_a_line_cannot_pass_for_two(records: Records) -> None:
    LogLines(LOGGER, logging.INFO).write("a %s\r\n\x1b[31mred\rover\u2028under\n")
    assert records.lines == ["a %s", "\\x1b[31mred\\rover\\u2028under"]


@pytest.mark.parametrize("model", MODELS)
def test_each_line_of_output_is_a_record_and_the_last_needs_no_end(records: Records, model: str) -> None:
    with opened("calls", model, stdout=LOGGER, instances=1 if model == "pool" else None) as app:
        app.exports.write("näher\n", 2)
        app.exports.write("no end", 1)
        assert records.kept == [(logging.INFO, "näher")] * 2
    assert records.lines == ["näher", "näher", "no end"]


def test_lines_of_many_threads_and_instances_stay_whole(records: Records) -> None:
    for model in ("threaded", "pool"):
        with opened("calls", model, stdout=LOGGER) as app:
            together(*(lambda app=app, c=c: app.exports.write(c * 99 + "\n", 50) for c in "abcd"))
        assert sorted(records.lines) == sorted(c * 99 for c in "abcd" for _ in range(50))
        records.kept.clear()


def test_standard_error_is_logged_as_warnings_and_kept_for_errors(records: Records) -> None:
    adapter: logging.LoggerAdapter[Any] = logging.LoggerAdapter(LOGGER)
    with opened("calls", stderr=adapter) as app, pytest.raises(gothreads.GuestPanic, match="on purpose"):
        app.request("panic", "on purpose")
    assert records.kept[0][0] == logging.WARNING
    assert records.lines[0].startswith("panic: on purpose")


def test_an_exception_of_the_loggers_filter_ends_the_app(records: Records) -> None:
    def refuse(_record: logging.LogRecord) -> bool:
        raise LookupError("no such record")
    LOGGER.addFilter(refuse)
    try:
        with opened("calls", stdout=LOGGER) as app:
            for call in (lambda: app.exports.write("text\n", 1), lambda: app.wait(PATIENCE)):
                with pytest.raises(gothreads.HostFunctionError, match="no such record"):
                    call()
    finally:
        LOGGER.removeFilter(refuse)


def test_an_app_with_a_logger_can_be_pickled(records: Records, calls: Path) -> None:
    with gothreads.open(calls, stdout=LOGGER) as app, pickle.loads(pickle.dumps(app)) as other:
        other.exports.write("from another\n", 1)
        assert records.lines == ["from another"]


def test_what_takes_no_output_is_refused(calls: Path) -> None:
    for stream in ("stdout", "stderr"):
        with pytest.raises(gothreads.MisuseError, match=f"{stream} must be a file object or a logging.Logger, not 'app'"):
            gothreads.open(calls, **{stream: "app"})  # type: ignore[arg-type]
