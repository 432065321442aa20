"""docs/what-works.md says what its programs do."""

from __future__ import annotations

import pytest

from tests.docs.what_works import page, run_all
from tests.support.modules import ROOT

PAGE = ROOT / "docs" / "what-works.md"


@pytest.mark.long
@pytest.mark.timeout(900)  # builds a module of 13 MB, and compiles it
def test_the_page_is_what_the_programs_do() -> None:
    assert page(run_all()) == PAGE.read_text(), "python -m tests.docs.what_works > docs/what-works.md"


def test_a_row_that_does_not_work_says_what_to_do_instead() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if "**does not**" in line]
    assert rows
    assert [row[0] for row in rows if not row[3].strip("| ")] == []
