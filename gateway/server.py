"""One worker: the application behind uvicorn, which drains before it stops."""

import asyncio
import gc
import logging
import signal
from functools import partial
from socket import socket
from types import FrameType

import uvicorn

from gateway.access.connection import BoundedConnection, ConnectionLimits
from gateway.access.tls import Certificate, CertificateError
from gateway.app import create_app
from gateway.settings import Settings
from gateway.telemetry.logs import configure_logs
from gateway.telemetry.tracing import export_spans

LOG = logging.getLogger("gateway")
MAX_HEAD_BYTES = 64 * 1024  # of a request: prompts may stand in its query, nine bytes a Chinese character


class DrainingServer(uvicorn.Server):
    """At SIGTERM readiness fails first; the socket closes when load balancers have had time to notice."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        self.drain_s = settings.drain_s
        self.head_timeout_s = settings.head_timeout_s
        self.certificate = certificate = Certificate.of(settings)
        limits = ConnectionLimits.of(settings, self.app.state.service.metrics)
        super().__init__(
            uvicorn.Config(
                self.app,
                host=settings.host,
                port=settings.port,
                loop="asyncio",  # whatever else is installed: `startup` changes it
                http=partial(BoundedConnection, limits=limits),  # type: ignore[arg-type] # called as a class is
                ws="none",
                ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
                server_header=False,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=int(settings.deadline_s + settings.body_timeout_s),
            )
        )

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listens. SIGHUP: the certificate was renewed."""
        loop = asyncio.get_running_loop()
        if self.certificate is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload, self.certificate)
            # uvicorn does not hand it on: who connects and says nothing would keep a socket for a minute.
            loop.create_server = partial(loop.create_server, ssl_handshake_timeout=self.head_timeout_s)  # type: ignore[method-assign]
        await super().startup(sockets)

    def _reload(self, certificate: Certificate) -> None:
        try:
            certificate.reload()
        except CertificateError as error:
            LOG.error("the certificate in use stays: %s", error)
        else:
            LOG.info("the certificate was read again")

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


def serve(listener: socket | None = None) -> None:
    """One worker; on a socket that it shares with others, or on one of its own."""
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    export_spans()
    server = DrainingServer(settings)
    gc.collect()
    gc.freeze()  # modules and routes stay for good: looking through them again would stop every request for 80 ms
    server.run([listener] if listener else None)
