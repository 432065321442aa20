"""Iterators and channels that Go functions return: `for item in app.items():`, or `async for item in …`.

Go hands the items over in batches, each when Python asks for it (build/goroot/gothreads/guest/wire/stream.go).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from gothreads.errors import drop_frames
from gothreads.text import shown

T = TypeVar("T")


class Source(Protocol[T]):
    """Where the items come from. A batch is a list of items, and whether they are the last."""

    def next(self) -> tuple[list[T], bool]:
        """Wait for a batch."""

    def submit(self) -> Future[tuple[list[T], bool]]:
        """Wait for a batch on another thread."""

    def stop(self) -> None:
        """Tell Go that no more items are wanted. Does not wait, and raises nothing."""


class Stream(Generic[T]):
    """The items of an iterator or a channel of Go's: an iterator, and an asynchronous one.

    Items come in batches of 1 to 1024, and Go is ahead by two at most: one here, one in Go. `close` stops Go: its yield
    returns false, and the function's context is cancelled. So do the end of a `with` block, and dropping the stream.
    Any thread may use it.
    """

    def __init__(self, source: Source[T]) -> None:
        self._source = source
        # A thread takes items without a lock. What comes, and that no more will come, changes under _changing: a batch
        # that arrives while another thread closes the stream must not open it again. Re-entrant, since a collection of
        # garbage may close a stream anywhere.
        self._changing = threading.RLock()
        self._items: deque[T] = deque()
        self._over = False  # no more items will come
        self._lock = threading.Lock()  # held while a thread waits for a batch
        self._turn = asyncio.Lock()  # the same for coroutines

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                pass
            with self._lock:
                if self._items:
                    continue
                if self._over:
                    raise StopIteration
                try:
                    self._take(self._source.next())
                except BaseException as error:
                    self.close()
                    drop_frames(error)
                    raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                pass
            async with self._turn:
                if self._items:
                    continue
                if self._over:
                    raise StopAsyncIteration
                await self._take_async()

    async def _take_async(self) -> None:
        try:
            self._take(await asyncio.wrap_future(self._source.submit()))
        except BaseException as error:  # cancelled, too: the batch may be lost
            self.close()
            drop_frames(error)
            raise

    def _take(self, batch: tuple[list[T], bool]) -> None:
        items, last = batch
        with self._changing:
            if not self._over:
                self._items.extend(items)
                self._over = last

    def close(self) -> None:
        """Stop Go; there are no more items. A thread that waits for one finds none."""
        with self._changing:
            over, self._over = self._over, True
            self._items.clear()
        if not over:
            self._source.stop()

    async def aclose(self) -> None:
        """The same, for asynchronous code."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Go iterator{', over' if self._over else ''}>"


class BatchedStream(Stream[bytes]):
    """The items as bytes, also by batches."""

    async def batch(self) -> list[bytes]:
        """The next items, as many as have come; none if there are no more. Cancelling this closes the stream."""
        async with self._turn:
            if not self._items and not self._over:
                await self._take_async()
            with self._changing:
                items = list(self._items)
                self._items.clear()
            return items


class JsonStream(BatchedStream):
    """The items as JSON."""


class ByteStream(BatchedStream):
    """What a handler of Go's writes (guest.HandleStream), in pieces, as it is written.

    content_type: what the handler says that it is; "" if it says nothing.
    """

    def __init__(self, source: Source[bytes], content_type: str) -> None:
        super().__init__(source)
        self.content_type = content_type

    def __repr__(self) -> str:
        return f"<Go stream {shown(self.content_type)}{', over' if self._over else ''}>"
