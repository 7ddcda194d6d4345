"""Every request's identity, duration and outcome: response headers, metrics, a span, one line of log."""

import logging
import re
import time
import uuid

from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.errors import problem, problem_of
from gateway.telemetry.measurement import Measurement, measured
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import TRACER, context_of, trace_id

LOG = logging.getLogger("gateway.access")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADER = "X-Request-ID"
QUIET = ("/healthz", "/readyz", "/metrics", "/page/")  # routes that say nothing of the line's work


class Access:
    """ASGI middleware. A client's own X-Request-ID is kept where it is short and plain; a fault becomes an answer.

    What handles the request finds in its state when it `arrived` (time.monotonic), and puts there `headers` for the
    answer and `labels` for the line of log.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and takes note of its outcome."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(HEADER, "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {}).update(request_id=request_id, arrived=time.monotonic(), headers={}, labels={})
        if scope["path"].startswith(QUIET):  # nobody asks for the trace of a probe
            with measured(self.metrics) as measurement:
                await self._observe(scope, receive, send, measurement)
            return
        with (
            TRACER.start_as_current_span(scope["method"], context_of(headers), SpanKind.SERVER) as span,
            bound_contextvars(request_id=request_id, **({"trace_id": trace_id()} if trace_id() else {})),
            measured(self.metrics) as measurement,
        ):
            status = await self._observe(scope, receive, send, measurement)
            if span.is_recording():
                span.update_name(f"{scope['method']} {route_of(scope)}")
                span.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "http.route": route_of(scope),
                        "http.response.status_code": status,
                        "pcbd.request_id": request_id,
                        **{f"pcbd.{name}": value for name, value in _labels(scope).items()},
                    }
                )
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))

    async def _observe(self, scope: Scope, receive: Receive, send: Send, measurement: Measurement) -> int:
        """The status of the answer."""
        state, started, status = scope["state"], time.perf_counter(), 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {HEADER: state["request_id"], **state["headers"]}
                if measurement.seconds:
                    own["Server-Timing"] = measurement.server_timing(time.perf_counter() - started)
                MutableHeaders(scope=message).update(own)
            await send(message)

        try:
            await self.app(scope, receive, note)
        except Exception as error:
            LOG.exception("the request failed")
            self.metrics.count_reject(error, route_of(scope))
            if status:
                raise  # too late for another answer: the connection must break off
            await problem(problem_of(error, state["request_id"]))(scope, receive, note)
        finally:
            status = status or 499  # as nginx calls it: the client went away before there was an answer
            seconds, route = time.perf_counter() - started, route_of(scope)
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(
                seconds, {"trace_id": found} if (found := trace_id()) else None
            )
            if "triton" in measurement.seconds:
                self.metrics.own_seconds.observe(seconds - measurement.seconds["triton"])
            if not route.startswith(QUIET):
                LOG.info(
                    "%s %s %d",
                    scope["method"],
                    route,
                    status,
                    extra={
                        "method": scope["method"],
                        "route": route,
                        "status": status,
                        "milliseconds": round(seconds * 1e3, 1),
                        **_labels(scope),
                    },
                )
        return status


def route_of(scope: Scope) -> str:
    """A path that exists: as a label its values are bounded."""
    return getattr(scope.get("route"), "path", "unknown")


def _labels(scope: Scope) -> dict[str, str]:
    return {name: value for name, value in scope["state"]["labels"].items() if value is not None}
