"""One worker: the application behind uvicorn, which drains before it stops."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from socket import socket
from types import FrameType

from gateway.access.server import BoundedServer
from gateway.app import create_app
from gateway.heap import keep_large_blocks
from gateway.settings import Settings
from gateway.telemetry.logs import configure_logs
from gateway.telemetry.tracing import export_spans

# What a thread that decodes waits for the event loop where that has much to do; by itself Python has 5 ms.
THREADS_TURN_S = 0.001


class DrainingServer(BoundedServer):
    """At SIGTERM readiness fails first; the socket closes when load balancers have had time to notice."""

    def __init__(self, settings: Settings, came_up: Callable[[], None]) -> None:
        self.app = create_app(settings)
        self._came_up = came_up
        self.drain_s = settings.drain_s
        super().__init__(
            self.app,
            settings,
            self.app.state.service.metrics,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=int(settings.deadline_s + settings.body_timeout_s),
        )

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listens, and says so."""
        await super().startup(sockets)
        if self.started:
            self._came_up()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drain, then stop. Ctrl-C or a second SIGTERM: stop at once. Again: drop what is under way."""
        if sig == signal.SIGTERM and not self.app.state.draining:
            self.app.state.draining = True
            asyncio.get_running_loop().call_later(self.drain_s, self._stop)
        elif not self.should_exit:
            self._stop()
        else:
            self.force_exit = True

    def _stop(self) -> None:
        self.should_exit = True


def serve(listener: socket | None = None, came_up: Callable[[], None] = lambda: None) -> None:
    """One worker; on a socket that it shares with others, or on one of its own. `came_up` is called when it answers."""
    keep_large_blocks()
    sys.setswitchinterval(THREADS_TURN_S)
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    export_spans()
    server = DrainingServer(settings, came_up)
    gc.collect()
    gc.freeze()  # modules and routes stay for good: looking through them again would stop every request for 80 ms
    server.run([listener] if listener else None)
