"""An edit: one replacement in one of Go's own files, for the versions of Go that have the text.

To support another minor version of Go, add it to SUPPORTED and build something with it: the error names the first edit
that does not fit. Where that Go has another text, give the edit `until=` the new version, and add one with the new text
and `since=` that version.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The minor versions of Go that the edits fit, the oldest first.
SUPPORTED = ("1.25", "1.26", "1.27")


@dataclass(frozen=True)
class Edit:
    """One replacement in one file. `file` is relative to GOROOT/src.

    since: the first Go that has the text; None for the oldest that is supported.
    until: the first Go that has not; None if there is none.
    """

    file: str
    expect: str
    replace: str
    why: str
    count: int = 1
    since: str | None = None
    until: str | None = None

    def applies_to(self, minor: str) -> bool:
        """Whether the edit is for this minor version of Go, one of SUPPORTED."""
        first = 0 if self.since is None else SUPPORTED.index(self.since)
        end = len(SUPPORTED) if self.until is None else SUPPORTED.index(self.until)
        return first <= SUPPORTED.index(minor) < end
