"""Serves the gateway: `python -m gateway`; settings are environment variables PCBD_*, see gateway/settings.py."""

import sys

from gateway.server import serve
from gateway.settings import Settings
from gateway.telemetry.logs import configure_logs
from gateway.workers import Workers


def main() -> int:
    """Runs until a signal ends it."""
    settings = Settings()
    if settings.workers == 1:
        serve()
        return 0
    configure_logs(settings.log_level, settings.log_format)
    return Workers(settings.workers, serve).run(settings.host, settings.port)


if __name__ == "__main__":
    sys.exit(main())
