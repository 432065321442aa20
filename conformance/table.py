"""From records to the table."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.plan import Run
from conformance.record import Record
from gothreads.build.toolchain import Toolchain
from gothreads.files import write_atomically

#: What a skipped test says -> why that is.
REASONS: tuple[tuple[str, str], ...] = ()


@dataclass
class Row:
    """One run on both."""

    run: Run
    single: Record | None = None
    threaded: Record | None = None


def regressions(rows: Iterable[Row]) -> list[Row]:
    """Runs that fail threaded, or have a test that does, where stock passes or was not run."""
    return [row for row in rows if row.threaded is not None and _regressed(row.single, row.threaded)]


def _regressed(single: Record | None, threaded: Record) -> bool:
    if single is None or single.verdict in ("pass", "skip"):
        return threaded.verdict not in ("pass", "skip")
    return any(verdict == "fail" and single.tests.get(test) == "pass" for test, verdict in threaded.tests.items())


def reason(said: str) -> str:
    """Why a test was skipped, in a few words."""
    return next((why for pattern, why in REASONS if re.search(pattern, said)), said or "no reason given")


def write(rows: Sequence[Row], toolchain: Toolchain, folder: Path) -> None:
    """Both forms of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    version = toolchain.version
    figures = {"go": version, "wasmtime": importlib.metadata.version("wasmtime"), "runs": [_figures(row) for row in rows]}
    write_atomically(folder / f"{version}.json", (json.dumps(figures, indent=1) + "\n").encode())
    write_atomically(folder / f"{version}.md", _markdown(rows, figures).encode())


def _figures(row: Row) -> dict[str, Any]:
    figures: dict[str, Any] = {"package": row.run.package, "variant": row.run.variant}
    for name, record in (("stock", row.single), ("threaded", row.threaded)):
        if record is not None:
            figures[name] = {"verdict": record.verdict, "seconds": record.seconds, "passed": record.count("pass"), "failed": record.count("fail"),
                             "skipped": record.reasons, "failures": [test for test, verdict in record.tests.items() if verdict == "fail"]}
    return figures


def _markdown(rows: Sequence[Row], figures: dict[str, Any]) -> str:
    lines = [f"# Go's own tests: {figures['go']}, wasmtime {figures['wasmtime']}", "",
             "Written by `python -m conformance`. Tests count with their subtests; *more* are those that stock skips, or does not get to, and",
             "that pass threaded. Why each test was skipped is in the .json beside this; here the reasons are put in a few words.", "",
             _summary(rows), "",
             "| package | stock | threaded | passed | more | skipped | why skipped |", "|---|---|---|--:|--:|--:|---|"]
    for row in rows:
        threaded = row.threaded
        if threaded is None:
            continue
        lines.append(f"| {row.run.name} | {_verdict(row.single)} | {_verdict(threaded)} | {threaded.count('pass')} | {_more(row)} "
                     f"| {threaded.count('skip')} | {_why(threaded)} |")
    return "\n".join(lines) + "\n"


def _summary(rows: Sequence[Row]) -> str:
    passed = Counter((_verdict(row.single).strip("*"), _verdict(row.threaded).strip("*")) for row in rows)
    parts = [f"{count} {'pass' if one == two == 'pass' else f'{one} stock and {two} threaded'}{' both' if one == two == 'pass' else ''}"
             for (one, two), count in passed.most_common()]
    bad = regressions(rows)
    return f"{len(rows)} runs: {', '.join(parts)}. Pass stock and fail threaded: **{len(bad)}**{': ' if bad else ''}{', '.join(r.run.name for r in bad)}."


def _verdict(record: Record | None) -> str:
    if record is None:
        return ""
    return record.verdict if record.verdict in ("pass", "skip") else f"**{record.verdict}**"


def _more(row: Row) -> int | str:
    if row.threaded is None or row.single is None:
        return ""
    stock = row.single.tests
    return sum(1 for test, verdict in row.threaded.tests.items() if verdict == "pass" and stock.get(test) != "pass") or ""


def _why(record: Record) -> str:
    reasons = Counter(reason(said) for said in record.reasons.values())
    return "; ".join(f"{count} {why}" for why, count in reasons.most_common()).replace("|", "\\|")
