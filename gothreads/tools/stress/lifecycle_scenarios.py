"""Scenarios of whole lifecycles: apps that run out of memory, and apps that are opened and closed in the middle of
calls.
"""

from __future__ import annotations

import contextlib
import random
import threading

import psutil

from gothreads.errors import AppClosed, GuestError, GuestPanic
from gothreads.runtime.options import Limits
from gothreads.runtime.state import State
from gothreads.tools.stress.leftovers import threads_left
from gothreads.tools.stress.scenario import Scenario
from gothreads.tools.stress.scenario_context import ScenarioContext

#: How Go's runtime reports being out of memory: for its heap, and for its own structures.
_OUT_OF_MEMORY = ("out of memory", "cannot allocate memory")
#: How long threads may take to end after their app is closed, in seconds.
_LEAVE_SECONDS = 30.0
#: So many more descriptors do not count as left: Python's own come and go.
_SLACK = 8


class MemoryLimit(Scenario):
    name = "memory"
    description = "memory that grows to its limit, from all threads, again and again"
    invariants = ("Go's out of memory is the only error", "all callers get that one cause", "the module opens again")

    def run(self, context: ScenarioContext) -> None:
        draw = context.random("limits")
        while not context.over:
            self._fill(context, draw.randrange(24, 96) << 20)

    @staticmethod
    def _fill(context: ScenarioContext, limit: int) -> None:
        """One app, to its end."""
        causes: list[str] = []  # list.append is atomic
        with context.open(limits=Limits(memory=limit)) as app:
            def keep(_place: int, draw: random.Random) -> None:
                try:
                    while True:
                        app.exports.keep(draw.getrandbits(64), limit, context.plan.broken)
                        context.count()
                except GuestError as error:
                    expected = isinstance(error, GuestPanic) and any(words in error.message for words in _OUT_OF_MEMORY)
                    context.check(expected, f"at the limit of memory, the error is: {error}")
                    causes.append(error.message)
            context.each(keep, context.plan.threads)
            context.check(len(set(causes)) == 1,
                          f"{len(causes)} callers got {len(set(causes))} causes: {sorted(set(causes))}")
            context.check(app.state in (State.EXITED, State.ENDING), f"the app is out of memory, and {app.state.value}")
            size = app.statistics().memory
            context.check(size <= limit, f"the memory has {size:,} bytes, and its limit is {limit:,}")
        context.count(calls=len(causes), checked=len(causes))


class Apps(Scenario):
    name = "apps"
    description = "apps that are opened, called, and closed in the middle of calls, several at the same time"
    invariants = ("each has its own memory", "a call gets the right answer or AppClosed",
                  "no thread and no descriptor is left")

    def run(self, context: ScenarioContext) -> None:
        others = set(threading.enumerate())
        with context.open() as first:  # creates what exists once in a process
            first.exports.take(1, False)
        process = psutil.Process()
        descriptors = process.num_fds()
        context.callers(lambda _place, draw: self._live(context, draw), min(4, context.plan.threads))
        left = threads_left(_LEAVE_SECONDS, others)
        context.check(not left, f"all apps are closed, and threads are left: {', '.join(left)}")
        context.check(process.num_fds() <= descriptors + _SLACK,
                      f"there were {descriptors} descriptors, and {process.num_fds()} are left")

    @staticmethod
    def _live(context: ScenarioContext, draw: random.Random) -> None:
        with context.open(procs=1 + draw.randrange(4)) as app:
            first = app.exports.take(1, False)
            context.check(first == 0,
                          f"an app that was just opened begins with the number {first}: its memory is not its own")
            app.exports.begin("mix", 2, draw.getrandbits(64), False)
            if context.plan.broken:  # a panic, which is neither an answer nor AppClosed
                app.exports.keep(draw.getrandbits(64), 2 << 20, True)
            failures: list[BaseException] = []

            def call() -> None:
                try:
                    with contextlib.suppress(AppClosed):
                        while True:
                            context.check(app.exports.descend(2, 5) == 9, "a call is answered wrong")
                            context.count()
                except BaseException as failure:
                    failures.append(failure)
            threads = [threading.Thread(target=call, name=f"stress-apps-{n}", daemon=True)
                       for n in range(draw.randrange(5))]
            for thread in threads:
                thread.start()
            context.wait(draw.uniform(0, 0.2))
            app.close()
            for thread in threads:
                thread.join()
            if failures:
                raise failures[0]
