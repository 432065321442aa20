"""Workloads in which something waits: calls for goroutines, calls for other calls; and what runs in the background
meanwhile.
"""

from __future__ import annotations

import itertools
import struct
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence

from gothreads.tools.compare.callers import loop, paced, together
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Latencies, Sample
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.peers import Peer
from gothreads.tools.compare.workload import CPU, Metric, Workload, check

#: The interval of calls beside background work, and the width of the timeline's buckets, in seconds.
PACE, BUCKET = 0.01, 0.005
#: The interval of the program's ticker, in seconds.
TICK = 0.01
#: What happens so near to a call is not counted as outside it, in seconds: the clocks differ.
EDGE = 50e-6


class Blocking(Workload):
    name = "blocking"
    title = "calls that wait for a goroutine"
    about = ("Each call asks another goroutine, whose answer takes 2 ms, as a database's would; several callers at the "
             "same time.")
    axis = "callers"

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return plan.waiting

    def headline(self, plan: MeasurementPlan, processors: int) -> int:
        return plan.waiting[-1]

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        ask = peer.function("ask")

        def caller(place: int) -> Callable[[], None]:
            value = place << 20

            def call() -> None:
                nonlocal value
                value += 1
                if (answer := ask(value)) != 2 * value:
                    check("ask", answer, 2 * value)
            return call
        return loop(point, plan.seconds, caller)


class Meeting(Workload):
    name = "meet"
    title = "calls that wait for calls"
    about = "Four calls meet in the module: none returns before all four are in it. Each waits for the others."
    axis = "callers"
    metrics = (Metric("rate", "meetings", "/s", more=True), CPU)
    CALLERS = 4

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return (self.CALLERS,)

    def cannot(self, design: Design, point: int, plan: MeasurementPlan) -> str | None:
        if design.one_at_a_time:
            return "takes one call at a time, so the first would wait forever for the second, which waits outside"
        return "runs each call in separate memory, so the calls never meet" if design.model == "pool" else None

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        meet = peer.function("meet")
        met: list[list[int]] = [[] for _ in range(point)]

        def attend(place: int) -> Callable[[], None]:
            def run() -> None:
                for _ in range(plan.meetings):
                    met[place].append(meet(point))
            return run
        together([attend(place) for place in range(point)])
        begin = met[0][-1] + 1
        met = [[] for _ in range(point)]
        cpu = time.process_time()
        seconds = together([attend(place) for place in range(point)])
        cpu = time.process_time() - cpu
        for mine in met:
            check("the numbers of the meetings", mine, list(range(begin, begin + plan.meetings)))
        return Sample({"rate": plan.meetings / seconds, "cpu": cpu / plan.meetings / point})


class _Progress:
    """When the program recorded progress in the background, by the clock of time.monotonic()."""

    def __init__(self, peer: Peer) -> None:
        self._offset = _offset()
        self.steps = self._times(peer.request("progress", b"s"))
        self.ticks = self._times(peer.request("progress", b"t"))

    def _times(self, answer: bytes) -> list[float]:
        times = [at / 1e9 - self._offset for (at,) in struct.iter_unpack("<q", answer)]
        check("the order of events in the background", times, sorted(times))
        return times


class Background(Workload):
    name = "background"
    title = "work in the background"
    about = ("A goroutine works all the time, in slices of a millisecond or two, while calls come every 10 ms, with "
             "pauses between. How far does it get while there is no call, and how long does a call take that needs "
             "2 ms by itself?")
    axis = ""
    metrics = (Metric("between", "steps of work while no call is in", "/s", more=True),
               Metric("steps", "steps of work in all", "/s", more=True),
               Metric("beside", "a call beside the work, median", "s", more=False),
               Metric("beside_90", "a call beside the work, 90th percentile", "s", more=False),
               Metric("alone", "a call without it, median", "s", more=False))

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return (1,)

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        alone = self._calls(peer, plan, work=False)
        begin = time.monotonic()
        calls = self._calls(peer, plan, work=True)
        progress = _Progress(peer)
        end = calls[-1]  # the last is work_end: once it has returned, nothing runs any more
        calls = calls[:-1]
        outside = sum(1 for at in progress.steps if not begin - EDGE <= at <= end[2] + EDGE)
        check("steps of work before its start or after its end", outside, 0)
        steps = [at for at in progress.steps if begin <= at <= end[1]]
        free = _between(begin, end[1], calls)
        between = sum(1 for at in steps if _in(free, at))
        quiet, whole = sum(last - first for first, last in free), end[1] - begin
        beside, without = (Latencies.of(int(1e9 * (done - due)) for due, _, done in times)
                           for times in (calls[1:], alone[1:-1]))
        values = {"between": between / quiet, "steps": len(steps) / whole, "beside": _seconds(beside, 50),
                  "beside_90": _seconds(beside, 90), "alone": _seconds(without, 50)}
        buckets = Counter(int((at - begin) / BUCKET) for at in steps)
        series = {"bucket": BUCKET, "seconds": whole,
                  "steps": [buckets[place] for place in range(int(whole / BUCKET) + 1)],
                  "ticks": [round(at - begin, 4) for at in progress.ticks if begin <= at <= end[1]],
                  "calls": [[round(begun - begin, 4), round(done - begin, 4)] for _, begun, done in calls]}
        return Sample(values, beside, series)

    @staticmethod
    def _calls(peer: Peer, plan: MeasurementPlan, *, work: bool) -> list[tuple[float, float, float]]:
        """Quiet, calls, quiet, calls, quiet. Returns when each call was due, started and done; the first starts the
        work, the last ends it.
        """
        ask, begin, end = peer.function("ask"), peer.function("work_begin"), peer.function("work_end")
        value = 0

        def call() -> None:
            nonlocal value
            value += 1
            if (answer := ask(value)) != 2 * value:
                check("ask", answer, 2 * value)
        part, now = plan.background_seconds / 5, time.monotonic()
        begin(int(work))
        times = [(now, now, time.monotonic())]
        for first in (1, 3):
            times += paced(now + first * part, now + (first + 1) * part, PACE, call)
        rest = now + 5 * part - time.monotonic()
        if rest > 0:
            time.sleep(rest)
        over = time.monotonic()
        end()
        return [*times, (over, over, time.monotonic())]


class QuietTimers(Workload):
    name = "timers"
    title = "timers while nobody calls"
    about = "A ticker of 10 ms is started, and then nobody calls: how many of its ticks come?"
    axis = ""
    metrics = (Metric("fired", "ticks that came", "%", more=True),
               Metric("late", "the longest time between two ticks, less 10 ms", "s", more=False))

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return (1,)

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        peer.function("work_begin")(0)
        begin = time.monotonic()
        time.sleep(plan.quiet_seconds)
        end = time.monotonic()
        peer.function("work_end")()
        ticks = [at for at in _Progress(peer).ticks if begin <= at <= end]
        due = int((end - begin) / TICK - 0.5)  # the last one may still be on its way
        check("surplus ticks", max(0, len(ticks) - due - 2), 0)
        values = {"fired": 100 * min(1.0, len(ticks) / due)}
        if len(ticks) > 1:
            values["late"] = max(0.0, max(later - sooner for sooner, later in itertools.pairwise(ticks)) - TICK)
        return Sample(values)


class IdleCPU(Workload):
    name = "idle-cpu"
    title = "doing nothing"
    about = "The program is open, and nobody calls: how much of a processor does that take?"
    axis = ""
    metrics = (Metric("idle", "CPU time while there is nothing to do", "CPU s/s", more=False),)

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return (1,)

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        check("add", peer.function("add")(2, 3), 5)
        begin, cpu = time.monotonic(), time.process_time()
        time.sleep(plan.quiet_seconds)
        cpu = time.process_time() - cpu
        return Sample({"idle": cpu / (time.monotonic() - begin)})


def _offset() -> float:
    """What to add to time.monotonic() to get time.time(): the quickest of many readings, since this thread may be
    descheduled between reading one clock and the other.
    """
    readings = []
    for _ in range(20):
        before, now, after = time.monotonic(), time.time(), time.monotonic()
        readings.append((after - before, now - (before + after) / 2))
    return min(readings)[1]


def _between(begin: float, end: float, calls: Sequence[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """The spans of time in which no call was in the module, in order."""
    free, at = [], begin
    for _, begun, done in calls:
        if begun > at:
            free.append((at, begun))
        at = max(at, done)
    return [*free, (at, end)] if end > at else free


def _in(spans: list[tuple[float, float]], at: float) -> bool:
    place = bisect_right(spans, (at, float("inf"))) - 1
    return place >= 0 and spans[place][0] + EDGE <= at <= spans[place][1] - EDGE


def _seconds(latencies: Latencies, percent: float) -> float:
    """The percentile; the slowest call when there are too few for it."""
    value = latencies.percentile(percent)
    return value if value is not None else max((n / 1e9 for n in latencies.buckets), default=0.0)
