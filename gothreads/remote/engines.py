"""What runs batches: an executor of concurrent.futures, or something that is like one."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import Protocol, runtime_checkable

from gothreads.errors import MisuseError
from gothreads.remote.batches import Batch, Outcome, run
from gothreads.runtime.options import available_processors
from gothreads.text import cut


@runtime_checkable
class Engine(Protocol):
    """Any thread may call it."""

    @property
    def seconds(self) -> float:
        """How long the calls of a batch are to take together: much longer than what it costs to send it."""

    @property
    def workers(self) -> int:
        """How many batches run at once."""

    def send(self, batch: Batch) -> Future[Outcome | None]:
        """Let a worker run the batch (`batches.run`)."""

    def cancel(self, sent: Future[Outcome | None]) -> None:
        """Nobody waits for a batch any more."""


class _ExecutorEngine:
    seconds = 0.05  # a batch costs about 1 ms

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        #: Executors do not say how many workers they have. Both of Python have this, and others that are made of them.
        self.workers: int = getattr(executor, "_max_workers", None) or available_processors()

    def send(self, batch: Batch) -> Future[Outcome | None]:
        return self._executor.submit(run, batch)

    def cancel(self, sent: Future[Outcome | None]) -> None:
        sent.cancel()


def engine_of(on: Executor | Engine) -> Engine:
    """MisuseError: it is neither."""
    if isinstance(on, Executor):
        return _ExecutorEngine(on)
    if isinstance(on, Engine):
        return on
    raise MisuseError("on= takes a concurrent.futures.Executor, such as ProcessPoolExecutor(), or a gothreads.ray.Pool,"
                      f" not {cut(on)}")
