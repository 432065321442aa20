"""Workloads of calls that compute: independent exports, state under locks, goroutines that communicate, calls to the
host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar

from gothreads.tools.compare.callers import loop
from gothreads.tools.compare.designs import Design
from gothreads.tools.compare.figures import Sample
from gothreads.tools.compare.measurement_plan import MeasurementPlan
from gothreads.tools.compare.peers import Peer
from gothreads.tools.compare.workload import CPU, RATE, Metric, Workload, check


class Calls(Workload):
    """The same call from 1, 2, … threads at a time, as fast as possible."""

    export: ClassVar[str]
    arguments: ClassVar[tuple[int, ...]]
    expected: ClassVar[int]

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return plan.threads

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        function, arguments, expected, name = peer.function(self.export), self.arguments, self.expected, self.export

        def caller(_place: int) -> Callable[[], None]:
            def call() -> None:
                if (result := function(*arguments)) != expected:
                    check(f"{name}{arguments}", result, expected)
            return call
        return loop(point, plan.seconds, caller)


def computed(seed: int) -> int:
    """The result that the program's compute must return, computed in Python."""
    text = "".join(f"at {i ** 3} there was user{i}@host{i % 7}.com and others; " for i in range(40))
    numbers, x = [], seed
    for _ in range(4000):
        x = (x * 1664525 + 1013904223) & 0xffffffff
        numbers.append(x >> 8)
    return (sum(n * match.start() for n, match in enumerate(re.finditer(r"(\w+)@(\w+)\.com", text), 1))
            + sum(i * number for i, number in enumerate(sorted(numbers))))


SEED = 42


class Computing(Calls):
    name = "cpu"
    title = "a call that computes"
    about = ("A regular expression over a text, and 4,000 numbers sorted: somewhat less than a millisecond. From "
             "several threads at once.")
    export, arguments, expected = "compute", (SEED,), computed(SEED)


class Looping(Calls):
    name = "loops"
    title = "a call of tight loops"
    about = ("The primes below 200,000, by a sieve: nothing but tight loops, where the preemption checks that threads "
             "need cost most.")
    export, arguments, expected = "primes", (200_000,), 17984


DEPTH = 9


class Allocating(Calls):
    name = "alloc"
    title = "a call that allocates"
    about = ("A tree of 1,023 strings, put into a map and sorted: about a millisecond, and some 100 KB of garbage each "
             "time.")
    export, arguments, expected = "allocate", (DEPTH,), sum(len(str(at)) for at in range(1, 2 << DEPTH))


class Short(Workload):
    name = "short"
    title = "a short call"
    about = ("add(a, b): what it costs to get from Python into Go and back, for a caller that makes new numbers, "
             "checks the result and takes the time, each time. (A loop that only calls is faster: "
             "docs/performance.md.)")
    metrics = (Metric("mean", "one call, on average", "s", more=False), RATE, CPU)

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return plan.threads

    def headline(self, plan: MeasurementPlan, processors: int) -> int:
        return 1

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        add = peer.function("add")

        def caller(place: int) -> Callable[[], None]:
            value = place << 32

            def call() -> None:
                nonlocal value
                value += 1
                if (result := add(value, 3)) != value + 3:
                    check("add", result, value + 3)
            return call
        sample = loop(point, plan.seconds, caller)
        sample.values["mean"] = point / sample.values["rate"]
        return sample


class CountingCalls(Workload):
    """Calls that share state: each increments 500 counts in maps, and takes a map's lock for each increment."""

    spread: ClassVar[int]
    ENTRIES = 500

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return plan.threads

    def cannot(self, design: Design, point: int, plan: MeasurementPlan) -> str | None:
        if design.model == "pool":
            return "shares no state between its instances, so each would count for itself"
        return None

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        count, counted, entries, spread = peer.function("count"), peer.function("counted"), self.ENTRIES, self.spread

        def caller(place: int) -> Callable[[], None]:
            begin = place * 17

            def call() -> None:
                if (result := count(entries, spread, begin)) != entries:
                    check("count", result, entries)
            return call
        counted()
        sample = loop(point, plan.seconds, caller)
        calls = int(sample.values["calls"]) + point  # each thread's first is not measured
        check("the total count", counted(), calls * entries)
        return sample


class Locked(CountingCalls):
    name = "lock"
    title = "shared state under one lock"
    about = "Each call adds to 500 entries of one map, and takes its one lock 500 times. No increment may be lost."
    spread = 1


class Sharded(CountingCalls):
    name = "shards"
    title = "shared state in shards"
    about = "Like lock, spread over 64 maps with a lock each; every caller starts at a different map."
    spread = 64


class Ring(Calls):
    name = "ring"
    title = "a ring of goroutines"
    about = ("A token goes 20 times around a ring of 64 goroutines, from channel to channel: 1,280 hand-overs in one "
             "call.")
    export, arguments, expected = "ring", (64, 20), 64 * 20
    metrics = (Metric("hops", "hand-overs", "/s", more=True), RATE, CPU)

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        sample = super().measure(peer, point, plan)
        sample.values["hops"] = sample.values["rate"] * self.expected
        return sample


class Callback(Workload):
    name = "callback"
    title = "Go calls Python"
    about = "One call in which Go calls a Python function 100 times, each time with its previous result."
    metrics = (Metric("each", "one call of the Python function", "s", more=False), CPU)
    TIMES = 100

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return (1,)

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        call_back, times = peer.function("call_back"), self.TIMES

        def caller(_place: int) -> Callable[[], None]:
            def call() -> None:
                if (result := call_back(times)) != times:
                    check("call_back", result, times)
            return call
        sample = loop(1, plan.seconds, caller)
        sample.values["each"] = 1 / sample.values["rate"] / times
        return sample


class Bytes(Workload):
    name = "bytes"
    title = "bytes in and out"
    about = "Bytes to a Go handler, which changes the first and the last of them and returns them all."
    axis = "bytes"
    metrics = (Metric("bytes", "bytes in and out", "bytes/s", more=True), RATE, CPU)

    def points(self, plan: MeasurementPlan) -> Sequence[int]:
        return plan.sizes

    def headline(self, plan: MeasurementPlan, processors: int) -> int:
        return min(plan.sizes, key=lambda size: abs(size - (1 << 20)))

    def measure(self, peer: Peer, point: int, plan: MeasurementPlan) -> Sample:
        pattern = bytes(range(256))
        payload = pattern * (point // 256) + pattern[:point % 256]
        expected = bytes([payload[0] ^ 0xff]) + payload[1:-1] + bytes([payload[-1] ^ 0xff])
        request = peer.request

        def caller(_place: int) -> Callable[[], None]:
            def call() -> None:
                if (answer := request("flip", payload)) != expected:
                    check("flip", answer, expected)
            return call
        sample = loop(1, plan.seconds, caller)
        sample.values["bytes"] = sample.values["rate"] * 2 * point
        return sample
