"""A map over batches: how large they are, how many are on their way, and in which order their results come."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from gothreads.errors import CallTimeout, ModuleError, drop_frames
from gothreads.remote.batches import Batch, Outcome
from gothreads.remote.engines import Engine
from gothreads.runtime.cancellation import checked
from gothreads.runtime.interface import check_iterables
from gothreads.runtime.keywords import whole

#: Bounds on the calls of a batch, and on the bytes of their arguments; and how many times as large the next one may be.
_MOST_CALLS, _MOST_BYTES, _GROWTH = 10_000, 8 << 20, 8
#: Batches for each worker: on their way, so that it does not wait for the next one; and not yet taken.
_SENT, _AHEAD = 2, 16


@dataclass(eq=False)  # arguments may be anything, such as arrays
class _Sent:
    batch: Batch
    future: Future[Outcome | None]


class Map:
    """One map. One thread at a time may take results; any thread may call close().

    However many batches are ahead, one costs the same: none is looked at because of another one.

    Invariant: a batch is in `_running` from when it is sent until its number has come out of `_finished`, where each
    future puts it once, on any thread. Only that says that it is done: a future may be done, and its number not there
    yet. Otherwise, the number of a batch that was sent again could be that of the first time:

        taking       its future is done, with None │ sent again, under the same number       │ a number: is it done?
        the future   ·····························  │ puts the number: of the first time, late │ still runs

    calls: a batch without arguments, whose handle has the content. size: of all batches; None: as measured.
    """

    def __init__(self, engine: Engine, calls: Batch, iterables: Sequence[Iterable[Any]], size: int | None = None, *,
                 ordered: bool = True) -> None:
        """ArgumentError, MisuseError: something is wrong with them."""
        checked(calls.timeout, calls.on_timeout, request=True)
        check_iterables(calls.export, iterables)
        if size is not None:
            whole(1)("batch", size)
        self._engine, self._calls, self._ordered = engine, calls, ordered
        self._arguments: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        self._lean = replace(calls, remote=calls.remote.lean)
        self._end = None if calls.timeout is None else time.monotonic() + calls.timeout
        self._fixed, self._size = size, size or 1
        self._ahead: dict[int, _Sent] = {}  # by their numbers, in order
        self._count = self._taken = 0  # of batches: sent, and taken
        self._running: set[int] = set()
        self._finished: SimpleQueue[int] = SimpleQueue()
        self._ready: deque[int] = deque()  # numbers to take, in the order in which they came
        self._closed = False
        self._failed: Exception | None = None  # what an iterable or the engine has raised: after the results before it
        calls.remote.keep()
        try:
            self._fill()
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if self._failed is not None and not self._ahead:
            raise self._failed

    def results(self) -> Iterator[Any]:
        """The results in order. The iterator's close(), and its end, close the map."""
        results = self._results()
        next(results)  # a generator that has not begun would not notice its close()
        return results

    def _results(self) -> Iterator[Any]:
        try:
            yield None
            while self._ahead:
                values, error = self._take()
                yield from values
                if error is not None:
                    raise error
            if self._failed is not None:
                raise self._failed
        except BaseException as error:
            drop_frames(error)
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Cancel what has not begun."""
        self._closed = True
        for sent in self._ahead.copy().values():
            self._engine.cancel(sent.future)

    def _fill(self) -> None:
        """Send batches, as many as are useful."""
        self._note_finished()
        workers = self._engine.workers
        while (len(self._running) < _SENT * workers and len(self._ahead) < _AHEAD * workers and not self._closed
               and self._failed is None):
            if not (arguments := self._next_arguments()):
                return
            try:
                self._send(self._count, replace(self._lean, arguments=arguments, timeout=self._left()))
                self._count += 1
            except Exception as error:
                self._failed = error

    def _next_arguments(self) -> list[tuple[Any, ...]]:
        """Of the next batch; fewer if an iterable ends or fails."""
        arguments = []
        try:
            for each in itertools.islice(self._arguments, self._size):
                arguments.append(each)  # so what came before an error is sent
        except Exception as error:
            self._failed = error
        return arguments

    def _send(self, number: int, batch: Batch) -> None:
        self._ahead[number] = sent = _Sent(batch, self._engine.send(batch))
        self._running.add(number)
        finished = self._finished  # and not self, nor the future: results would be in a cycle of references
        sent.future.add_done_callback(lambda _: finished.put(number))
        if self._closed:  # since it was looked at: then close() may have missed this one
            self._engine.cancel(sent.future)

    def _left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def _take(self) -> tuple[Sequence[Any], BaseException | None]:
        """What the next batch has returned."""
        while (number := self._next_done()) is None:
            self._wait()
            self._fill()
        done = self._ahead[number]
        outcome = done.future.result()
        if outcome is None:  # from a machine that does not have the module yet
            self._send(number, replace(_with_content(done.batch, self._calls), timeout=self._left()))
            return (), None
        del self._ahead[number]
        self._taken += 1
        self._measure(done.batch, outcome)
        values, error = outcome.unpack()
        if error is None:
            self._fill()
        return values, error

    def _next_done(self) -> int | None:
        self._note_finished()
        if not self._ordered:
            return self._ready.popleft() if self._ready else None
        return None if self._taken in self._running else self._taken

    def _wait(self) -> None:
        """Wait until another batch is done. CallTimeout."""
        try:
            self._note(self._finished.get(timeout=self._left()))
        except Empty:
            raise CallTimeout(f"{self._calls.export} has not come back within {self._calls.timeout:g} s: of calls in "
                              "batches, those that have begun were given up there, and the others do not "
                              "begin") from None

    def _note_finished(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._note(self._finished.get_nowait())

    def _note(self, number: int) -> None:
        self._running.remove(number)
        if not self._ordered:
            self._ready.append(number)

    def _measure(self, batch: Batch, outcome: Outcome) -> None:
        """Choose the size of the batches to come by one that is done."""
        if self._fixed is not None:
            return
        count = len(batch.arguments)
        by_time = self._engine.seconds * count / max(outcome.seconds, 1e-9)
        try:
            size = len(pickle.dumps(batch.arguments[0], 5)) if by_time > 1 else 1
        except Exception:  # only the engine can pickle them, or need not: they are not bounded then
            size = 1
        most = min(by_time, _MOST_BYTES / size, _MOST_CALLS, count * _GROWTH)
        self._size = max(1, int(most))


def _with_content(batch: Batch, calls: Batch) -> Batch:
    """The batch again, for a machine that did not have the module. ModuleError: it had come with the content."""
    if batch.remote is calls.remote or calls.remote.lean is calls.remote:
        raise ModuleError(f"a worker does not have the module of {calls.export}, and nobody here has its content: this "
                          "handle is one without it. Use what gothreads.remote() has returned")
    return replace(batch, remote=calls.remote)


def begin_one(engine: Engine, calls: Batch, arguments: tuple[Any, ...]) -> Future[Any]:
    """Send one call. Cancelling the future cancels it."""
    checked(calls.timeout, calls.on_timeout, request=True)
    result: Future[Any] = Future()
    result.add_done_callback(_tell_of_cancelling)

    def send(batch: Batch) -> None:
        def done(sent: Future[Outcome | None]) -> None:
            try:
                if result.cancelled():
                    return
                if (outcome := sent.result()) is None:
                    send(_with_content(batch, calls))
                    return
                values, error = outcome.unpack()
            except BaseException as raised:  # for who waits
                values, error = [], raised
            with contextlib.suppress(InvalidStateError):  # it was cancelled
                if error is not None:
                    result.set_exception(error)
                else:
                    result.set_result(values[0])
        sent = engine.send(batch)
        result.add_done_callback(lambda result: engine.cancel(sent) if result.cancelled() else None)
        sent.add_done_callback(done)
    calls.remote.keep()
    send(replace(calls, arguments=[arguments], remote=calls.remote.lean))
    return result


def _tell_of_cancelling(result: Future[Any]) -> None:
    """For concurrent.futures.wait, which waits for more than that a future is cancelled."""
    if result.cancelled():
        result.set_running_or_notify_cancel()
