"""What the dashboard of an app shows, as server-sent events: figures, once a second, and the timeline of Go's scheduler
(runtime/scheduler_watch.py), in pieces of a quarter of a second.

While nobody watches, nothing is read. While somebody does, everything is read once for all who watch: the figures as
/metrics reads them, from statistics. All of it is on threads of its own; calls wait for none of it.

Invariants. All of this is on the server's event loop, except `_read`.

- A feed has tasks if, and only if, it has readers. The last reader that leaves cancels them.
- A reader holds MOST_UNREAD events at most. One that takes them too slowly is ended, which frees its place; what it has
  not taken yet is dropped.
- An event is sent to who has the right to it when it is sent: a key may be revoked, and a token expire. The texts of
  errors are left out for those who may not see them.
- When the app is replaced, or the server stops, all readers are ended. So they hold up neither the end of the old
  instance, whose requests they are, nor the server's. A page whose stream ends asks for another one, which is of the
  new instance.
- A reader that is ended while something is being sent to it has END_SECONDS to take that. Then its connection is cut.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gothreads.errors import GothreadsError
from gothreads.runtime.scheduler_watch import Runs, SchedulerWatch
from gothreads.runtime.statistics import AppStatistics
from gothreads.serve.call_rates import Reading, rates, together
from gothreads.serve.deployment import Deployment
from gothreads.serve.disconnect import CUT, left_first
from gothreads.serve.error_responses import message
from gothreads.serve.gate import Gate
from gothreads.serve.metrics import Metrics
from gothreads.serve.served import Served
from gothreads.supervise.app import Supervised
from gothreads.supervise.handover import current
from gothreads.text import printable

#: How many may watch a server at a time; and how many events one of them may leave unread.
MOST_READERS, MOST_UNREAD = 16, 8
#: How often the figures are read, in seconds; and over how many readings the latencies are taken.
EVERY, READINGS = 1.0, 10
#: How long a reader that is ended may take for what is being sent, in seconds.
END_SECONDS = 1.0
#: How long a piece of the timeline is, in seconds.
PIECE = 0.25
#: How many lines of calls, and how many names of events, are sent.
_MOST_CALLS, _MOST_EVENTS = 50, 20
#: The figures that are texts of errors.
_ERRORS = ("error", "not_replaced", "last_cause")

#: The last readings of the counts of calls, with their times.
Readings = deque[tuple[float, Reading]]

#: What is sent: with the texts of errors, and without.
Event = tuple[bytes, bytes]

log = logging.getLogger("gothreads.serve")


class Reader:
    """Who watches: the events that are to be sent."""

    def __init__(self) -> None:
        self._unread: deque[Event] = deque()
        self._changed = asyncio.Event()
        self.ended = asyncio.Event()

    def offer(self, event: Event) -> bool:
        """False: this reader is too slow."""
        if len(self._unread) >= MOST_UNREAD:
            return False
        self._unread.append(event)
        self._changed.set()
        return True

    def end(self) -> None:
        """There are no more events."""
        self.ended.set()
        self._unread.clear()
        self._changed.set()

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        while not self._unread and not self.ended.is_set():
            self._changed.clear()
            await self._changed.wait()
        return self._unread.popleft() if self._unread else None


class Feeds:
    """What the feeds of a server share: the bound on readers, and the threads that read."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2 * MOST_READERS, "gothreads-dashboard")  # starts them when they are needed
        self._feeds: list[Feed] = []
        self._ended = False

    def new(self, deployment: Deployment, gate: Gate, metrics: Metrics) -> Feed:
        """The feed of an app."""
        feed = Feed(self, deployment, gate, metrics)
        self._feeds.append(feed)
        return feed

    @property
    def readers(self) -> int:
        return sum(feed.readers for feed in self._feeds)

    def check(self) -> None:
        """HTTPException: there is no room for another reader."""
        if self._ended:
            raise HTTPException(503, "the server is about to stop")
        if self.readers >= MOST_READERS:
            raise HTTPException(503, f"{MOST_READERS} dashboards are open, which is the most. Close one of them",
                                {"Retry-After": "10"})

    def end(self) -> None:
        """The server stops: nobody watches any more."""
        self._ended = True
        for feed in self._feeds:
            feed.end()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def on_thread(self, read: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)


class Feed:
    """Of one app."""

    def __init__(self, feeds: Feeds, deployment: Deployment, gate: Gate, metrics: Metrics) -> None:
        self._feeds, self._deployment, self._gate, self._metrics = feeds, deployment, gate, metrics
        self._readers: set[Reader] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._readings: Readings = deque(maxlen=READINGS)

    @property
    def readers(self) -> int:
        return len(self._readers)

    @property
    def is_running(self) -> bool:
        """Whether anything is being read."""
        return bool(self._tasks)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Watch, as long as this is open. HTTPException: too many watch already, or the server stops."""
        self._feeds.check()
        reader = Reader()
        self._readers.add(reader)
        if not self._tasks:
            # They are for all readers: what they log has not the first one's request id.
            self._tasks = [asyncio.create_task(self._run(publish), context=contextvars.Context())
                           for publish in (self._figures, self._timeline)]
        try:
            yield reader
        finally:
            self._leave(reader)

    def end(self) -> None:
        """End all readers."""
        for reader in list(self._readers):
            self._leave(reader)

    def _leave(self, reader: Reader) -> None:
        reader.end()
        self._readers.discard(reader)
        if not self._readers:
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            self._readings = deque(maxlen=READINGS)  # a thread may still be about to add to the others

    def _publish(self, kind: str, value: Mapping[str, object]) -> None:
        whole = bare = _encoded(kind, value)
        if not value.keys().isdisjoint(_ERRORS):
            bare = _encoded(kind, {name: each for name, each in value.items() if name not in _ERRORS})
        for reader in list(self._readers):
            if not reader.offer((whole, bare)):
                self._leave(reader)

    async def _run(self, publish: Callable[[Served], Any]) -> None:
        """Publish something of the current instance, again and again, until that is replaced."""
        app = self._deployment.app
        try:
            while self._deployment.app is app:
                await publish(app)
        except Exception:
            log.warning("%s: the dashboard cannot be told what it does", self._deployment.name, exc_info=True)
        self.end()

    async def _figures(self, app: Served) -> None:
        begun, readings = time.monotonic(), self._readings
        figures = await self._feeds.on_thread(lambda: self._read(app, readings))
        failures = self._metrics.failures[self._deployment.name].count
        self._publish("figures", figures | {"failures": failures, "waiting": self._gate.admission.waiting})
        await asyncio.sleep(max(0.0, begun + EVERY - time.monotonic()))

    async def _timeline(self, app: Served) -> None:
        watch = _watch_of(app)
        if watch is not None and watch.missing is None:
            try:
                self._publish("timeline", _timeline(await self._feeds.on_thread(lambda: watch.runs(PIECE))))
                return
            except (GothreadsError, TimeoutError):  # the module ends, or Go does not answer
                pass
        await asyncio.sleep(PIECE)

    # On another thread.

    def _read(self, app: Served, readings: Readings) -> dict[str, Any]:
        name = self._deployment.name
        statistics, reading, now = app.statistics(), self._metrics.reading(name), time.monotonic()
        error = app.error
        found = {"model": app.model, "state": app.state.value, "error": error and printable(message(error)),
                 "replaced": self._deployment.replaced, "not_replaced": self._deployment.failure,
                 "in_flight": self._metrics.in_flight(name), "no_timeline": _no_timeline(app),
                 "calls": _calls(reading, now, readings), **_of(statistics)}
        if isinstance(app, Supervised):
            so_far = app.supervision()
            cause = so_far.last_cause
            found["last_cause"] = cause and printable(message(cause))
            found["supervision"] = {"restarts": so_far.restarts, "by_cause": dict(so_far.by_cause),
                                    "next_try_seconds": so_far.next_try_seconds}
        return found


def _encoded(kind: str, value: Mapping[str, object]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def _calls(reading: Reading, now: float, readings: Readings) -> dict[str, Any] | None:
    """How many, since the last reading; and how long they took, since the first. None if this is the first."""
    earlier = list(readings)
    readings.append((now, reading))
    if not earlier:
        return None
    (since, oldest), (last, latest) = earlier[0], earlier[-1]
    every = ("", "")
    together_now = {every: together(reading)}
    return {"now": [one.to_json() for one in rates(together_now, {every: together(latest)}, now - last)],
            "all": [one.to_json() for one in rates(together_now, {every: together(oldest)}, now - since)],
            "by_name": [one.to_json() for one in rates(reading, oldest, now - since)[:_MOST_CALLS]]}


def _of(statistics: AppStatistics) -> dict[str, Any]:
    """The figures of the module."""
    parts = {name: part and {key: value for key, value in vars(part).items() if key != "blocked_calls"}
             for name in ("callers", "threads", "pool", "go") if (part := getattr(statistics, name)) is not None}
    if statistics.go is not None:
        parts["go"] |= {"blocked_calls": len(statistics.go.blocked_calls),
                        "longest_blocked_call": max(statistics.go.blocked_calls, default=0.0)}
    events = sorted(statistics.queued_events.items(), key=lambda each: -each[1])
    return parts | {"uptime": statistics.uptime, "module_calls": statistics.calls,
                    "in_progress": statistics.calls_in_progress, "memory": statistics.memory,
                    "memory_limit": statistics.memory_limit, "at": time.monotonic(),
                    "queued_events": {printable(name): count for name, count in events[:_MOST_EVENTS]}}


def _watch_of(served: Served) -> SchedulerWatch | None:
    return None if (app := current(served)) is None else app._scheduler_watch


def _no_timeline(served: Served) -> str | None:
    """Why there is no timeline; None: there is one, or will be when there is an instance."""
    if served.model != "threaded":
        return (f"the model {served.model} does not run Go on several threads, so there is no scheduler to watch"
                if served.model != "wasi-threads" else "the module's threads are not Go's")
    return None if (watch := _watch_of(served)) is None else watch.missing


def _timeline(seen: Runs) -> dict[str, Any]:
    """Times in ms; those of runs, [M, goroutine, place of the function, begin, length], in µs since the beginning."""
    functions = {name: place for place, name in enumerate(dict.fromkeys(run.function for run in seen.runs))}
    return {"begin": round(seen.begin * 1e3, 3), "end": round(seen.end * 1e3, 3), "interval": seen.interval * 1e3,
            "functions": list(functions),
            "runs": [[run.m, run.goroutine, functions[run.function], round((run.begin - seen.begin) * 1e6),
                      round((run.end - run.begin) * 1e6)] for run in seen.runs]}


class Stream(Response):
    """The events of a feed, until the client leaves or loses the right to them, or the feed ends.

    sees_errors: whether the client may see the texts of errors now. HTTPException: it may see nothing any more.
    """

    def __init__(self, feed: Feed, sees_errors: Callable[[], bool]) -> None:
        # Proxies that would keep events until there are more of them are asked not to.
        super().__init__(media_type="text/event-stream",
                         headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed, self._sees_errors = feed, sees_errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._feed.reader() as reader:
            over = asyncio.ensure_future(reader.ended.wait())

            async def give(message: Message) -> None:
                """Send this. If the reader is ended meanwhile, the client has END_SECONDS to take it."""
                sending = asyncio.ensure_future(send(message))
                try:
                    await asyncio.wait({sending, over}, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.wait({sending}, timeout=END_SECONDS)
                    if not sending.done():
                        scope["state"][CUT]()  # `send` returns then
                    await sending
                finally:
                    sending.cancel()
            try:
                await self._send(scope, receive, give, reader)
            finally:
                over.cancel()

    async def _send(self, scope: Scope, receive: Receive, send: Send, reader: Reader) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        # So the client sees at once that it is connected. It waits so long before it connects again, in ms.
        await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
        while True:
            event = asyncio.ensure_future(reader.next())
            try:
                if await left_first(receive, event):
                    return
            finally:
                event.cancel()
            if (found := event.result()) is None:
                break
            try:
                data = found[0 if self._sees_errors() else 1]
            except HTTPException:
                break
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
