"""Clients that call the app of stress/chaos in every way there is, at random, until it ends; each call goes into a
ledger.
"""

from __future__ import annotations

import asyncio
import functools
import io
import random
import struct
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import gothreads
from gothreads import errors
from gothreads.build.builder import build
from gothreads.build.request import Request
from gothreads.tools.stress.scenario_context import goroutine_stacks, python_stacks
from stress.call_ledger import AuditError, CallLedger, answer, check_answer

MODULE = Path(__file__).parent / "chaos"
#: How long a call may take once its app has ended, in seconds. After that it hangs.
PATIENCE = 20.0
_NUMBER = struct.Struct("<Q")
#: The export `work` calls back, blocks, starts goroutines and so on, by its second argument: one of so many.
_KINDS_OF_WORK = 7


@functools.cache
def built(model: str) -> Path:
    """The module, built once."""
    return build(Request(str(MODULE), model=model)).path


class RandomClients:
    """`ends`: when each client got its last error. `failures`: errors that no client may get. `hang`: all stacks, as
    they were when the first hang was noticed; empty without one.
    """

    def __init__(self, seed: str, model: str, ledger: CallLedger) -> None:
        self._seed, self._model, self._ledger = seed, model, ledger
        self.ends: list[float] = []
        self.failures: list[BaseException] = []
        self.hang = ""

    def open(self, draw: random.Random, limits: gothreads.Limits, procs: tuple[int, ...] = (1, 2, 4)) -> gothreads.App:
        """The app, with random options and the functions that it calls."""
        functions: dict[str, Callable[..., Any]] = {
            "ran": self._ledger.record_run, "again": self._again, "fails": self._fail}
        return gothreads.open(
            built("threaded" if self._model == "threaded" else "single"), trust=True, model=self._model,
            host={"env": functions},
            handlers={"answer": self._answer}, procs=draw.choice(procs), callers=draw.choice((2, 8, 64)),
            callers_timeout=draw.choice((None, 0.05)), limits=limits, stdout=io.BytesIO(), stderr=io.BytesIO(),
            event_queue=1 << 16, instances=draw.choice((1, 2, 4)) if self._model == "pool" else None)

    def run(self, app: gothreads.App, place: int) -> None:
        """One client. When it gets an error that is not allowed, it keeps it and closes the app."""
        try:
            self._call_until_the_end(app, random.Random(f"{self._seed} client {place}"))
        except BaseException as error:
            if isinstance(error, TimeoutError):
                self.record_hang(app)
            self.failures.append(error)
            app.close()

    def call(self, app: gothreads.App) -> None:
        """One call, into the ledger. Raises what ends the app."""
        number = self._ledger.begin()
        self._record(app, number, "call", functools.partial(app.exports.work, number, 0))

    def record_hang(self, app: gothreads.App) -> None:
        """Something has waited for too long: keep all stacks, before anything is done about it."""
        if not self.hang:
            self.hang = "\n\n".join([
                f"state {app.state}, error {app.error!r}, {app.statistics()}",
                f"== Goroutines ==\n{goroutine_stacks(app)}",
                f"== Python threads ==\n{python_stacks()}"])

    # Functions that the module calls.

    def _again(self, number: int, context: gothreads.Context) -> int:
        inner = self._ledger.begin()
        result = context.app.exports.work(inner, 0)
        self._ledger.record_outcome(inner, result)
        check_answer(inner, result)
        return answer(number)

    @staticmethod
    def _fail() -> None:
        raise LookupError("on purpose")

    async def _answer(self, payload: bytes) -> bytes:
        (number,) = _NUMBER.unpack(payload[:8])
        if number % 3 == 0:
            await asyncio.sleep(number % 5 / 1e3)
        return payload + struct.pack("<q", answer(number))

    # Calls.

    def _call_until_the_end(self, app: gothreads.App, draw: random.Random) -> None:
        ways = [self._direct, self._submit, self._request, self._signal, self._async, self._impatient]
        loop = asyncio.new_event_loop()
        try:
            while True:
                draw.choice(ways)(app, draw, loop)
        except (errors.GuestError, errors.AppClosed):
            self.ends.append(time.monotonic())
        finally:
            loop.close()

    def _record(self, app: gothreads.App, number: int, kind: str, call: Callable[[], Any]) -> None:
        """Make a call, record its outcome, and raise what ends the app."""
        try:
            result = call()
        except BaseException as error:
            self._ledger.record_outcome(number, error)
            self._ledger.count(type(error).__name__)
            if isinstance(error, errors.CallTimeout | errors.CallersBusy | CancelledError | asyncio.CancelledError):
                return
            if isinstance(error, errors.HandlerError) and "ontext canceled" in str(error):
                return
            if self._model == "pool" and isinstance(error, errors.GuestError) and app.error is None:
                return  # it ended only its own instance
            raise
        self._ledger.record_outcome(number, result)
        self._ledger.count(kind)
        check_answer(number, result)

    def _direct(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        number, work = self._ledger.begin(), draw.randrange(_KINDS_OF_WORK)
        timed: dict[str, Any] = {"timeout": draw.uniform(0, 0.02)} if draw.random() < 0.2 else {}
        self._record(app, number, "call", lambda: app.exports.work(number, work, **timed))

    def _submit(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        futures: dict[int, Future[Any]] = {}
        for _ in range(draw.randrange(1, 6)):
            number = self._ledger.begin()
            try:
                futures[number] = app.submit("work", number, draw.randrange(_KINDS_OF_WORK))
            except errors.GothreadsError as error:
                futures[number] = Future()
                futures[number].set_exception(error)
                continue
            self._ledger.expect_callback(number)
            futures[number].add_done_callback(functools.partial(self._called_back, number))
        failed: BaseException | None = None
        for number, future in futures.items():
            try:
                self._record(app, number, "submit", functools.partial(future.result, PATIENCE))
            except (errors.GuestError, errors.AppClosed) as error:
                failed = error
        if failed is not None:
            raise failed

    def _called_back(self, number: int, _future: Future[Any]) -> None:
        self._ledger.record_callback(number)

    def _request(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        number = self._ledger.begin()
        payload, handler = _payload(draw, number), draw.choice(("answer", "ask"))
        self._record(app, number, handler, lambda: _unpacked(payload, app.request(handler, payload)))

    def _impatient(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        """A request whose timeout may expire."""
        number = self._ledger.begin()
        payload = _payload(draw, number)
        self._record(app, number, "patient",
                     lambda: _unpacked(payload, app.request("patient", payload, timeout=draw.uniform(0, 0.01))))

    def _async(self, app: gothreads.App, draw: random.Random, loop: asyncio.AbstractEventLoop) -> None:
        number, seconds, work = self._ledger.begin(), draw.uniform(0.001, 0.02), draw.randrange(_KINDS_OF_WORK)

        async def call() -> Any:
            task = asyncio.ensure_future(app.call_async("work", number, work))
            if draw.random() < 0.3:
                await asyncio.sleep(seconds)
                task.cancel()
            return await task
        self._record(app, number, "async", lambda: loop.run_until_complete(call()))

    def _signal(self, app: gothreads.App, draw: random.Random, _loop: object) -> None:
        number = draw.randrange(1 << 30)
        if app.signal("number", _NUMBER.pack(number), full="drop"):
            self._ledger.record_event(number)


def _payload(draw: random.Random, number: int) -> bytes:
    return _NUMBER.pack(number) + draw.randbytes(draw.choice((0, 0, 10, 1000, 100_000)))


def _unpacked(payload: bytes, reply: bytes) -> int:
    """The answer at the end of a reply, which must begin with the payload."""
    if reply[:-8] != payload:
        raise AuditError(f"a request of {len(payload)} bytes was answered with others ({len(reply)})")
    return int(struct.unpack("<q", reply[-8:])[0])
