"""The table of std: what each package's tests did, stock and threaded."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.crashes import Program, markdown
from conformance.plan import Run
from conformance.record import Record
from gothreads.build.toolchain import Toolchain
from gothreads.files import write_atomically

#: Patterns of what skipped tests log, and the reason that the table gives for each.
REASONS: tuple[tuple[str, str], ...] = (
    (r"'go (build|run|tool|list)'|running 'go|compiling and linking|export data|cgo|gccgo|starting another executable|"
     r"go tool", "need the go command"),
    (r"exec subprocess|not found in \$PATH|(zstd|xxhsum) not found", "need subprocesses"),
    (r"external network", "need the Internet"),
    (r"(?i)\bshort\b|slow|too long|expensive|not fast|significant memory|large pixel|avoiding time\.Sleep|opens 1<<16|"
     r"timing out", "too slow for -short, or wasm"),
    (r"jsontext:", "fuzz seeds that the fuzz test passes over"),
    (r"IPv6|skipping (udp|ip:tcp|unixgram|unix)|ip4|fake net|not testable|resolver|Dialer",
     "not in wasip1's simulated network"),
    (r"https?://|golang\.org|[Ii]ssue \d+|TODO|broken|racy|flaky|out of sync|skip until|skipped until",
     "known to Go's own tracker"),
    (r"(?i)pipe|socket|symlink|chmod|permission|ownership|unlink|chown|mmap|fstatat|no support for|catching faults|"
     r"renamed directories", "not in WASI: pipes, sockets, links, permissions, signals"),
    (r"(?i)windows|darwin|linux|plan9|amd64|32-bit|64-bit|arm64|test enabled for|not enabled for|DIT|Arch-specific|ELF|"
     r"cpu feature|system APIs|case sensitive", "for other machines"),
    (r"(?i)enable|-update|not given|set -|-race|builder|-flag|Set -convert|CPUProfil",
     "run only when a flag asks for them"),
    (r"(?i)totient|congruent|zero input|modulus|GCD|LCM|KEM|KDF|nonce|XOR|AES block|FIPS",
     "cases that do not apply to the algorithm"),
    (r"(?i)wasm|wasip1|not supported|not available|unavailable|unsupported|not implemented", "not on wasip1"),
)


@dataclass
class Row:
    """One run, stock and threaded."""

    run: Run
    single: Record | None = None
    threaded: Record | None = None


def regressions(rows: Iterable[Row]) -> list[Row]:
    """Runs with a test that passes stock and does not pass threaded; without a stock run, those that fail."""
    return [row for row in rows if row.threaded is not None and _regressed(row.single, row.threaded)]


def _regressed(single: Record | None, threaded: Record) -> bool:
    if single is None:
        return threaded.verdict not in ("pass", "skip")
    return (single.verdict == "pass" and threaded.verdict != "pass") or bool(lost(single, threaded))


def lost(single: Record, threaded: Record) -> list[str]:
    """The tests that pass stock and do not pass threaded."""
    def without_addresses(test: str) -> str:
        return re.sub(r"0x[0-9a-f]+", "0x…", test)
    passed = {without_addresses(test) for test, verdict in threaded.tests.items() if verdict == "pass"}
    return [test for test, verdict in single.tests.items()
            if verdict == "pass" and without_addresses(test) not in passed]


def reason(logged: str) -> str:
    """Why a test was skipped, in a few words, by what it logged."""
    return next((why for pattern, why in REASONS if re.search(pattern, logged)),
                logged or "no reason given by the test")


def write(rows: Sequence[Row], programs: list[Program], toolchain: Toolchain, folder: Path) -> None:
    """Write the table as JSON and as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    version = toolchain.version
    figures = {"go": version, "wasmtime": importlib.metadata.version("wasmtime"),
               "runs": [_figures(row) for row in rows],
               "programs": {program.name: program.done for program in programs}}
    write_atomically(folder / f"{version}.json", (json.dumps(figures, indent=1) + "\n").encode())
    lines = [*_markdown(rows, figures), *markdown(programs), ""]
    write_atomically(folder / f"{version}.md", "\n".join(lines).encode())


def write_table(folder: Path, name: str, about: str, figures: dict[str, Any], lines: list[str]) -> None:
    """Write another table, beside that of std, as JSON and as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    wasmtime = importlib.metadata.version("wasmtime")
    content = {"about": about, "wasmtime": wasmtime} | figures
    write_atomically(folder / f"{name}.json", (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(folder / f"{name}.md", "\n".join([f"# {about}, wasmtime {wasmtime}", "", *lines, ""]).encode())


def _figures(row: Row) -> dict[str, Any]:
    figures: dict[str, Any] = {"package": row.run.package, "variant": row.run.variant}
    for name, record in (("stock", row.single), ("threaded", row.threaded)):
        if record is not None:
            figures[name] = {
                "verdict": record.verdict, "seconds": record.seconds, "passed": record.count("pass"),
                "failed": record.count("fail"), "skipped": record.reasons,
                "failures": [test for test, verdict in record.tests.items() if verdict == "fail"]}
    return figures


def _markdown(rows: Sequence[Row], figures: dict[str, Any]) -> list[str]:
    unfinished = [row.run.name for row in rows if row.threaded is None]
    lines = [f"# Go's own tests: {figures['go']}, wasmtime {figures['wasmtime']}", "",
             "Written by `python -m conformance`. Subtests are counted as tests. *more*: tests that pass threaded, and "
             "that stock skips or does not reach.",
             "The .json beside this page has the reason for each skipped test; here the reasons are summarised.", "",
             _summary([row for row in rows if row.threaded is not None])
             + (f" Not run to the end: {', '.join(unfinished)}." if unfinished else ""), "",
             "| package | stock | threaded | passed | more | skipped | why skipped |", "|---|---|---|--:|--:|--:|---|"]
    for row in rows:
        threaded = row.threaded
        if threaded is None:
            continue
        lines.append(f"| {row.run.name} | {_verdict(row.single)} | {_verdict(threaded)} | {threaded.count('pass')} "
                     f"| {_more(row)} | {threaded.count('skip')} | {_why(threaded)}{_left_out(row.run)} |")
    return lines


def _summary(rows: Sequence[Row]) -> str:
    verdicts = Counter((_verdict(row.single).strip("*"), _verdict(row.threaded).strip("*")) for row in rows)
    parts = [f"{count} pass both" if single == threaded == "pass" else f"{count} {single} stock and {threaded} threaded"
             for (single, threaded), count in verdicts.most_common()]
    bad = [row.run.name for row in regressions(rows)]
    return (f"{len(rows)} runs: {', '.join(parts)}. Pass stock and fail threaded: **{len(bad)}**"
            f"{': ' if bad else ''}{', '.join(bad)}.")


def _verdict(record: Record | None) -> str:
    if record is None:
        return ""
    return record.verdict if record.verdict in ("pass", "skip") else f"**{record.verdict}**"


def _more(row: Row) -> int | str:
    if row.threaded is None or row.single is None:
        return ""
    stock = row.single.tests
    return sum(verdict == "pass" and stock.get(test) != "pass" for test, verdict in row.threaded.tests.items()) or ""


def _left_out(run: Run) -> str:
    return f"; left out: {run.left_out[0]} ({run.left_out[1]})".replace("|", "\\|") if run.left_out else ""


def _why(record: Record) -> str:
    reasons = Counter(map(reason, record.reasons.values()))
    return "; ".join(f"{count} {why}" for why, count in reasons.most_common()).replace("|", "\\|")
