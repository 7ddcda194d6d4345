"""A connection that cannot be held open for nothing, and never too many of them.

uvicorn limits the size of a request's head and the idleness of a kept connection, not the time in which a head comes,
nor that in which an answer is taken. Bodies and work have limits of their own (gateway/request/); here is the rest.
Nothing of a request is known but whether one is at work.
"""

import socket
import time
from asyncio import BaseTransport, TimerHandle, Transport
from dataclasses import dataclass
from typing import Any, cast

from prometheus_client import Counter
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

SEND_BUFFER_BYTES = 2**18  # of the system, for one connection: by itself it would hold some 4 MB of what nobody takes


@dataclass(frozen=True)
class ConnectionLimits:
    """Of one worker; `dropped` counts the connections that were given up, by a reason of one word."""

    head_timeout_s: float
    send_timeout_s: float
    max_connections: int
    dropped: Counter

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> "ConnectionLimits":
        """Those of the settings."""
        return cls(
            settings.head_timeout_s, settings.send_timeout_s, settings.max_connections, metrics.dropped_connections
        )


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 with limits.

    - A head must have come `head_timeout_s` after the connection was made, or after its first byte on a kept one. The
      rest of a body that was answered before its end counts as part of the next head.
    - An answer of which nothing is taken for `send_timeout_s` is given up.
    - At `max_connections` a new one takes the place of the oldest that waits for its client; where all are at work, the
      new one is closed. So somebody who holds many does not keep others out, nor the probes of /healthz.
    """

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*arguments, **named)
        self._limits = limits
        self._head_timer: TimerHandle | None = None
        self._send_timer: TimerHandle | None = None
        self._waits_since = time.monotonic()

    @property
    def is_at_work(self) -> bool:
        """Whether a whole request has come that was not answered yet, and the client takes what is sent."""
        return self._is_asked and not self.cycle.more_body and self._send_timer is None

    @property
    def _is_asked(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: BaseTransport) -> None:
        """Finds it a place, and waits for a head."""
        plain = cast(Transport, transport)
        super().connection_made(plain)
        plain.set_write_buffer_limits(high=1, low=0)  # paused means that the client has not taken everything
        plain.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._watch_head()
        if len(self.connections) > self._limits.max_connections:
            others = [each for each in self.connections if isinstance(each, BoundedConnection) and each is not self]
            waiting = [each for each in others if not each.is_at_work]
            oldest = min(waiting, key=lambda each: each._waits_since, default=self)
            oldest._drop("crowded")

    def data_received(self, data: bytes) -> None:
        """Takes part of a request."""
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        self._waits_since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Not all was taken."""
        super().pause_writing()
        self._watch_sending(self._unsent_bytes())

    def resume_writing(self) -> None:
        """All was taken."""
        super().resume_writing()
        self._end_send_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._end_head_timer()
        super().connection_lost(exc)
        self._end_send_timer()

    def _watch_head(self) -> None:
        if self._is_asked:
            self._end_head_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._drop, "head")

    def _watch_sending(self, unsent_bytes: int) -> None:
        def look() -> None:
            now_unsent = self._unsent_bytes()
            if now_unsent < unsent_bytes:
                self._watch_sending(now_unsent)  # slow, but it moves
            else:
                self._drop("send")

        self._send_timer = self.loop.call_later(self._limits.send_timeout_s, look)

    def _unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def _drop(self, reason: str) -> None:
        self._limits.dropped.labels(reason).inc()
        self.connections.discard(self)  # its place is free at once
        self.transport.abort()

    def _end_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None
