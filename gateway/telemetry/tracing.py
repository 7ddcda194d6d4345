"""Traces: W3C trace context in and out, and spans by OTLP where a collector is named.

The OpenTelemetry SDK reads its own variables, OTEL_EXPORTER_OTLP_ENDPOINT (gRPC) above all. Without one it is not even
loaded: a client's trace context still reaches the log and Triton, and no span is made.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

SERVICE_NAME = "pcb-gateway"  # unless OTEL_SERVICE_NAME says otherwise
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

TRACER = trace.get_tracer("gateway")
_PROPAGATOR = TraceContextTextMapPropagator()  # and no baggage: what clients put there is none of Triton's business


def export_spans() -> None:
    """Spans of this process go to the collector, if one is named; what is left of them is sent when it ends."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE_NAME)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def context_of(headers: Mapping[str, str]) -> Context:
    """The trace that a client's `traceparent` continues; a new one where there is none or it is broken."""
    return _PROPAGATOR.extract(headers, context=Context())


def child_span(name: str, attributes: Mapping[str, str | int] | None) -> AbstractContextManager[object]:
    """A part of the span at work, where that one is recorded; otherwise nothing, which costs nothing."""
    if not trace.get_current_span().is_recording():
        return nullcontext()
    return TRACER.start_as_current_span(name, attributes=attributes)


def context_headers() -> dict[str, str]:
    """What tells the next service of the span at work; nothing outside a trace."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def trace_id() -> str | None:
    """Of the trace at work, as logs and collectors write it."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None
