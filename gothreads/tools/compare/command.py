"""`gothreads compare`: from its options to the table and the files."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from gothreads.errors import MisuseError
from gothreads.files import make_folder
from gothreads.launch import available_processors
from gothreads.output.terminal import Terminal
from gothreads.text import cut
from gothreads.tools.compare import measurement_plan
from gothreads.tools.compare.catalogue import WORKLOADS
from gothreads.tools.compare.findings import findings
from gothreads.tools.compare.machine import busy_with_others, why_calls_use_ctypes
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.programs import build_programs
from gothreads.tools.compare.report import Report
from gothreads.tools.compare.report_files import write
from gothreads.tools.compare.runner import Comparison
from gothreads.tools.compare.table import show
from gothreads.tools.compare.workload import Workload

#: The width of the table when the output is not a terminal.
_WIDTH = 120


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Measure, and show the report. Returns the exit code: 1 when a result was wrong."""
    for name in arguments.workloads:
        if name not in WORKLOADS:
            raise MisuseError(f"there is no workload {cut(name)}; there are: {', '.join(WORKLOADS)}")
    chosen = [name for name in WORKLOADS if not arguments.workloads or name in arguments.workloads]
    if arguments.list:
        _list(chosen, terminal, as_json=arguments.json)
        return 0
    out = None if arguments.out is None else _folder(Path(arguments.out))
    processors = available_processors()
    plan = (measurement_plan.quick if arguments.quick else measurement_plan.full)(processors)
    if arguments.repeat is not None:
        plan = plan.with_repeats(arguments.repeat)
    if (busy := busy_with_others()) is not None:
        terminal.say(f"this machine is busy ({busy}): such figures say little. Ctrl-C ends the run")
    return compare(plan, chosen, processors, terminal, out, as_json=arguments.json, go=arguments.go)


def compare(plan: MeasurementPlan, chosen: list[str], processors: int, terminal: Terminal, out: Path | None, *,
            as_json: bool, go: str | None) -> int:
    """Measure by a plan. When interrupted, it says so in one line, and shows and keeps what was measured until then."""
    comparison = None
    try:
        if (reason := why_calls_use_ctypes()) is not None:
            terminal.say(f"calls go through ctypes, not C, and are slower for that: {reason}")
        terminal.say("building the program three times: for threads, as stock Go, and natively (the first time, this "
                     "takes a minute or more)")
        comparison = Comparison(build_programs(go), plan, processors, chosen)
        terminal.clear()
        with _ProgressBar(terminal) as bar:
            comparison.run(bar.update)
    except KeyboardInterrupt:
        if comparison is None or not comparison.report.has_samples:
            terminal.say("interrupted: nothing was measured yet")
            return 128 + signal.SIGINT
    report = comparison.report
    written = _conclude(report, terminal, out, as_json=as_json)
    if report.interrupted:
        place = f"in {written}" if written else "above"
        terminal.say(f"interrupted; what was measured until then is {place}")
        return 128 + signal.SIGINT
    if written is not None:
        terminal.say(f"wrote {written}")
    if report.wrong:
        first = report.wrong[0]
        terminal.say(f"{len(report.wrong)} results were wrong; the first: {first.workload}, {first.design}: "
                     f"{first.problems[0]}")
        return 1
    return 0


def _conclude(report: Report, terminal: Terminal, out: Path | None, *, as_json: bool) -> Path | None:
    """Show the report, and write its files. Returns the path of the report, if one was written."""
    conclusions = findings(report)
    written = None if out is None else write(report, conclusions, out)
    if as_json:
        terminal.data(report.to_json([finding.to_json() for finding in conclusions]))
    else:
        show(report, conclusions, _console(terminal))
    return written


def _list(names: Sequence[str], terminal: Terminal, *, as_json: bool) -> None:
    workloads = [WORKLOADS[name] for name in names]
    if as_json:
        terminal.data([{"name": workload.name, "title": workload.title, "about": workload.about,
                        "metrics": [asdict(metric) for metric in workload.metrics]} for workload in workloads])
        return
    table = Table.grid(padding=(0, 2))
    for workload in workloads:
        table.add_row(workload.name, Text.assemble(workload.title, (f"\n{workload.about}", "dim")))
    _console(terminal).print(table)


def _console(terminal: Terminal) -> Console:
    return Console(file=terminal.stdout, highlight=False, markup=False,
                   width=None if terminal.stdout.isatty() else _WIDTH)


def _folder(path: Path) -> Path:
    """Creates the folder before anything is measured: a run takes minutes, and its report must have a place."""
    return make_folder(path)


class _ProgressBar:
    """A bar on a terminal; otherwise a line for each workload."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        console = Console(file=terminal.stderr, highlight=False)
        columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(),
                   TextColumn("{task.description}", markup=False))
        self._progress = Progress(*columns, console=console, transient=True, disable=not terminal.stderr.isatty())
        self._task = self._progress.add_task("", total=None)
        self._last_workload: str | None = None

    def __enter__(self) -> _ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def update(self, workload: Workload, what: str, done: int, total: int) -> None:
        self._progress.update(self._task, description=what, completed=done, total=total)
        if self._progress.disable and self._last_workload != workload.name:
            self._last_workload = workload.name
            self._terminal.say(f"measuring {workload.name}: {workload.title} ({done} of {total} samples done)")
