"""The items of an iterator of Go's, which are asked for in batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

import msgspec

from gothreads.bridge.buffers import Refused
from gothreads.errors import GothreadsError
from gothreads.typed.caller import Call, Caller, made
from gothreads.typed.json_values import as_json
from gothreads.typed.parking import Wait
from gothreads.typed.values import TypeDecoder

#: What asks for the items of an iterator, and what ends it (build/goroot/gothreads/guest/wire/stream.go).
_NEXT, _CLOSE = "gothreads:stream next", "gothreads:stream close"


class Batches:
    """Asks an instance for the items of its stream of that number. See streams.Source.

    failed: makes the exception for a request that has not returned. ended: called at the end, at least once.
    """

    def __init__(self, number: int, decoder: TypeDecoder, failed: Callable[[Refused], BaseException], caller: Caller,
                 ended: Callable[[], None]) -> None:
        self._decoder, self._failed, self._caller, self._ended = decoder, failed, caller, ended
        self._number = number

    def next(self) -> tuple[list[Any], bool]:
        asked = self._request()
        caller = self._caller
        if isinstance(batch := asked.read(lambda: (caller.call(_NEXT, asked.message), caller)), Wait):
            batch.disarm()
            asked = self._request()
            batch = caller.wait(_NEXT, asked.message, asked.read, {})
        return cast(tuple[list[Any], bool], batch)

    def submit(self) -> Future[tuple[list[Any], bool]]:
        asked = self._request()
        return self._caller.submit(_NEXT, asked.message, asked.read, {})

    def stop(self) -> None:
        self._ended()
        with contextlib.suppress(GothreadsError, RuntimeError):  # it has ended; or the interpreter does
            self._caller.submit(_CLOSE, msgspec.msgpack.encode([self._number]), lambda call: call()[0], {})

    def _request(self) -> _Request:
        return _Request(self._number, Wait() if self._caller.parks else None, self._read)

    def _read(self, call: Call) -> tuple[list[Any], bool]:
        reply, _ = made(call, self._failed)
        batch: tuple[list[Any], bool] = self._decoder.decode(reply)
        if batch[1]:
            self._ended()
        return batch


class _Request:
    """One request for a batch, which may be made again. wait: None if it waits in Go."""

    def __init__(self, number: int, wait: Wait | None, read: Callable[[Call], tuple[list[Any], bool]]) -> None:
        self._wait, self._read = wait, read
        self.message = msgspec.msgpack.encode([number, 0 if wait is None else wait.number])

    def read(self, call: Call) -> Any:
        """The batch; or the wait, if there are no items yet."""
        if (wait := self._wait) is None:
            return self._read(call)
        wait.arm()
        try:
            items, last = self._read(call)
        except BaseException:
            wait.disarm()
            raise
        if not (items or last):
            return wait
        wait.disarm()
        return items, last


class JsonBatches(Batches):
    """The same, with items as JSON."""

    def _read(self, call: Call) -> tuple[list[bytes], bool]:
        items, last = super()._read(call)
        return [as_json("an item", item) for item in items], last
