"""The command `gothreads stress`."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gothreads.errors import GothreadsError, MisuseError
from gothreads.output.terminal import Terminal
from gothreads.requirements import lacking
from gothreads.tools.stress.scenario_context import StressPlan

if TYPE_CHECKING:
    from gothreads.tools.stress.runner import Verdict
    from gothreads.tools.stress.scenario import Scenario


def stress(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run scenarios until one fails. Returns the exit code: 1 when one has failed."""
    if (problem := lacking("stress")) is not None:
        raise GothreadsError(problem)
    from gothreads.tools.stress.catalogue import SCENARIOS, chosen
    from gothreads.tools.stress.module_scenario import ModuleScenario
    if arguments.list:
        return _list(SCENARIOS, terminal, json=arguments.json)
    scenarios: Sequence[Scenario]
    if arguments.module:
        if arguments.scenarios or arguments.broken:
            raise MisuseError("--module is a scenario of its own: leave out "
                              f"{', '.join(arguments.scenarios) or '--broken'}")
        if arguments.sharpen is not None:
            raise MisuseError("--sharpen is for the scenarios' own program. Build yours with: gothreads build "
                              "--sharpen SEED")
        scenarios = [ModuleScenario(arguments.module, arguments.exports, arguments.pure, arguments.python)]
    elif arguments.exports or arguments.pure or arguments.python:
        raise MisuseError("--exports, --pure and --python are for --module")
    else:
        scenarios = chosen(arguments.scenarios)
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    plan = StressPlan(seed, seconds=arguments.seconds, threads=arguments.threads, procs=arguments.procs or 0,
                      hang=arguments.hang,
                      broken=arguments.broken, sharpen=arguments.sharpen)
    code = _run(scenarios, plan, terminal, None if arguments.keep is None else Path(arguments.keep),
                json=arguments.json)
    if arguments.module and not arguments.pure:
        terminal.say("no result was checked, only that each call returns: --pure names exports whose results depend on "
                     "their arguments alone")
    return code


def _run(scenarios: Sequence[Scenario], plan: StressPlan, terminal: Terminal, file: Path | None, *, json: bool) -> int:
    from gothreads.tools.stress.runner import run
    from gothreads.tools.stress.terminal_view import view
    verdicts: list[Verdict] = []
    begin, display, name = time.monotonic(), view(terminal, json=json), ""
    try:
        for scenario in scenarios:
            name = scenario.name
            verdicts.append(run(scenario, plan, display, file=file))
            if not json:
                _print_verdict(verdicts[-1], terminal)
            if not verdicts[-1].passed:
                break
    except KeyboardInterrupt:
        terminal.say(f"interrupted in {name}, with the seed {plan.seed}; before that "
                     f"{_scenarios(len(verdicts))} passed")
        raise
    passed = all(verdict.passed for verdict in verdicts)
    seconds = time.monotonic() - begin
    if json:
        terminal.data({"passed": passed, "seed": plan.seed, "threads": plan.threads, "procs": plan.processors,
                       "seconds": round(seconds, 1), "scenarios": [asdict(verdict) for verdict in verdicts]})
    elif passed:
        terminal.out(f"{_scenarios(len(verdicts))} passed in {seconds:.0f} s: {sum(v.calls for v in verdicts):,} "
                     f"calls, {sum(v.checked for v in verdicts):,} operations checked (seed {plan.seed})")
    return 0 if passed else 1


def _scenarios(count: int) -> str:
    return f"{count} scenario{'s' * (count != 1)}"


def _print_verdict(verdict: Verdict, terminal: Terminal) -> None:
    terminal.clear()
    what = f"{verdict.calls:12,} calls  {verdict.checked:15,} checked  {verdict.seconds:7.1f} s"
    terminal.out(f"{verdict.name:12} {'passed' if verdict.passed else 'FAILED':8} {what}")
    if not verdict.passed:
        terminal.out(f"  {verdict.message}\n  kept:  {verdict.file}\n  again: {verdict.again}")
    terminal.stdout.flush()


def _list(scenarios: Mapping[str, type[Scenario]], terminal: Terminal, *, json: bool) -> int:
    if json:
        terminal.data([{"name": kind.name, "description": kind.description, "invariants": list(kind.invariants)}
                       for kind in scenarios.values()])
        return 0
    for kind in scenarios.values():
        terminal.out(f"{kind.name:12} {kind.description}")
        for invariant in kind.invariants:
            terminal.out(f"{'':14}{invariant}")
    return 0
