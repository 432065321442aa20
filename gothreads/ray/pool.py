"""`gothreads.ray.Pool`: calls of a module as tasks of Ray.

Ray starts the processes, where there are processors, and starts tasks again whose node or process was lost. A process
opens the module for its first task, and keeps it for those after it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, cast

import ray

from gothreads.errors import MisuseError, hides_frames
from gothreads.remote.batches import Batch, Outcome, run
from gothreads.remote.handle import Remote
from gothreads.remote.mapping import Map
from gothreads.runtime.cancellation import OnTimeout
from gothreads.text import cut

#: For how long the number of the cluster's processors is taken to be the same, in seconds.
_CPUS_SECONDS = 1.0


class Pool:
    """Calls of a module on a cluster that `ray.init` has connected to. It is an engine: `app.map(…, on=pool)`.

    go: from gothreads.remote.
    num_cpus: how many processors Ray gives each batch, and Go (`procs`, unless the handle has that option). A batch
        makes its calls one after the other.
    options: others of Ray for the tasks, such as `resources`, `runtime_env`, or `max_retries`: how often a batch whose
        node or process was lost runs again (default: -1, always). So each call is made at least once.

    The module goes into Ray's object store once, and to each node once; each node keeps it in its cache. Methods may be
    called from any thread. Errors are as for Remote.map; Ray's own come as they are.
    """

    #: How long the calls of a batch are to take together. A batch costs some 5 ms.
    seconds = 0.2

    def __init__(self, go: Remote, *, num_cpus: float = 1, **options: Any) -> None:
        self._go = stored(checked(go, num_cpus))
        task = ray.remote(run)
        self._task = task.options(**{"num_cpus": num_cpus, "max_retries": -1, "name": f"gothreads {go.name}",
                                     **options})
        self._num_cpus = num_cpus
        self._workers, self._counted = 1, 0.0
        self._references: dict[Future[Outcome | None], Any] = {}

    # An engine (remote/engines.py).

    @property
    def workers(self) -> int:
        """How many batches run at once, if the cluster does nothing else."""
        if time.monotonic() > self._counted + _CPUS_SECONDS:
            cpus = ray.cluster_resources().get("CPU", 1)
            self._workers = max(1, int(cpus / self._num_cpus) if self._num_cpus else int(cpus))
            self._counted = time.monotonic()
        return self._workers

    def send(self, batch: Batch) -> Future[Outcome | None]:
        reference = self._task.remote(batch)
        sent: Future[Outcome | None] = reference.future()
        self._references[sent] = reference
        sent.add_done_callback(lambda done: self._references.pop(done, None))
        return sent

    def cancel(self, sent: Future[Outcome | None]) -> None:
        """A batch that runs is interrupted: the call that it is in is given up."""
        if (reference := self._references.get(sent)) is not None:
            ray.cancel(reference)

    # Calls.

    @hides_frames
    def map(self, export: str, *iterables: Iterable[Any], timeout: float | None = None,
            on_timeout: OnTimeout = "continue", batch: int | None = None) -> Iterator[Any]:
        """As Remote.map. The iterator's close() also gives up the calls that run: contexts in Go are cancelled."""
        return Map(self, self._go.calls(export, timeout, on_timeout), iterables, batch).results()

    @hides_frames
    def imap_unordered(self, export: str, *iterables: Iterable[Any], timeout: float | None = None,
                       on_timeout: OnTimeout = "continue", batch: int | None = None) -> Iterator[Any]:
        """The same, but results come as batches are done: a slow call holds up none but those of its batch."""
        return Map(self, self._go.calls(export, timeout, on_timeout), iterables, batch, ordered=False).results()

    @hides_frames
    async def map_async(self, export: str, *iterables: Iterable[Any], timeout: float | None = None,
                        on_timeout: OnTimeout = "continue", batch: int | None = None) -> list[Any]:
        """A list of all results, without blocking the event loop. Cancelling this ends the map."""
        mapped = Map(self, self._go.calls(export, timeout, on_timeout), iterables, batch)
        try:
            return await asyncio.to_thread(lambda: list(mapped.results()))
        except asyncio.CancelledError:
            mapped.close()
            raise

    @hides_frames
    def submit(self, export: str, /, *args: Any, timeout: float | None = None,
               on_timeout: OnTimeout = "continue") -> Future[Any]:
        """One call, for the future's result. The timeout counts from when it begins. Cancelling it gives it up."""
        return self._go.submit(export, *args, on=self, timeout=timeout, on_timeout=on_timeout)


def checked(go: Remote, num_cpus: float) -> Remote:
    """The handle, with as many procs as Ray gives processors. MisuseError: it is none, or Ray is not there."""
    if not isinstance(go, Remote):
        raise MisuseError(f"gothreads.ray takes a handle of gothreads.remote, not {cut(go)}")
    if not ray.is_initialized():
        raise MisuseError("Ray is not initialised in this process: ray.init() first")
    return go.with_options(procs=max(1, int(num_cpus)))


def stored(go: Remote) -> Remote:
    """The handle, with the module in Ray's object store, as long as this program is there."""
    return go.fetched_by(lambda content: cast(Callable[[], bytes], functools.partial(ray.get, ray.put(content))))
