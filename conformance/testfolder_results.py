"""The results of the programs of Go's own test/ folder: saved, loaded, and as a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gothreads.files import write_atomically

#: Programs that differ from native, and why.
DIFFERENT: dict[str, str] = {}


@dataclass
class Result:
    """One program. `state`: "same" (as native), "differs", or why it was not compared; `detail`: what it did."""

    name: str
    state: str
    detail: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        return self.state in ("differs", "does not compile, threaded")


def load(path: Path, key: str) -> list[Result] | None:
    """What an earlier run with the same key saved."""
    try:
        content = json.loads(path.read_text())
        return [Result(*one) for one in content["results"]] if content["key"] == key else None
    except (OSError, ValueError, LookupError, TypeError):  # there is none, or it is incomplete
        return None


def save(path: Path, key: str, results: Sequence[Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"key": key, "results": [[one.name, one.state, one.detail] for one in results]}
    write_atomically(path, json.dumps(content, indent=1).encode())


def findings(results: Sequence[Result]) -> list[Result]:
    """The programs that differ without a reason."""
    return [one for one in results if one.bad and one.name not in DIFFERENT]


def outdated(results: Sequence[Result]) -> list[str]:
    """The programs whose reason no longer applies: they do not differ."""
    return [one.name for one in results if not one.bad and one.name in DIFFERENT]


def summary(results: Sequence[Result]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(one.state for one in results).most_common())


def figures(results: Sequence[Result]) -> dict[str, Any]:
    """The table as JSON: all programs that are not the same as native."""
    states: dict[str, list[str]] = {}
    for one in results:
        states.setdefault(one.state, []).append(one.name)
    return {"same": len(states.pop("same", []))} | states


def markdown(results: Sequence[Result]) -> list[str]:
    """The table as Markdown."""
    counts = Counter(one.state for one in results)
    bad = [one for one in results if one.bad]
    compared = counts["same"] + len(bad)
    lines = ["The programs of Go's test/ folder that run without flags: the exit code, stdout and stderr, against "
             "native.", "",
             f"{counts['same']} of {compared} are the same on threads as native. Differ without a reason: "
             f"**{len(findings(results))}**.", "",
             "| of the others | |", "|---|--:|",
             *(f"| {state} | {count} |" for state, count in counts.most_common() if state != "same")]
    if bad:
        lines += ["", "| differs | why |", "|---|---|"]
        lines += [f"| {one.name} | {DIFFERENT.get(one.name) or f'**{one.state}**'} |" for one in bad]
    return lines
