"""`gothreads compare`: from its options to the table and the files."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gothreads.engine import extension
from gothreads.errors import GothreadsError, MisuseError
from gothreads.launch import available_processors
from gothreads.terminal import Terminal
from gothreads.text import cut
from gothreads.tools.compare import plan as plans
from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.findings import findings
from gothreads.tools.compare.plan import Plan
from gothreads.tools.compare.programs import build_programs
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.runner import Runner
from gothreads.tools.compare.table import show
from gothreads.tools.compare.workload import Workload
from gothreads.tools.compare.writing import write

#: The table's width where there is no terminal.
_WIDTH = 120


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Measure, and show. The exit code: 1 when a result was wrong."""
    for name in arguments.workloads:
        if name not in WORKLOADS:
            raise MisuseError(f"there is no workload {cut(name)}; there are: {', '.join(WORKLOADS)}")
    out = None if arguments.out is None else _folder(Path(arguments.out))
    processors = available_processors()
    plan = (plans.quick if arguments.quick else plans.full)(processors)
    if arguments.repeat is not None:
        plan = plan.with_repeats(arguments.repeat)
    chosen = [name for name in WORKLOADS if not arguments.workloads or name in arguments.workloads]
    return compare(plan, chosen, processors, terminal, out, as_json=arguments.json, go=arguments.go)


def compare(plan: Plan, chosen: list[str], processors: int, terminal: Terminal, out: Path | None, *, as_json: bool, go: str | None) -> int:
    """Measure by a plan. Interrupted, it says so in one line, and shows and keeps what was measured until then."""
    runner = None
    try:
        if extension.compiled is None and os.environ.get("GOTHREADS_FAST") != "0":
            terminal.say(f"calls go through ctypes, not C, and are slower for that: {extension.missing}")
        terminal.say("building the program: for threads, stock, and natively")
        runner = Runner(build_programs(go, terminal.progress), plan, processors, chosen)
        terminal.clear()
        with _Display(terminal) as display:
            runner.run(display.tell)
    except KeyboardInterrupt:
        if runner is None or not runner.report.measured:
            terminal.say("interrupted, before anything was measured")
            return 128 + signal.SIGINT
    report = runner.report
    where = _conclude(report, terminal, out, as_json=as_json)
    if report.interrupted:
        terminal.say(f"interrupted; what was measured until then is {f'in {where}' if where else 'above'}")
        return 128 + signal.SIGINT
    if where is not None:
        terminal.say(f"wrote {where}")
    if report.wrong:
        terminal.say(f"{len(report.wrong)} results were wrong; the first: {report.wrong[0].workload}, {report.wrong[0].design}: {report.wrong[0].problems[0]}")
        return 1
    return 0


def _conclude(report: Report, terminal: Terminal, out: Path | None, *, as_json: bool) -> Path | None:
    """Show, and write. Where, if anywhere."""
    found = findings(report)
    where = None if out is None else write(report, found, out)
    if as_json:
        terminal.data(report.to_json([finding.to_json() for finding in found]))
    else:
        console = Console(file=terminal.stdout, highlight=False, width=None if terminal.stdout.isatty() else _WIDTH)
        show(report, found, console)
    return where


def _folder(path: Path) -> Path:
    """Made now, so that nothing is measured in vain."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GothreadsError(f"cannot make the folder {path}: {error.strerror}") from None
    return path


class _Display:
    """On a terminal, a bar; else a line for each workload."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        console = Console(file=terminal.stderr, highlight=False)
        columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
        self._progress = Progress(*columns, console=console, transient=True, disable=not terminal.stderr.isatty())
        self._task = self._progress.add_task("", total=None)
        self._said: str | None = None

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def tell(self, workload: Workload, what: str, done: int, of: int) -> None:
        self._progress.update(self._task, description=what, completed=done, total=of)
        if self._progress.disable and self._said != workload.name:
            self._said = workload.name
            self._terminal.say(f"measuring {workload.name}: {workload.title} ({done} of {of} samples done)")


