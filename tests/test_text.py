"""Text from outside: numbers."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gothreads.text import whole_number


@given(st.integers(0, 1 << 70), st.integers(0, 1 << 70), st.integers(0, 5))
def test_a_whole_number_is_read_if_it_is_not_above_the_largest(number: int, largest: int, zeros: int) -> None:
    assert whole_number("0" * zeros + str(number), largest) == (number if number <= largest else None)


@pytest.mark.parametrize("text", ["", " 1", "+1", "-1", "1_0", "1.0", "0x1", "1\n", "\u0661", "\u00b2"])
def test_text_that_is_not_only_ascii_digits_is_no_number(text: str) -> None:
    assert whole_number(text, sys.maxsize) is None


def test_digits_that_python_refuses_to_convert_are_above_any_limit() -> None:
    digits = "9" * (sys.get_int_max_str_digits() + 1)
    with pytest.raises(ValueError, match="limit"):
        int(digits)
    assert whole_number(digits, sys.maxsize) is None
