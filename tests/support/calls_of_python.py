"""Which host calls Python has served, and not C."""

from __future__ import annotations

import functools

import pytest


def count_calls(monkeypatch: pytest.MonkeyPatch, calls: type, names: tuple[str, ...], asked: list[str]) -> None:
    """Add the name of each call to `asked`, for the rest of the test. `calls`: the class with the host calls."""
    def counted(name: str) -> None:
        original = getattr(calls, name)

        @functools.wraps(original)
        def call(*arguments: int) -> None:
            asked.append(name)
            original(*arguments)
        monkeypatch.setattr(calls, name, call)
    for name in names:
        counted(name)
