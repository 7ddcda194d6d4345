"""A gateway that asks for keys; Triton is away, which is no matter of the door's."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from gateway.access.scope import Scope
from gateway.access.store import KeyStore
from gateway.database import Database
from tests.gateway.test_failures import gateway

NOWHERE = "127.0.0.1:1"


@dataclass(frozen=True)
class Guarded:
    client: httpx.Client
    store: KeyStore
    headers: dict[Scope, dict[str, str]]  # of a key of each scope


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    url = f"sqlite:///{tmp_path_factory.mktemp('keys')}/gateway.db"
    database = Database(url)
    database.migrate()
    store = KeyStore(database)
    headers = {scope: {"X-API-Key": store.create("三号线", frozenset({scope}), None)[1]} for scope in Scope}
    with gateway(NOWHERE, database_url=url, api_keys="required", metrics_protected="true") as (client, _):
        yield Guarded(client, store, headers)
    database.close()
