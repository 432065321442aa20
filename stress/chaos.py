"""Random faults under load: every call gets its right answer or one gothreads error; none is lost, none runs twice,
nothing is left behind.

    python -m stress.chaos [--seconds 1800] [--seed N] [--model threaded …] [--fault panic …] [--json]

One life after the other: an app is opened, threads call it in every way there is, something ends it, and the books are
audited:

    each call         has one outcome: its answer, the app's first cause, or an error of its own (its timeout expired,
                      callers were busy)
    answered calls    were answered right and ran once; others ran once at most
    events            are received once each, as long as the module lives
    the end           reaches all callers within a moment, and leaves no thread, no descriptor, no memory

Ends with exit code 1 at the first error in the books, with what is needed to repeat that life: --seed N --life K. After
a hang, a file has all stacks.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import functools
import gc
import io
import itertools
import json
import os
import random
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import psutil

import gothreads
from gothreads import errors
from gothreads.build.builder import Request, build
from gothreads.files import write_atomically
from gothreads.tools.stress.leftovers import threads_left
from gothreads.tools.stress.scenario_context import goroutine_stacks, python_stacks

MODULE = Path(__file__).parent / "chaos"
MODELS = ("threaded", "single", "idle", "pool")
#: By the way in which an app ends: the errors that callers may get for it.
FAULTS: dict[str, tuple[type[errors.GothreadsError], ...]] = {
    "panic": (errors.GuestPanic,), "goroutine": (errors.GuestPanic,), "exit": (errors.GuestExit,),
    "stack": (errors.GuestTrap, errors.GuestPanic),
    "memory": (errors.GuestPanic,), "map": (errors.GuestPanic,), "host": (errors.HostFunctionError,),
    "output": (errors.LimitExceeded,),
    "handler": (errors.GuestPanic,), "stop": (errors.LimitExceeded,), "seconds": (errors.LimitExceeded,),
    "close": (errors.AppClosed,),
    "drain": (errors.AppClosed,), "twice": (errors.AppClosed,), "inside": (errors.AppClosed,),
    "ctrl-c": (errors.AppClosed,),
}
#: Faults that need goroutines in parallel.
ONLY_THREADED = {"map"}
#: How long it may take until every caller has its error, in seconds: more is a hang. (The summary has how long it did
#: take.)
PATIENCE = 20.0
_NUMBER = struct.Struct("<Q")
#: For calls that may meet the end of their app.
_DYING = contextlib.suppress(errors.GuestError, errors.AppClosed, errors.CallersBusy)


@functools.cache
def built(model: str) -> Path:
    """The module, built once."""
    return build(Request(str(MODULE), model=model)).path


def answer(number: int) -> int:
    """The answer that Go computes."""
    value = (number * 2654435761 & (1 << 64) - 1) ^ 0x5bd1e995
    return value - (1 << 64) if value >> 63 else value


class Broken(Exception):
    """The books are wrong."""


class Life:
    """One app, from open to its end."""

    def __init__(self, seed: str, model: str, fault: str) -> None:
        self.draw = random.Random(seed)
        self.seed, self.model, self.fault = seed, model, fault
        self.numbers = itertools.count(1)
        self.ran: collections.Counter[int] = collections.Counter()
        self.outcomes: dict[int, list[object]] = {}
        self.called_back: collections.Counter[int] = collections.Counter()
        self.to_be_called_back: set[int] = set()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.sent: list[int] = []
        self.lock = threading.Lock()
        self.left: list[float] = []  # when each client got its last error
        self.hung = ""  # all stacks, as they were when the first hang was noticed
        self.failures: list[BaseException] = []

    def open(self) -> gothreads.App:
        draw = self.draw
        limits = gothreads.Limits(memory=512 << 20, output=(1 << 20) if self.fault == "output" else None,
                                  seconds=draw.uniform(0.05, 0.8) if self.fault == "seconds" else None)
        functions: dict[str, Callable[..., Any]] = {"ran": self._ran, "again": self._again, "fails": self._fails}
        procs = draw.choice((2, 4) if self.fault == "map"
                            else (1, 2, 4))  # with one proc, Go never sees concurrent writes
        module = built("threaded" if self.model == "threaded" else "single")
        return gothreads.open(module, model=self.model, host={"env": functions},
                              handlers={"answer": self._answer}, procs=procs, callers=draw.choice((2, 8, 64)),
                              callers_timeout=draw.choice((None, 0.05)), limits=limits, stdout=io.BytesIO(),
                              stderr=io.BytesIO(), event_queue=1 << 16,
                              instances=draw.choice((1, 2, 4)) if self.model == "pool" else None)

    # Functions that the module calls.

    def _ran(self, number: int) -> None:
        with self.lock:
            self.ran[number] += 1

    def _again(self, number: int, context: gothreads.Context) -> int:
        inner = self._next()
        result = context.app.exports.work(inner, 0)
        self._note(inner, result)
        self._check(inner, result)
        return answer(number)

    @staticmethod
    def _fails() -> None:
        raise LookupError("on purpose")

    async def _answer(self, payload: bytes) -> bytes:
        (number,) = _NUMBER.unpack(payload[:8])
        if number % 3 == 0:
            await asyncio.sleep(number % 5 / 1e3)
        return payload + struct.pack("<q", answer(number))

    # The books.

    def _next(self) -> int:
        number = next(self.numbers)
        with self.lock:
            self.outcomes[number] = []
        return number

    def _note(self, number: int, outcome: object) -> None:
        with self.lock:
            self.outcomes[number].append(outcome)

    @staticmethod
    def _check(number: int, result: object) -> None:
        if result != answer(number):
            raise Broken(f"call {number} was answered {result!r}, not {answer(number)}")

    # Clients.

    def client(self, app: gothreads.App, place: int) -> None:
        """Calls until the app has ended."""
        draw = random.Random(f"{self.seed} client {place}")
        ways = [self._direct, self._submitted, self._requested, self._event, self._async, self._patient]
        loop = asyncio.new_event_loop()
        try:
            while True:
                draw.choice(ways)(app, draw, loop)
        except (errors.GuestError, errors.AppClosed):
            self.left.append(time.monotonic())
        finally:
            loop.close()

    def _outcome(self, app: gothreads.App, number: int, kind: str, call: Callable[[], Any]) -> None:
        """Make a call, record its one outcome, and raise what ends the app."""
        try:
            result = call()
        except BaseException as error:
            self._note(number, error)
            self.kinds[type(error).__name__] += 1
            if isinstance(error, errors.CallTimeout | errors.CallersBusy | CancelledError | asyncio.CancelledError):
                return
            if isinstance(error, errors.HandlerError) and "ontext canceled" in str(error):
                return
            if self.model == "pool" and isinstance(error, errors.GuestError) and app.error is None:
                return  # it ended only its own instance
            raise
        self._note(number, result)
        self.kinds[kind] += 1
        self._check(number, result)

    def _direct(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        number, way = self._next(), self._way(draw)
        timed: dict[str, Any] = {"timeout": draw.uniform(0, 0.02)} if draw.random() < 0.2 else {}
        self._outcome(app, number, "call", lambda: app.exports.work(number, way, **timed))

    def _way(self, draw: random.Random) -> int:
        # In stock Go, too, a call may wait for a goroutine: so every way works in every model.
        return draw.randrange(7)

    def _submitted(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        numbers = [self._next() for _ in range(draw.randrange(1, 6))]
        ways = [self._way(draw) for _ in numbers]
        futures: list[Future[Any]] = []
        for number, way in zip(numbers, ways, strict=True):
            try:
                future = app.submit("work", number, way)
            except errors.GothreadsError as error:
                futures.append(Future())
                futures[-1].set_exception(error)
                continue
            with self.lock:
                self.to_be_called_back.add(number)
            future.add_done_callback(lambda _, number=number: self._called_back(number))  # type: ignore[misc]
            futures.append(future)
        failed: BaseException | None = None
        for number, future in zip(numbers, futures, strict=True):
            try:
                self._outcome(app, number, "submit",
                              lambda future=future: future.result(PATIENCE))  # type: ignore[misc]
            except (errors.GuestError, errors.AppClosed) as error:
                failed = error
        if failed is not None:
            raise failed

    def _called_back(self, number: int) -> None:
        with self.lock:
            self.called_back[number] += 1

    def _payload(self, draw: random.Random, number: int) -> bytes:
        return _NUMBER.pack(number) + draw.randbytes(draw.choice((0, 0, 10, 1000, 100_000)))

    def _unpacked(self, payload: bytes, reply: bytes) -> int:
        if reply[:-8] != payload:
            raise Broken(f"a request of {len(payload)} bytes was answered with others ({len(reply)})")
        return int(struct.unpack("<q", reply[-8:])[0])

    def _requested(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        number = self._next()
        payload, handler = self._payload(draw, number), draw.choice(("answer", "ask"))
        self._outcome(app, number, handler, lambda: self._unpacked(payload, app.request(handler, payload)))

    def _patient(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        number = self._next()
        payload = self._payload(draw, number)
        self._outcome(app, number, "patient",
                      lambda: self._unpacked(payload, app.request("patient", payload, timeout=draw.uniform(0, 0.01))))

    def _async(self, app: gothreads.App, draw: random.Random, loop: asyncio.AbstractEventLoop) -> None:
        number, seconds = self._next(), draw.uniform(0.001, 0.02)
        way = self._way(draw)

        async def call() -> Any:
            task = asyncio.ensure_future(app.call_async("work", number, way))
            if draw.random() < 0.3:
                await asyncio.sleep(seconds)
                task.cancel()
            return await task
        self._outcome(app, number, "async", lambda: loop.run_until_complete(call()))

    def _event(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        number = draw.randrange(1 << 30)
        if app.signal("number", _NUMBER.pack(number), full="drop"):
            with self.lock:
                self.sent.append(number)

    # The end.

    def end(self, app: gothreads.App) -> None:
        """Do what ends this life. Returns once that has begun."""
        match self.fault:
            case "seconds":
                pass
            case "close":
                app.close()
            case "twice":
                threads = [threading.Thread(target=app.close) for _ in range(3)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            case "drain":
                app.close(drain=self.draw.uniform(0.01, 0.5))
            case "inside":
                Inside(app).close()
            case "ctrl-c":
                self._interrupt(app)
            case "stop":
                self._stop(app)
            case _:
                self._die(app)

    def _stop(self, app: gothreads.App) -> None:
        """Ends it by a call that is stopped because its timeout expires."""
        while app.error is None:
            with _DYING, contextlib.suppress(errors.CallTimeout):
                app.exports.spin(timeout=0.1, on_timeout="stop")
            if self.model == "pool":
                return app.close()
        return None

    def _die(self, app: gothreads.App) -> None:
        """Ends it by a call that dies."""
        while app.error is None:
            with _DYING:
                if self.fault == "handler":
                    app.request("panic")
                else:
                    app.exports.die(self.fault)
            if self.model == "pool" and self.fault != "output":  # it has lost one instance; the app goes on
                number = self._next()
                with _DYING:
                    self._outcome(app, number, "call", functools.partial(app.exports.work, number, 0))
                return app.close()
        return None

    @staticmethod
    def _interrupt(app: gothreads.App) -> None:
        """Ctrl-C while this thread, the main one, is in a call that does not return."""
        try:
            threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            while True:
                app.exports.spin()
        except KeyboardInterrupt:  # it has ended the app, or it came after the call, which had found all callers busy
            app.close()
        except errors.CallersBusy:
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(10)
            app.close()
        except (errors.GuestError, errors.AppClosed):
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(10)

    def live(self) -> float:
        """Live from open to the end. Returns the seconds from the end until the last caller knew of it."""
        try:
            app = self.open()
        except errors.LimitExceeded:
            if self.fault != "seconds":
                raise
            return 0.0  # its time was up before it was open
        clients = [threading.Thread(target=self.guarded_client, args=(app, place))
                   for place in range(self.draw.choice((2, 6, 16)))]
        for thread in clients:
            thread.start()
        time.sleep(self.draw.uniform(0, 0.4))
        before = app.error
        if self.model in ("threaded", "idle") and self.fault in ("close", "drain") and before is None:
            self._check_events(app)
        self.end(app)
        self._wait(app, lambda: app.error is not None, "the app to end")
        ended = time.monotonic()
        for thread in clients:
            thread.join(PATIENCE)
            if thread.is_alive():
                self._record_hang(app)
                raise Broken(f"a caller hangs {PATIENCE:g} s after the end: {app.error!r}")
        if self.failures:
            raise self.failures[0]
        error = app.error
        assert error is not None
        expected = (*FAULTS[self.fault], errors.AppClosed) if self.model == "pool" else FAULTS[self.fault]
        if not isinstance(error, expected):
            raise Broken(f"the cause is {error!r}")
        app.close()
        ended_states = (gothreads.State.CLOSED, gothreads.State.EXITED, gothreads.State.FAILED)
        self._wait(app, lambda: app.state in ended_states, "the end to be complete")
        self._audit(app, error)
        return max(0.0, max(self.left, default=ended) - ended)

    def guarded_client(self, app: gothreads.App, place: int) -> None:
        """A client whose unexpected errors are kept in `failures`."""
        try:
            self.client(app, place)
        except BaseException as error:
            if isinstance(error, TimeoutError):
                self._record_hang(app)
            self.failures.append(error)
            app.close()

    def _record_hang(self, app: gothreads.App) -> None:
        """Something has waited for too long: keep what every thread does, before anything is done about it."""
        if not self.hung:
            self.hung = "\n\n".join([
                f"state {app.state}, error {app.error!r}, {app.statistics()}",
                f"== Goroutines ==\n{goroutine_stacks(app)}",
                f"== Python threads ==\n{python_stacks()}"])

    def _check_events(self, app: gothreads.App) -> None:
        with contextlib.suppress(errors.CallersBusy):
            count, total = map(int, app.request("events").split())
            with self.lock:
                if count > len(self.sent) or total > sum(self.sent):
                    raise Broken(f"{count} events of {len(self.sent)} have arrived")

    def _wait(self, app: gothreads.App, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                self._record_hang(app)
                raise Broken(f"waited {PATIENCE:g} s for {what}")
            time.sleep(0.0005)

    def _audit(self, app: gothreads.App, cause: errors.GothreadsError) -> None:
        for number, outcomes in self.outcomes.items():
            if len(outcomes) != 1:
                # A nested call whose outer call ended in the middle has no outcome of its own.
                if outcomes or self.ran[number] > 1:
                    raise Broken(f"call {number} has {len(outcomes)} outcomes: {outcomes!r}")
                continue
            outcome = outcomes[0]
            if isinstance(outcome, int):
                if self.ran[number] != 1:
                    raise Broken(f"call {number} was answered, and ran {self.ran[number]} times")
            elif self.ran[number] > 1:
                raise Broken(f"call {number} ran {self.ran[number]} times: {outcome!r}")
            if isinstance(outcome, errors.GuestError) and self.model != "pool" and type(outcome) is not type(cause):
                raise Broken(f"call {number} got {outcome!r}, the cause is {cause!r}")
        # A worker runs a call's callbacks after it has woken those who wait for the call: perhaps only now.
        self._wait(app, lambda: len(self.called_back) >= len(self.to_be_called_back), "the callbacks of all futures")
        if wrong := {number: times for number, times in self.called_back.items() if times != 1}:
            raise Broken(f"futures whose callbacks ran more than once: {wrong}")


class Inside:
    """Closes an app from one of its own calls: from the callback of a future."""

    def __init__(self, app: gothreads.App) -> None:
        self._app = app

    def close(self) -> None:
        with contextlib.suppress(errors.GothreadsError):
            future = self._app.submit("work", 0, 0)
            future.add_done_callback(lambda _: self._app.close())
        deadline = time.monotonic() + PATIENCE
        while self._app.error is None:
            if time.monotonic() > deadline:
                raise Broken("close() in a future's callback does not take effect")
            time.sleep(0.001)


class Chaos:
    """One life after the other, and what they came to."""

    def __init__(self, seed: int, models: list[str], faults: list[str]) -> None:
        self._seed, self._models, self._faults = seed, models, faults
        self._process = psutil.Process()
        self._begin = time.monotonic()
        self._lives: collections.Counter[str] = collections.Counter()
        self._kinds: collections.Counter[str] = collections.Counter()
        self._ends: list[float] = []
        self._memory: list[int] = []
        self._descriptors: int | None = None  # how many there were once everything was warm

    def run(self, seconds: float, only: int | None, say: Callable[[str], None]) -> None:
        """All lives, or `only` one. Broken, with the number of the life."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in itertools.count() if only is None else [only]:
            if time.monotonic() - self._begin > seconds:
                break
            self._live(number)
            if number % 25 == 24:
                self._check_leftovers(number)
                say(f"{time.monotonic() - self._begin:6.0f} s  {sum(self._lives.values()):6} lives  "
                    f"{self._kinds['calls']:9,} calls  "
                    f"{self._memory[-1] / 1e6:6.0f} MB  slowest end {max(self._ends) * 1e3:.0f} ms")

    def _live(self, number: int) -> None:
        draw = random.Random(f"{self._seed} {number}")
        model = draw.choices(self._models, [4 if model == "threaded" else 1 for model in self._models])[0]
        fault = draw.choice([fault for fault in self._faults if model == "threaded" or fault not in ONLY_THREADED])
        life = Life(f"{self._seed} {number}", model, fault)
        try:
            self._ends.append(life.live())
        except Exception as error:
            problem = str(error) if isinstance(error, Broken) else "".join(traceback.format_exception(error)).rstrip()
            problem += f"\n  in life {number} ({model}, {fault}): --seed {self._seed} --life {number}"
            if life.hung:
                kept = Path(f"gothreads-chaos-{self._seed}-{number}.txt")
                write_atomically(kept, f"{problem}\n\n{life.hung}\n".encode(errors="backslashreplace"))
                problem += f"\n  all stacks are in {kept}"
            raise Broken(problem) from (None if isinstance(error, Broken) else error)
        self._lives[f"{model} {fault}"] += 1
        self._kinds += life.kinds
        self._kinds["event"] += len(life.sent)
        self._kinds["calls"] += len(life.outcomes)

    def _check_leftovers(self, number: int) -> None:
        gc.collect()
        threads, descriptors = threads_left(PATIENCE), self._process.num_fds()
        if self._descriptors is None and number >= 74:
            self._descriptors = descriptors
        if threads or (self._descriptors is not None and descriptors > self._descriptors + 4):
            raise Broken(f"after life {number} {len(threads)} threads and {descriptors} descriptors are left "
                         f"(at first {self._descriptors} descriptors): "
                         f"{[thread.name for thread in threading.enumerate()]}")
        self._memory.append(self._process.memory_info().rss)

    def summary(self) -> dict[str, Any]:
        ends, memory, kinds = sorted(self._ends), self._memory, self._kinds.copy()
        quarter = len(memory) // 4
        return {"seed": self._seed, "seconds": round(time.monotonic() - self._begin),
                "lives": sum(self._lives.values()),
                "by_model_and_fault": dict(sorted(self._lives.items())), "calls": kinds.pop("calls", 0),
                "outcomes": dict(kinds.most_common()),
                "end_ms": {"median": round(ends[len(ends) // 2] * 1e3, 1),
                           "p99": round(ends[int(len(ends) * 0.99)] * 1e3, 1),
                           "most": round(ends[-1] * 1e3, 1)},
                "memory_mb": {"second_quarter": round(sum(memory[quarter:2 * quarter]) / quarter / 1e6),
                              "last_quarter": round(sum(memory[-quarter:]) / quarter / 1e6)} if quarter else None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--life", type=int, help="only the life with that number")
    parser.add_argument("--model", action="append", choices=MODELS, help="(default: all; threaded most of the time)")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="(default: all)")
    parser.add_argument("--json", action="store_true", help="the summary as JSON")
    arguments = parser.parse_args()
    try:
        chaos = Chaos(arguments.seed, arguments.model or list(MODELS), arguments.fault or list(FAULTS))
        chaos.run(arguments.seconds, arguments.life, lambda line: print(line, file=sys.stderr, flush=True))
    except Broken as broken:
        print(f"BROKEN: {broken}", file=sys.stderr)
        return 1
    summary = chaos.summary()
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        for name, value in summary.items():
            print(f"{name:20} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
