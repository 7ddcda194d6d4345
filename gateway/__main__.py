"""Serves the gateway: `python -m gateway`; settings are environment variables PCBD_*, see gateway/settings.py."""

import sys

from pydantic import ValidationError

from gateway.access.tls import Certificate, CertificateError
from gateway.database import Database
from gateway.errors import ServiceError
from gateway.review.images import ImageStore
from gateway.server import serve
from gateway.settings import Settings, faults_of_settings
from gateway.telemetry.logs import configure_logs
from gateway.workers import Workers


def main() -> int:
    """Runs until a signal ends it; 1 for settings that cannot be served with, or where no worker comes up."""
    try:
        settings = Settings()
        Certificate.of(settings)  # these are told here once, not by each worker again and again
        Database(settings.database_url)
        if settings.image_store:
            ImageStore(settings.image_store)
    except ValidationError as error:
        print(f"error: {faults_of_settings(error)}", file=sys.stderr)  # noqa: T201
        return 1
    except (CertificateError, ServiceError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if settings.workers == 1:
        serve()
        return 0
    configure_logs(settings.log_level, settings.log_format)
    try:
        return Workers(settings.workers, serve).run(settings.host, settings.port)
    except OSError as error:
        print(f"error: {settings.host}:{settings.port}: {error}; see PCBD_HOST and PCBD_PORT", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
