"""Keys as a worker knows them, over both databases, and while PostgreSQL is away."""

import asyncio
from collections.abc import Iterator
from threading import Event

import pytest

from gateway.access.live_keys import LiveKeys
from gateway.access.scope import Scope
from gateway.access.store import KeyStore
from gateway.database import Database
from gateway.errors import DatabaseError
from tests.gateway.postgresql import PostgreSQL

DETECT = frozenset({Scope.DETECT})
NEVER_S = 600.0
UNKNOWN = "0" * 12


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    database.migrate()
    yield database
    database.close()


def test_guessing_does_not_ask_the_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyStore(database)
    key, _ = store.create("line-3", DETECT, None)
    readings = 0
    load = store.load

    def counted() -> dict[str, object]:
        nonlocal readings
        readings += 1
        return dict(load())

    monkeypatch.setattr(store, "load", counted)

    async def guess() -> None:
        async with LiveKeys(store, fresh_s=NEVER_S) as keys:
            assert await keys.find(key.id) == key
            found = await asyncio.gather(*(keys.find(f"{number:012x}") for number in range(1000)))
            assert set(found) == {None}

    asyncio.run(guess())
    assert readings == 1


def test_what_another_process_makes_or_revokes_counts_when_keys_are_read_again(database: Database) -> None:
    store = KeyStore(database)

    async def follow() -> None:
        async with LiveKeys(store, fresh_s=0) as keys:
            assert await keys.find(UNKNOWN) is None
            key, _ = await asyncio.to_thread(store.create, "line-3", DETECT, 1)
            assert await keys.find(key.id) == key
            await asyncio.to_thread(store.revoke, key.id)
            assert await keys.find(key.id) is None

    asyncio.run(follow())


def test_known_keys_go_on_while_the_database_is_away(postgresql_server: PostgreSQL) -> None:
    database = Database(postgresql_server.create())
    database.migrate()
    store = KeyStore(database)
    key, _ = store.create("line-3", DETECT, None)

    async def outlive() -> None:
        async with LiveKeys(store, fresh_s=0) as keys, LiveKeys(store, fresh_s=0, grace_s=0) as strict:
            assert await keys.find(key.id) == await strict.find(key.id) == key
            await asyncio.to_thread(postgresql_server.stop)
            try:
                assert await keys.find(key.id) == key
                with pytest.raises(DatabaseError):  # it may have been made a moment ago
                    await keys.find(UNKNOWN)
                with pytest.raises(DatabaseError):
                    await strict.find(key.id)
            finally:
                await asyncio.to_thread(postgresql_server.start)
            async with asyncio.timeout(60):
                while True:
                    try:
                        assert await keys.find(UNKNOWN) is None
                    except DatabaseError:
                        await asyncio.sleep(0.05)
                    else:
                        break

    asyncio.run(outlive())
    database.close()


def test_a_database_that_hangs_delays_one_request_only(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyStore(database)
    key, _ = store.create("line-3", DETECT, None)
    goes_on = Event()

    async def hang() -> None:
        async with LiveKeys(store, fresh_s=0) as keys:
            assert await keys.find(key.id) == key
            monkeypatch.setattr("gateway.access.live_keys.READ_TIMEOUT_S", 0.05)
            monkeypatch.setattr(store, "load", lambda: goes_on.wait() and {})
            assert await keys.find(key.id) == key
            monkeypatch.setattr("gateway.access.live_keys.READ_TIMEOUT_S", NEVER_S)
            assert await keys.find(key.id) == key
            goes_on.set()

    asyncio.run(hang())
