"""Many calls of one export that travel together, and what comes back of them."""

from __future__ import annotations

import os
import pickle
import platform
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Protocol

from gothreads.errors import GuestError, MisuseError
from gothreads.remote import apps
from gothreads.remote.shipped import Missing
from gothreads.runtime.cancellation import OnTimeout
from gothreads.runtime.interface import RunningModule
from gothreads.sync.waiting import wait_in_slices
from gothreads.text import cut, words


class Handle(apps.Opener, Protocol):
    """What a batch needs of a `gothreads.Remote`. Where it arrives, the classes of the module's types are there."""

    @property
    def lean(self) -> Handle:
        """The same without the module's content, for machines that have it."""

    def keep(self) -> None:
        """Put the content into this machine's cache, where other processes look for it."""


@dataclass(frozen=True)
class Batch:
    """Calls of an export, with these arguments. timeout: of each, in seconds since the batch has begun."""

    remote: Handle
    export: str
    arguments: Sequence[tuple[Any, ...]]
    timeout: float | None
    on_timeout: OnTimeout


@dataclass(frozen=True)
class Outcome:
    """What a batch has returned: results of its first calls, and the error that the next one has raised.

    pickled: both, which only who made the map can unpickle. seconds: how long the calls took.
    """

    pickled: bytes
    seconds: float

    def unpack(self) -> tuple[list[Any], BaseException | None]:
        results: list[Any]
        error: BaseException | None
        results, error, cause = pickle.loads(self.pickled)
        if error is not None:
            error.__cause__ = cause
        return results, error


def run(batch: Batch) -> Outcome | None:
    """Make the calls, one after the other, in the app of this process. None: this machine does not have the module.

    A call by itself, or with a timeout, is made on a thread of the app. So this thread can be interrupted, as Ray does
    when a task is cancelled: that gives the call up, which cancels its context in Go.
    """
    results: list[Any] = []
    error = None
    begun = ended = time.perf_counter()
    try:
        with apps.using(batch.remote) as app:
            call = _caller(app, batch)
            begun = time.perf_counter()
            try:
                for arguments in batch.arguments:
                    results.append(call(arguments))
            finally:
                ended = time.perf_counter()
    except Missing:
        return None
    except Exception as raised:  # by the call, or by what has opened the module: for who waits
        error = raised
    return Outcome(_pickled(batch.export, results, error), ended - begun)


def _caller(app: RunningModule, batch: Batch) -> Callable[[tuple[Any, ...]], Any]:
    """What makes a call with these arguments."""
    if batch.timeout is None and len(batch.arguments) > 1:
        function: Callable[..., Any] = app._typed_function(batch.export) or app.exports[batch.export]
        return lambda arguments: function(*arguments)
    end = None if batch.timeout is None else time.monotonic() + batch.timeout

    def call(arguments: tuple[Any, ...]) -> Any:
        left = None if end is None else max(0.0, end - time.monotonic())
        future = app.submit(batch.export, *arguments, timeout=left, on_timeout=batch.on_timeout)
        try:
            # In slices: Ray interrupts a task as _thread.interrupt_main does, which ends no wait for a lock.
            wait_in_slices(lambda seconds: bool(futures.wait((future,), seconds).done), None)
            return future.result()
        finally:
            future.cancel()
    return call


def _pickled(export: str, results: list[Any], error: Exception | None) -> bytes:
    """As Outcome has it. What cannot be pickled is an error of its call."""
    cause = None
    if error is not None:
        cause = _portable(error.__cause__)
        if _obstacle(error) is not None:
            error = MisuseError(f"{export} has raised {words(error)}, which cannot be pickled")
        error = told(error)
    try:
        return pickle.dumps((results, error, cause), 5)
    except Exception as raised:  # objects that cannot be pickled may raise anything
        for number, result in enumerate(results):
            if (why := _obstacle(result)) is not None:
                refusal = MisuseError(f"{export} has returned {cut(result)}, which cannot travel to the process that "
                                      f"has called it ({why}). Call what uses it in Go")
                return pickle.dumps((results[:number], told(refusal), None), 5)
        return refused(MisuseError(f"what {export} has returned cannot travel together ({words(raised)})")).pickled


def refused(error: Exception) -> Outcome:
    """Of calls that are not made."""
    return Outcome(pickle.dumps(([], told(error), None), 5), 0.0)


def told(error: Exception) -> Exception:
    """The error for another process: with a note where it comes from, and what the module's standard error had."""
    if isinstance(error, GuestError):
        error.printed = False  # not there
    error.add_note(f"in process {os.getpid()} on {platform.node() or 'a machine without a name'}")
    return error


def _portable(cause: BaseException | None) -> BaseException | None:
    """A cause, if it can travel; its words otherwise."""
    return cause if cause is None or _obstacle(cause) is None else RuntimeError(words(cause))


def _obstacle(value: object) -> str | None:
    """Why a value cannot be pickled, or not be unpickled."""
    try:
        pickle.loads(pickle.dumps(value, 5))
    except Exception as error:
        return words(error)
    return None
