"""What a scenario is; and the kind that most are: a storm."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from gothreads.build.builder import Progress
from gothreads.launch import OpenOptions
from gothreads.runtime.app import App
from gothreads.runtime.module_file import LoadedModule
from gothreads.tools.stress import program
from gothreads.tools.stress.context import Broken, Context, Plan


class Scenario(ABC):
    """Something that is tried for a while, from many threads, and must hold. An object runs once."""

    #: What it is called by on the command line.
    name: ClassVar[str]
    #: One line, for people.
    description: ClassVar[str]
    #: What must hold, each in a line.
    invariants: ClassVar[Sequence[str]]

    def module(self, plan: Plan, progress: Progress | None = None) -> LoadedModule:
        """What it runs. BuildError, ModuleError."""
        return program.scenarios(plan, progress)

    def options(self) -> OpenOptions:
        """How that is opened."""
        return program.imports()

    def words(self) -> list[str]:
        """What names it on the command line."""
        return [self.name]

    @abstractmethod
    def run(self, context: Context) -> None:
        """Try until the context is over. Raises Broken, or whatever else is wrong: no error is expected, unless it is caught."""


class Storm(Scenario):
    """Python's threads and goroutines do the same work on the same state, in Go; then what they have done is compared with what is there."""

    #: How many goroutines do it while Python's threads do.
    goroutines: ClassVar[int] = 4
    #: How many rounds a call does at the most: so many that it takes some milliseconds.
    rounds: ClassVar[int] = 200

    def run(self, context: Context) -> None:
        with context.open() as app:
            put = begin(context, app, self.name, self.goroutines)

            def work(place: int, draw: random.Random) -> None:
                put[place] += rounds(context, app, draw, self.rounds)
            context.callers(work)
            finish(context, app, put)


def begin(context: Context, app: App, storm: str, goroutines: int) -> list[int]:
    """Begin a storm. Returns what each of Python's threads has put into its state: nothing yet."""
    app.exports.begin(storm, goroutines, context.random("goroutines").getrandbits(64), context.plan.broken)
    return [0] * context.plan.threads


def rounds(context: Context, app: App, draw: random.Random, most: int) -> int:
    """One call that does some rounds of a storm; how many units that has put into its state."""
    if draw.random() < 0.01:
        app.exports.collect()
    count = 1 + draw.randrange(most)
    units = told(app, app.exports.work(draw.getrandbits(64), count))
    context.count(checked=max(count, units))
    return units


def finish(context: Context, app: App, put: Sequence[int]) -> None:
    """End a storm, and compare."""
    by_goroutines = told(app, app.exports.finish())
    context.count(checked=max(by_goroutines, app.exports.progress()))
    total = told(app, app.exports.total())
    expected = sum(put) + by_goroutines
    context.check(total == expected, f"threads have put {sum(put):,} into the state, goroutines {by_goroutines:,}, together {expected:,}; it has {total:,}")


def told(app: App, answer: Any) -> int:
    """An export's answer. Broken with Go's own words when it is -1."""
    if answer == -1:
        raise Broken(app.request("failure").decode())
    return int(answer)
