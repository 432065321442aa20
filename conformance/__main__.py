"""Go's own tests of its standard library, on threads and stock, side by side; and real programs, on threads and native.

    python -m conformance                        all of std, and the extra runs of Go's releases: 1½ hours
    python -m conformance sync/... encoding/json
    python -m conformance --smoke --threaded-only --go /path/to/go1.25/bin/go
    python -m conformance --repeat 50            the packages where faults of a scheduler show first, fifty times
    python -m conformance --libraries            the tests of real libraries, from Debian's packages: about half an hour
    python -m conformance --libraries goldmark toml
    python -m conformance --test-folder          the programs of Go's own test/ folder: about half an hour
    python -m conformance --test-folder 'chan/*' 'typeparam/*'

An interrupted run continues where it stopped. The tables are conformance/results/<version>*.md, the figures *.json.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from conformance import crashes, libraries, testfolder, testfolder_results
from conformance.debian import RELEASE, Debian
from conformance.plan import REPEATED, SMOKE, Run, packages, plain, variants
from conformance.record import Record, perform
from conformance.table import Row, lost, regressions, write, write_table
from conformance.testfolder_results import Result
from gothreads.build.go_test_edits import TEST_EDITS
from gothreads.build.overlay import fingerprint
from gothreads.build.toolchain import Toolchain, find_go
from gothreads.errors import GothreadsError
from gothreads.files import cache_folder

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", metavar="NAME",
                        help="packages of std or patterns, as go list takes them (default: all of std, and the "
                             "variants); with --libraries, libraries; with --test-folder, patterns of programs' names")
    subject = parser.add_mutually_exclusive_group()
    subject.add_argument("--libraries", action="store_true", help="instead of std, real libraries: "
                         f"{', '.join(one.name for one in libraries.LIBRARIES)}")
    subject.add_argument("--test-folder", action="store_true",
                         help="instead of std, the programs of Go's own test/ folder")
    parser.add_argument("--smoke", action="store_true",
                        help=f"only {', '.join(SMOKE)}; of the libraries {', '.join(libraries.SMOKE)}; "
                             f"of the test folder {', '.join(testfolder.SMOKE)}")
    parser.add_argument("--repeat", type=int, metavar="N",
                        help=f"run {', '.join(REPEATED)} (or the packages given) threaded, N times each")
    parser.add_argument("--threaded-only", action="store_true", help="leave out the stock runs to compare with")
    parser.add_argument("--again", action="store_true", help="run again what an earlier run has recorded")
    parser.add_argument("--go", metavar="PATH", help="the go command to use")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR",
                        help="where results are written (default: %(default)s)")
    arguments = parser.parse_args()
    if (arguments.libraries or arguments.test_folder) and (arguments.repeat or arguments.threaded_only):
        parser.error("--libraries and --test-folder compare with native Go: --repeat and --threaded-only are for std")
    console = Console(stderr=True, highlight=False)
    try:
        toolchain = find_go(arguments.go)
        command = _libraries if arguments.libraries else _test_folder if arguments.test_folder else _std
        return command(arguments, toolchain, console)
    except GothreadsError as error:
        console.print(str(error), markup=False)
        return 1
    except subprocess.CalledProcessError as error:
        console.print(error.stderr or str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; the same command continues from here")
        return 130


def _std(arguments: argparse.Namespace, toolchain: Toolchain, console: Console) -> int:
    """The tests of std, stock and threaded, and the runtime's crash programs."""
    named = arguments.packages or (SMOKE if arguments.smoke else REPEATED if arguments.repeat else ("std",))
    runs = [plain(toolchain, package) for package in packages(toolchain, named)]
    whole = not (arguments.packages or arguments.smoke or arguments.repeat)
    if whole:
        runs += variants()
    rows = [Row(run) for run in runs]
    ran: list[crashes.Program] = []
    with _progress(console, len(runs)) as (running, advance):
        for row in rows:
            row.single = _record(arguments, toolchain, row.run, "single", console=console, running=running)
            row.threaded = _record(arguments, toolchain, row.run, "threaded", console=console, running=running)
            advance()
        if whole:
            ran = _programs(arguments, toolchain, running)
    if whole:
        write(rows, ran, toolchain, arguments.out)
    return _conclude(rows, ran, console)


def _libraries(arguments: argparse.Namespace, toolchain: Toolchain, console: Console) -> int:
    """The tests of real libraries, natively and on threads."""
    chosen = libraries.select(arguments.packages or (libraries.SMOKE if arguments.smoke else ()))
    tested = []
    debian, versions = _debian([name for library in chosen for name in (library.debian, *library.needs)], console)
    with _progress(console, sum(len(library.packages) for library in chosen)) as (running, advance):
        def record(run: Run, model: str) -> Record:
            done = _record(arguments, toolchain, run, model, console=console, running=running)
            assert done is not None  # only runs of stock Go may be left out
            return done
        for library in chosen:
            for plain, threaded, known in libraries.runs(library, versions[library.debian], debian.gopath):
                again = None if known is None else record(known, "threaded")
                one = libraries.Compared(library, plain, record(plain, "native"), record(threaded, "threaded"), again)
                tested.append(one)
                for test in one.findings():
                    output = one.threaded.output.get(test, one.threaded.output.get("", []))
                    _print(console, f"\n{plain.name} {test}\n" + "\n".join(output))
                for test in one.outdated():
                    _print(console, f"{plain.name} {test}: the reason no longer applies: {one.reasons[test]}")
                advance()
    if len(chosen) == len(libraries.LIBRARIES):
        about = f"Real libraries: {toolchain.version}, Debian {RELEASE}"
        write_table(arguments.out, f"{toolchain.version}-libraries", about, libraries.figures(tested, versions),
                    libraries.markdown(tested, versions))
    found, outdated = sum(len(one.findings()) for one in tested), sum(len(one.outdated()) for one in tested)
    console.print(f"{len(tested)} packages, {found} tests that pass natively and fail threaded, {outdated} reasons "
                  "that no longer apply", soft_wrap=True)
    return 1 if found or outdated else 0


def _debian(names: Sequence[str], console: Console) -> tuple[Debian, dict[str, str]]:
    """Debian's packages, unpacked, and their versions."""
    debian = Debian(cache_folder() / "debian")
    with _progress(console, 1) as (running, _):
        return debian, debian.provide(set(names), running)


def _test_folder(arguments: argparse.Namespace, toolchain: Toolchain, console: Console) -> int:
    """The programs of Go's own test/ folder, natively and on threads."""
    results: list[Result] = []
    patterns = arguments.packages or (testfolder.SMOKE if arguments.smoke else ())
    debian, versions = _debian([testfolder.DEBIAN], console)
    version, folder = versions[testfolder.DEBIAN], debian.root / testfolder.FOLDER
    names = testfolder.names(folder, patterns)
    batches = [names[at:at + testfolder.BATCH] for at in range(0, len(names), testfolder.BATCH)]
    with tempfile.TemporaryDirectory() as work, _progress(console, len(batches)) as (running, advance):
        for number, batch in enumerate(batches):
            def show(what: str, at: str = f"{number + 1} of {len(batches)}") -> None:
                running(f"batch {at}: {what}")
            programs = testfolder.Programs(toolchain, folder, Path(work) / str(number), show)
            key = f"{_key(toolchain, Run(testfolder.DEBIAN, version), 'threaded', 1)} {_digest(repr(batch))}"
            path = arguments.out / "records" / toolchain.version / "test-folder" / f"{_digest(repr(batch))}.json"
            done = None if arguments.again else testfolder_results.load(path, key)
            if done is None:
                begin = time.monotonic()
                done = programs.perform(batch)
                testfolder_results.save(path, key, done)
                _print(console, f"{batch[0]} to {batch[-1]}: {testfolder_results.summary(done)}, "
                                f"{time.monotonic() - begin:.0f} s")
            results += done
            advance()
    found, outdated = testfolder_results.findings(results), testfolder_results.outdated(results)
    for one in found:
        _print(console, f"\n{one.name} {one.state}\n" + "\n".join(one.detail))
    for name in outdated:
        _print(console, f"{name}: the reason no longer applies: {testfolder_results.DIFFERENT[name]}")
    if not patterns:
        about = f"Go's test/ folder: {toolchain.version}, programs of {testfolder.DEBIAN} {version}"
        write_table(arguments.out, f"{toolchain.version}-test-folder", about, testfolder_results.figures(results),
                    testfolder_results.markdown(results))
    console.print(f"{len(results)} programs: {testfolder_results.summary(results)}; {len(found)} that differ without a "
                  f"reason, {len(outdated)} reasons that no longer apply", soft_wrap=True)
    return 1 if found or outdated else 0


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A progress bar. Yields two functions: one shows what runs now, the other counts one more as done."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda what: progress.update(task, description=what), lambda: progress.advance(task)


def _record(arguments: argparse.Namespace, toolchain: Toolchain, run: Run, model: str, *,
            console: Console, running: Callable[[str], None]) -> Record | None:
    """The record of an earlier run, or of a new one; None for stock Go when that is not to be run."""
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
    record = perform(run, model, go=arguments.go, key=key, count=count, progress=test)
    record.save(path)
    _print(console, f"{record.verdict:10} {what}: {record.count('pass')} passed, {record.count('fail')} failed, "
                    f"{record.count('skip')} skipped, {record.seconds:.0f} s")
    return record


def _programs(arguments: argparse.Namespace, toolchain: Toolchain,
              running: Callable[[str], None]) -> list[crashes.Program]:
    """The runtime's crash programs, from an earlier run or a new one."""
    folder = arguments.out / "records" / toolchain.version
    key = _key(toolchain, Run("programs"), "threaded", 1)
    ran = None if arguments.again else crashes.load(folder / "programs.json", key)
    if ran is None:
        ran = crashes.perform(toolchain, folder, running)
        crashes.save(folder / "programs.json", key, ran)
    return ran


def _conclude(rows: list[Row], ran: list[crashes.Program], console: Console) -> int:
    """Print what is wrong. Returns the exit code."""
    failed, differ = regressions(rows), [program for program in ran if not program.ok]
    for row in failed:
        assert row.threaded is not None
        missing = lost(row.single, row.threaded) if row.single is not None else []
        _print(console, f"\n{row.run.name}: {row.threaded.verdict}; pass stock and not threaded: "
                        f"{', '.join(missing) or 'none'}")
        for test, lines in row.threaded.output.items():
            _print(console, f"\n{row.run.name} {test}\n" + "\n".join(lines))
    for program in differ:
        _print(console, f"{program.name}: native {program.done['native']}, threaded {program.done['threaded']}")
    compared = any(row.single is not None for row in rows)
    console.print(f"{len(rows)} runs, {len(failed)} {'that pass stock and fail threaded' if compared else 'that fail'}"
                  + (f"; {len(ran)} programs, {len(differ)} that differ from native" if ran else ""))
    return 1 if failed or differ else 0


def _print(console: Console, text: str) -> None:
    """Print foreign text: without markup, each line whole."""
    console.print(text, markup=False, soft_wrap=True)


def _key(toolchain: Toolchain, run: Run, model: str, count: int) -> str:
    """Everything that a record depends on, except the host's code. After changing that, use --again."""
    ours = "" if model in ("single", "native") else f" {fingerprint()} {_digest(repr(TEST_EDITS))}"
    return f"{toolchain.version} wasmtime {importlib.metadata.version('wasmtime')} {_digest(repr(run))} x{count}{ours}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
