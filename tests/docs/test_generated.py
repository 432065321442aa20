"""The generated pages are what the code says now."""

from __future__ import annotations

import sys

import pytest

import gothreads
from tests.docs.generate import _ADVICE, PAGES
from tests.support.modules import ROOT


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    if name in ("api.md", "command-line.md") and sys.version_info[:2] != (3, 11):
        pytest.skip("written with Python 3.11: later versions format signatures and help in other ways")
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "python -m tests.docs.generate"


def test_every_exception_has_advice() -> None:
    public = {name for name in gothreads.__all__ if isinstance(thing := getattr(gothreads, name), type)
              and issubclass(thing, Exception)}
    assert public == set(_ADVICE)
