"""Numbers of seconds that a program passes in."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import gothreads
from gothreads.sync.seconds import check_seconds

WRONG = ["1", True, float("nan"), -1, Decimal(1), []]


@pytest.mark.parametrize("value", [None, 0, 0.0, 3, 2.5, float("inf")])
def test_none_and_numbers_from_zero_on_are_seconds(value: object) -> None:
    check_seconds("timeout", value)


@pytest.mark.parametrize("value", WRONG)
def test_anything_else_is_refused_by_name(value: object) -> None:
    with pytest.raises(gothreads.MisuseError, match=r"^timeout must be a number of seconds of at least 0, not "):
        check_seconds("timeout", value)


@pytest.mark.parametrize("value", [*WRONG, 0])
def test_zero_is_refused_where_it_makes_no_sense(value: object) -> None:
    with pytest.raises(gothreads.MisuseError, match=r"^save_every must be a number of seconds above 0, not "):
        check_seconds("save_every", value, above_zero=True)


CALLS: dict[str, Callable[[Any, Any], object]] = {
    "wait": lambda app, timeout: app.wait(timeout),
    "wait_idle": lambda app, timeout: app.wait_idle(timeout),
    "goroutines": lambda app, timeout: app.goroutines(timeout),
    "signal": lambda app, timeout: app.signal("name", timeout=timeout),
    "request": lambda app, timeout: app.request("name", timeout=timeout),
    "submit": lambda app, timeout: app.submit("add", 1, 2, timeout=timeout),
    "an export": lambda app, timeout: app.exports.add(1, 2, timeout=timeout),
}


@pytest.mark.parametrize("open_", [gothreads.open, gothreads.supervise])
def test_every_timeout_of_an_app_is_checked(calls: Path, open_: Callable[..., Any]) -> None:
    with open_(calls) as app:
        for name, call in CALLS.items():
            for value in ("1", -1):
                with pytest.raises(gothreads.MisuseError) as raised:
                    call(app, value)
                assert str(raised.value).startswith("timeout must be a number of seconds"), name
