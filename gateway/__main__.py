"""Serves the gateway: `python -m gateway`; settings are environment variables PCBD_*, see gateway/settings.py."""

import sys

from pydantic import ValidationError

from gateway.access.tls import Certificate, CertificateError
from gateway.database import Database
from gateway.errors import ServiceError
from gateway.server import serve
from gateway.settings import Settings, faults_of_settings
from gateway.telemetry.logs import configure_logs
from gateway.workers import Workers


def main() -> int:
    """Runs until a signal ends it; 1 for settings that cannot be served with."""
    try:
        settings = Settings()
        Certificate.of(settings)  # these are told here once, not by each worker again and again
        Database(settings.database_url)
    except ValidationError as error:
        print(f"error: {faults_of_settings(error)}", file=sys.stderr)  # noqa: T201
        return 1
    except (CertificateError, ServiceError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if settings.workers == 1:
        serve()
        return 0
    configure_logs(settings.log_level, settings.log_format)
    return Workers(settings.workers, serve).run(settings.host, settings.port)


if __name__ == "__main__":
    sys.exit(main())
