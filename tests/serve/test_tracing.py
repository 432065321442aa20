"""Spans of requests, by OpenTelemetry's SDK, and the trace that Go gets."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.routing import Mount

from gothreads.output.json_lines import record_line
from gothreads.serve import tracing
from gothreads.serve.web import web_app
from tests.support.modules import built, opened
from tests.support.server import running
from tests.support.spans import collected, id_of, parent_of, traceparent
from tests.support.web import ask, talk

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INCOMING = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=x", "baggage": "user=1"}


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    with opened("traced") as running_app:
        yield running_app


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    with collected() as exporter:
        yield exporter


def test_a_request_is_a_span_in_the_clients_trace_and_gos_call_a_span_in_that(app: Any,
                                                                             spans: InMemorySpanExporter) -> None:
    reply = ask(app, "POST", "/api/request/trace?secret=1", headers={**INCOMING, "User-Agent": "tests"})
    call, request = spans.get_finished_spans()
    assert (request.kind, request.name, format(parent_of(request), "x")) == (
        SpanKind.SERVER, "POST /api/request/{handler:path}", PARENT)
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST", "url.path": "/api/request/trace", "url.scheme": "http",
        "network.protocol.name": "http", "network.protocol.version": "1.1", "client.address": "127.0.0.1",
        "server.address": "localhost", "user_agent.original": "tests", "http.route": "/api/request/{handler:path}",
        "http.response.status_code": 200} | ({"server.port": 80} if "server.port" in (request.attributes or {}) else {})
    assert (call.kind, call.name, parent_of(call)) == (SpanKind.CLIENT, "trace", id_of(request))
    assert reply.json() == {"traceparent": traceparent(call), "tracestate": "vendor=x", "baggage": "user=1"}
    assert traceparent(call).startswith(f"00-{TRACE}-")


def test_typed_functions_and_iterators_get_it_too(app: Any, spans: InMemorySpanExporter) -> None:
    headers = ask(app, "POST", "/api/call/trace", json={"args": []}, headers=INCOMING).json()["result"]
    items = ask(app, "POST", "/api/call/traces", json={"args": [100]}, headers=INCOMING).json()["result"]
    calls = [span for span in spans.get_finished_spans() if span.kind is SpanKind.CLIENT]
    assert [headers["traceparent"], *set(items)] == [traceparent(span) for span in calls]


@pytest.mark.parametrize(("asked", "status", "name"), [
    ("GET /nothing", 404, "GET"),
    ("GET /readyz", 200, "GET /readyz"),
    ("POST /api/request/nothing", 404, "POST /api/request/{handler:path}"),
    ("BREW /readyz", 405, "HTTP /readyz"),
])
def test_names_are_few_whatever_clients_send(app: Any, spans: InMemorySpanExporter, asked: str, status: int,
                                             name: str) -> None:
    method, path = asked.split()
    assert ask(app, method, path).status_code == status
    *_, request = spans.get_finished_spans()
    attributes = dict(request.attributes or {})
    assert (request.name, attributes["http.response.status_code"], attributes.get("error.type")) == (name, status, None)
    assert attributes["http.request.method"] == ("_OTHER" if method == "BREW" else method)


def test_a_server_error_is_an_error_of_the_span(spans: InMemorySpanExporter) -> None:
    with opened("traced") as app:
        app.close()
        assert ask(app, "POST", "/api/request/trace").status_code == 503
    *_, request = spans.get_finished_spans()
    assert request.status.status_code is StatusCode.ERROR
    assert (request.attributes or {})["error.type"] == "503"


def test_logs_have_the_ids_of_the_span(app: Any, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gothreads.access")

    async def conversation(client: httpx.AsyncClient) -> None:
        await client.post("/api/request/trace", headers=INCOMING)
    talk(app, conversation, access_log=True)
    *_, request = spans.get_finished_spans()
    line = json.loads(record_line(next(record for record in caplog.records if record.name == "gothreads.access")))
    assert (line["trace_id"], line["span_id"]) == (TRACE, format(id_of(request), "016x"))


def test_a_span_of_the_outer_application_is_the_requests_span(app: Any, spans: InMemorySpanExporter) -> None:
    """As an instrumentation of FastAPI makes it."""
    web, tracer = Starlette(routes=[Mount("/go", web_app(app))]), trace.get_tracer("outer")

    async def instrumented(scope: Any, receive: Any, send: Any) -> None:
        with tracer.start_as_current_span("outer"):
            await web(scope, receive, send)

    async def once() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(instrumented), base_url="http://localhost") as client:
            assert (await client.post("/go/api/request/trace")).status_code == 200
    asyncio.run(once())
    call, outer = spans.get_finished_spans()
    assert (call.name, parent_of(call), outer.name) == ("trace", id_of(outer), "outer")


def test_a_server_without_opentelemetry_hands_on_the_clients_trace() -> None:
    with running(built("traced")) as server:
        headers = {**INCOMING, "X-Other": "no"}
        assert server.client.post("/api/request/trace", headers=headers).json() == INCOMING
        assert server.client.post("/api/call/trace", json={"args": []}, headers=headers).json() == {"result": INCOMING}
        assert server.client.post("/api/request/trace").json() == {}


def test_nobody_who_sets_no_tracer_provider_pays_for_spans(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: trace._PROXY_TRACER_PROVIDER)

    async def no_span(*_arguments: Any) -> None:
        raise AssertionError
    monkeypatch.setattr(tracing.Traces, "_in_span", no_span)
    assert ask(app, "POST", "/api/request/trace", headers=INCOMING).json() == INCOMING
