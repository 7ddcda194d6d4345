"""uvicorn's server as the gateway listens: connections with limits, HTTPS where there is a certificate.

What the server does besides, and when it ends, is its subclass's.
"""

import asyncio
import logging
import os
import signal
import socket
from functools import partial
from typing import Any

import uvicorn

from gateway.access.connection import BoundedConnection, ConnectionLimits
from gateway.access.tls import Certificate, CertificateError
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

LOG = logging.getLogger("gateway.access.server")
WAITING_CONNECTIONS = 2048  # that the system keeps until they are taken
TAKEN_AT_ONCE = 1  # of those, before others have their turn: hundreds that come together hold nobody up
MAX_HEAD_BYTES = 64 * 1024  # of a request: prompts may stand in its query, nine bytes a Chinese character


class BoundedServer(uvicorn.Server):
    """Serves `app`; `options` are further ones of uvicorn.Config.

    Raises:
        CertificateError: the settings' certificate cannot be used.
    """

    def __init__(self, app: Any, settings: Settings, metrics: Metrics, **options: Any) -> None:  # noqa: ANN401
        self._head_timeout_s = settings.head_timeout_s
        self._certificate = certificate = Certificate.of(settings)
        limits = ConnectionLimits.of(settings, metrics)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                loop="asyncio",  # whatever else is installed: `startup` changes it
                http=partial(BoundedConnection, limits=limits),  # type: ignore[arg-type] # called as a class is
                ws="none",
                ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
                server_header=False,
                backlog=TAKEN_AT_ONCE,  # so many asyncio takes in one go; `startup` tells the system another number
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                reset_contextvars=True,  # else a request's trace is in the log of the next one on its connection
                **options,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens. SIGHUP: the certificate was renewed."""
        loop = asyncio.get_running_loop()
        if self._certificate is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload, self._certificate)
            # uvicorn does not hand it on: who connects and says nothing would keep a socket for a minute.
            loop.create_server = partial(loop.create_server, ssl_handshake_timeout=self._head_timeout_s)  # type: ignore[method-assign]
        await super().startup(sockets)
        for listening in (each for server in self.servers for each in server.sockets):
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(WAITING_CONNECTIONS)

    def _reload(self, certificate: Certificate) -> None:
        try:
            certificate.reload()
        except CertificateError as error:
            LOG.error("the certificate in use stays: %s", error)
        else:
            LOG.info("the certificate was read again")
