"""Calls under a span have spans of their own, and Go's contexts have their headers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

import gothreads
from gothreads.bridge import buffers, tracing
from tests.support.modules import built, opened
from tests.support.spans import collected, parent_of, traceparent
from tests.support.waiting import PATIENCE

MODELS = ["threaded", "single", "idle", "pool"]


@pytest.fixture(scope="module", params=MODELS)
def app(request: pytest.FixtureRequest) -> Iterator[Any]:
    options = {"instances": 2} if request.param == "pool" else {}
    with opened("traced", model=request.param, **options) as running:
        yield running


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    with collected() as exporter:
        yield exporter


tracer = trace.get_tracer("tests")


def asked(app: Any) -> dict[str, Any]:
    """What Go gets, by each way to call it."""
    async def later() -> list[Any]:
        return [json.loads(await app.request_async("trace")), await app.trace_async(), await app.request_json_async("json")]
    found = {"request": json.loads(app.request("trace")), "typed": app.trace(),
             "with a timeout": json.loads(app.request("trace", timeout=PATIENCE)),
             "typed, with a timeout": app.trace(timeout=PATIENCE),
             "submitted": json.loads(app.submit_request("trace").result(PATIENCE)),
             "typed, submitted": app.submit("trace").result(PATIENCE), "json": app.request_json("json"),
             "stream": json.loads(b"".join(app.stream("stream")))}
    return found | dict(zip(("async", "typed, async", "json, async"), asyncio.run(later()), strict=True))


def test_go_gets_the_span_of_its_call_which_is_a_child_of_the_current_one(app: Any,
                                                                          spans: InMemorySpanExporter) -> None:
    with tracer.start_as_current_span("outer") as outer:
        found = asked(app)
    made = {traceparent(span): span for span in spans.get_finished_spans()}
    assert len({headers["traceparent"] for headers in found.values()}) == len(found)
    for way, headers in found.items():
        span = made[headers["traceparent"]]
        assert span.kind is SpanKind.CLIENT, way
        assert parent_of(span) == outer.get_span_context().span_id, way
        name = next((name for name in ("json", "stream") if name in way), "trace")
        assert (span.name, dict(span.attributes or {})) == (
            name, {"rpc.system.name": "gothreads", "rpc.method": name}), way


def test_without_a_span_go_gets_nothing_and_no_span_is_made(app: Any, spans: InMemorySpanExporter) -> None:
    assert set(map(str, asked(app).values())) == {"{}"}
    assert spans.get_finished_spans() == ()


def test_what_others_have_put_beside_the_span_goes_along(app: Any) -> None:
    remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(0), trace_state=TraceState([("vendor", "x")]))
    attached = context.attach(baggage.set_baggage("user", "ä b", trace.set_span_in_context(NonRecordingSpan(remote))))
    try:
        headers = app.trace()
    finally:
        context.detach(attached)
    assert headers["traceparent"].startswith(f"00-{1:032x}-")
    assert headers["traceparent"].endswith("-00")  # not sampled, which is passed on
    assert (headers["tracestate"], headers["baggage"]) == ("vendor=x", "user=%C3%A4+b")


def test_the_items_of_an_iterator_belong_to_its_call(app: Any, spans: InMemorySpanExporter) -> None:
    with tracer.start_as_current_span("outer"):
        items = list(app.traces(3000))
    call, = (span for span in spans.get_finished_spans() if span.name == "traces")
    assert set(items) == {traceparent(call)}
    assert [span.name for span in spans.get_finished_spans()] == ["traces", "outer"]  # none for each batch


def test_arguments_beside_the_message_stay_aligned(app: Any, spans: InMemorySpanExporter) -> None:
    numpy = pytest.importorskip("numpy")
    numbers = numpy.arange(200_000, dtype=numpy.float64)
    for bag in ("", "a", "ab", "abc", "abcdefg"):
        attached = context.attach(baggage.set_baggage("b", bag))
        with tracer.start_as_current_span("outer"):
            header, total = app.sum(numbers)
        context.detach(attached)
        assert total == numbers.sum()
        assert header in map(traceparent, spans.get_finished_spans())


@pytest.mark.parametrize("size", [0, 10, 70_000, 300_000])
def test_a_lent_payload_is_the_same_with_a_trace(app: Any, spans: InMemorySpanExporter, size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    for _ in range(3):  # the next payload is in the same memory
        with tracer.start_as_current_span("outer"):
            assert app.request("same", payload) == payload
        assert app.request("same", payload) == payload
        assert json.loads(app.request("trace")) == {}


def test_calls_that_fail_say_so(app: Any, spans: InMemorySpanExporter) -> None:
    with tracer.start_as_current_span("outer"):
        for call in (lambda: app.request("trace", b"fail"), app.fail, lambda: app.traces("x")):
            with pytest.raises(gothreads.GothreadsError):
                call()
    failed = [(span.name, (span.attributes or {}).get("error.type")) for span in spans.get_finished_spans()
              if span.status.status_code is StatusCode.ERROR]
    assert failed == [("trace", "HandlerError"), ("fail", "GoError"), ("traces", "ArgumentError")]


def test_a_call_that_waits_for_a_supervised_modules_next_instance_keeps_its_trace(
        spans: InMemorySpanExporter) -> None:
    backoff = gothreads.Backoff(first=1.0, jitter=0)
    with gothreads.supervise(built("traced"), restart="always", backoff=backoff) as app:
        instance = app._instance.up
        assert instance is not None
        instance.close()
        with tracer.start_as_current_span("outer") as outer:
            future = app.submit_request("trace")
        headers = json.loads(future.result(PATIENCE))
    call, = (span for span in spans.get_finished_spans() if span.name == "trace")
    assert (headers["traceparent"], parent_of(call)) == (traceparent(call), outer.get_span_context().span_id)


def test_a_module_of_an_earlier_gothreads_is_called_without_headers(monkeypatch: pytest.MonkeyPatch,
                                                                    spans: InMemorySpanExporter) -> None:
    monkeypatch.setattr(buffers, "TRACED_REQUEST", "gothreads_not_there")
    with opened("traced") as app, tracer.start_as_current_span("outer"):
        assert json.loads(app.request("trace")) == {}
    assert [span.name for span in spans.get_finished_spans()] == ["trace", "outer"]


def test_headers_are_lines_of_bounded_length() -> None:
    assert tracing.encoded({"a": "1", "b": "x:y"}) == b"a:1\nb:x:y"
    assert tracing.encoded({"a": "x\nevil:1", "b": "2"}) == b"b:2"
    assert tracing.encoded({"a": "x" * (17 << 10), "b": "2"}) == b""
    assert tracing.encoded({"a": "\ud800"}) == b"a:?"


def test_nothing_of_opentelemetry_is_imported_by_gothreads() -> None:
    program = (f"import sys, gothreads; app = gothreads.open({str(built('traced'))!r}); app.request('trace'); app.trace()\n"
               "app.close(); import gothreads.serve.web; assert not [n for n in sys.modules if n.startswith('opentel')]")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)
