"""Databases and a browser for the gateway's tests: SQLite, a real PostgreSQL and Chromium where they are installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.browser import browser, kept_open, open_page, page, playwright, visitors  # noqa: F401
from tests.gateway.postgresql import PostgreSQL, binaries, postgresql


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """A PostgreSQL for the session."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed; install its server (Debian: apt-get install postgresql)")
    with postgresql(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/database/gateway.db"
    server: PostgreSQL = request.getfixturevalue("postgresql_server")
    return server.create()
