"""The storms. Their work is Go, in scenarios/, with what is checked and the bug that they can be made with."""

from __future__ import annotations

import random

from gothreads.tools.stress.context import Context
from gothreads.tools.stress.scenario import Storm, begin, finish, rounds, told

#: GOMAXPROCS is set to so many at the most.
_MOST_PROCS = 8


class Mutex(Storm):
    name = "mutex"
    description = "sync.Mutex: Lock, TryLock, two at once, holders that sleep"
    invariants = ("one at a time is inside", "no increment is lost")


class RWMutex(Storm):
    name = "rwmutex"
    description = "sync.RWMutex: readers and writers, and those who only try"
    invariants = ("no reader sees a half-made write", "no reader sees less than what was written before it began", "no write is lost")


class Channels(Storm):
    name = "channels"
    description = "channels with and without buffers, closed ones, replies"
    invariants = ("each number comes once, in its sender's order", "what was sent before a close is received by one receiver")


class Select(Storm):
    name = "select"
    description = "select on channels, nil channels, timers, with and without default"
    invariants = ("nothing is lost, nothing comes twice", "one sender's items come in order on each channel")


class Cond(Storm):
    name = "cond"
    description = "sync.Cond: a queue for three, Signal and Broadcast"
    invariants = ("what was put is taken once, in order", "no wake-up is lost")


class Map(Storm):
    name = "map"
    description = "maps with locks: adding, deleting, clearing, iterating"
    invariants = ("no increment is lost", "an iteration sees all of a map")


class SyncMap(Storm):
    name = "syncmap"
    description = "sync.Map: LoadOrStore, CompareAndSwap, LoadAndDelete, Range"
    invariants = ("no increment is lost",)


class Pool(Storm):
    name = "pool"
    description = "sync.Pool while the collector empties it"
    invariants = ("what it hands out has one owner, and is clean",)


class Atomics(Storm):
    name = "atomics"
    description = "sync/atomic: Add, CompareAndSwap, Swap, And, Or, publication"
    invariants = ("no increment is lost", "each number that is swapped in comes out once", "words and published values are never half written")
    rounds = 5000


class Litmus(Storm):
    name = "litmus"
    description = "Go's memory model: message passing, store buffering, load buffering"
    invariants = ("what the memory model rules out does not come out",)
    goroutines = 1
    rounds = 10


class Goroutines(Storm):
    name = "goroutines"
    description = "goroutines by the thousand: trees of them, panics, Goexit, locked threads, sync.Once"
    invariants = ("a WaitGroup comes back when all have run, with all that they deferred",)
    rounds = 30


class Garbage(Storm):
    name = "gc"
    description = "garbage collection: finalizers, cleanups, weak pointers, checksums of what lives"
    invariants = ("what is in use is what it was", "what was forgotten is finalized and cleaned up, once", "weak pointers find what lives, and nothing else")
    rounds = 100


class Stacks(Storm):
    name = "stacks"
    description = "stacks that grow and shrink while loops are preempted"
    invariants = ("frames hold what they held", "pointers into stacks follow when these move")
    rounds = 50


class Timers(Storm):
    name = "timers"
    description = "timers, tickers, contexts: Stop and Reset, hundreds at once"
    invariants = ("none fires early", "none is lost, none fires twice", "what Stop has stopped does not fire")
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
    invariants = ("theirs", "what was set is what there is")
    rounds = 50

    def run(self, context: Context) -> None:
        with context.open() as app:
            put = begin(context, app, "mix", self.goroutines)
            put += [0] * (2 - len(put))
            procs = context.plan.processors

            def work(place: int, draw: random.Random) -> None:
                nonlocal procs
                if place:
                    put[place] += rounds(context, app, draw, self.rounds)
                    return
                wanted = 1 + draw.randrange(_MOST_PROCS)
                was = told(app, app.exports.procs(wanted))
                context.check(was == procs, f"GOMAXPROCS was set to {procs}, and was {was} before it was set to {wanted}")
                procs = wanted
                context.count()
                context.wait(draw.uniform(0, 0.02))
            context.callers(work, max(2, context.plan.threads))
            # Go itself (1.25 to 1.27, also native: stress/found/cleanups) forgets the cleanups that a processor has at the moment when it is taken
            # away, until it is given back.
            app.exports.procs(_MOST_PROCS)
            finish(context, app, put)
