"""Metrics of the apps of a server, for Prometheus: GET /metrics.

Two kinds: of the calls that come over HTTP, which are counted here as they come, and of the module, which are read from
its statistics when somebody asks. So calls from Python cost what they always do.

Labels are bounded: a client can send any name, so a name becomes a label only if the module has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gothreads.runtime.state import State
from gothreads.runtime.statistics import AppStatistics, GoStatistics
from gothreads.serve.admission import Admission
from gothreads.serve.call_rates import CallCounts, Called
from gothreads.serve.endpoint import Endpoint
from gothreads.serve.failures import Failures
from gothreads.serve.guard import Guard, Held, Hosts
from gothreads.serve.item_streams import FAILED
from gothreads.serve.outcomes import outcome_of
from gothreads.serve.served import Served
from gothreads.supervise.app import Supervised

#: The bounds of the histogram, in seconds.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: At most so many names of handlers are labels: the module may register any number.
_MOST_HANDLERS = 1000
#: Instead of the name of something that the module does not have, or of which that is not known.
_OTHER = ""


class Metrics:
    """The metrics of one server. On the server's event loop only.

    apps: by name, the label `app`, functions that return the apps of this time.
    """

    def __init__(self, apps: Mapping[str, Callable[[], Served]]) -> None:
        self._registry = CollectorRegistry()
        self._handlers: dict[str, set[str]] = {name: set() for name in apps}  # those that have answered
        #: The calls that have failed, by app.
        self.failures = {name: Failures() for name in apps}
        self._calls = Counter("gothreads_calls", "Calls over HTTP, by what they called and how they ended.",
                              ("app", "kind", "name", "outcome"), registry=self._registry)
        self._seconds = Histogram("gothreads_call_seconds", "How long calls over HTTP took, waits included.",
                                  ("app", "kind", "name"), buckets=_BUCKETS, registry=self._registry)
        self._received = Counter("gothreads_received_bytes", "Bytes of the bodies of calls over HTTP.",
                                 ("app", "kind", "name"), registry=self._registry)
        self._sent = Counter("gothreads_sent_bytes", "Bytes of the bodies of their results, without errors.",
                             ("app", "kind", "name"), registry=self._registry)
        self._broken = Counter("gothreads_answers_broken_off", "Answers over HTTP that an error has ended in the "
                               "middle, after their calls counted as ok.", ("app", "kind", "name", "outcome"),
                               registry=self._registry)
        self._in_flight = Gauge("gothreads_calls_in_flight", "Calls over HTTP that are being answered.", ("app",),
                                registry=self._registry)
        self._waiting = Gauge("gothreads_calls_waiting", "Calls over HTTP that wait, since as many as may be are in "
                              "flight.", ("app",), registry=self._registry)
        self._registry.register(_Modules(apps))
        ProcessCollector(registry=self._registry)
        self._asked = asyncio.Lock()

    def of(self, name: str, app: Served) -> AppMetrics:
        """Those of calls of an app. They are counted on where an app of the same name has left off."""
        return AppMetrics(self, name, app)

    def watch(self, name: str, admission: Admission) -> None:
        """Tell how many calls of an app wait for a place."""
        self._waiting.labels(name).set_function(lambda: admission.waiting)

    def reading(self, name: str) -> dict[Called, CallCounts]:
        """The counts of an app's calls so far. On any thread."""
        found: dict[Called, CallCounts] = {}
        for sample in (sample for family in (*self._calls.collect(), *self._seconds.collect())
                       for sample in family.samples if sample.labels["app"] == name):
            counts = found.setdefault((sample.labels["kind"], sample.labels["name"]), CallCounts())
            if sample.name.endswith("_bucket"):
                counts.buckets[float(sample.labels["le"])] = sample.value
            elif "outcome" in sample.labels and sample.name.endswith("_total"):
                counts.outcomes[sample.labels["outcome"]] = sample.value
        return found

    def in_flight(self, name: str) -> int:
        """How many calls of an app are being answered, or wait. On any thread."""
        return int(sum(sample.value for family in self._in_flight.collect() for sample in family.samples
                       if sample.labels["app"] == name))

    async def answer(self, request: Request) -> Response:
        """The endpoint of /metrics."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        async with self._asked:  # one at a time: if Go does not answer, each holds a thread for a second
            text = await asyncio.to_thread(encode, self._registry)
        return Response(text, headers={"Content-Type": content_type})


class AppMetrics:
    """The metrics of one app's calls."""

    def __init__(self, metrics: Metrics, name: str, app: Served) -> None:
        self._name, self._app = name, app
        self._exports, self._functions = frozenset(app.exports), frozenset(app.functions)
        self._handlers, self._failures = metrics._handlers[name], metrics.failures[name]
        self._calls, self._seconds = metrics._calls, metrics._seconds
        self._received, self._sent, self._broken = metrics._received, metrics._sent, metrics._broken
        self._in_flight = metrics._in_flight.labels(name)

    def measured(self, kind: str, endpoint: Endpoint) -> Endpoint:
        """The endpoint, whose calls are counted. `kind`: also the parameter of the path with the name."""
        async def measured(request: Request) -> Response:
            begun, outcome, body = time.perf_counter(), "bug", _Body(request.receive)
            self._in_flight.inc()
            try:
                response = await endpoint(Request(request.scope, body.receive))
                outcome = "ok"
            except BaseException as error:
                outcome = outcome_of(error)
                self._note(self._labels(kind, request.path_params[kind], outcome), outcome, error)
                raise
            finally:
                self._in_flight.dec()
                labels = (self._name, *self._labels(kind, request.path_params[kind], outcome))
                self._calls.labels(*labels, outcome).inc()
                self._seconds.labels(*labels).observe(time.perf_counter() - begun)
                body.count(self._received.labels(*labels))

            def broken_off(error: Exception) -> None:
                why = outcome_of(error)
                self._broken.labels(*labels, why).inc()
                self._note(labels[1:], why, error)
            return _Counted(response, body, self._received.labels(*labels), self._sent.labels(*labels), broken_off)
        return measured

    def _note(self, called: Iterable[str], outcome: str, error: BaseException) -> None:
        self._failures.note(" ".join(called).rstrip(), outcome, error)

    def _labels(self, kind: str, name: str, outcome: str) -> tuple[str, str]:
        match kind:
            case "export":
                if name in self._functions and name not in self._exports:
                    return "function", name
                return kind, name if name in self._exports else _OTHER
            case "event":
                return kind, name if name in self._app.events else _OTHER
        if outcome in ("ok", "error") and len(self._handlers) < _MOST_HANDLERS:
            self._handlers.add(name)  # only a handler that exists answers
        return kind, name if name in self._handlers else _OTHER


class _Body:
    """Counts what has been received of a request's body."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._size = receive, 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        return message

    def count(self, counter: Counter) -> None:
        """Add what has come since the last time."""
        counter.inc(self._size)
        self._size = 0


class _Counted(Response):
    """A response, with what is sent of it, and with what still comes of the request's body meanwhile.

    broken_off: is told the error that ends it in the middle.
    """

    def __init__(self, response: Response, body: _Body, received: Counter, sent: Counter,
                 broken_off: Callable[[Exception], None]) -> None:
        self._response, self._body, self._received, self._sent = response, body, received, sent
        self._broken_off = broken_off

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            await send(message)
            self._sent.inc(len(message.get("body", b"")))
        client = scope.get(FAILED)

        def failed(error: Exception) -> None:
            self._broken_off(error)
            if client is not None:
                client(error)
        try:
            await self._response({**scope, FAILED: failed}, receive, counting)
        finally:
            self._body.count(self._received)


def metrics_app(metrics: Metrics, hosts: Hosts, routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """An application for the metrics, and further routes."""
    return Guard(Starlette(routes=[Route("/metrics", metrics.answer), *routes]), hosts, Held())


class _Modules(Collector):
    """Reads the statistics of apps. On any thread."""

    def __init__(self, apps: Mapping[str, Callable[[], Served]]) -> None:
        self._apps = apps

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry would ask the modules."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for name, app in self._apps.items():
            for family in _Module(name, app()).collect():
                if family.name in families:  # each name may come only once
                    families[family.name].samples += family.samples
                else:
                    families[family.name] = family
        yield from families.values()


class _Module:
    """Reads the statistics of one app."""

    def __init__(self, name: str, app: Served) -> None:
        self._name, self._app = name, app

    def collect(self) -> Iterator[Metric]:
        statistics = self._app.statistics()
        yield self._gauge("up", "Whether the module takes calls.", self._app.state is State.RUNNING)
        yield self._gauge("uptime_seconds", "How long the module has run.", statistics.uptime)
        yield self._counter("module_calls", "Calls that have returned, over HTTP or not.", statistics.calls)
        yield self._gauge("module_calls_in_progress", "Calls that are in the module, over HTTP or not.",
                          statistics.calls_in_progress)
        yield self._gauge("memory_bytes", "The module's memory.", statistics.memory)
        yield self._gauge("memory_limit_bytes", "The limit on it.", statistics.memory_limit)
        yield self._gauge("waits_for_streams", "Answers that wait for Go to write something. They hold no caller.",
                          statistics.waits_for_streams)
        yield self._gauges("events_queued", "Events that wait for the module.", "name", statistics.queued_events)
        yield from self._of_calls(statistics)
        if statistics.go is not None:
            yield from self._of_go(statistics.go)
        if isinstance(self._app, Supervised):
            supervision = self._app.supervision()
            yield self._counters("restarts", "Restarts, by why the module had ended.", "cause", supervision.by_cause)
            yield self._gauge("down_seconds", "How long there has been no instance.", supervision.down_seconds or 0.0)

    def _of_calls(self, statistics: AppStatistics) -> Iterator[Metric]:
        if (callers := statistics.callers) is not None:
            yield self._gauges("callers", "What calls go through.", "state",
                               {"idle": callers.idle, "in_use": callers.in_use})
            yield self._gauge("callers_limit", "How many there may be.", callers.limit)
            yield self._gauge("waiting", "Calls that wait for a caller.", callers.waiting)
        if (pool := statistics.pool) is not None:
            yield self._gauges("instances", "Of a pool.", "state", {"idle": pool.idle, "in_use": pool.in_use})
            yield self._gauge("instances_limit", "How many there are to be.", pool.limit)
            yield self._gauge("waiting", "Calls that wait for an instance.", pool.waiting)
            yield self._counter("instances_replaced", "Instances whose module has ended.", pool.replaced)
        if (threads := statistics.threads) is not None:
            yield self._gauges("threads", "Threads for the module's own (Go's Ms).", "state",
                               {"running": threads.running, "idle": threads.idle})
            yield self._gauge("threads_limit", "How many may run.", threads.limit)
            yield self._gauge("threads_peak", "The most that ran at a time.", threads.peak)
            yield self._counter("threads_started", "The module's threads that were started.", threads.started)

    def _of_go(self, go: GoStatistics) -> Iterator[Metric]:
        yield self._gauges("go_goroutines", "The program's goroutines.", "state",
                           {"running": go.running, "runnable": go.runnable, "waiting": go.waiting,
                            "syscall": go.syscalls})
        yield self._gauge("go_procs", "GOMAXPROCS.", go.procs)
        yield self._gauge("go_procs_busy", "Processors that run goroutines.", go.busy_procs)
        yield self._gauge("go_ms", "Threads, as Go counts them.", go.ms)
        yield self._gauge("go_timers", "Timers that are set.", go.timers)
        yield self._gauge("go_heap_bytes", "The heap.", go.heap)
        yield self._counter("go_gc_cycles", "Garbage collections.", go.collections)
        yield self._counter("go_gc_pause_seconds", "How long they have stopped all goroutines.", go.pause_seconds)
        yield self._gauge("blocked_calls", "Calls whose goroutines wait.", len(go.blocked_calls))
        yield self._gauge("longest_blocked_call_seconds", "How long the longest of them has been in the module.",
                          max(go.blocked_calls, default=0.0))

    def _gauge(self, name: str, what: str, value: float) -> Metric:
        found = GaugeMetricFamily(f"gothreads_{name}", what, labels=("app",))
        found.add_metric((self._name,), value)
        return found

    def _counter(self, name: str, what: str, value: float) -> Metric:
        found = CounterMetricFamily(f"gothreads_{name}", what, labels=("app",))
        found.add_metric((self._name,), value)
        return found

    def _gauges(self, name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
        found = GaugeMetricFamily(f"gothreads_{name}", what, labels=("app", label))
        for each, value in values.items():
            found.add_metric((self._name, each), value)
        return found

    def _counters(self, name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
        found = CounterMetricFamily(f"gothreads_{name}", what, labels=("app", label))
        for each, value in values.items():
            found.add_metric((self._name, each), value)
        return found
