"""The place for a table in a document: between `<!-- NAME: begin -->` and `<!-- NAME: end -->`, a line each."""

from __future__ import annotations

import re
from pathlib import Path

from gothreads.files import write_atomically


def _place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name}: begin -->\n).*?(?=<!-- {name}: end -->)", re.DOTALL)


def missing(document: Path, name: str) -> str | None:
    """Why a table cannot be put there; None: it can."""
    return None if _place(name).search(document.read_text()) else f"{document} has no place for the table: <!-- {name}: begin -->"


def put(document: Path, name: str, table: str) -> None:
    """Put it there, instead of the one that is."""
    write_atomically(document, _place(name).sub(lambda _match: table, document.read_text()).encode())
