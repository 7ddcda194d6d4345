"""Databases with the review loop's tables."""

from collections.abc import Iterator

import pytest

from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.review.store import ReviewStore


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    CatalogStore(database).prepare()
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> ReviewStore:
    return ReviewStore(database)
