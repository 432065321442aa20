"""The storms. The Go code in scenarios/ does the work, checks the invariants, and has the bug of each."""

from __future__ import annotations

import random

from gothreads.tools.stress.scenario import Storm, begin, finish, rounds, succeeded
from gothreads.tools.stress.scenario_context import ScenarioContext

#: The highest GOMAXPROCS that is set.
_MOST_PROCS = 8


class Mutex(Storm):
    name = "mutex"
    description = "sync.Mutex: Lock, TryLock, two at once, holders that sleep"
    invariants = ("at most one holder at a time", "no increment is lost")


class RWMutex(Storm):
    name = "rwmutex"
    description = "sync.RWMutex: readers and writers, with and without Try"
    invariants = ("no reader sees a half-made write", "no reader sees less than was written before it began",
                  "no write is lost")


class Channels(Storm):
    name = "channels"
    description = "channels with and without buffers, closed ones, replies"
    invariants = ("each number arrives once, in its sender's order",
                  "what was sent before a close is received by one receiver")


class Select(Storm):
    name = "select"
    description = "select on channels, nil channels, timers, with and without default"
    invariants = ("nothing is lost, nothing arrives twice", "one sender's items arrive in order on each channel")


class Cond(Storm):
    name = "cond"
    description = "sync.Cond: a queue with three places, Signal and Broadcast"
    invariants = ("each item is taken once, in order", "no wake-up is lost")


class Map(Storm):
    name = "map"
    description = "maps with locks: adding, deleting, clearing, iterating"
    invariants = ("no increment is lost", "an iteration sees the whole map")


class SyncMap(Storm):
    name = "syncmap"
    description = "sync.Map: LoadOrStore, CompareAndSwap, LoadAndDelete, Range"
    invariants = ("no increment is lost",)


class Pool(Storm):
    name = "pool"
    description = "sync.Pool while the collector empties it"
    invariants = ("each object has one owner, and is clean",)


class Atomics(Storm):
    name = "atomics"
    description = "sync/atomic: Add, CompareAndSwap, Swap, And, Or, publication"
    invariants = ("no increment is lost", "each number that is swapped in comes out once",
                  "words and published values are never half written")
    rounds = 5000


class Litmus(Storm):
    name = "litmus"
    description = "Go's memory model: message passing, store buffering, load buffering"
    invariants = ("no result that the memory model rules out",)
    goroutines = 1
    rounds = 10


class Goroutines(Storm):
    name = "goroutines"
    description = "thousands of goroutines: trees of them, panics, Goexit, locked threads, sync.Once"
    invariants = ("a WaitGroup returns when all have run, including what they deferred",)
    rounds = 30


class Garbage(Storm):
    name = "gc"
    description = "garbage collection: finalizers, cleanups, weak pointers, checksums of live objects"
    invariants = ("objects in use are unchanged", "garbage is finalized and cleaned up, once",
                  "weak pointers find live objects, and nothing else")
    rounds = 100


class Stacks(Storm):
    name = "stacks"
    description = "stacks that grow and shrink while loops are preempted"
    invariants = ("frames keep their contents", "pointers into stacks follow when these move")
    rounds = 50


class TimerStorm(Storm):
    name = "timers"
    description = "timers, tickers, contexts: Stop and Reset, hundreds at once"
    invariants = ("none fires early", "none is lost, none fires twice", "a stopped timer does not fire")
    goroutines = 16
    rounds = 4


class Mix(Storm):
    name = "mix"
    description = "all of these that do not wait for time, at once"
    invariants = ("theirs",)
    rounds = 50


class Procs(Storm):
    name = "procs"
    description = "GOMAXPROCS changes while all of these run"
    invariants = ("theirs", "GOMAXPROCS is what was last set")
    rounds = 50

    def run(self, context: ScenarioContext) -> None:
        with context.open() as app:
            put = begin(context, app, "mix", self.goroutines)
            put += [0] * (2 - len(put))
            procs = context.plan.processors

            def work(place: int, draw: random.Random) -> None:
                nonlocal procs
                if place:
                    put[place] += rounds(context, app, draw, self.rounds)
                    return
                target = 1 + draw.randrange(_MOST_PROCS)
                previous = succeeded(app, app.exports.procs(target))
                context.check(previous == procs,
                              f"GOMAXPROCS was set to {procs}, and was {previous} before it was set to {target}")
                procs = target
                context.count()
                context.wait(draw.uniform(0, 0.02))
            context.callers(work, max(2, context.plan.threads))
            # Go itself (1.25 to 1.27, natively too: stress/found/cleanups) does not run the cleanups that a P holds
            # when it is removed, until
            # the P is added again.
            app.exports.procs(_MOST_PROCS)
            finish(context, app, put)
