"""Go on the workers of Dask: `gothreads.dask.map(go, "score", items, on=client)`. Needs the extra `dask`.

Dask places the calls, moves them, and makes them again when a worker is lost: so each is made at least once. A worker
makes as many batches at once as it has threads; calls of Go release Python's lock.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from gothreads.errors import MisuseError, hides_frames
from gothreads.remote import apps
from gothreads.remote.batches import Batch, Outcome, run
from gothreads.remote.handle import Remote, RemoteFunction
from gothreads.remote.mapping import Map
from gothreads.requirements import install as installing
from gothreads.requirements import missing_modules
from gothreads.runtime.cancellation import OnTimeout
from gothreads.text import cut

if missing := missing_modules("dask"):
    raise ImportError(f"gothreads.dask needs {', '.join(missing)}: {installing('dask')}", name=missing[0])

from distributed import Client, WorkerPlugin

__all__ = ["function", "install", "map"]

#: For how long the number of workers' threads is taken to be the same, in seconds.
_WORKERS_SECONDS = 1.0


@hides_frames
def map(go: Remote, export: str, *iterables: Iterable[Any], on: Client, timeout: float | None = None,
        on_timeout: OnTimeout = "continue", batch: int | None = None) -> Iterator[Any]:
    """As `Remote.map`, on the workers of a cluster. `install` is done, if it was not.

    on: a distributed.Client, of this process. Other options, results and errors: as for Remote.map. A batch that a lost
    worker had is made again by another one; distributed.KilledWorker, if that has happened to several.
    """
    go.function(export)  # UnknownExport, before anything is opened
    install(go, on=on)
    calls = go.calls(export, timeout, on_timeout)
    return Map(_Cluster(on), calls, iterables, batch).results()


@hides_frames
def function(go: Remote, export: str, *, on: Client) -> RemoteFunction:
    """A function for whatever takes functions: `dask.delayed(f)`, `bag.map(f)`, `client.map(f, items)`.

    It calls Go in the worker that calls it. `install` is done, if it was not. UnknownExport.
    """
    go.function(export)
    return install(go, on=on).function(export)


@hides_frames
def install(go: Remote, *, on: Client) -> Remote:
    """Open the module in all workers, also those to come; each process opens it once, with as many procs as threads.

    Returns a handle without the module's content, for what runs on these workers. A worker closes the module when it
    ends. Raises what opening the module raises, MisuseError.
    """
    if not isinstance(on, Client):
        raise MisuseError(f"on= takes a distributed.Client, not {cut(on)}")
    if on.asynchronous:
        raise MisuseError("on= takes a distributed.Client that waits itself, not one with asynchronous=True")
    if not isinstance(go, Remote):
        raise MisuseError(f"gothreads.dask takes a handle of gothreads.remote, not {cut(go)}")
    on.register_plugin(_Module(go))
    return go.lean


class _Module(WorkerPlugin):  # type: ignore[misc] # Dask has no types
    """Opens the module in a worker, and keeps it in use: workers of the same process share it.

    Invariant: what a setup has opened is given back once: by teardown; or by the thread that opens it, if nobody wanted
    it any more by then. `_lock` guards `_is_wanted` and `_used`.

        setup     the thread opens the module ·············· │ has it: gives it back, since it is not wanted
        worker    ends: setup is cancelled, or teardown: it is not wanted, and there is nothing to give back
    """

    idempotent = True

    def __init__(self, go: Remote) -> None:
        self.name = f"gothreads-{go.key}"
        self._go = go
        self._lock = threading.Lock()
        self._is_wanted, self._used = True, ExitStack()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Module, (self._go,)

    async def setup(self, worker: Any) -> None:
        try:
            await asyncio.to_thread(self._open, worker.state.nthreads)
        except asyncio.CancelledError:
            self._give_back()
            raise

    def _open(self, procs: int) -> None:
        with ExitStack() as opened:
            opened.enter_context(apps.using(self._go, procs))
            with self._lock:
                if self._is_wanted:
                    self._used = opened.pop_all()

    def _give_back(self) -> None:
        with self._lock:
            self._is_wanted = False
            used = self._used.pop_all()
        used.close()

    async def teardown(self, worker: Any) -> None:
        self._give_back()
        await asyncio.to_thread(apps.forget, self._go)


class _Cluster:
    """An engine (remote/engines.py)."""

    seconds = 0.2  # a batch costs some 10 ms

    def __init__(self, client: Client) -> None:
        self._client, self._executor = client, client.get_executor(pure=False)
        self._workers, self._counted = 1, 0.0

    @property
    def workers(self) -> int:
        if time.monotonic() > self._counted + _WORKERS_SECONDS:
            self._workers = max(1, sum(self._client.nthreads().values()))
            self._counted = time.monotonic()
        return self._workers

    def send(self, batch: Batch) -> Future[Outcome | None]:
        sent: Future[Outcome | None] = self._executor.submit(run, batch)
        return sent

    def cancel(self, sent: Future[Outcome | None]) -> None:
        sent.cancel()
