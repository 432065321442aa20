"""Go's own tests of its standard library, on threads and stock, side by side.

    python -m conformance                        all of std, and what Go's release process runs besides: about an hour and a half
    python -m conformance sync/... encoding/json
    python -m conformance --smoke --threaded-only --go /path/to/go1.25/bin/go
    python -m conformance --repeat 50            the packages that a scheduler breaks first, fifty times over

Interrupted, it goes on where it was. The table is conformance/results/<version>.md; the figures beside it are .json.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from conformance import programs
from conformance.plan import REPEATED, SMOKE, Run, packages, plain, variants
from conformance.record import Record, perform
from conformance.table import Row, lost, regressions, write
from gothreads.build.edits import TEST_EDITS
from gothreads.build.overlay import fingerprint
from gothreads.build.toolchain import Toolchain, find_go
from gothreads.errors import GothreadsError

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", help="packages or patterns, as go list takes them (default: all of std, and the variants)")
    parser.add_argument("--smoke", action="store_true", help=f"only {', '.join(SMOKE)}")
    parser.add_argument("--repeat", type=int, metavar="N", help=f"{', '.join(REPEATED)} (or the packages given), threaded, N times each")
    parser.add_argument("--threaded-only", action="store_true", help="no stock runs to compare with")
    parser.add_argument("--again", action="store_true", help="also what has been run before")
    parser.add_argument("--go", metavar="PATH", help="the go command to use")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where results go (default: %(default)s)")
    arguments = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    try:
        toolchain = find_go(arguments.go)
        return _conform(arguments, toolchain, console)
    except GothreadsError as error:
        console.print(str(error), markup=False)
        return 1
    except subprocess.CalledProcessError as error:
        console.print(error.stderr or str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here")
        return 130


def _conform(arguments: argparse.Namespace, toolchain: Toolchain, console: Console) -> int:
    named = arguments.packages or (SMOKE if arguments.smoke else REPEATED if arguments.repeat else ("std",))
    runs = [plain(toolchain, package) for package in packages(toolchain, named)]
    whole = not (arguments.packages or arguments.smoke or arguments.repeat)
    if whole:
        runs += variants()
    rows = [Row(run) for run in runs]
    ran: list[programs.Program] = []
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(runs))

        def running(what: str) -> None:
            progress.update(task, description=what)
        for row in rows:
            row.single = _record(arguments, toolchain, row.run, "single", console, running)
            row.threaded = _record(arguments, toolchain, row.run, "threaded", console, running)
            progress.advance(task)
        if whole:
            ran = _programs(arguments, toolchain, running)
    if whole:
        write(rows, ran, toolchain, arguments.out)
    return _conclude(rows, ran, console)


def _record(arguments: argparse.Namespace, toolchain: Toolchain, run: Run, model: str, console: Console, running: Callable[[str], None]) -> Record | None:
    """What an earlier run has left, else a new one; none of stock Go when it is not wanted."""
    count = arguments.repeat or 1
    path = arguments.out / "records" / toolchain.version / f"{run.slug}-{model}{f'-x{count}' if count > 1 else ''}.json"
    key = _key(toolchain, run, model, count)
    record = Record.load(path)
    wanted = model == "threaded" or not (arguments.threaded_only or arguments.repeat)
    if record is not None and record.key == key and not (wanted and arguments.again):
        return record
    if not wanted:
        return None
    what = f"{run.name} {model}"
    running(what)
    shown = [0.0]

    def test(name: str) -> None:
        if time.monotonic() - shown[0] > 0.2:
            shown[0] = time.monotonic()
            running(f"{what} {name}")
    record = perform(run, model, arguments.go, key, count, test)
    record.save(path)
    console.print(f"{record.verdict:10} {what}: {record.count('pass')} passed, {record.count('fail')} failed, "
                  f"{record.count('skip')} skipped, {record.seconds:.0f} s", markup=False, soft_wrap=True)
    return record


def _programs(arguments: argparse.Namespace, toolchain: Toolchain, running: Callable[[str], None]) -> list[programs.Program]:
    folder = arguments.out / "records" / toolchain.version
    key = _key(toolchain, Run("programs"), "threaded", 1)
    ran = None if arguments.again else programs.load(folder / "programs.json", key)
    if ran is None:
        ran = programs.perform(toolchain, folder, running)
        programs.save(folder / "programs.json", key, ran)
    return ran


def _conclude(rows: list[Row], ran: list[programs.Program], console: Console) -> int:
    """Say what is wrong; the exit code."""
    failed, differ = regressions(rows), [program for program in ran if not program.ok]
    for row in failed:
        assert row.threaded is not None
        missing = lost(row.single, row.threaded) if row.single is not None else []
        console.print(f"\n{row.run.name}: {row.threaded.verdict}; pass stock and not threaded: {', '.join(missing) or 'none'}", markup=False, soft_wrap=True)
        for test, lines in row.threaded.output.items():
            console.print(f"\n{row.run.name} {test}\n" + "\n".join(lines), markup=False, soft_wrap=True)
    for program in differ:
        console.print(f"{program.name}: native {program.done['native']}, threaded {program.done['threaded']}", markup=False, soft_wrap=True)
    compared = any(row.single is not None for row in rows)
    console.print(f"{len(rows)} runs, {len(failed)} {'that pass stock and fail threaded' if compared else 'that fail'}"
                  + (f"; {len(ran)} programs, {len(differ)} that differ from native" if ran else ""))
    return 1 if failed or differ else 0


def _key(toolchain: Toolchain, run: Run, model: str, count: int) -> str:
    """What a record depends on, but for the host's own code: --again after changing that."""
    ours = "" if model == "single" else f" {fingerprint()} {_digest(repr(TEST_EDITS))}"
    return f"{toolchain.version} wasmtime {importlib.metadata.version('wasmtime')} {_digest(repr(run))} x{count}{ours}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
