"""Shows a run while it goes on: changing figures on a terminal; a line every few seconds elsewhere; or nothing."""

from __future__ import annotations

import time

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gothreads.output.terminal import Terminal
from gothreads.tools.stress.runner import View
from gothreads.tools.stress.sampling import Snapshot
from gothreads.tools.stress.scenario_context import StressPlan

#: The time between two lines, in seconds.
_LINE_SECONDS = 5.0


def view(terminal: Terminal, *, json: bool) -> View:
    """The view that suits the output."""
    if json:
        return Nothing()
    return Changing(terminal) if terminal.stderr.isatty() else Lines(terminal)


class Nothing:
    """For programs."""

    def show(self, name: str, sample: Snapshot, plan: StressPlan) -> None:
        pass

    def clear(self) -> None:
        pass


class Lines:
    """For logs."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._last: dict[str, float] = {}  # when the last line was written, by scenario

    def show(self, name: str, sample: Snapshot, plan: StressPlan) -> None:
        now = time.monotonic()
        if now - self._last.get(name, -_LINE_SECONDS) >= _LINE_SECONDS:
            self._last[name] = now
            self._terminal.say(f"{name}: "
                               + ", ".join(f"{what} {value}" for what, value in figures(sample, plan).items()))

    def clear(self) -> None:
        pass


class Changing:
    """For people."""

    def __init__(self, terminal: Terminal) -> None:
        self._live = Live(console=Console(file=terminal.stderr, highlight=False), transient=True, auto_refresh=False)
        self._shown = False

    def show(self, name: str, sample: Snapshot, plan: StressPlan) -> None:
        # As many side by side as fit: a row of ten columns does not fit a narrow terminal.
        cells = [Text.assemble((what, "dim"), " ", value, no_wrap=True)
                 for what, value in figures(sample, plan).items()]
        shown = Group(Text(name, style="bold"), Columns(cells, padding=(0, 3)))
        if not self._shown:
            self._shown = True
            self._live.start()
        self._live.update(shown, refresh=True)

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            self._live.stop()


def figures(sample: Snapshot, plan: StressPlan) -> dict[str, str]:
    """The figures to show, by name."""
    def number(value: int | None) -> str:
        return "–" if value is None else f"{value:,}"
    return {"time": f"{sample.seconds:.0f} of {plan.seconds:g} s", "calls": number(sample.calls),
            "calls/s": f"{sample.rate:,.0f}",
            "checked": number(sample.checked), "Ms": number(sample.ms), "callers": number(sample.callers),
            "goroutines": number(sample.goroutines), "heap": _megabytes(sample.heap), "RSS": _megabytes(sample.rss),
            "CPU": f"{sample.cpu:.0f} %"}


def _megabytes(size: int | None) -> str:
    return "–" if size is None else f"{size / 1e6:,.0f} MB"
