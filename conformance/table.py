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

from conformance.crashes import Program, markdown
from conformance.plan import Run
from conformance.record import Record
from gothreads.build.toolchain import Toolchain
from gothreads.files import write_atomically

#: What a skipped test says -> why that is.
REASONS: tuple[tuple[str, str], ...] = (
    (r"'go (build|run|tool|list)'|running 'go|compiling and linking|export data|cgo|gccgo|starting another executable|go tool", "need the go command"),
    (r"exec subprocess|not found in \$PATH|(zstd|xxhsum) not found", "need subprocesses"),
    (r"external network", "need the Internet"),
    (r"(?i)\bshort\b|slow|too long|expensive|not fast|significant memory|large pixel|avoiding time\.Sleep|opens 1<<16|timing out",
     "too slow for -short, or wasm"),
    (r"jsontext:", "fuzz seeds that the fuzz test passes over"),
    (r"IPv6|skipping (udp|ip:tcp|unixgram|unix)|ip4|fake net|not testable|resolver|Dialer", "not in wasip1's make-believe network"),
    (r"https?://|golang\.org|[Ii]ssue \d+|TODO|broken|racy|flaky|out of sync|skip until|skipped until", "known to Go's own tracker"),
    (r"(?i)pipe|socket|symlink|chmod|permission|ownership|unlink|chown|mmap|fstatat|no support for|catching faults|renamed directories",
     "not in WASI: pipes, sockets, links, permissions, signals"),
    (r"(?i)windows|darwin|linux|plan9|amd64|32-bit|64-bit|arm64|test enabled for|not enabled for|DIT|Arch-specific|ELF|cpu feature|system APIs|case sensitive",
     "for other machines"),
    (r"(?i)enable|-update|not given|set -|-race|builder|-flag|Set -convert|CPUProfil", "run only when a flag asks for them"),
    (r"(?i)totient|congruent|zero input|modulus|GCD|LCM|KEM|KDF|nonce|XOR|AES block|FIPS", "cases that do not apply to the algorithm"),
    (r"(?i)wasm|wasip1|not supported|not available|unavailable|unsupported|not implemented", "not on wasip1"),
)


@dataclass
class Row:
    """One run on both."""

    run: Run
    single: Record | None = None
    threaded: Record | None = None


def regressions(rows: Iterable[Row]) -> list[Row]:
    """Runs with a test that passes stock, and fails threaded, or is skipped, or is not there; without a stock run, those that fail."""
    return [row for row in rows if row.threaded is not None and _regressed(row.single, row.threaded)]


def _regressed(single: Record | None, threaded: Record) -> bool:
    if single is None:
        return threaded.verdict not in ("pass", "skip")
    return (single.verdict == "pass" and threaded.verdict != "pass") or bool(lost(single, threaded))


def lost(single: Record, threaded: Record) -> list[str]:
    """The tests that pass stock and do not threaded. Names may have addresses in them."""
    def plain(test: str) -> str:
        return re.sub(r"0x[0-9a-f]+", "0x…", test)
    passed = {plain(test) for test, verdict in threaded.tests.items() if verdict == "pass"}
    return [test for test, verdict in single.tests.items() if verdict == "pass" and plain(test) not in passed]


def reason(said: str) -> str:
    """Why a test was skipped, in a few words."""
    return next((why for pattern, why in REASONS if re.search(pattern, said)), said or "no reason given by the test")


def write(rows: Sequence[Row], programs: list[Program], toolchain: Toolchain, folder: Path) -> None:
    """Both forms of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    version = toolchain.version
    figures = {"go": version, "wasmtime": importlib.metadata.version("wasmtime"), "runs": [_figures(row) for row in rows],
               "programs": {program.name: program.done for program in programs}}
    write_atomically(folder / f"{version}.json", (json.dumps(figures, indent=1) + "\n").encode())
    write_atomically(folder / f"{version}.md", "\n".join([*_markdown(rows, figures), *markdown(programs), ""]).encode())


def write_table(folder: Path, name: str, about: str, figures: dict[str, Any], lines: list[str]) -> None:
    """Both forms of another table, beside that of std."""
    folder.mkdir(parents=True, exist_ok=True)
    wasmtime = importlib.metadata.version("wasmtime")
    write_atomically(folder / f"{name}.json", (json.dumps({"about": about, "wasmtime": wasmtime} | figures, indent=1) + "\n").encode())
    write_atomically(folder / f"{name}.md", "\n".join([f"# {about}, wasmtime {wasmtime}", "", *lines, ""]).encode())


def _figures(row: Row) -> dict[str, Any]:
    figures: dict[str, Any] = {"package": row.run.package, "variant": row.run.variant}
    for name, record in (("stock", row.single), ("threaded", row.threaded)):
        if record is not None:
            figures[name] = {"verdict": record.verdict, "seconds": record.seconds, "passed": record.count("pass"), "failed": record.count("fail"),
                             "skipped": record.reasons, "failures": [test for test, verdict in record.tests.items() if verdict == "fail"]}
    return figures


def _markdown(rows: Sequence[Row], figures: dict[str, Any]) -> list[str]:
    open_ = [row.run.name for row in rows if row.threaded is None]
    lines = [f"# Go's own tests: {figures['go']}, wasmtime {figures['wasmtime']}", "",
             "Written by `python -m conformance`. Tests count with their subtests; *more* are those that stock skips, or does not get to, and",
             "that pass threaded. Why each test was skipped is in the .json beside this; here the reasons are put in a few words.", "",
             _summary([row for row in rows if row.threaded is not None]) + (f" Not run to the end: {', '.join(open_)}." if open_ else ""), "",
             "| package | stock | threaded | passed | more | skipped | why skipped |", "|---|---|---|--:|--:|--:|---|"]
    for row in rows:
        threaded = row.threaded
        if threaded is None:
            continue
        lines.append(f"| {row.run.name} | {_verdict(row.single)} | {_verdict(threaded)} | {threaded.count('pass')} | {_more(row)} "
                     f"| {threaded.count('skip')} | {_why(threaded)}{_left_out(row.run)} |")
    return lines


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


def _left_out(run: Run) -> str:
    return f"; left out: {run.left_out[0]} ({run.left_out[1]})".replace("|", "\\|") if run.left_out else ""


def _why(record: Record) -> str:
    reasons = Counter(reason(said) for said in record.reasons.values())
    return "; ".join(f"{count} {why}" for why, count in reasons.most_common()).replace("|", "\\|")
