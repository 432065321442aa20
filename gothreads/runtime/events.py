"""Events for an app: they wait in queues until the module takes them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from gothreads.bridge.buffers import LARGEST
from gothreads.bridge.messages import WhenFull
from gothreads.engine import interrupt
from gothreads.errors import ArgumentError, MisuseError, NotCallable, QueueFull, listed
from gothreads.runtime.calls import CallRunner
from gothreads.runtime.payloads import Payload, bytes_of
from gothreads.sync.seconds import check_seconds
from gothreads.text import closest, cut
from gothreads.wasi.queues import FRAME, Queue, framed

log = logging.getLogger("gothreads")


class Events(CallRunner):
    """See App, of which this is a part."""

    def signal(self, name: str, payload: Payload = b"", *, full: WhenFull = "wait",
               timeout: float | None = None) -> bool:
        if full not in ("wait", "drop", "raise"):
            raise MisuseError(f'full must be "wait", "drop" or "raise", not {cut(full)}')
        check_seconds("timeout", timeout)
        if self._cause is not None:
            raise self._error_afterwards()
        self._check_go("events")
        if not self.loaded.has_messages:
            raise NotCallable(f"{self.loaded.name}: the module does not import gothreads/guest, "
                              "so it receives no events")
        data = bytes_of(payload)
        frame = framed(data)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            queue = self._queue(name, data)
            while not (sent := self._put(queue, frame)) and full == "wait":
                self._warn_unread(queue, name)
                if not queue.wait_for_room(len(frame), None if deadline is None else deadline - time.monotonic()):
                    break
        except OSError as error:
            raise QueueFull(f"{self.loaded.name}: {error.strerror}") from None
        if not sent:
            if self._cause is not None:
                raise self._error()
            if full != "drop":
                why = self._why_unread(queue, name) or (
                    "the module does not take them so fast. Raise `event_queue`, or send less at once")
                raise QueueFull(f"{self.loaded.name}: no room for an event {cut(name)}: {why}")
        return sent

    def _warn_unread(self, queue: Queue, name: str) -> None:
        """Log, once, that events wait which the module may never take."""
        if not queue.warned and (why := self._why_unread(queue, name)):
            queue.warned = True
            log.warning("%s: the queue of the events %s is full: %s", self.loaded.name, cut(name), why)

    def _why_unread(self, queue: Queue, name: str) -> str:
        """Why the module takes no events of that name; "" if it has done so."""
        if queue.was_read:
            return ""
        meant = closest(name, self.events)
        return ("the module has not asked for events of that name. "
                + (f"Did you mean {cut(meant)}?" if meant is not None else
                   f"It has asked for: {listed(self.events) or 'none'}"))

    async def signal_async(self, name: str, payload: Payload = b"") -> None:
        data, loop = bytes_of(payload), asyncio.get_running_loop()
        while not self.signal(name, data, full="drop"):
            room = asyncio.Event()

            def tell(room: asyncio.Event = room) -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(room.set)
            queue = self._queue(name, data)
            self._warn_unread(queue, name)
            queue.when_room(len(data) + FRAME, tell)
            try:
                await room.wait()
            finally:
                queue.cancel_when_room(tell)

    @staticmethod
    def _put(queue: Queue, frame: bytes) -> bool:
        if not interrupt.on_main_thread():
            return queue.put(frame)
        with interrupt.Postponed():  # interrupted halfway, the event would be announced only with the next
            return queue.put(frame)

    def _queue(self, name: str, payload: bytes) -> Queue:
        if not isinstance(name, str) or not name:
            raise MisuseError(f"an event's name must be a str, and not empty, not {cut(name)}")
        if len(payload) > LARGEST:
            raise ArgumentError(f"{len(payload):,} bytes are too many for one event: at most {LARGEST:,}")
        return self._messages.events(name)

    @property
    def events(self) -> list[str]:
        return self._messages.names
