"""Which app a record of the log is about, where a process has several: the field `app` of the record.

Records that are written while an app is opened have its name from the context. Other records that concern an app begin
with its name: "NAME: text".
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator
from contextvars import ContextVar

_current: ContextVar[str | None] = ContextVar("gothreads.output.app_names", default=None)


@contextlib.contextmanager
def of_app(name: str | None) -> Iterator[None]:
    """What is logged meanwhile, in this context, concerns the app of that name."""
    token = _current.set(name)
    try:
        yield
    finally:
        _current.reset(token)


def without_name(name: str, text: str) -> str:
    """A text about an app, to follow its name."""
    return text.removeprefix(f"{name}: ")


class AppNames(logging.Filter):
    """Adds `app` to records that concern one of these apps."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self._names = frozenset(names)

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "app"):
            begin = record.getMessage().partition(": ")[0]
            name = begin if begin in self._names else _current.get()
            if name is not None:
                record.app = name
        return True
