"""An OpenTelemetry collector in the test's process: OTLP by gRPC as the gateway sends it, by HTTP as Triton does."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@dataclass(frozen=True)
class Span:
    """Ids in hexadecimal; the parent's is empty at the root."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What has come so far, and where to send more."""

    grpc_url: str = ""
    http_url: str = ""
    spans: list[Span] = field(default_factory=list)


def _read_json(body: bytes) -> Iterator[Span]:
    for resource in json.loads(body)["resourceSpans"]:
        named = {entry["key"]: entry["value"].get("stringValue") for entry in resource["resource"]["attributes"]}
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield Span(
                    named["service.name"], span["name"], span["traceId"], span["spanId"], span["parentSpanId"], {}
                )


def _read(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        named = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                attributes = {
                    entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in span.attributes
                }
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                yield Span(named["service.name"], span.name, *ids, attributes)


@contextmanager
def collector() -> Iterator[Collector]:
    """Listens on free ports."""
    found = Collector()

    class Traces(TraceServiceServicer):
        def Export(  # noqa: N802 - the protocol's name
            self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext
        ) -> ExportTraceServiceResponse:
            found.spans.extend(_read(request))
            return ExportTraceServiceResponse()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.spans.extend(_read_json(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: what came is in the spans."""

    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Traces(), server)
    found.grpc_url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        found.http_url = f"http://127.0.0.1:{web.server_port}/v1/traces"
        yield found
        web.shutdown()
    server.stop(None).wait()
