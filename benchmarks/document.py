"""The place for a table in a document: between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""

from __future__ import annotations

import re
from pathlib import Path

from gothreads.files import write_atomically


def _place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name}: begin -->\n).*?(?=<!-- {name}: end -->)", re.DOTALL)


def missing(document: Path, name: str) -> str | None:
    """The problem if a document has no such place; None if it has one."""
    if _place(name).search(document.read_text()):
        return None
    return f"{document} has no place for the table: <!-- {name}: begin -->"


def put(document: Path, name: str, table: str) -> None:
    """Replace the table there."""
    write_atomically(document, _place(name).sub(lambda _match: table, document.read_text()).encode())
