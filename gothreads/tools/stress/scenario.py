"""The interface of scenarios; and the kind that most are, a storm."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from gothreads.launch import OpenOptions
from gothreads.runtime.app import App
from gothreads.runtime.module_file import LoadedModule
from gothreads.tools.stress import scenario_program
from gothreads.tools.stress.scenario_context import InvariantBroken, ScenarioContext, StressPlan


class Scenario(ABC):
    """Something that is tried for a while from many threads, and whose invariants must hold. An object runs once."""

    #: Its name on the command line.
    name: ClassVar[str]
    #: One line, for people.
    description: ClassVar[str]
    #: What must hold, one line each.
    invariants: ClassVar[Sequence[str]]

    def module(self, plan: StressPlan) -> LoadedModule:
        """The module to run. BuildError, ModuleError."""
        return scenario_program.scenarios(plan)

    def options(self) -> OpenOptions:
        """How to open the module."""
        return scenario_program.imports()

    def words(self) -> list[str]:
        """The words that name it on the command line."""
        return [self.name]

    @abstractmethod
    def run(self, context: ScenarioContext) -> None:
        """Try until the context is over. Raises InvariantBroken, or any other error: those that are expected are
        caught.
        """


class Storm(Scenario):
    """Python threads and goroutines do the same work on the same state in Go; then the work that was done is compared
    with that state.
    """

    #: How many goroutines work beside the Python threads.
    goroutines: ClassVar[int] = 4
    #: The most rounds of work in one call: enough to take some milliseconds.
    rounds: ClassVar[int] = 200

    def run(self, context: ScenarioContext) -> None:
        with context.open() as app:
            put = begin(context, app, self.name, self.goroutines)

            def work(place: int, draw: random.Random) -> None:
                put[place] += rounds(context, app, draw, self.rounds)
            context.callers(work)
            finish(context, app, put)


def begin(context: ScenarioContext, app: App, storm: str, goroutines: int) -> list[int]:
    """Begin a storm. Returns how much each Python thread has put into its state: nothing yet."""
    app.exports.begin(storm, goroutines, context.random("goroutines").getrandbits(64), context.plan.broken)
    return [0] * context.plan.threads


def rounds(context: ScenarioContext, app: App, draw: random.Random, most: int) -> int:
    """One call that does some rounds of a storm. Returns how many units it has put into the state."""
    if draw.random() < 0.01:
        app.exports.collect()
    count = 1 + draw.randrange(most)
    units = succeeded(app, app.exports.work(draw.getrandbits(64), count))
    context.count(checked=max(count, units))
    return units


def finish(context: ScenarioContext, app: App, put: Sequence[int]) -> None:
    """End a storm, and compare what was put into the state with what it has."""
    by_goroutines = succeeded(app, app.exports.finish())
    context.count(checked=max(by_goroutines, app.exports.progress()))
    total = succeeded(app, app.exports.total())
    expected = sum(put) + by_goroutines
    context.check(total == expected,
                  f"threads have put {sum(put):,} into the state, goroutines {by_goroutines:,}, together {expected:,}; "
                  f"it has {total:,}")


def succeeded(app: App, answer: Any) -> int:
    """An export's answer. When it is -1, InvariantBroken with the words of the Go side."""
    if answer == -1:
        raise InvariantBroken(app.request("failure").decode())
    return int(answer)
