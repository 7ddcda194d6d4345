"""Serves the gateway: `python -m gateway`; settings are environment variables PCBD_*, see gateway/settings.py."""

import asyncio
import logging
import signal
import sys
from types import FrameType

from pydantic import ValidationError

from gateway.access.server import BoundedServer
from gateway.access.tls import CertificateError
from gateway.app import create_app
from gateway.settings import Settings, faults_of_settings


class DrainingServer(BoundedServer):
    """At SIGTERM readiness fails first; the socket closes when load balancers have had time to notice."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        self.drain_s = settings.drain_s
        super().__init__(
            self.app,
            settings,
            self.app.state.service.metrics,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=int(settings.deadline_s + settings.body_timeout_s),
        )

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


def main() -> None:
    """Runs until a signal ends it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        server = DrainingServer(Settings())
    except ValidationError as error:
        sys.exit(f"error: {faults_of_settings(error)}")
    except CertificateError as error:
        sys.exit(f"error: {error}")
    server.run()


if __name__ == "__main__":
    main()
