"""Takes profiles of a running module from outside: of any program, and also when all callers wait.

Go's side records stacks as numbers, and says which function is at a PC (build/goroot/runtime/profile_gothreads.go).
This side fetches them through the inspector's caller, and makes the profile. So what is large is where it costs the
module nothing, and a module of which nobody takes a profile runs the same instructions as ever.

    cpu            samples while code runs, `rate` times a second: the checks of loops and prologues take them
    trace          what Go's scheduler does, for `go tool trace`
    block, mutex   where goroutines wait; which code makes others wait, by releasing a lock late
    heap           what was allocated, and what is still used
    goroutine      what each goroutine does now (goroutine_profile.py)

Invariant: one profile of a kind is taken at a time (`_taking`). What is turned on for it is turned off again, also
after an exception, which may come while Go is asked to turn it on; so that is within the `try`. If Go does not answer
by then, or Ctrl-C comes, the next profile of that kind turns it off before it begins. What is on is noted (`_on`) where
Go is asked, on the inspector's thread, which learns the answer also when nobody waits for it any more:

    taker       in_module(on) times out                                  the next one: in_module(off): it is on
    inspector             notes that it is on, asks Go, which does it
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from math import expm1
from typing import NamedTuple

from gothreads.callback_m import CallbackM
from gothreads.errors import GothreadsError, GuestExit, MisuseError, NotCallable
from gothreads.profiles.profile import Profile
from gothreads.profiles.samples import Line, Sample, ValueType
from gothreads.runtime.profile_questions import ANSWER_SECONDS, MOST_WORDS, Question, Questions, records
from gothreads.text import cut, printable

#: Go's records of a kind: by the size and the stack, two figures.
_Buckets = dict[tuple[int, ...], tuple[int, int]]


class Kind(NamedTuple):
    """A kind of profile: for how long it is taken by default, in seconds; its rate, and what that is."""

    seconds: float
    rate: int = 0
    rate_is: str = ""
    most_rate: int = 1 << 40


#: In the order in which they disturb each other least.
KINDS = {
    "cpu": Kind(10.0, 100, "samples a second", 1000),
    "block": Kind(10.0, 10_000, "the wait, in nanoseconds, from which on each is recorded"),
    "mutex": Kind(10.0, 1, "of how many waits one is recorded"),
    "trace": Kind(1.0),
    "goroutine": Kind(0.0),
    "heap": Kind(0.0, 512 << 10, "of how many allocated bytes one is sampled"),
}
#: The longest profile, in seconds.
MOST_SECONDS = 3600.0

#: How often samples and traces are fetched, in seconds: Go has room for some 1,900 samples.
_FETCH_SAMPLES, _FETCH_TRACE = 0.5, 0.02
#: How many answers are fetched in one turn of the inspector's thread, which others need, too: a module may always have
#: more. Go's room for samples is empty after three.
_MOST_SAMPLED, _MOST_TRACED = 16, 1000
#: The largest trace, in bytes. What Go still has when it ends may be as much again.
_MOST_TRACE = 256 << 20

_CPU = (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"))
_HEAP = (ValueType("alloc_objects", "count"), ValueType("alloc_space", "bytes"),
         ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes"))
_WAITS = (ValueType("contentions", "count"), ValueType("delay", "nanoseconds"))
#: What Go calls the kinds of records, in the order of their rates.
_BUCKETS = {"heap": 1, "block": 2, "mutex": 3}


def check(kind: str, seconds: object, rate: object) -> tuple[float, int]:
    """How long and at which rate to take a profile. MisuseError: there is no such kind, or a number is wrong."""
    if not isinstance(kind, str) or (known := KINDS.get(kind)) is None:
        raise MisuseError(f"there is no profile {cut(kind)}; there are: {', '.join(KINDS)}")
    if seconds is None:
        seconds = known.seconds
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= MOST_SECONDS:
        raise MisuseError(f"seconds must be a number from 0 to {MOST_SECONDS:,.0f}, not {cut(seconds)}")
    if not seconds and known.seconds:
        raise MisuseError(f"a profile {kind!r} is taken for some time: seconds must be above 0")
    if rate is None:
        return float(seconds), known.rate
    if not known.rate:
        raise MisuseError(f"a profile {kind!r} has no rate")
    if not isinstance(rate, int) or isinstance(rate, bool) or not 1 <= rate <= known.most_rate:
        raise MisuseError(f"rate ({known.rate_is}) must be a whole number from 1 to {known.most_rate:,}, not "
                          f"{cut(rate)}")
    return float(seconds), rate


class Profiler:
    """Of one module. is_there: whether it answers questions."""

    def __init__(self, questions: Questions, *, is_there: bool) -> None:
        self._module, self._is_there = questions, is_there
        self._taking = {kind: threading.Lock() for kind in KINDS}
        self._on: set[str] = set()  # the kinds that the host has turned on. Changed on the inspector's thread only
        self._untraced = float("-inf")  # when the last trace was ended

    def take(self, kind: str, seconds: float, rate: int, stop: threading.Event) -> Profile:
        """`kind` is not "goroutine"; `seconds` and `rate` are checked. It ends early when `stop` is set.

        If the module ends meanwhile, a profile of the CPU is that of the time until then.

        NotCallable: an earlier gothreads has built the module. MisuseError: another profile of that kind is being
        taken. TimeoutError: Go does not answer. GothreadsError: the app has ended, or the program profiles itself.
        """
        name = self._module.name
        if not self._is_there:
            raise NotCallable(f"{name}: an earlier gothreads has built the module, so it cannot be profiled from "
                              "outside. Build it again: gothreads build")
        if not self._taking[kind].acquire(blocking=False):
            raise MisuseError(f"{name}: a profile {kind!r} is being taken already. Wait until it is done")
        try:
            match kind:
                case "cpu":
                    return self._cpu(seconds, rate, stop)
                case "trace":
                    return self._trace(seconds, stop)
                case "heap":
                    return self._heap(seconds, rate, stop)
                case _:
                    return self._waits(kind, seconds, rate, stop)
        finally:
            self._taking[kind].release()

    def _cpu(self, seconds: float, rate: int, stop: threading.Event) -> Profile:
        module, taken, took, ended = self._module, _CpuSamples(self._module), 0.0, ""
        try:
            try:
                if not module.is_so(Question.START, rate):
                    raise GothreadsError(f"{module.name}: the program takes a CPU profile itself "
                                         "(pprof.StartCPUProfile). Wait until it is done")
                began = time.monotonic()
                while (took := time.monotonic() - began) < seconds and not stop.is_set() and not taken.is_full:
                    stop.wait(min(seconds - took, _FETCH_SAMPLES))
                    module.in_module(taken.fetch)
            finally:
                _turn_off(lambda: module.is_so(Question.STOP))
            module.in_module(taken.fetch)
        except GothreadsError as error:
            if not taken.counts:
                raise
            ended = ("the program ended meanwhile" if isinstance(error, GuestExit) and not error.code else
                     f"the module ended meanwhile: {printable(str(error)).partition(chr(10))[0]}")
        lost = f"{taken.lost:,} samples were lost: Go had no room for them" if taken.lost else ""
        period = 1_000_000_000 // rate
        samples = [Sample(module.stack(pcs), (count, count * period), labels)
                   for (pcs, labels), count in taken.counts.items()]
        return Profile.of("cpu", _CPU, samples, seconds=took, period=(_CPU[1], period), module=module.name,
                          note="; ".join(filter(None, (lost, ended))))

    def _trace(self, seconds: float, stop: threading.Event) -> Profile:
        module, content, took, note = self._module, _Trace(self._module, self._on), 0.0, ""
        self._end(_Trace(module, self._on))  # one that was left
        try:
            while not module.in_module(content.begin):
                if time.monotonic() - self._untraced > ANSWER_SECONDS:
                    raise GothreadsError(f"{module.name}: the program traces itself (runtime/trace). Wait until it is "
                                         "done")
                time.sleep(0.002)  # Go clears up after the last one when all of it has been read
            began = time.monotonic()
            while (took := time.monotonic() - began) < seconds and not stop.is_set() and content.is_there:
                if len(content.data) > _MOST_TRACE:
                    note = f"it ended early, with {len(content.data):,} bytes"
                    break
                stop.wait(min(seconds - took, _FETCH_TRACE))
                module.in_module(content.fetch)
        except BaseException:
            _turn_off(lambda: self._end(content))
            raise
        self._end(content)
        return Profile("trace", bytes(content.data), took, note=note)

    def _end(self, content: _Trace) -> None:
        """End the trace, if there is one, and fetch what is left: Go ends it when all has been read.

        TimeoutError: Go has not ended it.
        """
        if not self._module.in_module(content.end):
            return
        until = time.monotonic() + ANSWER_SECONDS
        while content.is_there:
            if time.monotonic() > until:
                raise TimeoutError(f"{self._module.name}: Go has not ended the trace within {ANSWER_SECONDS:g} s")
            self._module.in_module(content.fetch)
            time.sleep(0.002)
        self._untraced = time.monotonic()

    def _heap(self, seconds: float, rate: int, stop: threading.Event) -> Profile:
        own = self._sample("heap", 0)
        if not own and not seconds:
            raise MisuseError(f"{self._module.name}: Go samples no allocations in this program, since nothing in it "
                              "reads them. Take the profile for a time (seconds), or open the module with "
                              'env={"GODEBUG": "memprofilerate=524288"} (--env): then it has all from the start')
        if not seconds:
            return self._heap_of(self._buckets("heap"), own)
        before, began = self._buckets("heap"), time.monotonic()
        try:
            self._sample("heap", rate)
            stop.wait(seconds)
            took = time.monotonic() - began
            after = self._buckets("heap")
        finally:
            _turn_off(lambda: self._sample("heap", 0))
        # What was in use before counts, unless samples of it are missing.
        begun = {key: (allocated, 0 if own else allocated - freed) for key, (allocated, freed) in before.items()}
        note = "" if own else "what was allocated in this time; before, Go sampled no allocations in this program"
        return self._heap_of(after, own or rate, took, note, begun)

    def _heap_of(self, found: _Buckets, rate: int, took: float = 0.0, note: str = "",
                 begun: _Buckets | None = None) -> Profile:
        """begun: what had been allocated, and what of that does not count as used."""
        samples = []
        for key, (allocated, freed) in found.items():
            size, *pcs = key
            earlier, used = (begun or {}).get(key, (0, 0))
            values = (*_scaled(allocated - earlier, size, rate), *_scaled(max(0, allocated - freed - used), size, rate))
            samples.append(Sample(_without_runtime(self._module.resolved(pcs)), values))
        return Profile.of("heap", _HEAP, samples, seconds=took, period=(ValueType("space", "bytes"), rate),
                          module=self._module.name, note=note)

    def _waits(self, kind: str, seconds: float, rate: int, stop: threading.Event) -> Profile:
        self._sample(kind, 0)  # what was left on
        before, began = self._buckets(kind), time.monotonic()
        try:
            self._sample(kind, rate)
            stop.wait(seconds)
        finally:
            took = time.monotonic() - began
            _turn_off(lambda: self._sample(kind, 0))
        samples = []
        for key, (count, delay) in self._buckets(kind).items():
            earlier = before.get(key, (0, 0))
            samples.append(Sample(self._module.resolved(key[1:]), (count - earlier[0], delay - earlier[1])))
        return Profile.of(kind, _WAITS, samples, seconds=took, period=(_WAITS[0], 1), module=self._module.name)

    def _buckets(self, kind: str) -> _Buckets:
        def look(caller: CallbackM) -> list[int]:
            _, words = self._module.ask(caller, Question.RECORDS, _BUCKETS[kind])
            found = self._module.words(words[0], words[1])
            self._module.ask(caller, Question.FORGET)
            return found
        return {(size, *pcs): (first, second)
                for first, second, size, *pcs in records(self._module.in_module(look), header=0)}

    def _sample(self, kind: str, rate: int) -> int:
        """Set the rate of records, unless the program has set one of its own. Returns that; 0: it has not."""
        def look(caller: CallbackM) -> int:
            rates = self._module.ask(caller, Question.RATES, -1, -1, -1)[1]
            own = rates[list(_BUCKETS).index(kind)]
            if kind not in self._on and (own or not rate):
                return own
            self._on.add(kind)
            self._module.ask(caller, Question.RATES, *(rate if each == kind else -1 for each in _BUCKETS))
            if not rate:
                self._on.discard(kind)
            return 0
        return self._module.in_module(look)


class _CpuSamples:
    """Samples of the CPU, as they are fetched. counts: by the stack, as PCs, and the labels. lost: how many."""

    def __init__(self, module: Questions) -> None:
        self._module, self._size, self.lost = module, 0, 0
        self.counts: Counter[tuple[tuple[int, ...], tuple[tuple[str, str], ...]]] = Counter()

    @property
    def is_full(self) -> bool:
        return self._size > MOST_WORDS

    def fetch(self, caller: CallbackM) -> None:
        """Fetch what there is. What is at the PCs is asked now: the module may end."""
        for _ in range(_MOST_SAMPLED):
            goes_on, words = self._module.ask(caller, Question.SAMPLES)
            labels = self._module.words(words[2], words[3])
            for index, (_, count, *pcs) in enumerate(records(self._module.words(words[0], words[1]), header=1)):
                if self.is_full:
                    return
                self._add(caller, count, pcs, labels[index] if index < len(labels) else 0)
            if not goes_on or not words[1]:
                return

    def _add(self, caller: CallbackM, count: int, pcs: list[int], labels: int) -> None:
        if not count:  # Go had no room for as many as the stack says
            self.lost += pcs[0] if pcs else 0
            return
        key = tuple(pcs), self._module.labels(labels)
        if key not in self.counts:
            self._size += 1 + len(pcs) + sum(len(name) + len(value) for name, value in key[1]) // 8
            for pc in pcs:
                self._module.line(caller, pc)
        self.counts[key] += count


class _Trace:
    """A trace, as it is fetched. on: see Profiler. begin, fetch and end are for what in_module runs."""

    def __init__(self, module: Questions, on: set[str]) -> None:
        self._module, self._on, self.data = module, on, bytearray()

    @property
    def is_there(self) -> bool:
        """Whether Go has begun one, and not all of it has been read."""
        return "trace" in self._on

    def begin(self, caller: CallbackM) -> bool:
        if begun := self._module.ask(caller, Question.TRACE)[0]:
            self._on.add("trace")
        return begun

    def end(self, caller: CallbackM) -> bool:
        """Tell Go to end it. Returns whether it is there."""
        if self.is_there:  # else the program may have one
            self._module.ask(caller, Question.UNTRACE)
        return self.is_there

    def fetch(self, caller: CallbackM) -> None:
        for _ in range(_MOST_TRACED):
            goes_on, words = self._module.ask(caller, Question.TRACED)
            if not goes_on:
                self._on.discard("trace")
            if not goes_on or not words[1]:
                return
            self.data += self._module.bytes(words[0], words[1])
            if len(self.data) > 2 * _MOST_TRACE:
                raise GothreadsError(f"{self._module.name}: the trace has no end after {len(self.data):,} bytes")


def _turn_off(off: Callable[[], object]) -> None:
    with contextlib.suppress(GothreadsError, TimeoutError):  # the app has ended, or see the invariant
        off()


def _without_runtime(stack: tuple[Line, ...]) -> tuple[Line, ...]:
    """The stack of an allocation from the code on that wanted it, as runtime/pprof has it."""
    own = next((index for index, line in enumerate(stack)
                if not line.function.startswith(("runtime.", "internal/runtime/"))), 0)
    return stack[own:]


def _scaled(count: int, size: int, rate: int) -> tuple[int, int]:
    """How many objects of this size there are, and their bytes, if so many were sampled, as runtime/pprof has it."""
    if count == 0 or size == 0 or rate <= 1:
        return count, count * size
    scale = -1 / expm1(-size / rate)  # exact, and never 1 / 0, for a rate as large as may be
    return int(count * scale), int(count * size * scale)
