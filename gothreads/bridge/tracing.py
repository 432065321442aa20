"""Traces: the span that a call belongs to, which Go's context gets.

Nothing of OpenTelemetry is imported here. It is in use if the program has imported it, and costs a look into a dict
otherwise. Then a call of a handler or a typed function that is made under a span gets a span of its own; Go gets the
headers that propagators make of that one (`traceparent`, `tracestate`, `baggage`).

A call that runs on another thread than it was made on belongs to the span of the thread that made it (`carried`).
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TypeVar

from gothreads.version import __version__

T = TypeVar("T")

#: The headers that describe a span, and what belongs to it (W3C Trace Context, W3C Baggage).
HEADERS = ("traceparent", "tracestate", "baggage")
#: The most bytes of them for one call. What is beyond is left out.
_MOST = 16 << 10
#: A module of OpenTelemetry that everything imports which makes spans. (Hot paths look for it themselves.)
API = "opentelemetry.trace"
#: What gothreads asks of itself: the items of an iterator, which handlers stream. No calls of the program's.
_OWN = ("gothreads:stream ", "gothreads:streams")
#: What the names of typed functions, and of handlers that stream, have before them.
_PREFIXES = ("gothreads:open ", "gothreads:")

#: The headers of the request that is being answered, where OpenTelemetry is not in use: Go gets them as they are.
passed_on: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar("gothreads_trace", default=None)


def _loaded() -> ModuleType | None:
    """The module opentelemetry.trace, unless it is still being imported, by another thread perhaps."""
    found = sys.modules.get(API)
    return found if hasattr(found, "get_current_span") and hasattr(found, "ProxyTracerProvider") else None


def api() -> ModuleType | None:
    """The module opentelemetry.trace, if the program has set a tracer provider."""
    found = _loaded()
    if found is None or isinstance(found.get_tracer_provider(), found.ProxyTracerProvider):
        return None
    return found


def has_span() -> bool:
    """Whether there is a current span."""
    found = _loaded()
    return found is not None and found.get_current_span().get_span_context().is_valid


def is_traced() -> bool:
    """Whether the calling code belongs to a trace: Go's context is to get headers."""
    return has_span() or passed_on.get() is not None


def ids() -> dict[str, str]:
    """The ids of the current span, for logs; none without a span."""
    found = _loaded()
    if found is None or not (context := found.get_current_span().get_span_context()).is_valid:
        return {}
    return {"trace_id": found.format_trace_id(context.trace_id), "span_id": found.format_span_id(context.span_id)}


def carried(call: Callable[[], T]) -> Callable[[], T]:
    """The call, for another thread: it belongs to the current span."""
    if not is_traced():
        return call
    context = contextvars.copy_context()
    return lambda: context.run(call)


@contextlib.contextmanager
def span_of(handler: str) -> Iterator[bytes]:
    """A span for a call of a handler, if there is a current one. Yields the headers for Go."""
    if handler.startswith(_OWN):
        yield b""
    elif not has_span():
        yield encoded(passed_on.get() or {})
    else:
        from opentelemetry import propagate, trace
        name = handler
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        tracer = trace.get_tracer("gothreads", __version__)
        with tracer.start_as_current_span(name, kind=trace.SpanKind.CLIENT, record_exception=False,
                                          set_status_on_exception=False,
                                          attributes={"rpc.system.name": "gothreads", "rpc.method": name}) as span:
            headers: dict[str, str] = {}
            propagate.inject(headers)
            try:
                yield encoded(headers)
            except BaseException as error:
                span.set_attribute("error.type", getattr(error, "seen_as", type(error).__name__))
                span.set_status(trace.StatusCode.ERROR)
                raise


def encoded(headers: Mapping[str, str]) -> bytes:
    """Headers, a line each: NAME, a colon, the value."""
    lines, size = [], 0
    for name, value in headers.items():
        line = f"{name}:{value}".encode(errors="replace")
        size += len(line) + 1
        if size <= _MOST and b"\n" not in line:
            lines.append(line)
    return b"\n".join(lines)
