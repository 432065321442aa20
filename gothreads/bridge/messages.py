"""Messages between Python and a running module: events, and the module's calls of Python handlers.

    app.signal ─▶ a queue for each name ─▶ guest.Events
    guest.Call ─▶ handler ─▶ the queue of replies

An app has one `Messages`. Each instance of the module has its own `MessageCalls`; its public `msg_…` and `idle_…`
methods are the functions that gothreads/guest imports, under the same names.
"""

from __future__ import annotations

import errno
import logging
import struct
import sys
import threading
from typing import Literal

from gothreads.bridge.context import CallContext
from gothreads.bridge.handlers import Handlers, HostCall, Reply, ReplyStatus
from gothreads.sync.stop_event import StopEvent
from gothreads.text import place, shown, words
from gothreads.wasi.idle import Idle
from gothreads.wasi.process import LARGEST_TRANSFER, Process
from gothreads.wasi.queues import Queue, QueueReader

log = logging.getLogger("gothreads")

#: What to do with an event when its queue is full: wait for room, drop the event, or raise QueueFull.
WhenFull = Literal["wait", "drop", "raise"]

#: The most event names that may be in use.
_MOST_NAMES = 1024
#: The most calls of one instance that may be in progress or have unread replies.
MOST_CALLS = 1 << 16
#: The most bytes that their payloads and unread replies may have together. A single call may exceed it.
_MOST_BYTES = 1 << 30
#: The longest name of an event or a handler, in bytes.
_LONGEST_NAME = 1024
#: The most bytes of events that may be queued under each name.
EVENTS_SIZE = 64 << 20

_reply = struct.Struct("<QII")
_cancel = struct.Struct("<II")


class Messages:
    """The event queues of an app, and the calls of all its instances. Thread-safe.

    capacity: the most events that may be queued under each name.
    """

    def __init__(self, stop: StopEvent, handlers: Handlers, capacity: int) -> None:
        self.stop, self.handlers, self._capacity = stop, handlers, capacity
        self._lock = threading.RLock()  # re-entrant: a signal handler may call signal() or end the app
        # Guarded by _lock.
        self._events: dict[str, Queue] = {}
        self._calls: list[MessageCalls] = []

    def new_calls(self, process: Process, context: CallContext) -> MessageCalls:
        """Create the MessageCalls of a new instance."""
        calls = MessageCalls(self, process, context)
        with self._lock:
            self._calls.append(calls)
        return calls

    def events(self, name: str) -> Queue:
        """Return the queue of the events with this name, creating it if needed. OSError(EMFILE): too many names."""
        found = self._events.get(name)
        if found is None:
            with self._lock:
                if len(self._events) >= _MOST_NAMES:
                    raise OSError(errno.EMFILE, "too many names of events")
                found = self._events.setdefault(name, Queue(self._capacity, EVENTS_SIZE))
                if self.stop.is_set:
                    found.close()
        return found

    @property
    def names(self) -> list[str]:
        """The names of the events that the module has subscribed to, sorted."""
        return sorted(name for name, queue in list(self._events.items()) if queue.has_readers)

    @property
    def queued(self) -> dict[str, int]:
        """How many events wait for the module, by the names that it has subscribed to."""
        queues = dict(self._events)
        return {name: len(queues[name]) for name in sorted(queues) if queues[name].has_readers}

    @property
    def outstanding(self) -> int:
        """The number of the module's calls in progress."""
        with self._lock:
            return sum(one.outstanding for one in self._calls)

    @property
    def begun(self) -> int:
        """The number of calls that the module has begun so far."""
        with self._lock:
            return sum(one.begun for one in self._calls)

    @property
    def unread(self) -> bool:
        """Whether the module has not yet read all replies, cancellations, and events that it subscribed to."""
        with self._lock:
            queues = [*self._events.values(), *(queue for one in self._calls for queue in (one.replies, one.cancels))]
        return any(queue and queue.has_readers for queue in queues)

    def forget(self, calls: MessageCalls) -> None:
        """Remove and close the calls of an instance that has ended."""
        with self._lock:
            self._calls.remove(calls)
        calls.close()

    def close(self) -> None:
        """Free the events. Call it after `end`, when no instance is left."""
        with self._lock:
            self._events.clear()

    def end(self) -> None:
        """Wake the threads that wait for room in a queue, and cancel all calls, as the app is ending. Never blocks."""
        with self._lock:
            queues, calls = list(self._events.values()), list(self._calls)
        for queue in queues:
            queue.close()
        for one in calls:
            one.cancel_all()


class MessageCalls:
    """The functions that one instance imports. As in wasi/calls, they take unsigned numbers, and raise OSError."""

    def __init__(self, messages: Messages, process: Process, context: CallContext) -> None:
        self._messages, self._process, self._context = messages, process, context
        self.replies = Queue(sys.maxsize, sys.maxsize)
        self.cancels = Queue(MOST_CALLS, sys.maxsize)
        self._lock = threading.RLock()  # re-entrant: a signal handler may end the app
        # Guarded by _lock.
        self._notified = 0  # the last number of a call that the module has not numbered: these are negative
        self._running: dict[int, HostCall] = {}  # without those that Go has cancelled
        self.begun = 0  # the number of calls so far
        # The number of calls still running in Python, and the bytes of their payloads. Unlike _running, this includes
        # calls that Go has cancelled.
        self._count = self._size = 0
        self.idle: Idle | None = None  # made when the module asks for it

    def msg_call(self, number: int, name: int, name_length: int, payload: int, length: int) -> None:
        """Begin a call. Its reply carries `number`.

        OSError. ENOENT: no such handler; EAGAIN: too many calls at once; EINVAL: the module has not opened the replies,
        or a call with this number is in progress; ENAMETOOLONG; E2BIG: the payload.
        """
        if not self.replies.has_readers:
            raise OSError(errno.EINVAL, "the module does not read replies")
        handler = self._text(name, name_length)

        def finished(status: ReplyStatus, reply: bytes, raised: BaseException | None) -> None:
            if raised is not None and log.isEnabledFor(logging.INFO):
                log.info("the handler %s raised %s", handler, _describe(raised))
            if len(reply) > LARGEST_TRANSFER:
                status, reply = (ReplyStatus.ERROR,
                                 f"the reply has {len(reply):,} bytes; at most {LARGEST_TRANSFER:,}".encode())
            # Queue the reply before removing the call, so that it is always counted among one or the other.
            self.replies.put(_reply.pack(number, status, len(reply)) + reply)
            self._remove(number)
        self._begin(number, handler, self._payload(payload, length), finished)

    def msg_notify(self, name: int, name_length: int, payload: int, length: int) -> None:
        """Call a handler, and discard its reply. Failures are logged. Raises OSError like msg_call."""
        handler = self._text(name, name_length)
        with self._lock:
            self._notified -= 1
            number = self._notified

        def finished(status: ReplyStatus, _reply: bytes, raised: BaseException | None) -> None:
            self._remove(number)
            if status is not ReplyStatus.OK and not self._messages.stop.is_set:
                log.warning("the handler %s, which guest.Notify called, failed: %s", handler,
                            shown(_describe(raised)) if raised is not None else status.name.lower())
        self._begin(number, handler, self._payload(payload, length), finished)

    def msg_cancel(self, number: int) -> None:
        """Cancel a call. No reply follows, unless one is already on its way."""
        call = self._remove(number)
        if call is not None:
            call.cancel()

    def msg_replies(self, result: int) -> None:
        """Open the descriptor from which replies are read: each is number, status, length, and that many bytes."""
        self._process.add_descriptor(QueueReader(self.replies, self._messages.stop), result)

    def msg_cancels(self, result: int) -> None:
        """Open the descriptor from which cancelled requests are read: each is a slot and the request's number in it."""
        self._process.add_descriptor(QueueReader(self.cancels, self._messages.stop), result)

    def cancel_request(self, slot: int, request: int) -> None:
        """Tell the module, if it listens, that nobody waits for a request any more. Thread-safe; never blocks."""
        if self.cancels.has_readers:
            self.cancels.put(_cancel.pack(slot, request))

    def msg_events(self, name: int, length: int, result: int) -> None:
        """Open the descriptor from which the events of that name are read: each is a length and that many bytes."""
        queue = self._messages.events(self._text(name, length))
        self._process.add_descriptor(QueueReader(queue, self._messages.stop), result)

    def idle_open(self, result: int) -> None:
        """Open a descriptor that becomes readable when the module would wait (see Idle)."""
        with self._lock:
            self.idle = idle = self.idle or Idle(self._messages.stop)
        self._process.add_descriptor(idle, result)

    @property
    def outstanding(self) -> int:
        """See Messages.outstanding."""
        with self._lock:
            return len(self._running)

    def close(self) -> None:
        """Cancel all calls, and free the descriptor."""
        self.cancel_all()
        self.idle = None

    def cancel_all(self) -> None:
        with self._lock:
            running, self._running = list(self._running.values()), {}
        for call in running:
            call.cancel()

    def _begin(self, number: int, handler: str, payload: bytes, finished: Reply) -> None:
        size = len(payload)

        def ended() -> None:
            with self._lock:
                self._count -= 1
                self._size -= size
        if handler not in self._messages.handlers:
            raise OSError(errno.ENOENT, "no such handler")
        call = HostCall(handler, finished, ended)
        unread, unread_size = len(self.replies), self.replies.size
        with self._lock:
            if number in self._running:
                raise OSError(errno.EINVAL, "the number of a call under way")
            if self._count + unread >= MOST_CALLS or (self._count + unread
                                                      and self._size + unread_size + size > _MOST_BYTES):
                raise OSError(errno.EAGAIN, "too many calls")
            self._running[number] = call
            self.begun += 1
            self._count += 1
            self._size += size
        if self._messages.stop.is_set:  # the app may have ended before the call was registered
            call.cancel()
        self._messages.handlers.run(call, payload, self._context)

    def _remove(self, number: int) -> HostCall | None:
        with self._lock:
            return self._running.pop(number, None)

    def _text(self, address: int, length: int) -> str:
        if length > _LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, "a name")
        return self._process.memory.read(address, length).decode(errors="replace")

    def _payload(self, address: int, length: int) -> bytes:
        if length > LARGEST_TRANSFER:
            raise OSError(errno.E2BIG, "a payload")
        return self._process.memory.read(address, length) if length else b""


def _describe(error: BaseException) -> str:
    """Describe an exception, and where it was raised."""
    where = place(error)
    return f"{words(error)} ({where})" if where else words(error)
