"""Scenarios of calls between Python and Go: calls that wait, short-lived threads, host functions, events."""

from __future__ import annotations

import asyncio
import random
import struct
import threading
import time
import zlib
from collections import Counter

import gothreads.runtime.app
from gothreads.runtime.app import App
from gothreads.runtime.models.threaded import ThreadedApp
from gothreads.tools.stress import scenario_program
from gothreads.tools.stress.scenario import Scenario, succeeded
from gothreads.tools.stress.scenario_context import ScenarioContext

#: How many calls wait at the same time, for each thread of the plan.
_BLOCKED = 25
_EVENT = struct.Struct("<IQ")


class Blocked(Scenario):
    name = "blocked"
    description = "hundreds of exports that wait for goroutines to answer, in any order"
    invariants = ("every call is answered, with its own answer",)

    def run(self, context: ScenarioContext) -> None:
        threads = _BLOCKED * context.plan.threads
        with context.open(callers=threads) as app:
            forgets = context.plan.broken and context.plan.seed % 2 == 1  # which of its two bugs
            app.exports.serve(context.random("serve").getrandbits(64), threads // 2,
                              context.plan.broken and not forgets, forgets)

            def work(_place: int, draw: random.Random) -> None:
                number = draw.getrandbits(60)
                answer = app.exports.ask(number)
                context.check(answer == 2 * number,
                              f"a call that waits was answered {answer}, which belongs to another: its own answer was "
                              f"{2 * number}")
                context.count()
            context.callers(work, threads)
            _check_no_calls(context, app)


class Attach(Scenario):
    name = "attach"
    description = "Python threads that live for a few calls, and callers that are released"
    invariants = ("a number is handed out once", "no number is left out", "no call is left in the module")

    def run(self, context: ScenarioContext) -> None:
        taken: list[tuple[int, int]] = []  # the first number, and how many; list.append is atomic
        with context.open(callers=max(2, context.plan.threads)) as app:
            def calls(draw: random.Random) -> None:
                for _ in range(1 + draw.randrange(5)):
                    count = 1 + draw.randrange(2000)
                    taken.append((app.exports.take(count, context.plan.broken), count))
                    context.count(checked=count)

            def work(place: int, draw: random.Random) -> None:
                failures: list[BaseException] = []

                def live(seed: int) -> None:
                    try:
                        calls(random.Random(seed))
                    except BaseException as failure:
                        failures.append(failure)
                threads = [threading.Thread(target=live, args=(draw.getrandbits(64),), daemon=True)
                           for _ in range(1 + draw.randrange(4))]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                if failures:
                    raise failures[0]
                if place == 0 and isinstance(app, ThreadedApp) and draw.random() < 0.1:
                    app.trim()
            context.callers(work)
            _check_no_calls(context, app)
            total = app.exports.take(0, False)
        expected = 0
        for first, count in sorted(taken):
            how = "was handed out twice" if first < expected else "was never handed out"
            context.check(first == expected, f"the number {min(first, expected):,} {how}")
            expected += count
        context.check(total == expected, f"{expected:,} numbers were handed out, and the next is {total:,}")


class Callbacks(Scenario):
    name = "callbacks"
    description = "Python functions that call back into Go, nested, from goroutines; handlers that answer later"
    invariants = ("every call goes there and back once for each step", "every question gets its own answer")

    def run(self, context: ScenarioContext) -> None:
        received: Counter[int] = Counter()  # calls of Python, by depth
        lock = threading.Lock()

        def again(depth: int, n: int, inside: gothreads.runtime.app.Context) -> int:
            with lock:
                received[depth] += 1
            return scenario_program.again(depth, n, inside)

        async def double(payload: bytes) -> bytes:
            await asyncio.sleep(payload[0] % 3 / 1e3)
            return scenario_program.double(payload)
        sent: list[Counter[int]] = [Counter() for _ in range(context.plan.threads)]  # the calls of Python that Go makes
        with context.open(host={"env": {"again": again, "pause": scenario_program.pause}},
                          handlers={"double": double}) as app:
            def work(place: int, draw: random.Random) -> None:
                self._call(context, app, draw, sent[place])
            context.callers(work)
        steps = sum(sent, Counter())
        context.check(steps == received,
                      f"Go called Python {sum(steps.values()):,} times, and Python was called "
                      f"{sum(received.values()):,} times")

    @staticmethod
    def _call(context: ScenarioContext, app: App, draw: random.Random, sent: Counter[int]) -> None:
        """One call of any kind; `sent` counts the calls of Python that it leads to."""
        n = draw.getrandbits(40)
        match draw.randrange(8):
            case 0:
                answer, expected = app.exports.double(n), 2 * n
                if answer == -1:
                    succeeded(app, answer)
            case 1:
                app.exports.pause(draw.randrange(2000))
                answer = expected = 0
            case 2 | 3:
                count, depth = 1 + draw.randrange(8), draw.randrange(3)
                answer = app.exports.fan(count, depth, n, context.plan.broken)
                expected = sum(n + i + 2 * depth for i in range(count))
                sent.update(dict.fromkeys(range(depth), count))
            case _:
                depth = draw.randrange(12)
                answer, expected = app.exports.descend(depth, n), n + 2 * depth
                sent.update(dict.fromkeys(range(depth), 1))
        context.check(answer == expected, f"a call by way of the host was answered {answer}, not {expected}")
        context.count(calls=1)


class Signals(Scenario):
    name = "signals"
    description = "app.signal from many threads at once, with payloads of any size; full queues wait or drop"
    invariants = ("each event arrives once, whole, in its sender's order", "dropped events do not arrive")

    def run(self, context: ScenarioContext) -> None:
        sent = [0] * context.plan.threads
        with context.open(event_queue=64) as app:
            app.exports.listen(context.plan.broken)

            def work(place: int, draw: random.Random) -> None:
                drops = place % 2 == 1
                for _ in range(50):
                    body = _EVENT.pack(place, sent[place]) + draw.randbytes(draw.choice((0, 0, 10, 1000, 20_000)))
                    if app.signal("number", struct.pack("<I", zlib.crc32(body)) + body,
                                  full="drop" if drops else "wait"):
                        sent[place] += 1
                        context.count()
                succeeded(app, app.exports.received())
            context.callers(work)
            while (received := succeeded(app, app.exports.received())) < sum(sent):
                time.sleep(0.001)  # until all have arrived; if they never do, the runner reports a hang
            app.wait_idle()
            received = succeeded(app, app.exports.received())
            context.check(received == sum(sent), f"{sum(sent):,} events were sent, {received:,} have arrived")


def _check_no_calls(context: ScenarioContext, app: App) -> None:
    callers = app.statistics().callers
    context.check(callers is None or callers.in_use == 0, f"all calls have returned, and callers are in use: {callers}")
