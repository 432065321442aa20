"""Checks durations that a program passes in, such as timeouts: numbers of seconds."""

from __future__ import annotations

from typing import TypeGuard

from gothreads.errors import MisuseError
from gothreads.text import cut


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether the value is an int or a float. A bool is not, although it is an int."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_seconds(name: str, value: object, *, above_zero: bool = False) -> None:
    """Raise MisuseError unless the value is None (without limit) or a number of seconds, at least 0 or above 0."""
    if value is None:
        return
    # In this form, the comparisons also refuse NaN.
    if not is_number(value) or not (value > 0 if above_zero else value >= 0):
        raise MisuseError(f"{name} must be a number of seconds {'above' if above_zero else 'of at least'} 0, not "
                          f"{cut(value)}")
