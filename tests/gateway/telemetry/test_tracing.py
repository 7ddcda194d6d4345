"""A request's trace: from the client's context through the gateway's spans to Triton's."""

import json
import secrets

import httpx
import pytest

from export.server import TritonServer
from gateway.up import free_port
from tests.conftest import BOARD, REPOSITORY
from tests.gateway.telemetry.collector import Span, collector
from tests.gateway.test_failures import PATIENCE_S, gateway, status, wait_until

CLIENT_TRACE, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACE_CONTEXT = {"traceparent": f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01", "tracestate": "line=4"}


def detect(client: httpx.Client, **headers: str) -> httpx.Response:
    form = {"prompt": "短路", "board_id": "板-17", "annotated": "true"}
    return client.post("/detect", files={"image": BOARD.read_bytes()}, data=form, headers=headers)


def test_a_trace_reaches_from_the_client_through_the_gateway_into_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.grpc_url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        ports = {f"{name}_port": free_port() for name in ("http", "grpc", "metrics")}
        answers: dict[str, httpx.Response] = {}  # by trace

        def traced(trace: str, name: str) -> list[Span]:
            return [span for span in found.spans if (span.trace_id, span.name) == (trace, name)]

        def whole() -> str | None:
            """A trace with a span of Triton's for each call: of some requests Triton 2.51 sends none."""
            ended = (trace for trace in answers if traced(trace, "POST /detect"))
            return next((t for t in ended if len(traced(t, "triton")) == len(traced(t, "InferRequest"))), None)

        def one_is_whole() -> bool:
            trace = secrets.token_hex(16)
            answers[trace] = detect(client, traceparent=f"00-{trace}-{CLIENT_SPAN}-01", tracestate="line=4")
            return whole() is not None

        with (
            TritonServer(REPOSITORY, **ports, traces_url=found.http_url) as triton,
            gateway(triton.grpc_url, deadline_s="60") as (client, _),
        ):
            wait_until(lambda: status(client, "/readyz") == 200)
            wait_until(one_is_whole)
    assert {span.trace_id for span in found.spans} <= set(answers)  # of probes and of start-up there is none
    trace = whole()
    assert trace is not None
    own = {span.name: span for span in found.spans if span.trace_id == trace and span.service == "pcb-gateway"}
    asked = traced(trace, "triton")
    request = own["POST /detect"]
    assert request.parent_id == CLIENT_SPAN
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["pcbd.board_id"] == "板-17"
    assert request.attributes["pcbd.request_id"] == answers[trace].json()["request_id"]
    for stage in ("body", "catalog", "decode", "infer", "postprocess", "draw", "serialize"):
        assert own[stage].parent_id == request.span_id
    assert own["prompts"].parent_id == own["infer"].span_id
    assert {span.parent_id for span in asked} <= {own["infer"].span_id, own["prompts"].span_id}
    assert sum(span.attributes["rows"] for span in asked if span.attributes["model"] == "detector") == 9
    inferred = traced(trace, "InferRequest")
    assert {span.service for span in inferred} == {"triton"}
    assert {span.parent_id for span in inferred} == {span.span_id for span in asked}


def test_without_a_collector_the_trace_context_still_reaches_triton() -> None:
    with collector() as found:
        ports = {f"{name}_port": free_port() for name in ("http", "grpc", "metrics")}
        with (
            TritonServer(REPOSITORY, **ports, traces_url=found.http_url) as triton,
            gateway(triton.grpc_url, deadline_s="60") as (client, _),
        ):
            wait_until(lambda: status(client, "/readyz") == 200)
            assert detect(client, traceparent="nonsense", tracestate="\x7f=1").status_code == 200

            def inferred() -> list[Span]:
                return [span for span in found.spans if span.name == "InferRequest"]

            wait_until(lambda: detect(client, **TRACE_CONTEXT).status_code == 200 and bool(inferred()))
    assert {(span.trace_id, span.parent_id) for span in inferred()} == {(CLIENT_TRACE, CLIENT_SPAN)}


def test_the_trace_of_a_request_is_not_in_the_log_of_the_next_one_on_its_connection(
    triton: TritonServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """A body so large that the server has stopped reading until the request asks for more."""
    files = {"image": BOARD.read_bytes() + bytes(1 << 20)}
    with gateway(triton.grpc_url, deadline_s="60", log_format="json") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        for name, context in {"first": TRACE_CONTEXT, "second": {}}.items():
            client.post("/detect", files=files, headers={"X-Request-ID": name, **context}).raise_for_status()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "gateway.access" in line]
    traces = {line["request_id"]: line.get("trace_id") for line in lines}
    assert (traces["first"], traces["second"]) == (CLIENT_TRACE, None)


def test_a_collector_that_is_away_costs_no_detection_and_no_end(
    triton: TritonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with gateway(triton.grpc_url, deadline_s="60", drain_s="0") as (client, process):
        wait_until(lambda: status(client, "/readyz") == 200)
        assert detect(client).status_code == 200
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
