"""The catalog in several workers: live for the next request, and at hand while the database is away."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from export.server import TritonServer
from gateway.catalog.defect import Defect, Names
from gateway.catalog.live import LiveCatalog
from gateway.catalog.precondition import Precondition
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.telemetry.metrics import Metrics
from tests.gateway.postgresql import PostgreSQL
from tests.gateway.test_failures import PICTURE, gateway, status, wait_until

ANY = Precondition()
GLUE = Defect(id="red_glue", names=Names(zh=("红胶溢出",)))
OFTEN_S = 0.05
RARELY_S = 600.0


def up(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("pcbd_database_up")


@pytest.fixture
def stores(database_url: str) -> Iterator[tuple[CatalogStore, CatalogStore]]:
    """Two workers' stores over one database."""
    databases = Database(database_url), Database(database_url)
    yield CatalogStore(databases[0]), CatalogStore(databases[1])
    for database in databases:
        database.close()


def test_a_change_of_one_worker_is_live_at_once_in_the_other(stores: tuple[CatalogStore, CatalogStore]) -> None:
    mine, others = stores

    async def follow() -> None:
        async with LiveCatalog(mine, RARELY_S, Metrics()) as live:
            first = await live.current()
            assert len(first.defects) == 12
            assert await live.current() is first  # nothing is loaded while nothing changes
            for number in range(10):
                await asyncio.to_thread(others.put, GLUE.model_copy(update={"minimum_size_px": number}), "me", ANY)
                seen = await asyncio.gather(*(live.current() for _ in range(5)))
                assert [catalog.by_id["red_glue"].minimum_size_px for catalog in seen] == [number] * 5
                assert seen[0].recognise("寻找红胶溢出") == "red_glue"

    asyncio.run(follow())


def test_sqlite_says_at_once_that_nothing_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, metrics = Database(f"sqlite:///{tmp_path}/gateway.db"), Metrics()
    store = CatalogStore(database)

    async def ask() -> None:
        async with LiveCatalog(store, RARELY_S, metrics) as live:
            monkeypatch.setattr(store, "revision", lambda: pytest.fail("a thread was asked"))
            known = await live.current()
            assert await live.current() is known
            monkeypatch.undo()
            await asyncio.to_thread(store.put, GLUE, "me", ANY)
            assert "red_glue" in (await live.current()).by_id

    asyncio.run(ask())
    database.close()


def test_the_last_known_catalog_is_used_while_the_database_is_away(postgresql_server: PostgreSQL) -> None:
    database = Database(postgresql_server.create())
    store = CatalogStore(database)
    metrics = Metrics()

    async def wait_for(value: float) -> None:
        while up(metrics) != value:
            await asyncio.sleep(OFTEN_S)

    async def outlive() -> None:
        async with LiveCatalog(store, OFTEN_S, metrics) as live, asyncio.timeout(60):
            await asyncio.to_thread(store.put, GLUE, "me", ANY)
            known = await live.current()
            await asyncio.to_thread(postgresql_server.stop)
            try:
                assert (await live.current()).by_id == known.by_id
                await wait_for(0)
                assert (await live.current()).by_id == known.by_id
            finally:
                await asyncio.to_thread(postgresql_server.start)
            await wait_for(1)
            await asyncio.to_thread(store.delete, "red_glue", "me", ANY)
            assert "red_glue" not in (await live.current()).by_id

    asyncio.run(outlive())
    database.close()


def test_a_database_that_hangs_delays_one_request_only(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.catalog.live.READ_TIMEOUT_S", OFTEN_S)
    database = Database(database_url)
    store = CatalogStore(database)
    metrics = Metrics()
    goes_on = Event()

    async def hang() -> None:
        async with LiveCatalog(store, RARELY_S, metrics) as live:
            known = await live.current()
            monkeypatch.setattr(store, "revision_at_once", lambda: None)
            monkeypatch.setattr(store, "revision", lambda: goes_on.wait() and 1)
            assert await live.current() is known
            assert up(metrics) == 0
            assert await live.current() is known
            goes_on.set()

    asyncio.run(hang())
    database.close()


def test_without_a_database_at_the_start_the_seeds_are_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    metrics = Metrics()

    async def start() -> None:
        store = CatalogStore(Database(f"sqlite:///{tmp_path}/file/gateway.db"))
        async with LiveCatalog(store, OFTEN_S, metrics) as live, asyncio.timeout(60):
            assert len((await live.current()).defects) == 12
            assert up(metrics) == 0
            (tmp_path / "file").unlink()
            while up(metrics) == 0:
                await asyncio.sleep(OFTEN_S)
            assert (await live.current()).revision == 1

    asyncio.run(start())


def ask(client: httpx.Client, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = client.post("/detect", files={"image": PICTURE}, data=fields)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def test_a_taught_defect_is_found_by_every_worker_from_the_next_request_on(
    triton: TritonServer, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    settings = {"database_url": url, "deadline_s": "60", "watch_interval_s": "600"}
    taught = {"names": {"zh": ["铜岛"]}, "descriptions": {"en": ["an isolated island of copper"]}, "score_threshold": 0}
    with gateway(triton.grpc_url, **settings) as (one, _), gateway(triton.grpc_url, **settings) as (two, _):
        for client in (one, two):
            wait_until(lambda client=client: status(client, "/readyz") == 200)
            assert len(ask(client)["understood"]) == 12
        assert one.put("/defects/copper_island", json=taught).status_code == 201
        answer = ask(two)
        assert len(answer["understood"]) == 13
        assert answer["understood"][-1]["asked"] == "an isolated island of copper"
        assert any(found["defect"] == "copper_island" for found in answer["detections"])
        (row,) = ask(two, prompt="用红框标出铜岛")["understood"]
        assert (row["defect"], row["asked"], row["box_colour"]) == (
            "copper_island",
            "an isolated island of copper",
            "#e6194b",
        )
        assert two.patch("/defects/copper_island", json={"enabled": False}).status_code == 200
        assert len(ask(one)["understood"]) == 12
        assert one.delete("/defects/copper_island").status_code == 204
        (row,) = ask(two, prompt="用红框标出铜岛")["understood"]
        assert (row["defect"], row["asked"]) == (None, "铜岛")


def test_a_defect_that_the_model_cannot_read_is_refused_or_left_out(triton: TritonServer, tmp_path: Path) -> None:
    unreadable = {"names": {"en": ["smileys"]}, "descriptions": {"en": ["🙂" * 200]}}
    url = f"sqlite:///{tmp_path}/gateway.db"
    with gateway("127.0.0.1:1", database_url=url) as (client, _):
        assert client.put("/defects/smileys", json=unreadable).status_code == 201  # no model is served to judge it
    with gateway(triton.grpc_url, database_url=url, deadline_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        assert len(ask(client)["understood"]) == 12
        for change, place in (
            (unreadable, "descriptions.en.0"),
            ({"names": {"en": ["smileys", "🙂" * 50]}}, "names.en.1"),
            ({"names": {"en": ["smileys"]}, "descriptions": {"zh": ["笑脸", "🙂" * 50]}}, "descriptions.zh.1"),
        ):
            for method in ("PUT", "PATCH"):
                refused = client.request(method, "/defects/smileys", json=change)
                assert (refused.status_code, place in refused.json()["detail"]) == (422, True), refused.text
