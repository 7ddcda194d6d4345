"""Every request's identity, duration and outcome: response header, metric, one line of log."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.metrics import Metrics

LOG = logging.getLogger("gateway.access")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADER = "X-Request-ID"
QUIET = {"/healthz", "/readyz", "/metrics", "/page/{name:path}"}  # routes that say nothing of the line's work


class Trace:
    """ASGI middleware. A client's own X-Request-ID is kept where it is short and plain.

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
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, arrived=time.monotonic(), headers={}, labels={})
        started = time.perf_counter()
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({HEADER: request_id, **state["headers"]})
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unknown")  # a path that exists: bounded label values
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(seconds)
            if route not in QUIET:
                labels = "".join(f" {name}={value!r}" for name, value in state["labels"].items() if value is not None)
                LOG.info("%s %s %d %.1f ms %s%s", scope["method"], route, status, seconds * 1e3, request_id, labels)
