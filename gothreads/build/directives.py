"""Finds comments that were meant as directives: Go takes no notice of them, and says nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

#: The directives above functions, and above variables, with the most words that follow them.
_ABOVE = {b"func ": {"gothreads:export": 1, "go:wasmexport": 1, "go:wasmimport": 2}, b"var ": {"gothreads:import": 1}}
#: Files without such a line need no closer look. `//export` is TinyGo's and cgo's.
_MAYBE = re.compile(rb"^//(?:export |[ \t]*go(?:[ \t]*:[ \t]*w|:?\w{5,9}[ \t]*:))", re.MULTILINE | re.IGNORECASE)
#: How alike a word and a directive are, at least. Go's own directives are less like ours than 0.6.
_ALIKE = 0.78
_LONGEST = 80


def meant_as_directives(text: bytes) -> Iterator[tuple[int, str, str]]:
    """Comments directly above functions and variables that look like directives: line, comment, what was meant."""
    if not _MAYBE.search(text):
        return
    comments: list[tuple[int, bytes]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(b"//"):
            comments.append((number, line))
            continue
        for declares, directives in _ABOVE.items():
            if line.startswith(declares):
                for at, comment in comments:
                    if meant := _meant(shown := comment.decode(errors="replace").strip(), directives):
                        yield at, shown, f"//{meant}"
        comments.clear()


def _meant(comment: str, directives: dict[str, int]) -> str | None:
    """The directive that a comment looks like; None if it is one, or prose."""
    text = comment.removeprefix("//")
    if len(comment) > _LONGEST or any(text == each or text.startswith(f"{each} ") for each in directives):
        return None
    word, *rest = re.sub(" ?: ?", ":", text).split() or [""]
    if not word[:1].isalpha():
        return None
    if text.startswith("export ") and "go:wasmexport" in directives:
        return "go:wasmexport"
    found = difflib.get_close_matches(word.lower(), directives, n=1, cutoff=_ALIKE)
    return found[0] if found and len(rest) <= directives[found[0]] else None
