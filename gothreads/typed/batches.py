"""The items of an iterator of Go's, which are asked for in batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec

from gothreads.bridge.buffers import Refused
from gothreads.errors import GothreadsError
from gothreads.typed.caller import Call, Caller, made
from gothreads.typed.json_values import as_json
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
        self._message = msgspec.msgpack.encode([number])

    def next(self) -> tuple[list[Any], bool]:
        return self._read(lambda: (self._caller.call(_NEXT, self._message), self._caller))

    def submit(self) -> Future[tuple[list[Any], bool]]:
        return self._caller.submit(_NEXT, self._message, self._read, {})

    def stop(self) -> None:
        self._ended()
        with contextlib.suppress(GothreadsError, RuntimeError):  # it has ended; or the interpreter does
            self._caller.submit(_CLOSE, self._message, lambda call: call()[0], {})

    def _read(self, call: Call) -> tuple[list[Any], bool]:
        reply, _ = made(call, self._failed)
        batch: tuple[list[Any], bool] = self._decoder.decode(reply)
        if batch[1]:
            self._ended()
        return batch


class JsonBatches(Batches):
    """The same, with items as JSON."""

    def _read(self, call: Call) -> tuple[list[bytes], bool]:
        items, last = super()._read(call)
        return [as_json("an item", item) for item in items], last
