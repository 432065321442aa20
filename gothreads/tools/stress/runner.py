"""Runs and watches one scenario, and returns its verdict.

The scenario has its own thread; this one watches it, shows its figures, and receives Ctrl-C. A scenario whose steps do
not rise for `plan.hang` seconds hangs: then its apps are closed, which makes every call return. Its threads are
daemons, in case that does not help.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gothreads.errors import MisuseError, ModuleError
from gothreads.tools.stress import failure_file
from gothreads.tools.stress.failure_file import Hang
from gothreads.tools.stress.sampling import Meter, Snapshot
from gothreads.tools.stress.scenario import Scenario
from gothreads.tools.stress.scenario_context import ScenarioContext, StressPlan

#: How often the watching thread checks for progress, and how often it measures, in seconds.
_LOOK_SECONDS = 0.1
_SAMPLE_SECONDS = 1.0
#: How long the first app may take to open, including the compilation of its module, in seconds.
_OPEN_SECONDS = 300.0
#: How long a scenario may take to end once it has failed or was interrupted, in seconds.
_END_SECONDS = 10.0


class View(Protocol):
    """Where a run is shown."""

    def show(self, name: str, sample: Snapshot, plan: StressPlan) -> None:
        """Show the current figures of a scenario."""

    def clear(self) -> None:
        """Remove them: the scenario has ended."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a scenario. `checked`: operations. When it failed: `message`, the `file` with details, and the
    command `again` to repeat it.
    """

    name: str
    passed: bool
    calls: int
    checked: int
    seconds: float
    message: str | None = None
    file: str | None = None
    again: str | None = None


def run(scenario: Scenario, plan: StressPlan, view: View, *, file: Path | None = None) -> Verdict:
    """Run one scenario, on the main thread. GothreadsError when there is no module to run; KeyboardInterrupt, once
    everything has ended.

    file: where a failure is kept (default: gothreads-stress-SCENARIO-SEED.txt in the current directory).
    """
    context = ScenarioContext(scenario.name, plan, scenario.module(plan), scenario.options())
    begin = time.monotonic()
    last: Snapshot | None = None

    def body() -> None:
        try:
            scenario.run(context)
        except BaseException as error:
            context.fail(error)
    thread = threading.Thread(target=body, name=f"stress-{scenario.name}", daemon=True)
    thread.start()
    try:
        last = _watch(context, thread, view)
    finally:
        context.stop()
        if thread.is_alive():
            _end(context, thread)
        view.clear()
    seconds = round(time.monotonic() - begin, 2)
    if context.failure is None:
        return Verdict(scenario.name, passed=True, calls=context.calls, checked=context.checked, seconds=seconds)
    if not context.begun and isinstance(context.failure, MisuseError | ModuleError):
        raise context.failure  # the module could not be run at all
    path = file or Path(f"gothreads-stress-{scenario.name}-{plan.seed}.txt")
    again = failure_file.command(scenario.words(), plan)
    failure_file.keep(path, context, context.failure, last, again)
    return Verdict(scenario.name, passed=False, calls=context.calls, checked=context.checked, seconds=seconds,
                   message=failure_file.message(context.failure), file=str(path), again=again)


def _watch(context: ScenarioContext, thread: threading.Thread, view: View) -> Snapshot | None:
    """Watch until it has ended, failed or hung. Returns the last snapshot."""
    meter, last = Meter(context), None
    steps, progressed, measured = context.steps, time.monotonic(), time.monotonic()
    while thread.is_alive() and context.failure is None:
        thread.join(_LOOK_SECONDS)
        now = time.monotonic()
        if context.steps != steps:
            steps, progressed = context.steps, now
        elif now - progressed > (patience := context.plan.hang if context.begun
                                 else max(context.plan.hang, _OPEN_SECONDS)):
            context.fail(Hang(f"no progress for {patience:g} s: a call or a thread does not return"))
            break
        if context.begun and now - measured >= _SAMPLE_SECONDS:
            measured = now
            last = meter.sample()
            view.show(context.name, last, context.plan)
    return last or meter.sample()


def _end(context: ScenarioContext, thread: threading.Thread) -> None:
    """Let it end by itself if it has failed (stacks may still be being taken); then close its apps."""
    if context.failure is not None:
        thread.join(_END_SECONDS if context.stacks is None else _LOOK_SECONDS)
    for app in context.apps:  # each on its own thread: a close that never returns may be the very failure
        threading.Thread(target=app.close, name="stress-close", daemon=True).start()
    thread.join(_END_SECONDS)
