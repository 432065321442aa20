"""One scenario, run and watched: its verdict.

The scenario has a thread of its own; this one looks at it, shows what it sees, and is where Ctrl-C is seen. A scenario whose steps do not rise
for `plan.hang` seconds hangs: then its apps are closed, which every call comes back from. Its threads are daemons, if that does not help.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gothreads.build.builder import Progress
from gothreads.errors import MisuseError, ModuleError
from gothreads.tools.stress import failure as failures
from gothreads.tools.stress.context import Context, Plan
from gothreads.tools.stress.failure import Hang
from gothreads.tools.stress.measure import Meter, Sample
from gothreads.tools.stress.scenario import Scenario

#: How often the thread that watches looks, and how often it measures, in seconds.
_LOOK_SECONDS = 0.1
_SAMPLE_SECONDS = 1.0
#: How long the first app may take to open, which includes that its module is compiled, in seconds.
_OPEN_SECONDS = 300.0
#: How long a scenario may take to end once it has failed, or is interrupted, in seconds.
_END_SECONDS = 10.0


class View(Protocol):
    """Where a run is shown."""

    def show(self, name: str, sample: Sample, plan: Plan) -> None:
        """A scenario, as it is now."""

    def clear(self) -> None:
        """A scenario has ended."""


@dataclass(frozen=True)
class Verdict:
    """What a scenario came to. `checked`: operations. When it failed: what `message` says, in the `file`; `again` repeats it."""

    name: str
    passed: bool
    calls: int
    checked: int
    seconds: float
    message: str | None = None
    file: str | None = None
    again: str | None = None


def run(scenario: Scenario, plan: Plan, view: View, *, file: Path | None = None, progress: Progress | None = None) -> Verdict:
    """Run one scenario, from the main thread. GothreadsError when there is no module to run; KeyboardInterrupt, after the end of all.

    file: where a failure is kept (default: gothreads-stress-SCENARIO-SEED.txt, here).
    """
    context = Context(scenario.name, plan, scenario.module(plan, progress), scenario.options())
    begin = time.monotonic()
    last: Sample | None = None

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
        return Verdict(scenario.name, True, context.calls, context.checked, seconds)
    if not context.begun and isinstance(context.failure, MisuseError | ModuleError):
        raise context.failure  # there was nothing to run
    path = file or Path(f"gothreads-stress-{scenario.name}-{plan.seed}.txt")
    again = failures.command(scenario.words(), plan)
    failures.keep(path, context, context.failure, last, again)
    return Verdict(scenario.name, False, context.calls, context.checked, seconds, failures.message(context.failure), str(path), again)


def _watch(context: Context, thread: threading.Thread, view: View) -> Sample | None:
    """Until it has ended, failed, or hangs. The last sample."""
    meter, last = Meter(context), None
    steps, moved, measured = context.steps, time.monotonic(), time.monotonic()
    while thread.is_alive() and context.failure is None:
        thread.join(_LOOK_SECONDS)
        now = time.monotonic()
        if context.steps != steps:
            steps, moved = context.steps, now
        elif now - moved > (patience := context.plan.hang if context.begun else max(context.plan.hang, _OPEN_SECONDS)):
            context.fail(Hang(f"nothing has gone on for {patience:g} s: a call, or a thread, does not come back"))
            break
        if context.begun and now - measured >= _SAMPLE_SECONDS:
            measured = now
            last = meter.sample()
            view.show(context.name, last, context.plan)
    return last or meter.sample()


def _end(context: Context, thread: threading.Thread) -> None:
    """Let it end by itself, if it has failed (then stacks may still be taken), and else by closing its apps."""
    if context.failure is not None:
        thread.join(_END_SECONDS if context.stacks is None else _LOOK_SECONDS)
    for app in context.apps:  # aside: that a close does not come back is one of the things that may be wrong
        threading.Thread(target=app.close, name="stress-close", daemon=True).start()
    thread.join(_END_SECONDS)
